//! What people read about a packet's way, word for word.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use weft_model::{
    AttachmentId, Encapsulation, Here, Mac, Mode, Netns, Network, NetworkId, Node, Owner, Phase, Profile,
    Vni, Workload, World,
};

fn network(name: &str, id: u16, second: u8, encapsulation: Encapsulation) -> Network {
    Network {
        name: name.parse().unwrap(),
        id: NetworkId(id),
        mode: Mode::Routed,
        ipv4: Some(format!("10.{second}.0.0/16").parse().unwrap()),
        ipv6: Some(format!("fd77:{second}::/48").parse().unwrap()),
        mtu: None,
        masquerade: true,
        vni: Some(Vni::try_from(u32::from(second)).unwrap()),
        encapsulation,
    }
}

fn node(number: u8, addresses: &[&str], mtu: u32) -> Node {
    let block = |second: u8| {
        let name = format!("net{second}").parse().unwrap();
        let blocks = [format!("10.{second}.{number}.0/24"), format!("fd77:{second}:0:{number}::/64")];
        (name, blocks.iter().map(|b| b.parse().unwrap()).collect())
    };
    Node {
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        mtu,
        blocks: [101, 102].map(block).into(),
        mac: Mac([2, 0x77, 0x76, 0, 0, number]),
        incarnation: 1,
        zone: None,
    }
}

fn workload(name: &str, second: u8, last: u8) -> Workload {
    Workload {
        id: AttachmentId {
            network: format!("net{second}").parse().unwrap(),
            container: name.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        },
        owner: Owner::default(),
        phase: Phase::Ready,
        netns: Netns { path: format!("/run/netns/{name}").into(), inode: 7 },
        host_end: format!("weft{name}").parse().unwrap(),
        mac: Mac([2, 0, 0, 0, second, last]),
        mtu: 1450,
        addresses: vec![
            format!("10.{second}.1.{last}/16").parse().unwrap(),
            format!("fd77:{second}:0:1::{last}/48").parse().unwrap(),
        ],
        default_route: true,
        pod: None,
        profile: Profile::default(),
    }
}

/// Three hosts: `near` on one segment with us, `far` behind a router with a smaller underlay, `six` with IPv6 only.
fn world() -> (World, Here) {
    let networks =
        [network("net101", 1, 101, Encapsulation::Auto), network("net102", 2, 102, Encapsulation::Direct)];
    let nodes = [
        ("here", node(1, &["192.0.2.11/24", "2001:db8:1::b/64"], 1500)),
        ("near", node(2, &["192.0.2.12/24", "2001:db8:1::c/64"], 1500)),
        ("far", node(3, &["203.0.113.13/24"], 1400)),
        ("six", node(4, &["2001:db8:3::d/64"], 1500)),
    ];
    let world = World {
        nodes: nodes.into_iter().map(|(name, n)| (name.parse().unwrap(), n)).collect(),
        networks: networks.into_iter().map(|n| (n.name.clone(), n)).collect(),
        workloads: [workload("one", 101, 2), workload("two", 102, 2), workload("three", 101, 3)]
            .into_iter()
            .map(|w| (w.id.clone(), w))
            .collect::<BTreeMap<_, _>>(),
        ..World::default()
    };
    let here = Here { uplink: Some("eth0".parse().unwrap()), ..Here::new("here".parse().unwrap()) };
    (world, here)
}

fn explained(from: &str, to: &str) -> String {
    let (world, here) = world();
    let plan = weft_plan::plan(&world, &here);
    let told = weft_plan::explain::explain(&plan, &here.name, from.parse().unwrap(), to.parse().unwrap());
    let mut text = format!("{} to {}\n", told.from, told.to);
    for hop in &told.hops {
        let mtu = hop.mtu.map(|m| format!(" [{m}]")).unwrap_or_default();
        writeln!(text, "  {}: {}{mtu}", hop.at, hop.does).unwrap();
    }
    match told.note {
        Some(note) => writeln!(text, "not reached: {note}").unwrap(),
        None => writeln!(text, "largest packet {}", told.mtu).unwrap(),
    }
    assert_eq!(told.reached, !text.contains("not reached"));
    text
}

#[test]
fn to_a_host_behind_a_router() {
    assert_eq!(
        explained("10.101.1.2", "10.101.3.9"),
        "10.101.1.2 (one, network net101) to 10.101.3.9 (on host far, network net101)\n  \
         one: default via 169.254.1.1 dev eth0 [1450]\n  \
         here: 10.101.3.0/24 via 10.101.3.1 dev weft4_101 [1350]\n  \
         here: VXLAN 101, 192.0.2.11 to 203.0.113.13, UDP port 4789: 50 bytes more [1350]\n  \
         far: routes it to its workload\nlargest packet 1350\n"
    );
}

#[test]
fn to_a_host_on_the_segment() {
    assert_eq!(
        explained("10.101.1.2", "10.101.2.9"),
        "10.101.1.2 (one, network net101) to 10.101.2.9 (on host near, network net101)\n  \
         one: default via 169.254.1.1 dev eth0 [1450]\n  \
         here: 10.101.2.0/24 via 192.0.2.12 dev eth0: one segment, as it is [1500]\n  \
         near: routes it to its workload\nlargest packet 1450\n"
    );
}

#[test]
fn over_an_underlay_of_ipv6() {
    assert_eq!(
        explained("fd77:101:0:1::2", "fd77:101:0:4::1"),
        "fd77:101:0:1::2 (one, network net101) to fd77:101:0:4::1 (on host six, network net101)\n  \
         one: default via fe80::1 dev eth0 [1450]\n  \
         here: fd77:101:0:4::/64 via fe80::77:76ff:fe00:4 dev weft6_101 [1430]\n  \
         here: VXLAN 101, 2001:db8:1::b to 2001:db8:3::d, UDP port 4789: 70 bytes more [1430]\n  \
         six: takes it: the address is its own\nlargest packet 1430\n"
    );
}

#[test]
fn on_this_host_and_outside() {
    assert_eq!(
        explained("10.101.1.2", "10.101.1.3"),
        "10.101.1.2 (one, network net101) to 10.101.1.3 (three, network net101)\n  \
         one: default via 169.254.1.1 dev eth0 [1450]\n  here: 10.101.1.3 dev weftthree [1450]\n  \
         three: takes it by eth0 [1450]\nlargest packet 1450\n"
    );
    assert_eq!(
        explained("10.101.1.2", "198.51.100.1"),
        "10.101.1.2 (one, network net101) to 198.51.100.1\n  \
         one: default via 169.254.1.1 dev eth0 [1450]\n  \
         here: leaves by the host's own routes, with the host's address as source\nlargest packet 1450\n"
    );
    assert_eq!(
        explained("10.102.1.1", "10.102.3.9"),
        "10.102.1.1 (host here) to 10.102.3.9 (on host far, network net102)\n  \
         here: leaves as it is by the host's own routes: a router knows the block [1400]\n  \
         far: routes it to its workload\nlargest packet 1400\n"
    );
}

#[test]
fn what_does_not_arrive() {
    let why = |from, to| explained(from, to).lines().last().unwrap().to_owned();
    assert_eq!(
        why("10.101.1.2", "10.102.1.2"),
        "not reached: networks 'net101' and 'net102' are isolated from each other"
    );
    assert_eq!(
        why("10.101.1.2", "10.102.3.9"),
        "not reached: networks 'net101' and 'net102' are isolated from each other"
    );
    assert_eq!(
        why("10.101.1.2", "10.101.200.1"),
        "not reached: no host of network 'net101' has 10.101.200.1"
    );
    assert_eq!(why("10.101.3.9", "10.101.1.2"), "not reached: 10.101.3.9 lives on far: ask there");
    assert_eq!(
        why("10.101.1.2", "fd77:101:0:1::3"),
        "not reached: the two addresses are of different families"
    );
    assert_eq!(
        why("8.8.8.8", "10.101.1.2"),
        "not reached: 8.8.8.8 is no address of this host or of a workload on it"
    );
}
