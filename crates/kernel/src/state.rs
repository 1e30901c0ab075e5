//! What a host's kernel holds of weft's, as plain data: the same type says what is wanted and what was found.
//!
//! Nothing here talks to the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use weft_model::{IfName, Mac, Netns};

use crate::nft::Tables;

mod shape;
pub use shape::Shape;

/// All of weft's objects on the host's side of things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Network interfaces by name.
    pub links: BTreeMap<IfName, Link>,
    /// Addresses of those interfaces.
    pub addresses: BTreeSet<(IfName, IpNet)>,
    /// Permanent neighbours behind those interfaces.
    pub neighbours: BTreeMap<(IfName, IpAddr), Mac>,
    /// Where tunnels send what is for an Ethernet address: the other host's address on the underlay.
    pub forwarding: BTreeMap<(IfName, Mac), IpAddr>,
    /// Routes of the main table by destination.
    pub routes: BTreeMap<IpNet, Route>,
    /// Kernel settings.
    pub sysctls: BTreeMap<Sysctl, String>,
    /// Queues that limit what leaves by an interface.
    pub shapes: BTreeMap<IfName, Shape>,
    /// Interfaces whose arriving packets go through another one first, where they wait.
    pub detours: BTreeMap<IfName, IfName>,
    /// nftables.
    pub tables: Tables,
    /// Ports of the loopback that lead elsewhere; `None` where nothing sees to that.
    pub loopback: Option<Loopback>,
}

/// The programs at the sockets of the host's processes, and what they are to do (see [`crate::loopback`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loopback {
    /// Whether every program is in its place.
    pub whole: bool,
    /// Where each port leads.
    pub ports: BTreeMap<LocalPort, SocketAddr>,
}

impl Default for Loopback {
    /// The programs, with nothing to do.
    fn default() -> Loopback {
        Loopback { whole: true, ports: BTreeMap::new() }
    }
}

/// A port of the host as its own processes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalPort {
    /// The number of the transport protocol.
    pub protocol: u8,
    /// Address and port.
    pub at: SocketAddr,
}

impl fmt::Display for LocalPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.protocol {
            6 => "tcp",
            17 => "udp",
            _ => return write!(f, "{} protocol {}", self.at, self.protocol),
        };
        write!(f, "{}/{name}", self.at)
    }
}

/// A network interface of weft's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: Kind,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its group; see [`crate::ours`].
    pub group: u32,
    /// Administratively up.
    pub up: bool,
    /// The bridge it is a port of.
    pub master: Option<IfName>,
    /// Whether, as a port of a bridge, it gets back what came from it: a workload that reaches itself by a port of
    /// the host's needs that.
    pub hairpin: bool,
    /// A wire's mark that it was finished, with the attachment's identity.
    pub alias: Option<String>,
}

/// Kinds of links that weft makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bridge: a network's segment, or merely the holder of its gateway addresses.
    Bridge,
    /// The host's end of a veth pair.
    Wire,
    /// An intermediate functional block: the detour of a wire.
    Ifb,
    /// A network's end of tunnels to other hosts: a VXLAN device that learns nothing.
    Tunnel {
        /// The network's number in the cluster (RFC 7348: 24 bits).
        vni: u32,
        /// The outer source address.
        local: IpAddr,
    },
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface it leaves by.
    pub device: IfName,
    /// The next hop, on that interface even if no subnet says so.
    pub gateway: Option<IpAddr>,
    /// The address the host itself uses as source.
    pub source: Option<IpAddr>,
    /// Largest packet in bytes, where smaller than the interface's.
    pub mtu: Option<u32>,
}

impl Route {
    /// To what is on the interface itself.
    #[must_use]
    pub fn on_link(device: IfName, source: Option<IpAddr>) -> Route {
        Route { device, gateway: None, source, mtu: None }
    }
}

/// The workload's side of a wire. The kernel cannot be asked for it without entering the namespace,
/// so it is written at attach and compared by `CHECK`, not by the agent's sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The namespace.
    pub netns: Netns,
    /// The interface's name.
    pub ifname: IfName,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its permanent neighbours: the gateways.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// Its routes.
    pub routes: Vec<InsideRoute>,
    /// Its settings.
    pub sysctls: Vec<(Sysctl, String)>,
}

/// A route inside a workload's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsideRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// Next hop, reachable on the interface itself.
    pub gateway: IpAddr,
}

/// A kernel setting below `/proc/sys`, by path such as `net/ipv4/ip_forward`. It cannot leave that folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sysctl(String);

impl Sysctl {
    /// A setting of the whole namespace. `path` is a literal of weft's own.
    #[must_use]
    pub fn global(path: &'static str) -> Sysctl {
        Sysctl(path.to_owned())
    }

    /// A setting of one interface: `net/<family>/conf/<link>/<key>`. The name's type keeps `/` and `..` out.
    #[must_use]
    pub fn of_link(family: &'static str, link: &IfName, key: &'static str) -> Sysctl {
        Sysctl(format!("net/{family}/conf/{link}/{key}"))
    }

    /// A setting by a path that was stored before; `None` for anything that could leave `/proc/sys/net`.
    #[must_use]
    pub fn from_record(path: &str) -> Option<Sysctl> {
        let safe = path.starts_with("net/") && path.split('/').all(|p| !matches!(p, "" | "." | ".."));
        safe.then(|| Sysctl(path.to_owned()))
    }

    /// Interface and name of a setting of one interface in that family.
    #[must_use]
    pub fn link_and_name(&self, family: &str) -> Option<(&str, &str)> {
        let rest = self.0.strip_prefix("net/")?.strip_prefix(family)?.strip_prefix("/conf/")?;
        rest.split_once('/').filter(|(link, _)| !matches!(*link, "all" | "default"))
    }

    /// The path below `/proc/sys`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }

    /// The interface it belongs to, if it is not a setting of the whole namespace.
    #[must_use]
    pub fn link(&self) -> Option<&str> {
        let mut parts = self.0.split('/').skip(2);
        let link = (parts.next() == Some("conf")).then(|| parts.next()).flatten()?;
        (!matches!(link, "all" | "default")).then_some(link)
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_knows_its_link_and_cannot_escape() {
        let link: IfName = "eth0.100".parse().unwrap();
        assert_eq!(Sysctl::of_link("ipv6", &link, "accept_ra").link(), Some("eth0.100"));
        assert_eq!(Sysctl::global("net/ipv4/ip_forward").link(), None);
        assert_eq!(Sysctl::global("net/ipv6/conf/all/forwarding").link(), None);
        for bad in
            ["../etc/passwd", "net/../kernel/core_pattern", "kernel/core_pattern", "net//x", "net/./x", ""]
        {
            assert_eq!(Sysctl::from_record(bad), None, "{bad}");
        }
    }
}
