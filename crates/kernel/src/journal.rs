//! The journal: a directory with a file for each attachment whose end the agent has not heard of.
//!
//! Every file holds an [`api::Detach`](weft_model::api::Detach) as JSON and appears at once and whole.
//! Nothing is followed that somebody else could have put there.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fdatasync, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use weft_model::api::Detach;

/// Why word could not be left.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory is not there and cannot be made, or cannot be opened.
    #[error("cannot open the journal {}", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could write there, so what stands there means nothing.
    #[error("the journal {} is not safe: {reason}", dir.display())]
    Unsafe {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// The entry could not be written.
    #[error("cannot write {name} in the journal {}", dir.display())]
    Write {
        /// The directory.
        dir: PathBuf,
        /// The entry.
        name: String,
        /// Why.
        source: io::Error,
    },
}

/// Leaves word that an attachment ended.
///
/// # Errors
/// [`JournalError`].
pub fn write(dir: &Path, detach: &Detach) -> Result<(), JournalError> {
    let fd = open(dir)?;
    let name = detach.id.journal_entry();
    write_entry(&fd, &name, detach).map_err(|source| JournalError::Write {
        dir: dir.to_owned(),
        name,
        source,
    })
}

/// Opens the directory itself, never one that a symbolic link leads to, after making it if need be.
fn open(dir: &Path) -> Result<File, JournalError> {
    let fail = |source| JournalError::Open { dir: dir.to_owned(), source };
    if let Some(parent) = dir.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(fail)?;
    }
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(fail(e)),
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(CWD, dir, flags, Mode::empty()).map_err(|e| fail(e.into()))?;
    let stat = fstat(&fd).map_err(|e| fail(e.into()))?;
    let refused = |reason| Err(JournalError::Unsafe { dir: dir.to_owned(), reason });
    if stat.st_uid != 0 && stat.st_uid != rustix::process::geteuid().as_raw() {
        return refused("it belongs to another user");
    }
    if stat.st_mode & 0o022 != 0 {
        return refused("others can write in it");
    }
    Ok(fd.into())
}

/// Writes beside and renames, so that the agent never sees half an entry. A link in the entry's place is
/// replaced, not followed.
fn write_entry(dir: &File, name: &str, detach: &Detach) -> io::Result<()> {
    let beside = format!(".{name}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let create = || openat(dir, &beside, flags, Mode::RUSR | Mode::WUSR);
    let fd = create().or_else(|e| match e {
        // Left by a process of the same number that was killed.
        Errno::EXIST => unlinkat(dir, &beside, AtFlags::empty()).and_then(|()| create()),
        e => Err(e),
    })?;
    let written = fill(fd.into(), detach).and_then(|()| Ok(renameat(dir, &beside, dir, name)?));
    if written.is_err() {
        // The first failure is the one to report.
        let _ = unlinkat(dir, &beside, AtFlags::empty());
    }
    written
}

fn fill(mut file: File, detach: &Detach) -> io::Result<()> {
    let mut text = serde_json::to_vec(detach)?;
    text.push(b'\n');
    file.write_all(&text)?;
    Ok(fdatasync(&file)?)
}

#[cfg(test)]
mod tests;
