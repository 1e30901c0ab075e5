//! Worlds and packets for tests: three namespaces with three workloads each, policies of every form, in the spirit of Cyclonus.
//!
//! The same number always makes the same case. For tests only; nothing here is random by itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use weft_model::object::Metadata;
use weft_model::policy::{
    Action, ClusterNetworkPolicy, ClusterPeer, ClusterPolicySpec, ClusterRuleIn, ClusterRuleOut, Direction,
    ENFORCEMENT, EgressRule, IngressRule, IpBlock, NamespacedPods, NetworkPolicy, NetworkPolicySpec, Peer,
    PolicyPort, PortMatch, PortNumber, PortRef, PortSpan, Protocol, ProtocolMatch, Subject, Tier,
    WorkloadPort,
};
use weft_model::selector::{Operator, Requirement};
use weft_model::{
    AttachmentId, Here, Labels, Mac, Mode, Namespace, Netns, Network, NetworkId, Node, Object, Owner, Phase,
    Profile, Remote, RemoteName, Selector, Workload, World,
};

use super::Packet;

/// Namespaces, and workloads in each.
pub const NAMES: [&str; 3] = ["x", "y", "z"];
/// The pods of each namespace.
pub const PODS: [&str; 3] = ["a", "b", "c"];
/// Ports that packets go to. The first two have names; the others lie at the ends of ranges.
pub const PORTS: [u16; 6] = [80, 81, 1, 79, 8000, 65535];
/// Protocols that packets are of: TCP, UDP, SCTP, ICMP or ICMPv6, and GRE.
pub const PROTOCOLS: [u8; 5] = [6, 17, 132, 1, 47];

/// A small deterministic generator (xorshift64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins with a number.
    #[must_use]
    pub fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            dice.roll(2); // small seeds are alike at first
        }
        dice
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        let index = usize::try_from(self.roll(of.len() as u64)).unwrap_or(0);
        of[index].clone()
    }

    fn some(&mut self, in_ten: u64) -> bool {
        self.roll(10) < in_ten
    }
}

/// The host on which all of it is.
#[must_use]
pub fn here() -> Here {
    Here::new("here".parse().expect("a name"))
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(k, v)| (k.parse().expect("a key"), v.parse().expect("a value"))).collect()
}

/// The address of pod `pod` of namespace `namespace`.
#[must_use]
pub fn address(namespace: usize, pod: usize, v4: bool) -> IpAddr {
    let number = u16::try_from(namespace * 16 + pod + 16).unwrap_or(0);
    if v4 {
        IpAddr::V4(Ipv4Addr::new(10, 77, 0, u8::try_from(number).unwrap_or(0)))
    } else {
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number))
    }
}

/// Addresses outside: in no network of weft's.
pub const OUTSIDE: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x77)),
];

/// The network of the workloads.
#[must_use]
pub fn network(mode: Mode) -> Network {
    Network {
        name: "lan".parse().expect("a name"),
        id: NetworkId(1),
        mode,
        ipv4: Some("10.77.0.0/16".parse().expect("a subnet")),
        ipv6: Some("fd77::/64".parse().expect("a subnet")),
        mtu: None,
        masquerade: true,
        vni: None,
        encapsulation: Default::default(),
    }
}

/// A world without policies. Every third pod is on another host if `remote` says so.
#[must_use]
pub fn world(mode: Mode, remote: bool) -> World {
    let mut world = World::default();
    let network = network(mode);
    let name = network.name.clone();
    world.networks.insert(name.clone(), network);
    world.nodes.insert(here().name, Node::alone(1500));
    for (n, namespace) in NAMES.iter().enumerate() {
        let mut metadata = Metadata::named(namespace.parse().expect("a name"), None);
        metadata.labels = labels(&[("team", if n == 2 { "blue" } else { "red" })]);
        let declared = Namespace {
            api_version: "v1".into(),
            metadata,
            spec: Default::default(),
            status: Default::default(),
        };
        world.declared.insert(Object::Namespace(declared));
        for (p, pod) in PODS.iter().enumerate() {
            let id = AttachmentId {
                network: name.clone(),
                container: format!("{namespace}-{pod}").parse().expect("a name"),
                ifname: "eth0".parse().expect("a name"),
            };
            // Two pods call different ports `web`, the third has none of that name.
            let web = |port| ("web".parse().expect("a name"), WorkloadPort { protocol: Protocol::Tcp, port });
            let ports =
                if p == 2 { Default::default() } else { [web(80 + u16::try_from(p).unwrap_or(0))].into() };
            let own = labels(&[("pod", pod), ("tier", if p == 0 { "front" } else { "back" })]);
            let addresses = [address(n, p, true), address(n, p, false)];
            if remote && (n + p) % 3 == 2 {
                let remote = Remote {
                    namespace: namespace.parse().expect("a name"),
                    labels: Arc::new(own),
                    ports,
                    addresses: addresses.to_vec(),
                };
                world.remote.insert(RemoteName { node: "there".parse().expect("a name"), id }, remote);
                continue;
            }
            let number = u8::try_from(n * 16 + p).unwrap_or(0);
            let workload = Workload {
                id: id.clone(),
                owner: Owner::default(),
                phase: Phase::Ready,
                netns: Netns { path: Default::default(), inode: 0 },
                host_end: format!("weft{n}{p}").parse().expect("a name"),
                mac: Mac([2, 0, 0, 0, 0, number]),
                mtu: 1500,
                addresses: addresses
                    .iter()
                    .map(|a| IpNet::new(*a, if a.is_ipv4() { 16 } else { 64 }).expect("fits"))
                    .collect(),
                default_route: true,
                pod: None,
                profile: Profile {
                    namespace: Some(namespace.parse().expect("a name")),
                    labels: own,
                    named_ports: ports,
                },
            };
            world.workloads.insert(id, workload);
        }
    }
    world
}

/// A world with one to six policies, by number.
#[must_use]
pub fn case(number: u64, mode: Mode, remote: bool) -> World {
    let mut dice = Dice::new(number);
    let mut world = world(mode, remote);
    for index in 0..=dice.roll(6) {
        let object = policy(&mut dice, index);
        debug_assert_eq!(object.validate(), Ok(()), "{object:?}");
        world.declared.insert(object);
    }
    world
}

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

const BLOCKS: [&str; 10] = [
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

fn cluster(dice: &mut Dice, index: u64) -> Object {
    let selected =
        |dice: &mut Dice| NamespacedPods { namespace_selector: namespaces(dice), pod_selector: pods(dice) };
    let subject = if dice.some(5) {
        Subject { namespaces: Some(namespaces(dice)), pods: None }
    } else {
        Subject { namespaces: None, pods: Some(selected(dice)) }
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

/// Every packet that tells something: between all ends, of all protocols, to all ports, in both families.
#[must_use]
pub fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    for v4 in [true, false] {
        let pods = (0..NAMES.len()).flat_map(|n| (0..PODS.len()).map(move |p| address(n, p, v4)));
        let mut ends: Vec<IpAddr> = pods.collect();
        ends.extend(OUTSIDE.iter().filter(|o| o.is_ipv4() == v4));
        for source in &ends {
            for destination in ends.iter().filter(|d| *d != source) {
                if OUTSIDE.contains(source) && OUTSIDE.contains(destination) {
                    continue;
                }
                for protocol in PROTOCOLS {
                    let has_ports = Protocol::from_number(protocol).is_some();
                    // ICMPv6 has a number of its own.
                    let protocol = if protocol == 1 && !v4 { 58 } else { protocol };
                    for port in if has_ports { &PORTS[..] } else { &[0][..] } {
                        packets.push(Packet {
                            source: *source,
                            destination: *destination,
                            protocol,
                            port: *port,
                        });
                    }
                }
            }
        }
    }
    packets
}
