//! A private machine, and on it hosts: network namespaces that play the host for one contestant each.
//!
//! Never touches the machine's own network: the process leaves its namespaces before it makes anything.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use weft_kernel::netlink::{Family, Messages, Socket};
use weft_kernel::netns::{Entered, Netns, unshare};
use weft_kernel::rtnl::link;

/// Where workload namespaces are mounted, as `ip netns` does it.
pub(crate) const NAMESPACES: &str = "/run/netns";
/// Where hosts keep their files.
const HOSTS: &str = "/run/hosts";
const LOOPBACK: u32 = 1;

/// Gives this process network and mounts of its own, with a `/run` in memory. To be called before any
/// thread is started. All of it ends with the process and its children.
///
/// # Errors
/// Without root's capabilities.
pub(crate) fn leave_the_machine() -> Result<()> {
    unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS).context("failed to make namespaces; root is needed")?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    let mode = Some(c"mode=755");
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), mode).context("failed to mount /run")?;
    for folder in [NAMESPACES, HOSTS, "/run/lock"] {
        fs::create_dir_all(folder)?;
    }
    Ok(())
}

/// A host of a contestant's own.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its network.
    pub(crate) netns: Netns,
    /// Its files, in memory.
    pub(crate) dir: PathBuf,
}

impl Host {
    /// A host with nothing but a loopback.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(name: &str) -> Result<Host> {
        let netns = Netns::anonymous()?;
        let dir = Path::new(HOSTS).join(name);
        fs::create_dir_all(&dir)?;
        let host = Host { netns, dir };
        let _inside = host.enter()?;
        let mut messages = Messages::default();
        link::change(&mut messages, LOOPBACK, &link::Change { up: Some(true), ..link::Change::default() });
        for answer in Socket::open(Family::Route)?.transact(&messages)? {
            answer?;
        }
        drop(_inside);
        Ok(host)
    }

    /// Moves the calling thread, and what it starts from here on, onto this host.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn enter(&self) -> Result<Entered> {
        Ok(self.netns.enter()?)
    }

    /// The names of its links, to be compared before and after.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn links(&self) -> Result<Vec<String>> {
        let _inside = self.enter()?;
        let mut socket = Socket::open(Family::Route)?;
        let all = socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
        let mut names: Vec<String> = all.into_iter().filter_map(|l| Some(l.name?.to_string())).collect();
        names.sort();
        Ok(names)
    }
}

/// A namespace for a workload, with a container's name.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// The namespace's file.
    pub(crate) netns: PathBuf,
    /// The container.
    pub(crate) container: String,
    /// No other seat has it.
    pub(crate) number: u16,
}

/// Makes and removes seats; numbers are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    made: u16,
}

impl Seats {
    /// Fresh namespaces.
    ///
    /// # Errors
    /// The kernel's; when 65,000 have been made.
    pub(crate) fn make(&mut self, count: usize) -> Result<Vec<Seat>> {
        let mut seats = Vec::with_capacity(count);
        for _ in 0..count {
            self.made = self.made.checked_add(1).context("all numbers of seats are used up")?;
            let number = self.made;
            let netns = Path::new(NAMESPACES).join(format!("seat{number}"));
            Netns::create_at(&netns)?;
            seats.push(Seat { netns, container: format!("container-{number:05}"), number });
        }
        Ok(seats)
    }
}

/// Removes namespaces and waits until the kernel has come to rest: it takes them down in the background.
///
/// # Errors
/// The file system's.
pub(crate) fn clear(seats: &[Seat]) -> Result<()> {
    for seat in seats {
        Netns::remove_at(&seat.netns)?;
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    Ok(())
}
