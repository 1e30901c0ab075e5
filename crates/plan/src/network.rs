//! A network's share of the plan: its device, its gateway addresses, its MTU.

use ipnet::IpNet;
use serde::Serialize;
use weft_model::{IfName, Mac, Mode, Network, NetworkId, NetworkName, Node};

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
    /// The host's own address in each subnet, with the prefix length it is configured with.
    pub gateways: Vec<IpNet>,
    /// Largest packet of its workloads, in bytes.
    pub mtu: u32,
    /// Whether packets for the outside leave with the host's address.
    pub masquerade: bool,
}

/// Plans a network for a node.
#[must_use]
pub fn plan(network: &Network, node: &Node) -> NetworkPlan {
    let gateways = network.gateways().map(|g| match network.mode {
        Mode::Bridge => g,
        // No segment, so nothing else is on the device: the address stands alone.
        Mode::Routed => IpNet::from(g.addr()),
    });
    NetworkPlan {
        declared: network.clone(),
        id: network.id,
        mode: network.mode,
        device: device(&network.name, network.id),
        device_mac: device_mac(network),
        subnets: network.subnets().collect(),
        gateways: gateways.collect(),
        mtu: network.mtu.unwrap_or(node.mtu),
        masquerade: network.masquerade,
    }
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
