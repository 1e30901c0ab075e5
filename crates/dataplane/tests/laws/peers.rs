//! Other hosts: a change of some of them, made piece by piece, ends where a comparison of everything ends; and
//! both ends of a way decide alike.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use proptest::prelude::*;
use weft_dataplane::{render, render_peers, spare, steps, sync, sync_from};
use weft_kernel::{FakeKernel, Kernel};
use weft_model::{
    Encapsulation, Here, IfName, Mac, Mode, Network, NetworkId, NetworkName, Node, NodeName, Vni, World,
};
use weft_plan::peer::Claims;
use weft_plan::{Path, Plan, plan, replan_peer};

const NETWORKS: u8 = 3;

fn name(number: u8) -> NodeName {
    format!("n{number}").parse().unwrap()
}

fn uplink() -> IfName {
    "eth0".parse().unwrap()
}

fn here(number: u8) -> Here {
    Here { uplink: Some(uplink()), ..Here::new(name(number)) }
}

fn network(number: u8, encapsulation: Encapsulation) -> Network {
    Network {
        name: format!("net{number}").parse().unwrap(),
        id: NetworkId(u16::from(number) + 1),
        mode: if number == 1 { Mode::Bridge } else { Mode::Routed },
        ipv4: Some(format!("10.{number}.0.0/16").parse().unwrap()),
        ipv6: Some(format!("fd77:{number}::/48").parse().unwrap()),
        mtu: None,
        masquerade: true,
        // One of them lives on each host alone.
        vni: (number != 2).then(|| Vni::try_from(u32::from(number) + 1).unwrap()),
        encapsulation,
    }
}

prop_compose! {
    /// A host on one of two segments, with IPv4, IPv6 or both; blocks of some networks, also such as others hold,
    /// and such as belong to no network.
    fn node(number: u8)(
        segment in 0_u8..2, families in 0_u8..3, mtu in prop_oneof![Just(1500_u32), Just(1400), Just(9000)],
        held in prop::collection::vec((0..NETWORKS, 0_u8..8, any::<bool>()), 0..6), stray in any::<bool>(),
    ) -> Node {
        let mut addresses: Vec<IpNet> = Vec::new();
        if families != 1 {
            addresses.push(format!("192.0.{segment}.{}/24", number + 1).parse().unwrap());
        }
        if families != 0 {
            addresses.push(format!("2001:db8:{segment}::{}/64", number + 1).parse().unwrap());
        }
        let mut blocks: BTreeMap<_, Vec<IpNet>> = BTreeMap::new();
        for (network, at, v4) in held {
            // Each host has blocks that nobody else has, and some that another may claim as well.
            let at = at + 8 * number * u8::from(at < 6);
            let block = if v4 { format!("10.{network}.{at}.0/24") } else { format!("fd77:{network}:0:{at}::/64") };
            let all = blocks.entry(format!("net{network}").parse().unwrap()).or_default();
            let block = block.parse().unwrap();
            if !all.contains(&block) {
                all.push(block);
            }
        }
        if stray {
            blocks.entry("net0".parse().unwrap()).or_default().push("172.16.0.0/24".parse().unwrap());
        }
        Node { addresses, mtu, blocks, mac: Mac([2, 0, 0, 0, 9, number]), incarnation: 1, zone: None }
    }
}

fn nodes() -> impl Strategy<Value = BTreeMap<NodeName, Node>> {
    let some = (0_u8..6).map(|n| (prop::bool::weighted(0.7), node(n))).collect::<Vec<_>>();
    some.prop_map(|all| {
        let numbered = (0_u8..).zip(all);
        numbered.filter(|(n, (there, _))| *there || *n == 0).map(|(n, (_, node))| (name(n), node)).collect()
    })
}

fn world(nodes: &BTreeMap<NodeName, Node>, encapsulation: Encapsulation) -> World {
    let networks = (0..NETWORKS).map(|n| network(n, encapsulation));
    World {
        nodes: nodes.clone(),
        networks: networks.map(|n| (n.name.clone(), n)).collect(),
        ..World::default()
    }
}

fn encapsulation() -> impl Strategy<Value = Encapsulation> {
    prop::sample::select(&Encapsulation::ALL[..])
}

/// A host whose kernel agrees with a plan.
fn synced(plan: &Plan) -> FakeKernel {
    let mut kernel = FakeKernel::default();
    crate::foreign::seed(&mut kernel);
    for _ in 0..3 {
        let report = sync(&mut kernel, &render(plan)).unwrap();
        assert!(report.refused.is_empty(), "{:?}", report.refused);
    }
    kernel
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if std::env::var_os("WEFT_FULL").is_some() { 20_000 } else { 64 }))]

    /// An agent that nobody has told anything takes nothing of other hosts' away, however little it remembers of them.
    #[test]
    fn unheard_nothing_is_taken_away(before in nodes(), how in encapsulation()) {
        let here = here(0);
        let all = plan(&world(&before, how), &here);
        let mut kernel = synced(&all);
        let alone = BTreeMap::from([(name(0), before[&name(0)].clone())]);
        let wanted = render(&plan(&world(&alone, how), &here));
        let keys: Vec<_> = wanted.state.sysctls.keys().cloned().collect();
        for _ in 0..3 {
            let mut found = kernel.read(&keys).unwrap();
            spare(&wanted.state, &mut found);
            let report = sync_from(&mut kernel, &wanted, &found);
            prop_assert!(report.refused.is_empty(), "{:?}", report.refused);
        }
        let (left, full) = (kernel.read(&keys).unwrap(), render(&all).state);
        for to in full.routes.keys() {
            prop_assert!(left.routes.contains_key(to), "the route to {to} is gone");
        }
        for at in full.forwarding.keys() {
            prop_assert!(left.forwarding.contains_key(at), "the entry {at:?} is gone");
        }
        for at in full.neighbours.keys() {
            prop_assert!(left.neighbours.contains_key(at), "the neighbour {at:?} is gone");
        }
        // And once somebody has spoken, all of it is as it should be.
        let report = sync(&mut kernel, &wanted).unwrap();
        prop_assert!(report.refused.is_empty(), "{:?}", report.refused);
        prop_assert!(kernel.read(&keys).unwrap().forwarding.is_empty());
    }

    #[test]
    fn piece_by_piece_ends_where_everything_ends(before in nodes(), after in nodes(), how in encapsulation()) {
        let own = before[&name(0)].clone();
        let mut after = after;
        after.insert(name(0), own.clone());
        let (here, mut now) = (here(0), world(&before, how));
        let mut planned = plan(&now, &here);
        let mut kernel = synced(&planned);
        let changed: BTreeSet<NodeName> = before.keys().chain(after.keys())
            .filter(|n| **n != here.name && before.get(*n) != after.get(*n)).cloned().collect();
        let (mut claims, mut shared) = (Claims::of(planned.peers.values()), false);
        for peer in changed.iter().filter_map(|n| planned.peers.get(n)) {
            shared |= claims.remove(peer);
        }
        let was = render_peers(&planned, &changed);
        let needs6 = |w: &World| weft_plan::others6(&w.nodes, &here.name);
        let needed = needs6(&now);
        now.nodes = after.clone();
        // The tunnels themselves differ then: everything is planned anew.
        prop_assume!(needed == needs6(&now));
        for name in &changed {
            replan_peer(&mut planned, &here, &own, name, after.get(name));
        }
        prop_assert_eq!(&planned, &plan(&now, &here));
        for peer in changed.iter().filter_map(|n| planned.peers.get(n)) {
            shared |= claims.add(peer);
        }
        if !shared {
            let answers = kernel.apply(&steps(&render_peers(&planned, &changed), &was.state));
            prop_assert!(answers.iter().all(Result::is_ok), "{answers:?}");
            prop_assert_eq!(steps(&render(&planned), &kernel.read(&settings(&planned)).unwrap()), vec![]);
        }
    }

    #[test]
    fn both_ends_decide_alike(nodes in nodes(), how in encapsulation()) {
        let world = world(&nodes, how);
        let way = |from: u8, to: u8| -> BTreeMap<(NetworkName, bool), &'static str> {
            let planned = plan(&world, &here(from));
            let peer = planned.peers.get(&name(to)).cloned();
            let kind = |p: &Path| p.as_str();
            peer.into_iter().flat_map(|p| p.reaches).map(|r| ((r.network, r.blocks[0].addr().is_ipv4()), kind(&r.path))).collect()
        };
        for a in 0..6 {
            for b in (0..6).filter(|b| *b != a) {
                if !nodes.contains_key(&name(a)) || !nodes.contains_key(&name(b)) {
                    continue;
                }
                let (there, back) = (way(a, b), way(b, a));
                for (key, path) in &there {
                    prop_assert!(back.get(key).is_none_or(|other| other == path), "{key:?}: {path} and {:?}", back.get(key));
                }
            }
        }
    }

    /// A source that is in no block of a host never gets into what that host may send.
    #[test]
    fn a_record_cannot_claim_what_is_not_of_its_network(nodes in nodes(), how in encapsulation()) {
        let world = world(&nodes, how);
        let planned = plan(&world, &here(0));
        for reach in planned.peers.values().flat_map(|p| &p.reaches) {
            let network = &world.networks[&reach.network];
            prop_assert!(network.vni.is_some());
            for block in &reach.blocks {
                prop_assert!(network.subnets().any(|s| s.contains(block)), "{block}");
                let own = planned.networks[&reach.network].blocks.iter().any(|o| o.contains(block) || block.contains(o));
                prop_assert!(!own, "{block} is this host's own");
            }
        }
    }
}

fn settings(plan: &Plan) -> Vec<weft_kernel::state::Sysctl> {
    render(plan).state.sysctls.keys().cloned().collect()
}
