//! Files below a root: every step of a path is opened by itself, and a symbolic link in it is refused.
//!
//! Below `--root` the links are an image's: they would lead out of it, onto this host. On the host itself
//! a link is followed where root made it (some systems have `/opt` → `var/opt`), and never elsewhere.
//! The last component is never followed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::Context;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::failure::Failure;

/// Temporary files begin like this; `.old-` are copies kept until a change is final. No program that
/// looks into the folders we write to takes such a name for one of its files.
pub(super) const TEMPORARY: &str = ".weft-tmp-";
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A root directory, the host's or an image's.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    image: bool,
}

/// What a name stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    File(Vec<u8>),
    Link(PathBuf),
    /// A directory, a device, a socket.
    Other,
}

/// What a name shall stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    File { bytes: Vec<u8>, mode: u32 },
    Link(PathBuf),
}

impl Tree {
    /// This host.
    pub(crate) fn host() -> anyhow::Result<Tree> {
        Tree::open(Path::new("/"), false)
    }

    /// An image's root directory.
    pub(crate) fn image(root: &Path) -> anyhow::Result<Tree> {
        Tree::open(root, true)
    }

    fn open(root: &Path, image: bool) -> anyhow::Result<Tree> {
        let fd = rustix::fs::open(root, FOLDER, Mode::empty())
            .with_context(|| format!("failed to open the root directory {}", root.display()))?;
        Ok(Tree { root: fd, image })
    }

    /// Opens the directory that `path` is in, and its name there.
    fn parent<'p>(&self, path: &'p Path) -> rustix::io::Result<(OwnedFd, &'p OsStr)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        Ok((self.folder(path.parent().ok_or(Errno::INVAL)?)?, name))
    }

    fn folder(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let mut at = self.root.try_clone().map_err(|_| Errno::MFILE)?;
        for component in path.components() {
            match component {
                Component::RootDir => {}
                Component::Normal(name) => at = self.step(at.as_fd(), name)?,
                _ => return Err(Errno::INVAL),
            }
        }
        Ok(at)
    }

    fn step(&self, at: impl AsFd + Copy, name: &OsStr) -> rustix::io::Result<OwnedFd> {
        match rustix::fs::openat(at, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Err(Errno::NOTDIR) => {}
            other => return other,
        }
        let stat = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if self.image || stat.st_uid != 0 => Err(Errno::LOOP),
            FileType::Symlink => rustix::fs::openat(at, name, FOLDER, Mode::empty()),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Makes the missing directories of `path`; returns them, outermost first.
    pub(super) fn make_folders(&self, path: &Path, mode: u32) -> (Vec<PathBuf>, anyhow::Result<()>) {
        let mut made = Vec::new();
        let result = self.make_each(path, mode, &mut made);
        (made, result.map_err(|e| failed("make the directory", path, e)))
    }

    fn make_each(&self, path: &Path, mode: u32, made: &mut Vec<PathBuf>) -> rustix::io::Result<()> {
        let mut at = self.folder(Path::new("/"))?;
        let mut so_far = PathBuf::from("/");
        for component in path.components().skip(1) {
            let Component::Normal(name) = component else { return Err(Errno::INVAL) };
            so_far.push(name);
            let next = match self.step(at.as_fd(), name) {
                Err(Errno::NOENT) => {
                    let mode = Mode::from_raw_mode(if so_far == path { mode } else { 0o755 });
                    rustix::fs::mkdirat(&at, name, mode)?;
                    made.push(so_far.clone());
                    // The process's umask took bits away.
                    rustix::fs::chmodat(&at, name, mode, AtFlags::empty())?;
                    self.step(at.as_fd(), name)?
                }
                other => other?,
            };
            at = next;
        }
        Ok(())
    }

    /// Removes a directory; false when it is not empty or is no directory.
    pub(super) fn remove_folder(&self, path: &Path) -> anyhow::Result<bool> {
        let gone =
            self.parent(path).and_then(|(at, name)| rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR));
        match gone {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::BUSY) => Ok(false),
            Err(error) => Err(failed("remove the directory", path, error)),
        }
    }

    pub(super) fn look(&self, path: &Path) -> anyhow::Result<Found> {
        match self.find(path) {
            Err(Errno::NOENT) => Ok(Found::Nothing),
            other => other.map_err(|e| failed("read", path, e)),
        }
    }

    fn find(&self, path: &Path) -> rustix::io::Result<Found> {
        let (at, name) = self.parent(path)?;
        let stat = rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&at, name, Vec::new())?;
                Ok(Found::Link(PathBuf::from(OsStr::from_bytes(target.as_bytes()))))
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let mut file = File::from(rustix::fs::openat(&at, name, flags, Mode::empty())?);
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(|e| errno(&e))?;
                Ok(Found::File(bytes))
            }
            _ => Ok(Found::Other),
        }
    }

    /// Makes a file or link that must not be there yet.
    pub(super) fn create(&self, path: &Path, content: &Content) -> anyhow::Result<()> {
        let create = || {
            let (at, name) = self.parent(path)?;
            let temporary = match content {
                Content::Link(target) => return rustix::fs::symlinkat(target, at, name),
                Content::File { bytes, mode } => write_aside(&at, bytes, *mode)?,
            };
            // A link fails where a rename would overwrite what somebody put there meanwhile.
            let linked = rustix::fs::linkat(&at, &temporary, &at, name, AtFlags::empty());
            let _ = rustix::fs::unlinkat(&at, &temporary, AtFlags::empty());
            linked
        };
        create().map_err(|e| failed("create", path, e))
    }

    /// Puts new bytes in the place of a file, at once.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        let replace = || {
            let (at, name) = self.parent(path)?;
            let temporary = write_aside(&at, bytes, mode)?;
            rustix::fs::renameat(&at, &temporary, &at, name).inspect_err(|_| {
                let _ = rustix::fs::unlinkat(&at, &temporary, AtFlags::empty());
            })
        };
        replace().map_err(|e| failed("replace", path, e))
    }

    /// Gives a file a second name in its directory.
    pub(super) fn link(&self, path: &Path, second: &OsStr) -> anyhow::Result<()> {
        let link = || {
            let (at, name) = self.parent(path)?;
            rustix::fs::linkat(&at, name, &at, second, AtFlags::empty())
        };
        link().map_err(|e| failed("keep a copy of", path, e))
    }

    /// Renames within a directory, over what is there.
    pub(super) fn rename(&self, from: &Path, name: &OsStr) -> anyhow::Result<()> {
        let rename = || {
            let (at, old) = self.parent(from)?;
            rustix::fs::renameat(&at, old, &at, name)
        };
        rename().map_err(|e| failed("rename", from, e))
    }

    /// Removes a file or link; absence is success.
    pub(super) fn unlink(&self, path: &Path) -> anyhow::Result<()> {
        match self.parent(path).and_then(|(at, name)| rustix::fs::unlinkat(at, name, AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("remove", path, error)),
        }
    }

    /// Removes what an earlier run left that was killed. Only to be called under the lock.
    pub(super) fn sweep(&self, folder: &Path) -> anyhow::Result<()> {
        let sweep = || {
            let at = self.folder(folder)?;
            let listing = rustix::fs::openat(
                &at,
                ".",
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            for entry in rustix::fs::Dir::new(listing)? {
                let entry = entry?;
                if entry.file_name().to_bytes().starts_with(TEMPORARY.as_bytes()) {
                    rustix::fs::unlinkat(&at, entry.file_name(), AtFlags::empty())?;
                }
            }
            Ok(())
        };
        match sweep() {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("clean up", folder, error)),
        }
    }

    /// Locks a file until the result is dropped, and makes it if need be: one change at a time. Says
    /// whether it was made. The file and not its directory, because the agent holds that as long as it runs.
    pub(super) fn lock(&self, path: &Path) -> anyhow::Result<(OwnedFd, bool)> {
        let lock = || {
            let (at, name) = self.parent(path)?;
            let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let (fd, made) = match rustix::fs::openat(&at, name, flags | OFlags::CREATE | OFlags::EXCL, mode)
            {
                Err(Errno::EXIST) => (rustix::fs::openat(&at, name, flags, mode)?, false),
                other => (other?, true),
            };
            rustix::fs::flock(&fd, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
            // Whoever held it may have removed it since it was opened: then this lock keeps nobody out.
            let (held, there) =
                (rustix::fs::fstat(&fd)?, rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW));
            match there {
                Ok(there) if (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino) => Ok((fd, made)),
                _ => Err(Errno::WOULDBLOCK),
            }
        };
        lock().map_err(|error| match error {
            Errno::WOULDBLOCK => Failure::new("another weft is installing or uninstalling here").into(),
            error => failed("lock", path, error),
        })
    }
}

/// A name that nobody else uses.
pub(super) fn temporary_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{TEMPORARY}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn write_aside(at: &OwnedFd, bytes: &[u8], mode: u32) -> rustix::io::Result<String> {
    let name = temporary_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(at, &name, flags, Mode::RUSR | Mode::WUSR)?;
    let fill = || {
        let mut file = File::from(fd);
        file.write_all(bytes).map_err(|e| errno(&e))?;
        if rustix::process::geteuid().is_root() {
            // A directory with the set-group-ID bit would give its group.
            rustix::fs::fchown(&file, Some(Uid::ROOT), Some(Gid::ROOT))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        rustix::fs::fsync(&file)
    };
    fill().inspect_err(|_| {
        let _ = rustix::fs::unlinkat(at, &name, AtFlags::empty());
    })?;
    Ok(name)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// The failure of something on a path.
fn failed(what: &str, path: &Path, error: Errno) -> anyhow::Error {
    let message = format!("failed to {what} {}", path.display());
    match error {
        Errno::LOOP => Failure::new(format!("{message}: a symbolic link stands on the way"))
            .hint("remove the link if it is not meant; weft does not write through it")
            .into(),
        Errno::ACCESS | Errno::PERM if !rustix::process::geteuid().is_root() => {
            anyhow::Error::new(error).context(Failure::new(message).hint("run this as root"))
        }
        error => anyhow::Error::new(error).context(message),
    }
}
