//! What to do with a file that cannot be used: put it aside, count failed attempts.
//!
//! Never deletes the newest damaged files: they may be all that is left of somebody's networks.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use super::directory::Directory;
use crate::StoreError;

/// How many damaged files are kept.
const KEPT: usize = 3;

/// After how many attempts to open a file that ended with the process it counts as damaged. The
/// database reports damage as errors as far as anybody knows (it was fed 800,000 damaged files); should it
/// panic on one after all, and take the agent with it, then not for ever.
pub(super) const ATTEMPTS: u32 = 3;

/// Renames `name` to `name.damaged-<n>` and removes the oldest such files. Returns the new place.
pub(super) fn set_aside(directory: &Directory, name: &str) -> Result<PathBuf, StoreError> {
    let prefix = format!("{name}.damaged-");
    let number = |entry: std::ffi::CString| entry.to_str().ok()?.strip_prefix(&prefix)?.parse::<u64>().ok();
    let mut numbers: Vec<u64> = directory.names()?.into_iter().filter_map(number).collect();
    numbers.sort_unstable();
    let next = numbers.last().map_or(1, |last| last.saturating_add(1));
    let to = format!("{prefix}{next}");
    directory.rename(name, &to)?;
    for old in numbers.iter().rev().skip(KEPT - 1) {
        directory.remove(&format!("{prefix}{old}"))?;
    }
    Ok(directory.path(&to))
}

/// How many attempts in a row to open `name` did not end.
pub(super) fn failed_attempts(directory: &Directory, name: &str) -> u32 {
    let Ok(Some(found)) = directory.file(&mark(name)) else { return 0 };
    let mut text = String::new();
    let read = found.file.take(16).read_to_string(&mut text);
    read.ok().and_then(|_| text.trim().parse().ok()).unwrap_or(0)
}

/// Notes that attempt `n` to open `name` begins. Where that cannot be written, it goes without.
pub(super) fn begin_attempt(directory: &Directory, name: &str, n: u32) {
    if let Ok(mut file) = directory.create(&mark(name)) {
        let _ = write!(file, "{n}");
    }
}

/// Notes that the attempt ended, well or with an error.
pub(super) fn end_attempt(directory: &Directory, name: &str) {
    let _ = directory.remove(&mark(name));
}

fn mark(name: &str) -> String {
    format!("{name}.opening")
}
