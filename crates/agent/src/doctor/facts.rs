//! What the doctor looks at, asked once. Whatever cannot be read is absent, and nobody's fault.

mod files;

use std::collections::{BTreeMap, BTreeSet};

use weft_kernel::netlink::{Family, Message, Socket};
use weft_kernel::nft::{ForeignTable, TableName};
use weft_kernel::ours::{ROUTE_PROTOCOL, tables};
use weft_kernel::rtnl::{link, route};
use weft_kernel::state::{Kind, Sysctl};
use weft_kernel::{Kernel, Linux, nft, sysctl};
use weft_model::api::{PeerStatus, Status};
use weft_model::{IfName, Network};

/// A network on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What was declared.
    pub network: Network,
    /// Its device.
    pub device: IfName,
}

/// A file in the runtimes' folder of CNI configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniFile {
    /// Its name.
    pub name: String,
    /// The plugins it names.
    pub types: Vec<String>,
    /// Those of them that are not installed.
    pub missing: Vec<String>,
    /// Why it is not a configuration, if it is none.
    pub broken: Option<String>,
}

/// A program that configures interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managed {
    /// Whether it runs.
    pub runs: bool,
    /// Whether a file keeps it off weft's interfaces.
    pub excluded: bool,
    /// Files that make it take weft's interfaces all the same.
    pub claims: Vec<String>,
}

/// Everything that findings are made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// What the agent says is wrong; `None` if it does not answer.
    pub health: Option<Vec<String>>,
    /// weft's networks, as their devices in the kernel tell.
    pub networks: Vec<Place>,
    /// The host's ends of wires.
    pub wires: Vec<IfName>,
    /// The devices of weft's tunnels.
    pub tunnels: Vec<(IfName, Kind)>,
    /// Largest packets of uplinks and tunnels, in bytes.
    pub mtus: BTreeMap<IfName, u32>,
    /// Other hosts, as the agent sees them.
    pub peers: Vec<PeerStatus>,
    /// Whether somebody keeps the clock right, if the kernel says.
    pub clock_kept: Option<bool>,
    /// The interfaces of default routes.
    pub uplinks: Vec<IfName>,
    /// Kernel settings by path.
    pub settings: BTreeMap<String, String>,
    /// Settings in files that are applied at boot: the file, the key as written, the value.
    pub sysctl_files: Vec<(String, String, String)>,
    /// Other people's nftables.
    pub tables: BTreeMap<TableName, ForeignTable>,
    /// Tables of the older iptables, which nftables does not show.
    pub legacy_tables: Vec<String>,
    /// The folder of CNI configurations.
    pub cni_folder: String,
    /// What is in it.
    pub cni: Vec<CniFile>,
    /// systemd-networkd.
    pub networkd: Managed,
    /// NetworkManager.
    pub network_manager: Managed,
}

impl Facts {
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }
}

/// Asks the calling thread's network namespace, and the files of this host. `status` is what the agent says.
///
/// # Errors
/// When the kernel cannot be asked at all: not as root.
pub fn gather(status: Option<Status>) -> Result<Facts, String> {
    let mut kernel = Linux::open().map_err(|e| crate::chain(&e))?;
    let state = kernel.read(&[]).map_err(|e| crate::chain(&e))?;
    let of_kind = |wanted: fn(&Kind) -> bool| -> Vec<IfName> {
        state.links.iter().filter(|(_, l)| wanted(&l.kind)).map(|(name, _)| name.clone()).collect()
    };
    let place = |(name, link): (&IfName, &weft_kernel::state::Link)| {
        let network = weft_dataplane::network::read_alias(link.alias.as_ref()?)?;
        Some(Place { network, device: name.clone() })
    };
    let tunnels = state.links.iter().filter(|(_, l)| matches!(l.kind, Kind::Tunnel { .. }));
    let uplinks = uplinks().unwrap_or_default();
    let mtus = tunnels.clone().map(|(name, l)| (name.clone(), l.mtu)).chain(uplinks.iter().cloned());
    let (health, peers) = status.map(|s| (s.health, s.peers)).unzip();
    let mut facts = Facts {
        health,
        peers: peers.unwrap_or_default(),
        mtus: mtus.collect(),
        clock_kept: weft_kernel::clock::is_kept(),
        networks: state.links.iter().filter_map(place).collect(),
        wires: of_kind(|k| *k == Kind::Wire),
        tunnels: tunnels.map(|(name, l)| (name.clone(), l.kind)).collect(),
        uplinks: uplinks.into_iter().map(|(name, _)| name).collect(),
        tables: nft::foreign(kernel.netfilter(), &tables()).unwrap_or_default(),
        ..Facts::default()
    };
    facts.settings = settings(&facts);
    files::add(&mut facts);
    Ok(facts)
}

/// The interfaces of default routes, with their MTUs.
fn uplinks() -> Result<Vec<(IfName, u32)>, weft_kernel::netlink::Error> {
    let mut socket = Socket::open(Family::Route)?;
    let routes: Vec<route::Described> =
        socket.dump(&route::list(), |all: &mut Vec<_>, m: &Message<'_>| all.extend(route::read(m)))?;
    let links: Vec<link::Described> =
        socket.dump(&link::list(), |all: &mut Vec<_>, m: &Message<'_>| all.extend(link::read(m)))?;
    let defaults: BTreeSet<u32> = routes
        .iter()
        .filter(|r| r.destination.prefix_len() == 0 && r.protocol != ROUTE_PROTOCOL)
        .map(|r| r.index)
        .collect();
    let chosen = links.into_iter().filter(|l| defaults.contains(&l.index));
    Ok(chosen.filter_map(|l| Some((l.name?, l.mtu))).collect())
}

fn settings(facts: &Facts) -> BTreeMap<String, String> {
    let mut keys = vec![
        Sysctl::global("net/ipv4/ip_forward"),
        Sysctl::global("net/ipv6/conf/all/forwarding"),
        Sysctl::global("net/ipv4/conf/all/rp_filter"),
        Sysctl::global("net/netfilter/nf_conntrack_max"),
        Sysctl::global("net/netfilter/nf_conntrack_count"),
        Sysctl::global("net/ipv4/neigh/default/gc_thresh3"),
        Sysctl::global("net/ipv6/neigh/default/gc_thresh3"),
    ];
    let tunnels = facts.tunnels.iter().map(|(name, _)| name);
    for link in facts.wires.iter().chain(&facts.uplinks).chain(tunnels) {
        keys.extend(["rp_filter", "forwarding"].map(|key| Sysctl::of_link("ipv4", link, key)));
    }
    keys.into_iter()
        .filter_map(|key| Some((key.path().to_owned(), sysctl::read(&key).ok().flatten()?)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use weft_model::{Encapsulation, Mode, NetworkId};

    use super::*;

    /// A host with a routed network of these subnets, one wire and one uplink.
    pub(crate) fn facts(subnets: &[&str]) -> Facts {
        let subnet = |v4: bool| {
            subnets.iter().map(|s| s.parse().unwrap()).find(|s: &ipnet::IpNet| s.addr().is_ipv4() == v4)
        };
        let network = Network {
            name: "shop".parse().unwrap(),
            id: NetworkId(1),
            mode: Mode::Routed,
            ipv4: subnet(true).and_then(|s| match s {
                ipnet::IpNet::V4(n) => Some(n),
                ipnet::IpNet::V6(_) => None,
            }),
            ipv6: subnet(false).and_then(|s| match s {
                ipnet::IpNet::V6(n) => Some(n),
                ipnet::IpNet::V4(_) => None,
            }),
            mtu: None,
            masquerade: true,
            vni: None,
            encapsulation: Encapsulation::default(),
        };
        Facts {
            health: Some(Vec::new()),
            networks: vec![Place { network, device: "weft-shop".parse().unwrap() }],
            wires: vec!["weft0123456789".parse().unwrap()],
            uplinks: vec!["eth0".parse().unwrap()],
            ..Facts::default()
        }
    }

    /// Another host, at 192.0.2.N, that is reached by this kind of way and is well.
    pub(crate) fn peer(name: &str, last: u8, path: &str) -> PeerStatus {
        let reach = weft_model::api::ReachStatus {
            network: "shop".parse().unwrap(),
            path: path.to_owned(),
            device: Some(if path == "vxlan" { "weft4_7" } else { "eth0" }.parse().unwrap()),
            mtu: 1450,
            blocks: vec![format!("10.119.{last}.0/24").parse().unwrap()],
        };
        PeerStatus {
            node: name.parse().unwrap(),
            zone: None,
            addresses: vec![[192, 0, 2, last].into()],
            reaches: vec![reach],
            heard: Some(1),
            problem: None,
            fault: None,
            clock: None,
        }
    }

    pub(crate) fn set(facts: &mut Facts, key: &str, value: &str) {
        facts.settings.insert(key.to_owned(), value.to_owned());
    }
}
