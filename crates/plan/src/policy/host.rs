//! Policies for hosts themselves: what may reach the host's own sockets, and what those may reach.
//!
//! ```text
//!   others ──▶ input ──▶ sockets of the host ──▶ output ──▶ others        own workloads: never judged on the way out,
//!                                                                          so that health checks work
//! ```
//!
//! What is forwarded is the business of workloads' policies. What comes from the host itself, answers, neighbour discovery, packets of
//! weft's own tunnels and the [fail-safe](weft_model::policy::Failsafe) pass always.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use weft_model::network::gateway;
use weft_model::policy::{Direction, Failsafe, OpenPort, Protocol, WorkloadPort};
use weft_model::{Labels, NodeName, World};

use super::matcher::{End, Member, Members};
use super::resolve::Policies;
use super::verdict::{Cause, Side, side};
use super::{Judged, Packet, PolicyPlan, Subject};

/// What the host is called where workloads have the name of their wire's end.
pub const HOST: &str = "host";

impl PolicyPlan {
    /// Whether something between this host and an address passes, apart from what is never judged: to a port of the host, or from it.
    #[must_use]
    pub fn host_passes(&self, direction: Direction, peer: IpAddr, protocol: u8, port: u16) -> bool {
        let judged = self.host.as_ref().and_then(|host| host.judged(direction));
        judged.and_then(|judged| judged.table(false)).is_none_or(|table| {
            open(&self.failsafe, direction, protocol, port).is_some()
                || table.row(self.class(peer)).passes(protocol, port)
        })
    }
}

/// The port, if the fail-safe holds it open.
fn open(failsafe: &Failsafe, direction: Direction, protocol: u8, port: u16) -> Option<OpenPort> {
    let protocol = Protocol::from_number(protocol)?;
    let wanted = OpenPort(WorkloadPort { protocol, port });
    let ports = match direction {
        Direction::Ingress => &failsafe.ingress,
        Direction::Egress => &failsafe.egress,
    };
    ports.contains(&wanted).then_some(wanted)
}

/// A host as selectors and tables see it: it has no namespace and names no ports.
pub(super) fn member(name: &NodeName, labels: Labels) -> Member {
    Member {
        name: format!("node/{name}"),
        namespace: weft_model::namespace::default_namespace(),
        namespace_labels: Arc::default(),
        labels: Arc::new(labels),
        ports: weft_model::policy::NamedPorts::new(),
        addresses: Vec::new(),
        local: true,
    }
}

/// A host as a plan has it.
pub(super) fn subject(name: &NodeName, ingress: Option<Arc<Judged>>, egress: Option<Arc<Judged>>) -> Subject {
    let host_end = HOST.parse().expect("the constant is an interface's name");
    Subject { name: format!("node/{name}"), host_end, addresses: Vec::new(), ingress, egress }
}

pub(super) fn concerns_hosts(world: &World) -> bool {
    world.declared.cluster_policies.values().any(|policy| policy.spec.subject.nodes.is_some())
}

/// The hosts of the world by their addresses: those on the underlay, and their own in networks.
#[derive(Debug, Default)]
pub struct Hosts<'a> {
    world: Option<&'a World>,
    by_address: BTreeMap<IpAddr, &'a NodeName>,
}

impl<'a> Hosts<'a> {
    /// Collects them.
    #[must_use]
    pub fn of(world: &'a World) -> Hosts<'a> {
        let mut by_address = BTreeMap::new();
        for name in world.nodes.keys() {
            by_address.extend(addresses(world, name).into_iter().map(|address| (address, name)));
        }
        Hosts { world: Some(world), by_address }
    }

    /// Which host an address is of.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<&'a NodeName> {
        self.by_address.get(&address).copied()
    }

    /// On which host the workload with this address is.
    fn home(&self, address: IpAddr) -> Option<&'a NodeName> {
        let world = self.world?;
        let holds =
            |node: &weft_model::Node| node.blocks.values().flatten().any(|block| block.contains(&address));
        match world.nodes.len() {
            1 => world.nodes.keys().next(),
            _ => world.nodes.iter().find(|(_, node)| holds(node)).map(|(name, _)| name),
        }
    }

    /// Whether a packet goes between a host and a workload on it: workloads' policies never judge that.
    pub(super) fn is_node_local(&self, members: &Members, packet: &Packet) -> bool {
        let between = |host: IpAddr, workload: IpAddr| {
            let node = self.at(host);
            node.is_some() && members.end(workload).workload.is_some() && self.home(workload) == node
        };
        between(packet.source, packet.destination) || between(packet.destination, packet.source)
    }

    /// What policies for hosts say of a packet, egress of the source first.
    #[must_use]
    pub fn sides(&self, members: &Members, packet: &Packet) -> Vec<Side> {
        let Some(world) = self.world.filter(|world| concerns_hosts(world)) else { return Vec::new() };
        let (source, destination) = (self.at(packet.source), self.at(packet.destination));
        if source == destination {
            return Vec::new(); // itself, by its loopback, or no host at all
        }
        let to_own = self.is_node_local(members, packet) && source.is_some();
        let mut sides = Vec::new();
        for (direction, name) in
            [(Direction::Egress, source.filter(|_| !to_own)), (Direction::Ingress, destination)]
        {
            let Some(node) = name.and_then(|name| world.nodes.get(name)) else { continue };
            let Some(name) = name else { continue };
            sides.extend(judge(world, members, (name, node.labels(name)), direction, packet));
        }
        sides
    }
}

/// What the policies for a host say of a packet to it, or from it.
#[must_use]
pub fn judge(
    world: &World,
    members: &Members,
    (name, labels): (&NodeName, Labels),
    direction: Direction,
    packet: &Packet,
) -> Option<Side> {
    let policies = Policies::of_host(world, &labels);
    let own = member(name, labels);
    let (mut source, mut destination) = (members.end(packet.source), members.end(packet.destination));
    let host = |end: &mut End<'_>| end.workload = None;
    match direction {
        Direction::Ingress => host(&mut destination),
        Direction::Egress => host(&mut source),
    }
    let peer = if direction == Direction::Ingress { source } else { destination };
    let mut said = side(&policies, direction, &own, &peer, &destination, packet)?;
    if let Some(port) = open(&world.failsafe, direction, packet.protocol, packet.port) {
        said.allowed = true;
        said.by = Cause::Rule { policy: "fail-safe".to_owned(), rule: port.to_string() };
        said.audit = None;
    }
    Some(said)
}

/// The addresses by which a host is known.
#[must_use]
pub fn addresses(world: &World, name: &NodeName) -> Vec<IpAddr> {
    let Some(node) = world.nodes.get(name) else { return Vec::new() };
    let underlay = node.addresses.iter().map(ipnet::IpNet::addr);
    let alone = world.nodes.len() == 1;
    let in_networks = world.networks.values().flat_map(|network| {
        let own = node.blocks(&network.name);
        let subnets: Vec<_> = match own {
            [] if alone => network.subnets().collect(),
            blocks => [true, false]
                .into_iter()
                .filter_map(|v4| blocks.iter().find(|b| b.addr().is_ipv4() == v4).copied())
                .collect(),
        };
        subnets.into_iter().map(|subnet| gateway(subnet).addr())
    });
    underlay.chain(in_networks).collect()
}
