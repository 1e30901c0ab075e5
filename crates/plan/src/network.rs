//! A network's share of the plan: its device, its gateway addresses, its MTU.

use ipnet::IpNet;
use serde::Serialize;
use weft_model::network::gateway;
use weft_model::{IfName, Mac, Mode, Network, NetworkId, NetworkName, Node};

use crate::overlay::{self, TunnelPlan};

/// What a host holds for a network, workloads aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NetworkPlan {
    /// What was declared; the device's alias repeats it, so that a lost record can be rebuilt.
    pub declared: Network,
    /// Its number on this host.
    pub id: NetworkId,
    /// How wires join it.
    pub mode: Mode,
    /// In bridge mode the bridge; in routed mode a bridge without ports that holds the gateway
    /// addresses (a dummy interface would do, but is not in every kernel).
    pub device: IfName,
    /// That device's Ethernet address; fixed, so that workloads can hold it as a permanent neighbour.
    pub device_mac: Mac,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// The parts of them whose addresses live on this host: all of them, or its blocks.
    pub blocks: Vec<IpNet>,
    /// The host's own addresses in it, with the prefix length they are configured with. The first of each
    /// family is the one that the host itself uses.
    pub gateways: Vec<IpNet>,
    /// Its ends of tunnels to other hosts, at most one per family of the underlay.
    pub tunnels: Vec<TunnelPlan>,
    /// Largest packet of its workloads, in bytes.
    pub mtu: u32,
    /// Whether packets for the outside leave with the host's address.
    pub masquerade: bool,
}

/// Plans a network for a node. `others6` says whether some host can be reached by IPv6 only.
#[must_use]
pub fn plan(network: &Network, node: &Node, others6: bool) -> NetworkPlan {
    let blocks = blocks(network, node);
    let tunnels = overlay::tunnels(network, node, others6);
    let gateways = match network.mode {
        Mode::Bridge => blocks.iter().map(|b| gateway(*b)).collect(),
        // No segment, so nothing else is on the device: the address stands alone.
        Mode::Routed => [true, false]
            .into_iter()
            .filter_map(|v4| blocks.iter().find(|b| b.addr().is_ipv4() == v4))
            .map(|b| IpNet::from(gateway(*b).addr()))
            .collect(),
    };
    NetworkPlan {
        declared: network.clone(),
        id: network.id,
        mode: network.mode,
        device: device(&network.name, network.id),
        device_mac: device_mac(network),
        subnets: network.subnets().collect(),
        blocks,
        gateways,
        mtu: overlay::workload_mtu(network, node, &tunnels),
        tunnels,
        masquerade: network.masquerade,
    }
}

/// What of a network lives on a host: all of it where it has the network to itself.
fn blocks(network: &Network, node: &Node) -> Vec<IpNet> {
    if network.vni.is_none() {
        return network.subnets().collect();
    }
    let inside = |block: &&IpNet| network.subnets().any(|s| s.contains(*block));
    node.blocks(&network.name).iter().filter(inside).map(IpNet::trunc).collect()
}

/// The name of a network's device: `weft-<name>` where that fits, `weft_<number>` otherwise.
#[must_use]
pub fn device(name: &NetworkName, id: NetworkId) -> IfName {
    format!("weft-{name}")
        .parse()
        .or_else(|_| format!("weft_{}", id.0).parse())
        .expect("weft_ and five digits are a valid interface name")
}

/// An Ethernet address that is the same after every restart and differs between networks.
fn device_mac(network: &Network) -> Mac {
    let [high, low] = network.id.0.to_be_bytes();
    Mac([0x02, 0x77, 0x65, 0x66, high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_gives_way_to_the_number() {
        let device = |name: &str| device(&name.parse().unwrap(), NetworkId(300)).to_string();
        assert_eq!(device("default"), "weft-default");
        assert_eq!(device("ten-chars1"), "weft-ten-chars1");
        assert_eq!(device("eleven-char"), "weft_300");
    }
}
