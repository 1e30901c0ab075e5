//! A container's folders: what was asked for, how it lives, how it ended.
//!
//! ```text
//! /var/lib/weft/containers/NAME/   spec.json  end.json  log.jsonl  upper/  work/  merged/   survives a reboot
//! /run/weft/containers/NAME/       live.json  hosts  hostname  resolv.conf                this boot only
//! ```
//!
//! Who holds a container holds a lock on its first folder; when that process ends, however it ends, the kernel
//! releases the lock, and the next command knows that nobody looks after the container any more.

use std::fs;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, renameat_with};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::name::Name;
use crate::places::Places;
use crate::report::Refusal;
use crate::spec::Spec;
use crate::time;

/// Something about a container's folders failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is taken.
    #[error("there is a container '{0}' already")]
    Exists(Name),
    /// There is no such container.
    #[error("there is no container '{0}'")]
    NotFound(String),
    /// A file or folder.
    #[error("failed to {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { what, path, source }
}

/// How far a container has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its parts are being made.
    Created,
    /// Its process runs.
    Running,
    /// Its process ended, and another will be started.
    Restarting,
    /// It is over.
    Exited,
}

/// How a container lives, in `live.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The boot in which this is true (/proc/sys/kernel/random/boot_id).
    pub boot: String,
    /// How far it is.
    pub phase: Phase,
    /// The process that holds it.
    pub shim: i32,
    /// Its first process, as the host numbers it.
    pub pid: Option<i32>,
    /// When that was started: milliseconds since 1970.
    pub started: Option<u64>,
    /// How often it was started again.
    pub restarts: u32,
    /// Its cgroup.
    pub group: Group,
    /// Its network namespace, if it has one of its own.
    pub netns: Option<PathBuf>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The layers of its root.
    pub root: Layers,
}

/// The folders of which a container's root consists (Documentation/filesystems/overlayfs.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Read-only, the top one first.
    pub lowerdirs: Vec<PathBuf>,
    /// What it writes.
    pub upperdir: PathBuf,
    /// The kernel's own.
    pub workdir: PathBuf,
    /// All of them seen as one.
    pub merged: PathBuf,
}

/// How a container ended, in `end.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Its exit code; 128 and the signal's number if it was killed.
    pub code: i32,
    /// Whether it went beyond its memory.
    pub oom: bool,
    /// When: milliseconds since 1970.
    pub at: u64,
    /// When it had been started.
    pub started: Option<u64>,
    /// How often it was started again.
    pub restarts: u32,
    /// The boot in which that was; empty if nobody knows.
    #[serde(default)]
    pub boot: String,
    /// Whether somebody had it stopped, with `weft stop`.
    #[serde(default)]
    pub stopped: bool,
    /// What went wrong, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl End {
    /// Of a container that was to start again and could not.
    pub(crate) fn refused(refusal: &Refusal) -> End {
        End {
            code: refusal.code,
            oom: false,
            at: time::now(),
            started: None,
            restarts: 0,
            boot: boot(),
            stopped: false,
            error: Some(refusal.message.clone()),
        }
    }
}

/// A container's first folder, and the right to say what happens in it.
#[derive(Debug)]
pub struct Held {
    /// The folder.
    pub folder: PathBuf,
    /// The lock on it.
    pub lock: OwnedFd,
}

impl Held {
    /// Makes the folder of a new container.
    ///
    /// # Errors
    /// [`Error::Exists`], and the file system's.
    pub fn create(places: &Places, spec: &Spec) -> Result<Held, Error> {
        let containers = places.containers();
        private_folder(&containers)?;
        // Locked before it has the name under which others look for it.
        let hidden = containers.join(format!(".new-{}-{}", spec.name, std::process::id()));
        fs::create_dir(&hidden).map_err(file("make", &hidden))?;
        let made = Held::fill(&hidden, spec).and_then(|lock| {
            let folder = containers.join(spec.name.as_str());
            match renameat_with(CWD, &hidden, CWD, &folder, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(Held { folder, lock }),
                Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => {
                    Err(Error::Exists(spec.name.clone()))
                }
                Err(error) => Err(file("rename", &hidden)(error.into())),
            }
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&hidden);
        }
        made
    }

    fn fill(folder: &Path, spec: &Spec) -> Result<OwnedFd, Error> {
        let lock = open(folder).map_err(file("open", folder))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|e| file("lock", folder)(e.into()))?;
        save(&folder.join("spec.json"), spec)?;
        Ok(lock)
    }

    /// The folder, if nobody holds it.
    pub(crate) fn take(folder: &Path) -> Option<Held> {
        let lock = open(folder).ok()?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
        // It may have been removed, and made afresh, since it was opened.
        let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| a.st_ino == b.st_ino && a.st_dev == b.st_dev;
        let (mine, there) = (rustix::fs::fstat(&lock).ok()?, rustix::fs::stat(folder).ok()?);
        same(&mine, &there).then(|| Held { folder: folder.to_owned(), lock })
    }
}

fn open(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?)
}

/// A container as the folders show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// What was asked for.
    pub spec: Spec,
    /// How it lives; `None` once it is over.
    pub live: Option<Live>,
    /// How it ended.
    pub end: Option<End>,
}

impl Container {
    /// The container of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn find(places: &Places, name: &Name) -> Result<Container, Error> {
        let folder = places.containers().join(name.as_str());
        let spec = load(&folder.join("spec.json")).ok_or_else(|| Error::NotFound(name.to_string()))?;
        let end: Option<End> = load(&folder.join("end.json"));
        let live = if end.is_none() { load(&places.live(name).join("live.json")) } else { None };
        Ok(Container { spec, live, end })
    }

    /// Whether it is to be started now: the host has booted since it ended, and it wants to start again then.
    #[must_use]
    pub fn waits_for_boot(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.boot != boot() && self.spec.restart.after_boot(end.stopped))
    }

    /// All of them, by name.
    #[must_use]
    pub fn all(places: &Places) -> Vec<Container> {
        let entries = fs::read_dir(places.containers()).into_iter().flatten().flatten();
        let names = entries.filter_map(|e| e.file_name().to_str()?.parse::<Name>().ok());
        let mut all: Vec<Container> = names.filter_map(|n| Container::find(places, &n).ok()).collect();
        all.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        all
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match (&self.end, &self.live) {
            (Some(_), _) => Phase::Exited,
            (None, Some(live)) => live.phase,
            (None, None) => Phase::Created,
        }
    }
}

/// Makes a folder that only root can look into, and those above it.
pub(crate) fn private_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(file("make", path))
}

/// Reads a file that is there and makes sense.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a file that appears at once and whole.
pub(crate) fn save(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        fs::rename(&beside, path)
    };
    write().map_err(file("write", path))
}

/// This boot, by the kernel's random name for it.
#[must_use]
pub fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests;
