//! Another host as seen from this one: by which way each of its blocks is reached.
//!
//! Both ends decide by the same facts and come to the same result: a packet comes back the way it went, and
//! each end takes in only what comes that way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;
use weft_model::network::gateway;
use weft_model::{Encapsulation, Here, IfName, Mac, NetworkId, NetworkName, Node, NodeName, Vni};

use crate::network::NetworkPlan;
use crate::overlay::overhead;

/// Another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerPlan {
    /// Its name.
    pub node: NodeName,
    /// Its addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// The Ethernet address of its ends of tunnels.
    pub mac: Mac,
    /// The ways to its blocks, one per network and family.
    pub reaches: Vec<Reach>,
}

/// The way to a host's blocks of one network and one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// The network.
    pub network: NetworkName,
    /// Its number on this host.
    pub id: NetworkId,
    /// The blocks.
    pub blocks: Vec<IpNet>,
    /// The way.
    pub path: Path,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The source that this host itself uses.
    pub source: Option<IpAddr>,
}

/// How packets get to another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// As they are, over the segment that both hosts are on.
    Direct {
        /// The other host's address there.
        via: IpAddr,
        /// This host's interface there.
        device: IfName,
    },
    /// As they are, by this host's default route: a router knows the blocks, and nothing is set here.
    Router,
    /// In VXLAN.
    Vxlan {
        /// This host's end of the tunnel.
        device: IfName,
        /// The network's number in the tunnel.
        vni: Vni,
        /// Outer source.
        local: IpAddr,
        /// Outer destination.
        remote: IpAddr,
        /// The next hop inside, behind which the other host's Ethernet address stands.
        next_hop: IpAddr,
    },
    /// There is none, and why.
    Nowhere {
        /// What keeps it from being reached.
        why: &'static str,
    },
}

impl Path {
    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Path::Direct { .. } => "direct",
            Path::Router => "router",
            Path::Vxlan { .. } => "vxlan",
            Path::Nowhere { .. } => "nowhere",
        }
    }
}

/// Plans the ways to another host.
#[must_use]
pub fn plan(
    name: &NodeName,
    other: &Node,
    here: &Here,
    node: &Node,
    networks: &BTreeMap<NetworkName, NetworkPlan>,
) -> PeerPlan {
    let mut reaches = Vec::new();
    for (network, held) in &other.blocks {
        let Some(planned) = networks.get(network).filter(|n| n.declared.vni.is_some()) else { continue };
        for v4 in [true, false] {
            let blocks: Vec<IpNet> =
                held.iter().filter(|b| acceptable(b, v4, planned)).map(IpNet::trunc).collect();
            let Some(first) = blocks.first() else { continue };
            let path = path(*first, other, here, node, planned);
            let mtu = mtu(&path, other, node, planned);
            let source = planned.gateways.iter().map(IpNet::addr).find(|g| g.is_ipv4() == v4);
            reaches.push(Reach { network: network.clone(), id: planned.id, blocks, path, mtu, source });
        }
    }
    PeerPlan {
        node: name.clone(),
        addresses: other.addresses.iter().map(IpNet::addr).collect(),
        mac: other.mac,
        reaches,
    }
}

/// A record that claims what lies outside its network, or what this host holds, is not believed.
fn acceptable(block: &IpNet, v4: bool, network: &NetworkPlan) -> bool {
    block.addr().is_ipv4() == v4
        && network.subnets.iter().any(|s| s.contains(block))
        && !network.blocks.iter().any(|own| own.contains(block) || block.contains(own))
}

fn path(block: IpNet, other: &Node, here: &Here, node: &Node, network: &NetworkPlan) -> Path {
    let v4 = block.addr().is_ipv4();
    let segment = shared_segment(node.address(v4), other.address(v4)).zip(here.uplink.clone());
    match (network.declared.encapsulation, segment) {
        (Encapsulation::Auto | Encapsulation::Direct, Some((via, device))) => Path::Direct { via, device },
        (Encapsulation::Direct, None) => Path::Router,
        (Encapsulation::Auto | Encapsulation::Vxlan, _) => tunnel(block, other, network),
    }
}

/// The other's address if both see it on the segment that they share: then both decide alike.
fn shared_segment(mine: Option<IpNet>, theirs: Option<IpNet>) -> Option<IpAddr> {
    let (mine, theirs) = (mine?, theirs?);
    (mine.trunc() == theirs.trunc() && mine.addr() != theirs.addr()).then(|| theirs.addr())
}

fn tunnel(block: IpNet, other: &Node, network: &NetworkPlan) -> Path {
    let vni = network.declared.vni;
    for (tunnel, vni) in network.tunnels.iter().filter_map(|t| Some((t, vni?))) {
        if let Some(remote) = other.address(tunnel.local.is_ipv4()).map(|a| a.addr()) {
            let next_hop = match block.addr() {
                IpAddr::V4(_) => gateway(block).addr(),
                IpAddr::V6(_) => IpAddr::V6(link_local(other.mac)),
            };
            let (device, local) = (tunnel.device.clone(), tunnel.local);
            return Path::Vxlan { device, vni, local, remote, next_hop };
        }
    }
    let why = if network.tunnels.is_empty() {
        "this host has no address on the underlay"
    } else {
        "the two hosts share no family of addresses on the underlay"
    };
    Path::Nowhere { why }
}

fn mtu(path: &Path, other: &Node, node: &Node, network: &NetworkPlan) -> u32 {
    let both = node.mtu.min(other.mtu);
    match path {
        Path::Vxlan { remote, .. } => both.saturating_sub(overhead(remote.is_ipv4())).min(network.mtu),
        Path::Direct { .. } | Path::Router => both,
        Path::Nowhere { .. } => 0,
    }
}

/// A next hop for IPv6 that is on every link: derived from the host's Ethernet address (RFC 4291, appendix A).
pub(crate) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |x: u8, y: u8| u16::from_be_bytes([x, y]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

/// Something that belongs to one host alone, and by which the kernel's entries for it are keyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Block(IpNet),
    Address(IpAddr),
    Mac(Mac),
}

/// How many other hosts claim what: two that claim the same share an entry in the kernel, so that taking away what
/// one of them had would take it from the other, too.
#[derive(Clone, Debug, Default)]
pub struct Claims(BTreeMap<Claim, u32>);

impl Claims {
    /// Those of all these hosts.
    #[must_use]
    pub fn of<'a>(peers: impl IntoIterator<Item = &'a PeerPlan>) -> Claims {
        let mut claims = Claims::default();
        for peer in peers {
            claims.add(peer);
        }
        claims
    }

    /// Notes a host's; returns whether somebody else has one of them.
    pub fn add(&mut self, peer: &PeerPlan) -> bool {
        let mut shared = false;
        for claim in claims(peer) {
            let count = self.0.entry(claim).or_default();
            *count += 1;
            shared |= *count > 1;
        }
        shared
    }

    /// Forgets a host's; returns whether somebody else has one of them.
    pub fn remove(&mut self, peer: &PeerPlan) -> bool {
        let mut shared = false;
        for claim in claims(peer) {
            match self.0.get_mut(&claim) {
                Some(count) if *count > 1 => {
                    *count -= 1;
                    shared = true;
                }
                _ => {
                    self.0.remove(&claim);
                }
            }
        }
        shared
    }
}

fn claims(peer: &PeerPlan) -> BTreeSet<Claim> {
    let blocks = peer.reaches.iter().flat_map(|r| &r.blocks).map(|b| Claim::Block(*b));
    let addresses = peer.addresses.iter().map(|a| Claim::Address(*a));
    blocks.chain(addresses).chain([Claim::Mac(peer.mac)]).collect()
}
