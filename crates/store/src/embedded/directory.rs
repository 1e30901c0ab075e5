//! The directories that the files lie in: made, checked, locked.
//!
//! Never follows a symbolic link, and never works in a directory or on a file of another user's.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::StoreError;

/// A directory of which this process is the only user, as long as the value lives.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// A file that was there.
pub(super) struct Found {
    pub(super) file: File,
    /// Why it could be opened for reading only.
    pub(super) read_only: Option<io::Error>,
}

impl Directory {
    /// Makes the directory if it is missing (0700) and locks it. If it is the same as `other`, gives that.
    pub(super) fn open(path: &Path, other: Option<&Arc<Directory>>) -> Result<Arc<Directory>, StoreError> {
        if path.symlink_metadata().is_err() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|e| StoreError::io("create", path, e))?;
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty()).map_err(|e| open_error(path, e))?;
        let stat = fs::fstat(&fd).map_err(|e| StoreError::io("look at", path, e))?;
        check_owner(path, &stat)?;
        if let Some(other) = other.filter(|o| (o.device, o.inode) == (stat.st_dev, stat.st_ino)) {
            return Ok(Arc::clone(other));
        }
        match fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::Held { path: path.to_owned(), pid: lock_holder(&stat) });
            }
            Err(e) => return Err(StoreError::io("lock", path, e)),
        }
        if stat.st_mode & 0o077 != 0 {
            match fs::fchmod(&fd, Mode::RWXU) {
                // Nobody can write there either; what there is can be read.
                Ok(()) | Err(Errno::ROFS) => {}
                Err(e) => return Err(StoreError::io("make private", path, e)),
            }
        }
        Ok(Arc::new(Directory { fd, path: path.to_owned(), device: stat.st_dev, inode: stat.st_ino }))
    }

    /// Where a file of this directory is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Opens a regular file of the agent's own, for reading and writing if that is possible.
    pub(super) fn file(&self, name: &str) -> Result<Option<Found>, StoreError> {
        let path = self.path(name);
        // NONBLOCK: a pipe in its place must not make the agent wait for a writer.
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = |access| fs::openat(&self.fd, name, flags | access, Mode::empty());
        let (fd, read_only) = match open(OFlags::RDWR) {
            Ok(fd) => (fd, None),
            Err(Errno::NOENT) => return Ok(None),
            Err(refused @ (Errno::ROFS | Errno::ACCESS | Errno::PERM)) => {
                (open(OFlags::RDONLY).map_err(|e| open_error(&path, e))?, Some(refused.into()))
            }
            Err(Errno::ISDIR) => return Err(StoreError::WrongKind { path, wanted: "regular file" }),
            Err(e) => return Err(open_error(&path, e)),
        };
        let stat = fs::fstat(&fd).map_err(|e| StoreError::io("look at", &path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StoreError::WrongKind { path, wanted: "regular file" });
        }
        check_owner(&path, &stat)?;
        if stat.st_mode & 0o077 != 0 && read_only.is_none() {
            let private = Mode::RUSR | Mode::WUSR;
            fs::fchmod(&fd, private).map_err(|e| StoreError::io("make private", &path, e))?;
        }
        Ok(Some(Found { file: fd.into(), read_only }))
    }

    /// Begins an empty file (0600) in place of whatever has that name.
    pub(super) fn create(&self, name: &str) -> Result<File, StoreError> {
        self.remove(name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR);
        made.map(File::from).map_err(|e| StoreError::io("create", &self.path(name), e))
    }

    /// Removes a file (a link itself, not what it points to); absence is success.
    pub(super) fn remove(&self, name: &str) -> Result<(), StoreError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(StoreError::io("remove", &self.path(name), e)),
        }
    }

    /// Renames a file, over another one if there is one, so that it survives a crash.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        let renamed = fs::renameat(&self.fd, from, &self.fd, to).and_then(|()| fs::fsync(&self.fd));
        renamed.map_err(|e| StoreError::io("rename", &self.path(from), e))
    }

    /// The names of all files.
    pub(super) fn names(&self) -> Result<Vec<CString>, StoreError> {
        let entries = fs::Dir::read_from(&self.fd).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.map_err(|e| StoreError::io("list", &self.path, e))?;
        Ok(entries.iter().map(|entry| entry.file_name().to_owned()).collect())
    }
}

impl Drop for Directory {
    /// Closing alone would leave the lock to a child that was forked and has not come to `exec` yet.
    fn drop(&mut self) {
        let _ = fs::flock(&self.fd, FlockOperation::Unlock);
    }
}

fn open_error(path: &Path, error: Errno) -> StoreError {
    let path_is_link = || path.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    match error {
        Errno::LOOP => StoreError::Symlink { path: path.to_owned() },
        Errno::NOTDIR if path_is_link() => StoreError::Symlink { path: path.to_owned() },
        Errno::NOTDIR => StoreError::WrongKind { path: path.to_owned(), wanted: "directory" },
        error => StoreError::io("open", path, error),
    }
}

fn check_owner(path: &Path, stat: &Stat) -> Result<(), StoreError> {
    if stat.st_uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(StoreError::Foreign { path: path.to_owned(), uid: stat.st_uid })
}

/// The process that holds a lock on this file, from `/proc/locks` (proc_locks(5)); `None` if it is in
/// another pid namespace, or the file system has no stable device number.
fn lock_holder(stat: &Stat) -> Option<u32> {
    let mut table = String::new();
    File::open("/proc/locks").ok()?.take(1 << 20).read_to_string(&mut table).ok()?;
    let (major, minor) = (fs::major(stat.st_dev), fs::minor(stat.st_dev));
    let place = format!("{major:02x}:{minor:02x}:{}", stat.st_ino);
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // 1: FLOCK  ADVISORY  WRITE 1234 00:19:5678 0 EOF
        let ["FLOCK", _, _, pid, at, ..] = fields.get(1..)? else { return None };
        (*at == place).then(|| pid.parse().ok().filter(|pid| *pid > 0)).flatten()
    })
}
