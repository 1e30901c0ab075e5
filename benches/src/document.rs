//! Writing a report into a document, between two markers `<!-- NAME -->`.

use std::fs;
use std::io;
use std::path::Path;

/// Replaces what stands between the markers of a benchmark.
///
/// # Errors
/// The file system's; a document without two markers.
pub fn write(path: &Path, name: &str, report: &str) -> io::Result<()> {
    let document = fs::read_to_string(path)?;
    let marker = format!("<!-- {name} -->");
    let missing = || io::Error::other(format!("it does not have two lines '{marker}'"));
    fs::write(path, replaced(&document, &marker, report).ok_or_else(missing)?)
}

fn replaced(document: &str, marker: &str, report: &str) -> Option<String> {
    let (before, rest) = document.split_once(marker)?;
    let (_, after) = rest.split_once(marker)?;
    Some(format!("{before}{marker}\n{}\n{marker}{after}", report.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_middle_is_replaced() {
        let marker = "<!-- bench-x -->";
        let document = format!("a\n{marker}\nold\n{marker}\nb\n");
        let expected = format!("a\n{marker}\nnew\n{marker}\nb\n");
        assert_eq!(replaced(&document, marker, "new\n").unwrap(), expected);
        assert_eq!(replaced("nothing", marker, "new"), None);
    }
}
