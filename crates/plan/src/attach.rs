//! A workload's share of the plan: its wire.
//!
//! ```text
//!        routed                                   bridge
//!   eth0  10.119.0.2/32                      eth0  10.119.0.2/16
//!    │    default via 169.254.1.1             │    default via 10.119.0.1
//!    │    169.254.1.1 = host end, permanent   │    10.119.0.1 = bridge, permanent
//!   ─┼─── namespace ──────                   ─┼─── namespace ──────
//!   weft…  10.119.0.2 → this wire            weft…  port of weft-NAME (10.119.0.1/16)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;
use weft_model::{AttachmentId, IfName, Mac, Mode, Netns, NetworkId, Owner, Phase, Workload};

use crate::bandwidth::{self, BandwidthPlan};
use crate::network::NetworkPlan;
use crate::peer::link_local;
use crate::ports::{self, PortPlan};

/// The gateway of every routed workload (IPv4): link-local, so that it collides with nobody's addresses.
pub const GATEWAY4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The gateway of every routed workload (IPv6).
pub const GATEWAY6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// A workload's wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkloadPlan {
    /// The attachment.
    pub id: AttachmentId,
    /// On whose behalf it was made; the wire's alias says it, for an agent that has lost its records.
    pub owner: Owner,
    /// Whether it is known to have been finished once.
    pub phase: Phase,
    /// Its network's number.
    pub network: NetworkId,
    /// How the wire joins it.
    pub mode: Mode,
    /// The network's device.
    pub device: IfName,
    /// The workload's namespace.
    pub netns: Netns,
    /// The host's end.
    pub host_end: IfName,
    /// That end's Ethernet address.
    pub host_mac: Mac,
    /// The workload's Ethernet address.
    pub mac: Mac,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The addresses as configured inside.
    pub addresses: Vec<IpNet>,
    /// Addresses from which it may send besides those: its link-local one, where it has one.
    pub link_local: Option<Ipv6Addr>,
    /// The next hop per family, and the Ethernet address behind it.
    pub gateways: Vec<(IpAddr, Mac)>,
    /// The destinations that are routed by those next hops.
    pub routes: Vec<(IpNet, IpAddr)>,
    /// The source the host itself uses towards the workload, per family.
    pub host_sources: Vec<IpAddr>,
    /// Ports of the host that lead to it.
    pub ports: Vec<PortPlan>,
    /// Whether something may lead it to itself: a port of the host's, or a service.
    pub hairpin: bool,
    /// How much may flow.
    pub bandwidth: BandwidthPlan,
}

/// Plans a workload's wire.
#[must_use]
pub fn plan(workload: &Workload, network: &NetworkPlan) -> WorkloadPlan {
    let families = [true, false];
    let has = |v4: bool| workload.addresses.iter().any(|a| a.addr().is_ipv4() == v4);
    // A segment ends at the host: in a cluster it is the block, and other hosts' are behind the gateway.
    let block = |a: &IpNet| network.blocks.iter().find(|b| b.contains(&a.addr())).copied();
    let segment = |v4: bool| workload.addresses.iter().filter(|a| a.addr().is_ipv4() == v4).find_map(block);
    let gateway = |v4: bool| match network.mode {
        Mode::Routed => Some(if v4 { GATEWAY4 } else { GATEWAY6 }),
        Mode::Bridge => segment(v4).map(|b| weft_model::network::gateway(b).addr()),
    };
    let (host_mac, gateway_mac) = match network.mode {
        Mode::Routed => (Mac::HOST_END, Mac::HOST_END),
        Mode::Bridge => (workload.mac.port(), network.device_mac),
    };
    let present = families.into_iter().filter(|v4| has(*v4));
    let gateways: Vec<_> = present.filter_map(gateway).map(|g| (g, gateway_mac)).collect();
    let mut routes = Vec::new();
    for (gateway, _) in &gateways {
        let same_family = |net: &&IpNet| net.addr().is_ipv4() == gateway.is_ipv4();
        if workload.default_route {
            routes.push((everything(gateway.is_ipv4()), *gateway));
        } else if network.mode == Mode::Routed || network.declared.vni.is_some() {
            // A second interface leads only to its own network; on a segment that no other host has a part of,
            // the address's prefix does that.
            routes.extend(network.subnets.iter().filter(same_family).map(|s| (s.trunc(), *gateway)));
        }
    }
    let configured = |a: &IpNet| match network.mode {
        Mode::Routed => IpNet::from(a.addr()),
        Mode::Bridge => block(a).and_then(|b| IpNet::new(a.addr(), b.prefix_len()).ok()).unwrap_or(*a),
    };
    WorkloadPlan {
        id: workload.id.clone(),
        owner: workload.owner.clone(),
        phase: workload.phase,
        network: network.id,
        mode: network.mode,
        device: network.device.clone(),
        netns: workload.netns.clone(),
        host_end: workload.host_end.clone(),
        host_mac,
        mac: workload.mac,
        mtu: network.mtu,
        addresses: workload.addresses.iter().map(configured).collect(),
        link_local: (network.mode == Mode::Bridge && has(false)).then(|| link_local(workload.mac)),
        gateways,
        routes,
        host_sources: network.gateways.iter().map(IpNet::addr).collect(),
        hairpin: !workload.profile.ports.is_empty(),
        ports: ports::plan(&workload.profile.ports, workload.addresses.iter().map(IpNet::addr)),
        bandwidth: bandwidth::plan(workload),
    }
}

fn everything(v4: bool) -> IpNet {
    let any = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    IpNet::new(any, 0).expect("0 is a valid prefix length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_follows_the_ethernet_address() {
        let mac = Mac([0x02, 0x77, 0x0a, 0x58, 0x00, 0x02]);
        assert_eq!(link_local(mac).to_string(), "fe80::77:aff:fe58:2");
    }
}
