//! Ports of 127.0.0.1 and ::1 that lead elsewhere: programs at the sockets of the host's own processes.
//!
//! Packets to 127.0.0.1 cannot be led off by nftables: they would leave with a source that no other host may
//! answer, unless `route_localnet` opened the loopback to the neighbours (CVE-2020-8558). So the destination
//! is changed before there is a packet, when a process calls connect(2) or sendmsg(2), and changed back when
//! it asks from whom something came. The programs stand at a cgroup and are called for all processes below
//! it, but do nothing in a network namespace other than the one whose number is in the map's key.
//!
//! ```text
//!   connect(127.0.0.1:8080) ─▶ program ─▶ map `ports` (namespace, address, port, protocol) ─▶ 10.119.0.2:80
//!   getpeername, recvfrom   ─▶ program ─▶ map `flows` (socket, 10.119.0.2:80)              ─▶ 127.0.0.1:8080
//! ```
//!
//! Names in a BPF file system keep maps and programs alive when the agent is dead.

mod element;
mod programs;

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::bpf::{self, Map, Object, attached_to, is_bpf_filesystem, netns_cookie};
use crate::state::{LocalPort, Loopback};
use element::{KEY, VALUE, key, read_key, read_value, value};

/// Where the names are unless told otherwise.
pub const PINS: &str = "/sys/fs/bpf/weft";

/// The folder below the pins, with the namespace's number behind it; its own number changes with the programs and
/// the shape of their maps.
const VERSION: &str = "loopback1";
/// Of any version.
const ANY_VERSION: &str = "loopback";
/// More ports than there are of both families and two protocols.
const MOST_PORTS: u32 = 1 << 18;
/// So many sockets can be told where they wanted to go; who is forgotten sees where it was led to.
const MOST_FLOWS: u32 = 1 << 14;
const CGROUP2_MAGIC: u64 = 0x6367_7270; // linux/magic.h

/// Where programs are attached, and where their names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A cgroup (version 2): the programs are called for its processes and those below.
    pub cgroup: PathBuf,
    /// weft's own folder in a BPF file system.
    pub pins: PathBuf,
}

/// Why ports of the loopback cannot be led elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cgroup v2 at the place.
    #[error("{0} is no cgroup of version 2")]
    Cgroup(PathBuf),
    /// There is no BPF file system at the place.
    #[error("{0} is in no BPF file system; `mount -t bpf bpf /sys/fs/bpf` makes one")]
    Pins(PathBuf),
    /// A name could not be made or removed.
    #[error("failed to {what} {path}")]
    Folder {
        /// What was to be done.
        what: &'static str,
        /// The folder or name.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error(transparent)]
    Bpf(#[from] bpf::Error),
    /// The programs are not there.
    #[error("the programs at the sockets of the host are not in place")]
    Absent,
}

impl Place {
    /// The machine's own cgroup of version 2, and the usual names; `None` where there is no such cgroup.
    #[must_use]
    pub fn of_this_machine() -> Option<Place> {
        let usual = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        let cgroup = usual.into_iter().find(|path| is_cgroup2(path))?;
        Some(Place { cgroup, pins: PINS.into() })
    }

    /// Whether the programs could be put there, as far as can be told without doing it.
    ///
    /// # Errors
    /// [`Error::Cgroup`], [`Error::Pins`], [`Error::Bpf`].
    pub fn check(&self) -> Result<(), Error> {
        if !is_cgroup2(&self.cgroup) {
            return Err(Error::Cgroup(self.cgroup.clone()));
        }
        let there = self.pins.ancestors().find(|folder| folder.exists());
        if !there.is_some_and(is_bpf_filesystem) {
            return Err(Error::Pins(self.pins.clone()));
        }
        Ok(netns_cookie().map(|_| ())?)
    }

    /// Each namespace has its own: two agents of one machine do not meet here.
    fn folder(&self, cookie: u64) -> PathBuf {
        self.pins.join(format!("{VERSION}-{cookie:x}"))
    }

    fn ports(&self, cookie: u64) -> Result<Option<Map<KEY, VALUE>>, Error> {
        Ok(Map::pinned(&self.folder(cookie).join("ports"))?)
    }

    /// What is there of weft's: nothing, or programs with the ports of the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Bpf`].
    pub fn read(&self) -> Result<Option<Loopback>, Error> {
        let Ok(cookie) = netns_cookie() else { return Ok(None) };
        let folders = self.folders(cookie)?;
        if folders.is_empty() {
            return Ok(None);
        }
        let whole = folders == [self.folder(cookie)] && self.is_whole();
        let mut ports = BTreeMap::new();
        if let Some(map) = self.ports(cookie)? {
            for key in map.keys()? {
                if let (Some(port), Some(value)) = (read_key(&key, cookie), map.get(&key)?) {
                    ports.insert(port, read_value(&value));
                }
            }
        }
        Ok(Some(Loopback { whole, ports }))
    }

    /// Whether every program is in its place, and both maps have their names.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        // A cgroup's number is that of its folder (fs/kernfs/dir.c `kernfs_id`).
        let Ok(cgroup) = std::fs::metadata(&self.cgroup).map(|m| m.ino()) else { return false };
        let Ok(folder) = netns_cookie().map(|cookie| self.folder(cookie)) else { return false };
        let map = |name: &str| matches!(Map::<KEY, VALUE>::pinned(&folder.join(name)), Ok(Some(_)));
        let attached = |name: &str| attached_to(&folder.join(name)).is_ok_and(|to| to == Some(cgroup));
        map("ports") && map("flows") && programs::ALL.iter().all(|(name, _)| attached(name))
    }

    /// Whether the programs are in place and these ports lead where they should: what another hand has taken away or
    /// changed. What it has added takes a [`read`](Self::read), and that a walk through all places of the map.
    #[must_use]
    pub fn leads(&self, ports: &BTreeMap<LocalPort, SocketAddr>) -> bool {
        let Ok(cookie) = netns_cookie() else { return false };
        let Ok(Some(map)) = self.ports(cookie) else { return false };
        let right = |(port, to): (&LocalPort, &SocketAddr)| {
            map.get(&key(port, cookie)).is_ok_and(|found| found == Some(value(*to)))
        };
        self.is_whole() && ports.iter().all(right)
    }

    /// Puts the programs in place, with no ports yet. What was there before goes first.
    ///
    /// # Errors
    /// [`Error`]; nothing is left then.
    pub fn install(&self) -> Result<(), Error> {
        self.remove()?;
        self.check()?;
        let done = self.try_install();
        if done.is_err() {
            let _ = self.remove();
        }
        done
    }

    fn try_install(&self) -> Result<(), Error> {
        let folder = self.folder(netns_cookie()?);
        let fail = |source| Error::Folder { what: "make", path: folder.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(fail)?;
        let ports = Map::create("weft_ports", bpf::MapKind::Hash, MOST_PORTS)?;
        let flows = Map::create("weft_flows", bpf::MapKind::Recent, MOST_FLOWS)?;
        ports.pin(&folder.join("ports"))?;
        flows.pin(&folder.join("flows"))?;
        for (name, at) in programs::ALL {
            let program = programs::load(name, at, &ports, &flows)?;
            program.attach(&self.cgroup)?.pin(&folder.join(name))?;
        }
        Ok(())
    }

    /// Takes the namespace's programs, maps and names away, also those of other versions. Absence is success.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn remove(&self) -> Result<(), Error> {
        let Ok(cookie) = netns_cookie() else { return Ok(()) };
        for folder in self.folders(cookie)? {
            let fail = |source| Error::Folder { what: "remove", path: folder.clone(), source };
            std::fs::remove_dir_all(&folder).map_err(fail)?;
        }
        // Other namespaces may have names there.
        let _ = std::fs::remove_dir(&self.pins);
        Ok(())
    }

    /// The namespace's folders of any version.
    fn folders(&self, cookie: u64) -> Result<Vec<PathBuf>, Error> {
        let entries = match std::fs::read_dir(&self.pins) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(Error::Folder { what: "list", path: self.pins.clone(), source }),
        };
        let own = |path: &PathBuf| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let mark = format!("-{cookie:x}");
            name.starts_with(ANY_VERSION) && name.ends_with(&mark)
        };
        Ok(entries.flatten().map(|entry| entry.path()).filter(own).collect())
    }

    /// Leads ports elsewhere.
    ///
    /// # Errors
    /// [`Error`].
    pub fn set<'a>(
        &self,
        ports: impl IntoIterator<Item = (&'a LocalPort, &'a SocketAddr)>,
    ) -> Result<(), Error> {
        let cookie = netns_cookie()?;
        let map = self.ports(cookie)?.ok_or(Error::Absent)?;
        ports.into_iter().try_for_each(|(port, to)| Ok(map.put(&key(port, cookie), &value(*to))?))
    }

    /// Leads ports nowhere any more. Absence is success.
    ///
    /// # Errors
    /// [`Error::Bpf`].
    pub fn unset<'a>(&self, ports: impl IntoIterator<Item = &'a LocalPort>) -> Result<(), Error> {
        let Ok(cookie) = netns_cookie() else { return Ok(()) };
        let Some(map) = self.ports(cookie)? else { return Ok(()) };
        ports.into_iter().try_for_each(|port| Ok(map.remove(&key(port, cookie))?))
    }
}

fn is_cgroup2(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| u64::try_from(fs.f_type).ok() == Some(CGROUP2_MAGIC))
}

#[cfg(test)]
mod tests;
