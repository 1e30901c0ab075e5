//! Writing the report into a document, between two markers.

use std::fs;
use std::io;
use std::path::Path;

const MARKER: &str = "<!-- bench-attach -->";

/// Replaces what stands between the markers.
///
/// # Errors
/// The file system's; a document without two markers.
pub(crate) fn write(path: &Path, report: &str) -> io::Result<()> {
    let document = fs::read_to_string(path)?;
    let missing = || io::Error::other(format!("it does not have two lines '{MARKER}'"));
    fs::write(path, replaced(&document, report).ok_or_else(missing)?)
}

fn replaced(document: &str, report: &str) -> Option<String> {
    let (before, rest) = document.split_once(MARKER)?;
    let (_, after) = rest.split_once(MARKER)?;
    Some(format!("{before}{MARKER}\n{}\n{MARKER}{after}", report.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_middle_is_replaced() {
        let document = format!("a\n{MARKER}\nold\n{MARKER}\nb\n");
        assert_eq!(replaced(&document, "new\n").unwrap(), format!("a\n{MARKER}\nnew\n{MARKER}\nb\n"));
        assert_eq!(replaced("nothing", "new"), None);
    }
}
