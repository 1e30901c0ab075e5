//! The folder that a layer becomes. Every path is resolved by the kernel beneath that folder (openat2(2),
//! `RESOLVE_BENEATH`): a symbolic link of the layer may lead anywhere, but nothing is written through it unless
//! it stays inside.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::entries::{Entry, TOO_DEEP};
use super::{LayerError, whiteout};
use crate::image::Limits;

mod below;
mod node;

pub(super) use below::Below;

/// A folder under construction.
pub(super) struct Tree<'a> {
    root: Rc<OwnedFd>,
    /// The layers that it will lie on, the topmost first.
    below: &'a [Below],
    /// The way to where the last entry stood, open: archives list a folder's content in one go, and then go back up.
    way: Vec<(Vec<u8>, Rc<OwnedFd>)>,
    /// Times of folders, set in the end because each new entry changes them.
    times: BTreeMap<Vec<u8>, (i64, u32)>,
    times_bytes: usize,
    limits: &'a Limits,
    /// True if it hides everything below: overlayfs does not look for the mark at a root.
    pub(super) opaque: bool,
}

const OPEN_FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const LEADS_OUT: &str = "it lies behind a symbolic link that leads out of the layer";
const NOT_A_FOLDER: &str = "it lies below something that is not a folder";

impl<'a> Tree<'a> {
    /// Begins in an empty folder.
    pub(super) fn new(folder: &Path, below: &'a [Below], limits: &'a Limits) -> Result<Tree<'a>, LayerError> {
        let failed = |error| LayerError::io("open", folder.as_os_str().as_bytes(), error);
        let root = fs::open(folder, OPEN_FOLDER, Mode::empty()).map_err(failed)?;
        let mut tree = Tree {
            root: Rc::new(root),
            below,
            way: Vec::new(),
            times: BTreeMap::new(),
            times_bytes: 0,
            limits,
            opaque: false,
        };
        tree.inherit(&Rc::clone(&tree.root), b"")?;
        Ok(tree)
    }

    /// Sets the times of all folders.
    pub(super) fn finish(self) -> Result<(), LayerError> {
        for (path, mtime) in &self.times {
            // What has been replaced by a later entry is no longer there, or no longer a folder.
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let at: &[u8] = if path.is_empty() { b"." } else { path };
            if let Ok(folder) = fs::openat2(&self.root, at, OPEN_FOLDER, Mode::empty(), resolve) {
                fs::futimens(&folder, &times(*mtime))
                    .map_err(|e| LayerError::io("set the time of", path, e))?;
            }
        }
        Ok(())
    }

    /// The folder in which an entry stands, made if it is not there, and the entry's own name.
    fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(Rc<OwnedFd>, &'p [u8]), LayerError> {
        let (folder, name) = split(path);
        while let Some((known, fd)) = self.way.last() {
            if known == folder {
                return Ok((Rc::clone(fd), name));
            }
            if folder.strip_prefix(&known[..]).is_some_and(|rest| rest.starts_with(b"/")) {
                break;
            }
            self.way.pop();
        }
        let fd = match self.open(folder) {
            Err(Errno::NOENT | Errno::NOTDIR) => self.make(folder, path)?,
            other => other.map_err(|errno| refusal(path, errno))?,
        };
        self.way.push((folder.to_vec(), Rc::clone(&fd)));
        Ok((fd, name))
    }

    /// Opens a folder by its path from the root. Links are followed as long as they stay inside.
    fn open(&self, folder: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if folder.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open =
            |resolve| fs::openat2(&self.root, folder, flags, Mode::empty(), ResolveFlags::BENEATH | resolve);
        match open(ResolveFlags::NO_SYMLINKS) {
            Err(Errno::LOOP) => {}
            other => return other.map(Rc::new),
        }
        // With `..` in a link the kernel gives up when anything on the host is renamed meanwhile.
        let mut tries = 0..64;
        let folder = loop {
            match open(ResolveFlags::NO_MAGICLINKS) {
                Err(Errno::AGAIN) if tries.next().is_some() => {}
                other => break other?,
            }
        };
        // By links a path may be much deeper than it is long.
        if depth(&folder)? > depth(&self.root)? + self.limits.depth {
            return Err(Errno::NAMETOOLONG);
        }
        Ok(Rc::new(folder))
    }

    /// Makes the folders on the way that no entry has made: they are as in the layers below.
    fn make(&mut self, folder: &[u8], entry: &[u8]) -> Result<Rc<OwnedFd>, LayerError> {
        let failed = |error| LayerError::io("make the folder of", entry, error);
        let mut parent = Rc::clone(&self.root);
        let ends = folder.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain([folder.len()]) {
            let (path, (_, name)) = (&folder[..end], split(&folder[..end]));
            match fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => self.inherit(&open_folder(&parent, name).map_err(failed)?, path)?,
                Err(Errno::EXIST) if whiteout::is_marked(parent.as_fd(), name).map_err(failed)? => {
                    fs::unlinkat(&*parent, name, AtFlags::empty()).map_err(failed)?;
                    fs::mkdirat(&*parent, name, Mode::from_raw_mode(0o755)).map_err(failed)?;
                    let made = open_folder(&parent, name).map_err(failed)?;
                    whiteout::make_opaque(made.as_fd()).map_err(failed)?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            parent = match self.open(path) {
                Err(Errno::NOTDIR | Errno::NOENT) => return Err(LayerError::entry(entry, NOT_A_FOLDER)),
                other => other.map_err(|errno| refusal(entry, errno))?,
            };
        }
        Ok(parent)
    }

    /// Gives a folder that no entry describes the owner, mode and time that it has in the layers below.
    fn inherit(&mut self, folder: &OwnedFd, path: &[u8]) -> Result<(), LayerError> {
        let failed = |error| LayerError::io("set the owner of", path, error);
        let there = below::folder(self.below, path);
        // Said also where nothing is below: in a folder with setgid a new one would have its group.
        let (uid, gid, mode) =
            there.as_ref().map_or((0, 0, 0o755), |s| (s.st_uid, s.st_gid, s.st_mode & 0o7777));
        fs::fchown(folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(failed)?;
        fs::fchmod(folder, Mode::from_raw_mode(mode)).map_err(failed)?;
        let Some(stat) = there else { return Ok(()) };
        let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
        self.remember(path, (stat.st_mtime, nanos))
    }

    fn remember(&mut self, path: &[u8], mtime: (i64, u32)) -> Result<(), LayerError> {
        if self.times.insert(path.to_vec(), mtime).is_none() {
            self.times_bytes += path.len() + 64;
        }
        if self.times_bytes > self.limits.folders {
            let limit = self.limits.folders as u64;
            return Err(LayerError::Limit { what: "bytes of folders' names", limit });
        }
        Ok(())
    }

    /// Takes away what stands where an entry wants to be; true if that was the mark of a name that is gone.
    fn clear(&mut self, parent: &OwnedFd, entry: &Entry, name: &[u8]) -> Result<bool, LayerError> {
        let failed = |error| LayerError::io("replace", &entry.path, error);
        let mark = whiteout::is_marked(parent.as_fd(), name).map_err(failed)?;
        self.way.clear(); // it may lead through what goes now
        match fs::unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                let place = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string());
                let place = place.join(std::ffi::OsStr::from_bytes(name));
                std::fs::remove_dir_all(place).map_err(|e| LayerError::io("replace", &entry.path, e))?;
            }
            other => other.map_err(failed)?,
        }
        Ok(mark)
    }
}

/// Why a folder on the way to an entry is not entered.
fn refusal(entry: &[u8], errno: Errno) -> LayerError {
    match errno {
        Errno::XDEV | Errno::LOOP => LayerError::entry(entry, LEADS_OUT),
        Errno::NAMETOOLONG => LayerError::entry(entry, TOO_DEEP),
        errno => LayerError::io("open the folder of", entry, errno),
    }
}

/// How many folders are above an open one.
fn depth(folder: &OwnedFd) -> Result<usize, Errno> {
    let path = fs::readlink(format!("/proc/self/fd/{}", folder.as_raw_fd()), Vec::new())?;
    Ok(path.as_bytes().iter().filter(|b| **b == b'/').count())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn open_folder(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    fs::openat(parent, name, OPEN_FOLDER, Mode::empty())
}

fn stat(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// The time of access is not kept in layers: it becomes that of the last change.
fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
