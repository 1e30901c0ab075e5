//! Worlds and packets for tests: three namespaces with three workloads each, policies of every form, in the spirit of Cyclonus.
//!
//! The same number always makes the same case. For tests only; nothing here is random by itself.

pub mod host;
mod policies;
mod steps;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use weft_model::object::Metadata;
use weft_model::policy::{Protocol, WorkloadPort};
use weft_model::{
    AttachmentId, Here, Labels, Mac, Mode, Namespace, Netns, Network, NetworkId, Node, Object, Owner, Phase,
    Profile, Remote, RemoteName, Workload, World,
};

pub use policies::policy;
pub use steps::step;

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
                    ..Profile::default()
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
