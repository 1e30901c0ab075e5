//! A network's ends of tunnels to other hosts: VXLAN devices that learn nothing.

use weft_kernel::ours::tunnel_group;
use weft_kernel::state::{Kind, Link, State};
use weft_plan::NetworkPlan;

use crate::network::host_settings;

/// Adds a network's ends of tunnels.
pub fn render(network: &NetworkPlan, state: &mut State) {
    let ipv6 = network.subnets.iter().any(|s| s.addr().is_ipv6());
    for tunnel in &network.tunnels {
        let link = Link {
            kind: Kind::Tunnel { vni: tunnel.vni.get(), local: tunnel.local },
            mac: tunnel.mac,
            mtu: tunnel.mtu,
            group: tunnel_group(network.id),
            up: true,
            master: None,
            hairpin: false,
            alias: Some(format!("weft1tunnel {}", network.declared.name)),
        };
        state.links.insert(tunnel.device.clone(), link);
        state.sysctls.extend(host_settings(&tunnel.device, ipv6));
    }
}
