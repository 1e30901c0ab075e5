//! Policies of every form, each field absent, empty and filled.

use ipnet::IpNet;
use weft_model::object::Metadata;
use weft_model::policy::{
    Action, ClusterNetworkPolicy, ClusterPeer, ClusterPolicySpec, ClusterRuleIn, ClusterRuleOut, Direction,
    ENFORCEMENT, EgressRule, IngressRule, IpBlock, NamespacedPods, NetworkPolicy, NetworkPolicySpec, Peer,
    PolicyPort, PortMatch, PortNumber, PortRef, PortSpan, Protocol, ProtocolMatch, Subject, Tier,
};
use weft_model::selector::{Operator, Requirement};
use weft_model::{Object, Selector};

use super::{Dice, NAMES, PORTS, labels};

/// A policy of any form.
pub fn policy(dice: &mut Dice, index: u64) -> Object {
    if dice.some(3) { cluster(dice, index) } else { namespaced(dice, index) }
}

fn metadata(dice: &mut Dice, index: u64, namespace: Option<&str>) -> Metadata {
    let name = format!("p{index}").parse().expect("a name");
    let mut metadata = Metadata::named(name, namespace.map(|n| n.parse().expect("a name")));
    if dice.some(1) {
        metadata.annotations.insert(ENFORCEMENT.to_owned(), "audit".to_owned());
    }
    metadata
}

fn selector(dice: &mut Dice, key: &str, values: &[&str]) -> Selector {
    let key = key.parse().expect("a key");
    let expression = |operator, values: &[&str]| Selector {
        match_expressions: vec![Requirement {
            key: "pod".parse().expect("a key"),
            operator,
            values: values.iter().map(|v| v.parse().expect("a value")).collect(),
        }],
        ..Selector::default()
    };
    match dice.roll(6) {
        0 => Selector::default(),
        1 => expression(Operator::In, &["a", "c"]),
        2 => expression(Operator::NotIn, &["a"]),
        3 => expression(Operator::DoesNotExist, &[]),
        4 => Selector { match_labels: labels(&[("tier", "front")]), ..Selector::default() },
        _ => Selector {
            match_labels: [(key, dice.one(values).parse().expect("a value"))].into(),
            ..Selector::default()
        },
    }
}

fn pods(dice: &mut Dice) -> Selector {
    selector(dice, "pod", &["a", "b", "c", "none"])
}

fn namespaces(dice: &mut Dice) -> Selector {
    match dice.roll(4) {
        0 => Selector::default(),
        1 => {
            Selector { match_labels: labels(&[("kubernetes.io/metadata.name", "x")]), ..Selector::default() }
        }
        2 => Selector { match_labels: labels(&[("team", "none")]), ..Selector::default() },
        _ => {
            Selector { match_labels: labels(&[("team", dice.one(&["red", "blue"]))]), ..Selector::default() }
        }
    }
}

pub(super) const BLOCKS: [&str; 10] = [
    "0.0.0.0/0",
    "::/0",
    "10.77.0.0/27",
    "10.77.0.16/32",
    "fd77::10/124",
    "198.51.100.0/24",
    "198.51.100.64/26",
    "2001:db8:2::/64",
    "2001:db8:2::77/128",
    "203.0.113.0/24",
];

fn block(dice: &mut Dice) -> IpBlock {
    let cidr: IpNet = dice.one(&BLOCKS).parse().expect("a range");
    let inside = |hole: &IpNet| cidr.contains(hole) && *hole != cidr;
    let holes = BLOCKS.iter().map(|b| b.parse::<IpNet>().expect("a range")).filter(inside);
    let except = holes.filter(|_| dice.some(4)).collect();
    IpBlock { cidr, except }
}

fn peers(dice: &mut Dice) -> Vec<Peer> {
    let peer = |dice: &mut Dice| match dice.roll(4) {
        0 => Peer { pod_selector: Some(pods(dice)), ..Peer::default() },
        1 => Peer { namespace_selector: Some(namespaces(dice)), ..Peer::default() },
        2 => Peer {
            pod_selector: Some(pods(dice)),
            namespace_selector: Some(namespaces(dice)),
            ..Peer::default()
        },
        _ => Peer { ip_block: Some(block(dice)), ..Peer::default() },
    };
    (0..dice.roll(3)).map(|_| peer(dice)).collect()
}

fn ports(dice: &mut Dice) -> Vec<PolicyPort> {
    let port = |dice: &mut Dice| {
        let protocol = dice.one(&Protocol::ALL);
        let (port, end_port) = match dice.roll(6) {
            0 => (None, None),
            1 => (Some(PortRef::Name("web".parse().expect("a name"))), None),
            2 => (Some(PortRef::Name("no-such".parse().expect("a name"))), None),
            3 => (Some(PortRef::Number(dice.one(&[1, 79, 80, 7999]))), Some(dice.one(&[8000, 8100, 65535]))),
            _ => (Some(PortRef::Number(dice.one(&PORTS))), None),
        };
        PolicyPort { protocol, port, end_port }
    };
    (0..dice.roll(3)).map(|_| port(dice)).collect()
}

fn namespaced(dice: &mut Dice, index: u64) -> Object {
    let namespace = dice.one(&NAMES);
    let policy_types = match dice.roll(4) {
        0 => Vec::new(),
        1 => vec![Direction::Ingress],
        2 => vec![Direction::Egress],
        _ => Direction::BOTH.to_vec(),
    };
    let ingress = (0..dice.roll(3)).map(|_| IngressRule { from: peers(dice), ports: ports(dice) }).collect();
    let egress = (0..dice.roll(3)).map(|_| EgressRule { to: peers(dice), ports: ports(dice) }).collect();
    Object::NetworkPolicy(NetworkPolicy {
        api_version: "networking.k8s.io/v1".into(),
        metadata: metadata(dice, index, Some(namespace)),
        spec: NetworkPolicySpec { pod_selector: pods(dice), policy_types, ingress, egress },
    })
}

pub(super) fn cluster(dice: &mut Dice, index: u64) -> Object {
    let selected =
        |dice: &mut Dice| NamespacedPods { namespace_selector: namespaces(dice), pod_selector: pods(dice) };
    let subject = if dice.some(5) {
        Subject { namespaces: Some(namespaces(dice)), ..Subject::default() }
    } else {
        Subject { pods: Some(selected(dice)), ..Subject::default() }
    };
    let peer = |dice: &mut Dice, networks: bool| match dice.roll(if networks { 3 } else { 2 }) {
        0 => ClusterPeer { namespaces: Some(namespaces(dice)), ..ClusterPeer::default() },
        1 => ClusterPeer { pods: Some(selected(dice)), ..ClusterPeer::default() },
        _ => ClusterPeer {
            networks: Some(vec![dice.one(&BLOCKS).parse().expect("a range")]),
            ..ClusterPeer::default()
        },
    };
    let action = |dice: &mut Dice| dice.one(&[Action::Accept, Action::Deny, Action::Deny, Action::Pass]);
    let protocols = |dice: &mut Dice, names: bool| {
        let one = |dice: &mut Dice| {
            let (start, end) = (dice.one(&[1, 79, 80]), dice.one(&[81, 8000, 65535]));
            let range = Some(PortSpan { start, end });
            let destination_port = match dice.some(5) {
                true => PortNumber { number: Some(dice.one(&PORTS)), range: None },
                false => PortNumber { number: None, range },
            };
            let ports = Some(PortMatch { destination_port });
            match dice.roll(if names { 4 } else { 3 }) {
                0 => ProtocolMatch { tcp: ports, ..ProtocolMatch::default() },
                1 => ProtocolMatch { udp: ports, ..ProtocolMatch::default() },
                2 => ProtocolMatch { sctp: ports, ..ProtocolMatch::default() },
                _ => ProtocolMatch {
                    destination_named_port: Some("web".parse().expect("a name")),
                    ..ProtocolMatch::default()
                },
            }
        };
        dice.some(5).then(|| (0..=dice.roll(2)).map(|_| one(dice)).collect::<Vec<_>>())
    };
    let rule_in = |dice: &mut Dice| ClusterRuleIn {
        name: String::new(),
        action: action(dice),
        from: (0..=dice.roll(2)).map(|_| peer(dice, false)).collect(),
        protocols: protocols(dice, true),
    };
    let rule_out = |dice: &mut Dice| {
        let to: Vec<ClusterPeer> = (0..=dice.roll(2)).map(|_| peer(dice, true)).collect();
        let names = to.iter().all(|p| p.networks.is_none());
        ClusterRuleOut { name: String::new(), action: action(dice), protocols: protocols(dice, names), to }
    };
    let ingress = (0..dice.roll(3)).map(|_| rule_in(dice)).collect();
    let egress = (0..dice.roll(3)).map(|_| rule_out(dice)).collect();
    let spec = ClusterPolicySpec {
        tier: dice.one(&[Tier::Admin, Tier::Baseline]),
        priority: u16::try_from(dice.roll(5)).unwrap_or(0),
        subject,
        ingress,
        egress,
    };
    Object::ClusterNetworkPolicy(ClusterNetworkPolicy {
        api_version: "policy.networking.k8s.io/v1alpha2".into(),
        metadata: metadata(dice, index, None),
        spec,
    })
}
