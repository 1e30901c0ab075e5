//! Policies for the host, and packets between it and all others.

use std::net::IpAddr;

use weft_model::node::NAME_LABEL;
use weft_model::policy::{
    ClusterNetworkPolicy, ClusterPeer, HOST_VERSION, PortMatch, PortNumber, Protocol, ProtocolMatch, Subject,
};
use weft_model::{Mode, Object, Selector, World};

use super::policies::{BLOCKS, cluster};
use super::{Dice, NAMES, OUTSIDE, PODS, PORTS, PROTOCOLS, address, here, labels, world};
use crate::policy::{Packet, host};

/// A policy for hosts, of any form.
fn policy(dice: &mut Dice, index: u64) -> Object {
    let Object::ClusterNetworkPolicy(mut policy) = cluster(dice, index) else {
        unreachable!("the other function makes nothing else")
    };
    policy.api_version = HOST_VERSION.to_owned();
    let name = |name: &str| Selector { match_labels: labels(&[(NAME_LABEL, name)]), ..Selector::default() };
    let node = here().name;
    let nodes = match dice.roll(5) {
        0 => name("another"),
        1 | 2 => name(node.as_str()),
        _ => Selector::default(),
    };
    policy.spec.subject = Subject { nodes: Some(nodes), ..Subject::default() };
    rules(dice, &mut policy);
    Object::ClusterNetworkPolicy(policy)
}

/// What rules for hosts may say and others may not, and the other way round.
fn rules(dice: &mut Dice, policy: &mut ClusterNetworkPolicy) {
    for rule in &mut policy.spec.ingress {
        if dice.some(5) {
            let networks = vec![dice.one(&BLOCKS).parse().expect("a range")];
            rule.from.push(ClusterPeer { networks: Some(networks), ..ClusterPeer::default() });
        }
        for protocol in rule.protocols.iter_mut().flatten().filter(|p| p.destination_named_port.is_some()) {
            let destination_port = PortNumber { number: Some(80), range: None };
            *protocol =
                ProtocolMatch { tcp: Some(PortMatch { destination_port }), ..ProtocolMatch::default() };
        }
    }
}

/// A world with one to four policies for hosts, and some for workloads, by number.
#[must_use]
pub fn case(number: u64, mode: Mode) -> World {
    let mut dice = Dice::new(number ^ 0x0a57);
    let mut world = world(mode, false);
    for index in 0..=dice.roll(4) {
        let object = policy(&mut dice, index);
        debug_assert_eq!(object.validate(), Ok(()), "{object:?}");
        world.declared.insert(object);
    }
    for index in 10..10 + dice.roll(3) {
        world.declared.insert(super::policy(&mut dice, index));
    }
    world
}

/// Every packet between the host and others that tells something; those to ssh are held open by the fail-safe.
#[must_use]
pub fn packets(world: &World) -> Vec<Packet> {
    let mut packets = Vec::new();
    let own = world.nodes.keys().next().map(|name| host::addresses(world, name)).unwrap_or_default();
    for v4 in [true, false] {
        let Some(host) = own.iter().find(|a| a.is_ipv4() == v4).copied() else { continue };
        let pods = (0..NAMES.len()).flat_map(|n| (0..PODS.len()).map(move |p| address(n, p, v4)));
        let others: Vec<IpAddr> = pods.chain(OUTSIDE.into_iter().filter(|o| o.is_ipv4() == v4)).collect();
        for other in others {
            for (source, destination) in [(host, other), (other, host)] {
                for protocol in PROTOCOLS {
                    let has_ports = Protocol::from_number(protocol).is_some();
                    let protocol = if protocol == 1 && !v4 { 58 } else { protocol };
                    for port in PORTS.iter().chain(&[22, 2379]).take(if has_ports { 8 } else { 1 }) {
                        let port = if has_ports { *port } else { 0 };
                        packets.push(Packet { source, destination, protocol, port });
                    }
                }
            }
        }
    }
    packets
}
