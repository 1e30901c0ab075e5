//! What a host's kernel should hold, given the world: `plan(&World, &Here) -> Plan`.
//!
//! Pure, total and deterministic. Nothing here opens a file, asks the time or knows nftables.

pub mod address;
pub mod attach;
pub mod bandwidth;
pub mod explain;
pub mod network;
pub mod overlay;
pub mod peer;
pub mod policy;
pub mod ports;
pub mod services;

use std::collections::BTreeMap;

use serde::Serialize;
use weft_model::{AttachmentId, Here, NetworkName, Node, NodeName, World};

pub use attach::WorkloadPlan;
pub use bandwidth::BandwidthPlan;
pub use network::NetworkPlan;
pub use overlay::TunnelPlan;
pub use peer::{Path, PeerPlan, Reach};
pub use policy::PolicyPlan;
pub use services::ServicesPlan;

/// What one host should hold, in the domain's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Networks by name.
    pub networks: BTreeMap<NetworkName, NetworkPlan>,
    /// Workloads by identity; those of unknown networks have no place and are left out.
    pub workloads: BTreeMap<AttachmentId, WorkloadPlan>,
    /// Other hosts by name, as far as they hold blocks of networks that are here too.
    pub peers: BTreeMap<NodeName, PeerPlan>,
    /// Who may speak to whom.
    pub policy: PolicyPlan,
    /// Which addresses lead to which backends.
    pub services: ServicesPlan,
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
pub fn plan(world: &World, here: &Here) -> Plan {
    let mut plan = lay_out(world, here);
    if world.nodes.contains_key(&here.name) {
        plan.policy = policy::compile::compile(world, &here.name);
    }
    plan
}

/// All of a plan but policy, which follows a world change by change ([`policy::Standing`]).
#[must_use]
pub fn lay_out(world: &World, here: &Here) -> Plan {
    let Some(node) = world.nodes.get(&here.name) else { return Plan::default() };
    let others6 = others6(&world.nodes, &here.name);
    let networks: BTreeMap<_, _> =
        world.networks.values().map(|n| (n.name.clone(), network::plan(n, node, others6))).collect();
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
        if forward_ipv6 { here.learning_links.iter().cloned().collect() } else { Vec::new() };
    let mut plan = Plan {
        block_metadata: here.block_metadata,
        forward_ipv4,
        forward_ipv6,
        learning_links,
        networks,
        workloads,
        peers: BTreeMap::new(),
        policy: PolicyPlan::default(),
        services: services::plan(world, here),
    };
    for workload in plan.workloads.values_mut() {
        workload.hairpin |= plan.services.serves(workload);
    }
    for (name, other) in world.nodes.iter().filter(|(name, _)| **name != here.name) {
        replan_peer(&mut plan, here, node, name, Some(other));
    }
    plan
}

/// Whether some other host has no IPv4 address on the underlay, so that tunnels to it run over IPv6.
#[must_use]
pub fn others6(nodes: &BTreeMap<NodeName, Node>, here: &NodeName) -> bool {
    nodes.iter().any(|(name, n)| name != here && n.address(true).is_none() && n.address(false).is_some())
}

/// Plans one other host anew, or takes it out: what a change of one host costs. The same function over all
/// of them is the plan's part for peers.
pub fn replan_peer(plan: &mut Plan, here: &Here, node: &Node, name: &NodeName, other: Option<&Node>) {
    let planned = other.map(|other| peer::plan(name, other, here, node, &plan.networks));
    match planned.filter(|p| !p.reaches.is_empty()) {
        Some(planned) => plan.peers.insert(name.clone(), planned),
        None => plan.peers.remove(name),
    };
}
