//! A container's cgroup: what it may use, what it did use, and everything in it ended at once.
//!
//! Linux has two trees of cgroups. In the newer one (v2, "unified") a group has all controllers; in the older one
//! (v1) each controller has a tree of its own, and many hosts have both ("hybrid"): controllers in v1, and an
//! empty v2 beside them. A container always gets a group in v2 if there is one, because devices, and killing all at
//! once, are best done there; and in v1 one for each controller that has a limit to keep.

mod mounts;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use weft_kernel::device;

pub use mounts::Trees;

use crate::spec::Limits;

/// All groups of containers lie in a group of this name.
const PARENT: &str = "weft";

/// How often making a group is tried again while others are taken away.
const ATTEMPTS: u32 = 100;

/// A cgroup could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of it could not be read or written.
    #[error("failed to {what} {}", path.display())]
    File {
        /// What was tried, with the value.
        what: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No tree here has the controller.
    #[error("the limit of {what} cannot be kept: no cgroup of this host has the controller '{controller}'")]
    Missing {
        /// What was to be limited.
        what: &'static str,
        /// The controller's name.
        controller: &'static str,
    },
    /// Nothing here can keep a container from the host's devices.
    #[error("the host's devices cannot be kept from the container")]
    Devices(#[source] io::Error),
}

/// A container's group, in each tree in which it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Group {
    /// Its folder in v2.
    pub unified: Option<PathBuf>,
    /// Its folders in v1, with the controller of each.
    #[serde(default)]
    pub v1: Vec<(String, PathBuf)>,
}

impl Group {
    /// Makes the group of this name with its limits, for a process that is yet to come.
    ///
    /// # Errors
    /// [`Error`]; what was made is taken away again.
    pub fn create(
        trees: &Trees,
        name: &str,
        limits: &Limits,
        devices: &[device::Rule],
    ) -> Result<Group, Error> {
        let mut attempts = 0;
        loop {
            let mut group = Group::default();
            let made = group.make(trees, name, limits, devices);
            if made.is_err() {
                group.remove(Duration::ZERO);
            }
            match made {
                Ok(()) => return Ok(group),
                // Another container was the last one, and took the group of all with it, just now.
                Err(Error::File { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && attempts < ATTEMPTS =>
                {
                    attempts += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The commands that would make it.
    ///
    /// # Errors
    /// [`Error::Missing`].
    pub fn explained(trees: &Trees, name: &str, limits: &Limits) -> Result<Vec<String>, Error> {
        let place = Path::new(PARENT).join(name);
        let mut commands =
            trees.unified.as_ref().map_or_else(Vec::new, |tree| v2::explained(tree, &place, limits));
        for wish in v2::WISHES.into_iter().filter(|wish| (wish.wanted)(limits)) {
            if trees.unified.as_ref().is_some_and(|tree| tree.has(wish.controller)) {
                continue;
            }
            let Some(root) = trees.v1.get(wish.controller) else {
                return Err(Error::Missing { what: wish.what, controller: wish.controller });
            };
            let folder = root.join(&place);
            commands.push(format!("mkdir -p {}", folder.display()));
            for (file, value) in v1::values(wish.controller, limits) {
                commands.push(format!("echo {value} >{}", folder.join(file).display()));
            }
            commands.push(format!("echo $$ >{}", folder.join("cgroup.procs").display()));
        }
        Ok(commands)
    }

    fn make(
        &mut self,
        trees: &Trees,
        name: &str,
        limits: &Limits,
        devices: &[device::Rule],
    ) -> Result<(), Error> {
        let place = Path::new(PARENT).join(name);
        if let Some(tree) = &trees.unified {
            self.unified = Some(v2::make(tree, &place, limits)?);
        }
        for wish in v2::WISHES.into_iter().filter(|wish| (wish.wanted)(limits)) {
            if trees.unified.as_ref().is_some_and(|tree| tree.has(wish.controller)) {
                continue;
            }
            let Some(root) = trees.v1.get(wish.controller) else {
                return Err(Error::Missing { what: wish.what, controller: wish.controller });
            };
            let folder = v1::make(root, &place)?;
            self.v1.push((wish.controller.to_owned(), folder.clone()));
            v1::limit(&folder, wish.controller, limits)?;
        }
        self.restrict(trees, &place, devices)
    }

    /// Devices: by a program in v2, or by the controller of v1 where there is no v2.
    fn restrict(&mut self, trees: &Trees, place: &Path, devices: &[device::Rule]) -> Result<(), Error> {
        let by_program = match self.folder() {
            Ok(Some(folder)) => device::restrict(folder.as_fd(), devices),
            Ok(None) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(io::Error::other(error)),
        };
        let Err(refusal) = by_program else { return Ok(()) };
        let Some(root) = trees.v1.get("devices") else { return Err(Error::Devices(refusal)) };
        let folder = v1::make(root, place)?;
        self.v1.push(("devices".to_owned(), folder.clone()));
        write(&folder.join("devices.deny"), "a")?;
        devices.iter().try_for_each(|rule| write(&folder.join("devices.allow"), &rule.line()))
    }

    /// Its folder in v2, open: a process can be born into it.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn folder(&self) -> Result<Option<OwnedFd>, Error> {
        let Some(path) = &self.unified else { return Ok(None) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        opened.map(Some).map_err(|e| failed("open", path)(e.into()))
    }

    /// The files into which a process writes `0` to join its groups in v1.
    ///
    /// # Errors
    /// If one cannot be opened.
    pub fn doors(&self) -> Result<Vec<OwnedFd>, Error> {
        let open = |(_, folder): &(String, PathBuf)| {
            let path = folder.join("cgroup.procs");
            let opened = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            opened.map_err(|e| failed("open", &path)(e.into()))
        };
        self.v1.iter().map(open).collect()
    }

    /// How many of its processes were killed because there was no memory left for them.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let count = |path: PathBuf| keyed(&fs::read_to_string(path).ok()?, "oom_kill");
        let unified = self.unified.iter().map(|folder| folder.join("memory.events"));
        let v1 =
            self.v1.iter().filter(|(name, _)| name == "memory").map(|(_, f)| f.join("memory.oom_control"));
        unified.chain(v1).filter_map(count).sum()
    }

    /// Every folder of it, with what it limits: for people.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        self.unified.iter().chain(self.v1.iter().map(|(_, folder)| folder)).map(PathBuf::as_path).collect()
    }

    /// Ends whatever runs in it.
    pub fn kill(&self) {
        for folder in self.paths() {
            // Linux 5.14, v2 only; processes that fork meanwhile are caught, too.
            if write(&folder.join("cgroup.kill"), "1").is_ok() {
                continue;
            }
            let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) else { continue };
            for pid in text.lines().filter_map(|l| l.parse().ok()).filter_map(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Takes it away, waiting for processes that have been killed to be gone. Returns the folders that are left.
    pub fn remove(&self, patience: Duration) -> Vec<PathBuf> {
        let until = Instant::now() + patience;
        let mut left: Vec<PathBuf> = self.paths().into_iter().map(Path::to_owned).collect();
        let mut pause = Duration::from_micros(200);
        loop {
            left.retain(|folder| match rustix::fs::rmdir(folder) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => false,
                Err(_) => true,
            });
            if left.is_empty() || Instant::now() >= until {
                // The group of all of weft's goes with the last one; otherwise it is not empty, and stays.
                for parent in self.paths().into_iter().filter_map(Path::parent) {
                    let _ = rustix::fs::rmdir(parent);
                }
                return left;
            }
            self.kill();
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// Joins the groups of v1 whose doors these are.
///
/// # Errors
/// The kernel's.
pub fn join(doors: &[OwnedFd]) -> io::Result<()> {
    let enter = |door: BorrowedFd<'_>| rustix::io::write(door, b"0").map(|_| ());
    doors.iter().try_for_each(|door| enter(door.as_fd())).map_err(Into::into)
}

/// The number behind a word in a file of such lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

fn failed(what: impl Into<String>, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let (what, path) = (what.into(), path.to_owned());
    move |source| Error::File { what, path, source }
}

/// Writes to a file that the kernel has made, and never makes one.
fn write(path: &Path, value: &str) -> Result<(), Error> {
    let write = || {
        let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(fd, value.as_bytes()).map(|_| ())
    };
    write().map_err(|e: rustix::io::Errno| failed(format!("write {value:?} to"), path)(e.into()))
}

fn make_folder(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("make", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
