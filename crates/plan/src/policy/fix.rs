//! The smallest change that would let a denied packet pass: one rule more, in one policy, for each end that denies it.

use std::net::IpAddr;

use ipnet::IpNet;
use weft_model::namespace::NAME_LABEL;
use weft_model::policy::{
    Action, ClusterPeer, ClusterRuleIn, ClusterRuleOut, Direction, EgressRule, IngressRule, IpBlock,
    NamespacedPods, Peer, PolicyPort, PortMatch, PortNumber, PortRef, Protocol, ProtocolMatch,
};
use weft_model::{Object, Selector, World};

use super::Packet;
use super::matcher::{End, Member, Members};
use super::verdict::{Cause, Side, verdict};

/// One rule more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// In words: what is added, and where.
    pub words: String,
    /// The policy with it, to be applied in the place of the present one.
    pub object: Object,
}

/// A change for each end that denies the packet; none if it passes. With all of them made, it does.
#[must_use]
pub fn fixes(world: &World, packet: &Packet) -> Vec<Fix> {
    let members = Members::of(world);
    let denied = verdict(world, packet).sides.into_iter().filter(|side| !side.allowed);
    denied.filter_map(|side| fix(world, &members, packet, &side)).collect()
}

fn fix(world: &World, members: &Members, packet: &Packet, side: &Side) -> Option<Fix> {
    let peer = match side.direction {
        Direction::Ingress => members.end(packet.source),
        Direction::Egress => members.end(packet.destination),
    };
    match &side.by {
        Cause::Isolated(policies) => allow(world, packet, side.direction, policies.first()?, &peer),
        Cause::Rule { policy, rule } => accept(world, packet, side.direction, policy, rule, &peer),
        Cause::Default => None,
    }
}

/// A rule more in a policy of the workload's namespace.
fn allow(world: &World, packet: &Packet, direction: Direction, policy: &str, peer: &End<'_>) -> Option<Fix> {
    let mut named = world
        .declared
        .policies
        .iter()
        .filter(|((namespace, name), _)| format!("NetworkPolicy/{namespace}/{name}") == policy);
    let ((namespace, _), found) = named.next()?;
    let mut changed = found.clone();
    let from = match peer.workload {
        Some(member) => Peer {
            pod_selector: Some(labelled(member)),
            namespace_selector: (member.namespace != *namespace).then(|| named_namespace(member)),
            ip_block: None,
        },
        None => Peer {
            ip_block: Some(IpBlock { cidr: host(peer.address), except: Vec::new() }),
            ..Peer::default()
        },
    };
    let ports = Protocol::from_number(packet.protocol).map(|protocol| PolicyPort {
        protocol,
        port: (packet.port != 0).then_some(PortRef::Number(packet.port)),
        end_port: None,
    });
    let ports: Vec<PolicyPort> = ports.into_iter().collect();
    match direction {
        Direction::Ingress => changed.spec.ingress.push(IngressRule { from: vec![from], ports }),
        Direction::Egress => {
            // Which directions are isolated must stay what it was, even where it was only implied.
            if changed.spec.policy_types.is_empty() {
                changed.spec.policy_types =
                    Direction::BOTH.into_iter().filter(|d| found.spec.isolates(*d)).collect();
            }
            changed.spec.egress.push(EgressRule { to: vec![from], ports });
        }
    }
    let words =
        format!("add to {policy} an {} rule for {}{}", direction.as_str(), shown(peer), wherever(packet));
    Some(Fix { words, object: Object::NetworkPolicy(changed) })
}

/// An Accept before the rule that denies.
fn accept(
    world: &World,
    packet: &Packet,
    direction: Direction,
    policy: &str,
    rule: &str,
    peer: &End<'_>,
) -> Option<Fix> {
    let mut named = world
        .declared
        .cluster_policies
        .iter()
        .filter(|(name, _)| format!("ClusterNetworkPolicy/{name}") == policy);
    let mut changed = named.next()?.1.clone();
    let index: usize = rule.split_once('[')?.1.split_once(']')?.0.parse().ok()?;
    let to = match peer.workload {
        Some(member) => ClusterPeer {
            pods: Some(NamespacedPods {
                namespace_selector: named_namespace(member),
                pod_selector: labelled(member),
            }),
            ..ClusterPeer::default()
        },
        None => ClusterPeer { networks: Some(vec![host(peer.address)]), ..ClusterPeer::default() },
    };
    let protocols = Protocol::from_number(packet.protocol).map(|protocol| {
        let number = Some(packet.port);
        let ports = Some(PortMatch { destination_port: PortNumber { number, range: None } });
        let only = ProtocolMatch::default();
        vec![match protocol {
            Protocol::Tcp => ProtocolMatch { tcp: ports, ..only },
            Protocol::Udp => ProtocolMatch { udp: ports, ..only },
            Protocol::Sctp => ProtocolMatch { sctp: ports, ..only },
        }]
    });
    let (name, action) = (String::new(), Action::Accept);
    match direction {
        Direction::Ingress if index <= changed.spec.ingress.len() => {
            changed.spec.ingress.insert(index, ClusterRuleIn { name, action, from: vec![to], protocols });
        }
        Direction::Egress if index <= changed.spec.egress.len() => {
            changed.spec.egress.insert(index, ClusterRuleOut { name, action, to: vec![to], protocols });
        }
        _ => return None,
    }
    let words = format!("add to {policy}, before {rule}, an Accept for {}{}", shown(peer), wherever(packet));
    Some(Fix { words, object: Object::ClusterNetworkPolicy(changed) })
}

fn labelled(member: &Member) -> Selector {
    Selector { match_labels: (*member.labels).clone(), match_expressions: Vec::new() }
}

fn named_namespace(member: &Member) -> Selector {
    let key = NAME_LABEL.parse().expect("the constant is a label key");
    let name = member.namespace.as_str().parse().expect("a namespace's name is a label value");
    Selector { match_labels: [(key, name)].into(), match_expressions: Vec::new() }
}

fn host(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

fn shown(peer: &End<'_>) -> String {
    peer.workload.map_or_else(|| peer.address.to_string(), |member| member.name.clone())
}

fn wherever(packet: &Packet) -> String {
    match Protocol::from_number(packet.protocol) {
        Some(protocol) => format!(" at {}/{protocol}", packet.port),
        None => ", any protocol".to_owned(),
    }
}
