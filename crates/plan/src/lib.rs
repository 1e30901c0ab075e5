//! What a host's kernel should hold, given the world: `plan(&World, &NodeName) -> Plan`.
//!
//! Pure, total and deterministic. Nothing here opens a file, asks the time or knows nftables.

pub mod address;
pub mod attach;
pub mod network;
pub mod ports;

use std::collections::BTreeMap;

use serde::Serialize;
use weft_model::{AttachmentId, NetworkName, NodeName, World};

pub use attach::WorkloadPlan;
pub use network::NetworkPlan;

/// What one host should hold, in the domain's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Networks by name.
    pub networks: BTreeMap<NetworkName, NetworkPlan>,
    /// Workloads by identity; those of unknown networks have no place and are left out.
    pub workloads: BTreeMap<AttachmentId, WorkloadPlan>,
    /// Whether workloads are kept from the cloud's metadata addresses.
    pub block_metadata: bool,
    /// Whether packets of this family are forwarded: IPv4.
    pub forward_ipv4: bool,
    /// Whether packets of this family are forwarded: IPv6.
    pub forward_ipv6: bool,
    /// Links that learn their routes from router advertisements, which forwarding would end.
    pub learning_links: Vec<weft_model::IfName>,
}

/// Computes what the kernel of `here` should hold. An unknown node gets an empty plan.
#[must_use]
pub fn plan(world: &World, here: &NodeName) -> Plan {
    let Some(node) = world.nodes.get(here) else { return Plan::default() };
    let networks: BTreeMap<_, _> =
        world.networks.values().map(|n| (n.name.clone(), network::plan(n, node))).collect();
    let workloads = world
        .workloads
        .values()
        .filter_map(|w| Some((w.id.clone(), attach::plan(w, networks.get(&w.id.network)?))))
        .collect();
    let forwards = |v4: bool| {
        networks.values().any(|n: &NetworkPlan| n.subnets.iter().any(|s| s.addr().is_ipv4() == v4))
    };
    let (forward_ipv4, forward_ipv6) = (forwards(true), forwards(false));
    let learning_links =
        if forward_ipv6 { node.learning_links.iter().cloned().collect() } else { Vec::new() };
    Plan {
        block_metadata: node.block_metadata,
        forward_ipv4,
        forward_ipv6,
        learning_links,
        networks,
        workloads,
    }
}
