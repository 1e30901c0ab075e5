//! Locks between processes: files under flock(2). The kernel frees them when their holder dies.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use super::StoreError;

/// A lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    /// Kept open: the lock is its open file's.
    #[expect(dead_code, reason = "held for what its end does")]
    file: File,
    path: PathBuf,
    vanishes: bool,
}

impl Lock {
    pub(super) fn shared(path: &Path) -> Result<Lock, StoreError> {
        Lock::take(path, FlockOperation::LockShared)
    }

    pub(super) fn exclusive(path: &Path) -> Result<Lock, StoreError> {
        Lock::take(path, FlockOperation::LockExclusive)
    }

    /// `None` if somebody holds it.
    pub(super) fn try_exclusive(path: &Path) -> Result<Option<Lock>, StoreError> {
        match Lock::take(path, FlockOperation::NonBlockingLockExclusive) {
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    /// Removes its file in the end. Only for exclusive locks.
    pub(super) fn vanishing(mut self) -> Lock {
        self.vanishes = true;
        self
    }

    fn take(path: &Path, how: FlockOperation) -> Result<Lock, StoreError> {
        let failed = |source| StoreError::io("lock", path, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        loop {
            let file = options.open(path).map_err(failed)?;
            loop {
                match rustix::fs::flock(&file, how) {
                    Err(Errno::INTR) => {}
                    other => break other.map_err(|errno| failed(errno.into()))?,
                }
            }
            let held = file.metadata().map_err(failed)?;
            // Whoever held it may have removed it while we waited: then this is nobody's lock any more.
            match fs::symlink_metadata(path) {
                Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {
                    return Ok(Lock { file, path: path.to_owned(), vanishes: false });
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.vanishes {
            let _ = fs::remove_file(&self.path); // a lock that stays is swept by the next
        }
    }
}
