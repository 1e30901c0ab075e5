//! A network's ends of tunnels on this host, and the arithmetic of what fits through them.
//!
//! ```text
//!   the underlay's MTU 1500 = outer IPv4 20 (IPv6 40) + UDP 8 + VXLAN 8 + inner Ethernet 14 + inner packet
//! ```

use std::net::IpAddr;

use serde::Serialize;
use weft_model::{Encapsulation, IfName, Mac, Network, Node, Vni};

/// What encapsulation adds to a packet over IPv4, in bytes (RFC 7348, section 5).
pub const OVERHEAD4: u32 = 20 + 8 + 8 + 14;
/// The same over IPv6.
pub const OVERHEAD6: u32 = 40 + 8 + 8 + 14;
/// The UDP port of VXLAN (RFC 7348, section 8).
pub const PORT: u16 = 4789;

/// This host's end of a network's tunnels over one family of the underlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TunnelPlan {
    /// Its device.
    pub device: IfName,
    /// The network's number in the cluster.
    pub vni: Vni,
    /// This host's address on the underlay: the outer source.
    pub local: IpAddr,
    /// The Ethernet address that other hosts send to.
    pub mac: Mac,
    /// Largest inner packet in bytes.
    pub mtu: u32,
}

/// What encapsulation adds over an underlay of this family.
#[must_use]
pub fn overhead(v4: bool) -> u32 {
    if v4 { OVERHEAD4 } else { OVERHEAD6 }
}

/// The tunnels' ends of a network on a node: over IPv4 where the node has such an address, and over IPv6
/// where it has no other, or some other host has no other.
#[must_use]
pub fn tunnels(network: &Network, node: &Node, others6: bool) -> Vec<TunnelPlan> {
    let Some(vni) = network.vni.filter(|_| network.encapsulation != Encapsulation::Direct) else {
        return Vec::new();
    };
    let over = |v4: bool| {
        let local = node.address(v4)?.addr();
        let mtu = node.mtu.saturating_sub(overhead(v4));
        Some(TunnelPlan { device: device(vni, v4), vni, local, mac: node.mac, mtu })
    };
    let ipv4 = over(true);
    let ipv6 = if others6 || ipv4.is_none() { over(false) } else { None };
    ipv4.into_iter().chain(ipv6).collect()
}

/// The largest packet of a network's workloads: what its first tunnel lets through, whether or not there is
/// a host behind one yet, so that it does not change when the first one comes.
#[must_use]
pub fn workload_mtu(network: &Network, node: &Node, tunnels: &[TunnelPlan]) -> u32 {
    match (network.vni, network.mtu) {
        (None, declared) => declared.unwrap_or(node.mtu),
        (Some(_), declared) => {
            let fits = tunnels.first().map_or(node.mtu, |t| t.mtu);
            declared.map_or(fits, |declared| declared.min(fits))
        }
    }
}

/// The name of a tunnel's device: the underlay's family and the network's number, as captures show it.
#[must_use]
pub fn device(vni: Vni, v4: bool) -> IfName {
    let family = if v4 { 4 } else { 6 };
    format!("weft{family}_{vni}").parse().expect("at most 14 letters and digits")
}
