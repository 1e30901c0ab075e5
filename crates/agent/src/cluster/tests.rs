//! Many hosts on one store, simulated: whatever crashes, is cut off, removed or comes back, no address is
//! given twice.

mod simulation;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use weft_model::{Network, NetworkName, NodeName};
use weft_store::cluster::{ClusterStore as _, Key, NetworkRecord, Op, Transaction};

use self::simulation::{Dice, Ground, Sim, network};
use super::networks::Done;

fn live(seed: u64) {
    let mut dice = Dice(seed);
    // Sixteen blocks of thirteen addresses each.
    let mut ground = Ground::new("10.0.0.0/24", 6);
    for n in 0..ground.machines.len() {
        ground.crash(n, true);
    }
    let mut removed = 0;
    for _ in 0..400 {
        let n = dice.roll(ground.machines.len());
        let now = ground.seconds;
        match dice.roll(20) {
            0..=5 => {
                ground.machines[n].sim.attach(dice.roll(40), now);
            }
            6..=8 => ground.machines[n].sim.detach(dice.roll(40), now),
            9..=11 => ground.hear(n),
            12..=14 => ground.step(n),
            15 => ground.pass(dice.roll(40) as u64),
            16 => ground.crash(n, dice.roll(2) == 0),
            17 => {
                ground.store.set_away(true);
                ground.step(n);
                for c in 0..5 {
                    ground.machines[n].sim.attach(c, now);
                }
                ground.store.set_away(false);
            }
            18 if dice.roll(3) == 0 => ground.leave(n),
            18 => ground.machines[n].sim.can_write = dice.roll(3) > 0,
            // A host is gone for ever, and somebody says so, once its lease is over.
            _ if removed < 3 => {
                let gone = ground.machines.remove(n);
                removed += 1;
                ground.pass(20);
                let m = dice.roll(ground.machines.len());
                for _ in 0..20 {
                    ground.hear(m);
                    ground.step(m);
                    if matches!(ground.machines[m].member.remove_node(&gone.sim.name), Ok(Done::Yes)) {
                        break;
                    }
                }
                ground.add(&format!("new{removed}"), "10.0.0.0/24");
            }
            _ => ground.store.compact(),
        }
        ground.no_address_twice();
    }
    // And all ends well: what is in use is in a block of its host, what is idle is given back.
    ground.machines.iter_mut().for_each(|m| m.sim.can_write = true);
    ground.settle();
    ground.no_address_twice();
    let view = ground.machines[0].member.mirror.view().clone();
    for machine in &ground.machines {
        let own = view.blocks_of(&machine.sim.name).into_values().flatten().collect::<Vec<_>>();
        for address in machine.sim.now.workloads.values().flatten().map(IpNet::addr) {
            let homed = own.iter().any(|b| b.contains(&address));
            assert!(homed, "seed {seed}: {address} of {} is in none of {own:?}", machine.sim.name);
        }
        let used = machine.sim.now.workloads.len();
        assert!(own.len() <= 2 + used, "seed {seed}: {} keeps {own:?} for {used}", machine.sim.name);
        let published = view.workloads.get(&machine.sim.name).map_or(0, BTreeMap::len);
        assert_eq!(published, used, "seed {seed}: others know the workloads of {}", machine.sim.name);
    }
    let holders: BTreeSet<NodeName> =
        view.blocks.values().flatten().filter_map(|(_, r)| r.node.clone()).collect();
    let there: BTreeSet<NodeName> = ground.machines.iter().map(|m| m.sim.name.clone()).collect();
    assert!(holders.is_subset(&there), "seed {seed}: blocks of hosts that are gone: {holders:?}");
}

#[test]
fn no_address_is_given_twice_whatever_happens_to_the_hosts() {
    let seeds = if std::env::var_os("WEFT_FULL").is_some() { 5_000 } else { 40 };
    (0..seeds).for_each(live);
}

#[test]
fn blocks_grow_before_they_are_full_and_go_back_when_they_are_empty() {
    let mut ground = Ground::new("10.0.0.0/24", 2);
    ground.settle();
    let own = |g: &Ground, n: usize| g.machines[n].sim.now.blocks.values().flatten().count();
    assert_eq!([own(&ground, 0), own(&ground, 1)], [1, 1]);
    for n in 0..60 {
        assert!(ground.machines[0].sim.attach(n, ground.seconds), "the {n}th found no address");
        ground.hear(0);
        ground.step(0);
    }
    assert!(own(&ground, 0) >= 5, "60 addresses are in {} blocks of 13", own(&ground, 0));
    (0..60).for_each(|n| ground.machines[0].sim.detach(n, ground.seconds));
    ground.pass(60);
    for _ in 0..5 {
        ground.settle();
    }
    assert!(own(&ground, 0) <= 2, "{} blocks for nobody", own(&ground, 0));
    // Nobody gets them while late packets may be on the way; later somebody does.
    ground.pass(120);
    for n in 0..150 {
        ground.machines[1].sim.attach(100 + n, ground.seconds);
        ground.hear(1);
        ground.step(1);
    }
    assert!(own(&ground, 1) > 10, "what was given back can be had: {}", own(&ground, 1));
}

#[test]
fn a_range_too_small_for_the_hosts_is_named() {
    let mut ground = Ground::new("10.0.0.0/27", 4);
    ground.settle();
    let with: Vec<usize> = (0..4).filter(|n| !ground.machines[*n].sim.now.blocks.is_empty()).collect();
    assert_eq!(with.len(), 2, "two blocks of /28 are all there is");
    let without = (0..4).find(|n| !with.contains(n)).unwrap();
    ground.hear(without);
    ground.step(without);
    let problems = ground.machines[without].member.problems().join("\n");
    assert!(problems.contains("10.0.0.0/27 makes 2 of /28"), "{problems}");
    assert!(problems.contains("weft node rm") && problems.contains("--subnet"), "{problems}");
}

#[test]
fn of_two_hosts_of_one_name_the_first_goes_on_and_the_second_is_told() {
    let mut ground = Ground::new("10.0.0.0/24", 1);
    ground.settle();
    ground.add("host0", "10.0.0.0/24");
    ground.settle();
    assert!(ground.machines[1].sim.now.blocks.is_empty(), "a second host0 uses the first's blocks");
    assert!(!ground.machines[1].sim.attach(1, ground.seconds));
    ground.step(1);
    let problems = ground.machines[1].member.problems().join("\n");
    assert!(problems.contains("'host0'") && problems.contains("`node`"), "{problems}");
    assert!(ground.machines[0].member.problems().is_empty(), "the first is not concerned");
    assert!(ground.machines[0].sim.attach(1, ground.seconds));
    // The first is gone for good; the second is set up in its place and has its blocks.
    ground.machines.remove(0);
    ground.pass(20);
    ground.settle();
    assert!(ground.machines[0].sim.attach(2, ground.seconds));
}

#[test]
fn a_host_that_comes_back_has_its_blocks() {
    let mut ground = Ground::new("10.0.0.0/24", 3);
    ground.settle();
    let before = ground.machines[1].sim.now.blocks.clone();
    assert!(!before.is_empty());
    // Silent for long: others do not count on it, its blocks stay its own.
    for _ in 0..30 {
        ground.pass(10);
        [0, 2].into_iter().for_each(|n| {
            ground.hear(n);
            ground.step(n);
        });
    }
    assert!(!ground.machines[0].sim.nodes.contains(&"host1".parse().unwrap()), "its lease is over");
    ground.machines[1].sim = Sim::new("host1", vec![]);
    ground.machines[1].member = ground.member("host1", None);
    ground.machines[1].watch = None;
    ground.settle();
    assert_eq!(ground.machines[1].sim.now.blocks, before);
    assert!(ground.machines[0].sim.nodes.contains(&"host1".parse().unwrap()));
}

/// The store was away, and its leases ended with it: hosts that come back to it a moment later than this one
/// are not taken for gone.
#[test]
fn hosts_that_come_back_late_to_the_store_are_not_given_up() {
    let mut ground = Ground::new("10.0.0.0/24", 3);
    ground.settle();
    let all = ground.machines[0].sim.nodes.clone();
    assert_eq!(all.len(), 3);
    ground.pass(100);
    ground.machines[0].watch = None;
    ground.hear(0);
    ground.step(0);
    assert_eq!(ground.machines[0].sim.nodes, all, "given up although nobody had the time to come back");
    // One comes back, one does not.
    ground.hear(1);
    ground.step(1);
    ground.pass(20);
    for n in [0, 1, 0] {
        ground.hear(n);
        ground.step(n);
    }
    let left: Vec<String> = ground.machines[0].sim.nodes.iter().map(ToString::to_string).collect();
    assert_eq!(left, ["host0", "host1"]);
}

#[test]
fn damaged_records_of_its_own_a_host_writes_again() {
    let mut ground = Ground::new("10.0.0.0/24", 2);
    ground.settle();
    assert!(ground.machines[0].sim.attach(1, ground.seconds));
    ground.settle();
    let view = ground.machines[0].member.mirror.view().clone();
    let block = view.blocks_of(&"host0".parse().unwrap())[&"app".parse().unwrap()][0];
    let keys = [
        Key::Node("host0".parse().unwrap()),
        Key::Block("app".parse().unwrap(), block),
        Key::Workload("host0".parse().unwrap(), Sim::id("app", 1)),
    ];
    let changes: Vec<Op> = keys.iter().map(|key| Op::put(key, b"{rubbish".to_vec())).collect();
    ground.store.commit(&Transaction { conditions: vec![], changes }).unwrap();
    ground.hear(1);
    let named = ground.machines[1].member.problems().join("\n");
    assert!(keys.iter().all(|k| named.contains(&k.to_string())), "{named}");
    ground.settle();
    let after = ground.machines[1].member.mirror.view();
    assert!(after.unreadable.is_empty(), "{:?}", after.unreadable);
    assert_eq!(after.nodes, view.nodes);
    assert_eq!(after.workloads, view.workloads);
    assert_eq!(after.blocks_of(&"host0".parse().unwrap()), view.blocks_of(&"host0".parse().unwrap()));
}

#[test]
fn networks_have_numbers_of_their_own_and_no_address_in_common() {
    let mut ground = Ground::new("10.0.0.0/24", 2);
    ground.settle();
    let named = |name: &str, subnet: &str| Network { name: name.parse().unwrap(), ..network(subnet) };
    let overlap = ground.machines[0].member.create_network(&named("two", "10.0.0.0/16"), None);
    assert!(overlap.is_err_and(|e| e.message.contains("overlaps 10.0.0.0/24")));
    // Both declare one at the same time: the second hears of the first's and takes the next number.
    assert!(matches!(
        ground.machines[0].member.create_network(&named("two", "10.2.0.0/16"), None),
        Ok(Done::Yes)
    ));
    let late = named("three", "10.3.0.0/16");
    assert!(matches!(ground.machines[1].member.create_network(&late, Some(26)), Ok(Done::Again)));
    ground.hear(1);
    assert!(matches!(ground.machines[1].member.create_network(&late, Some(26)), Ok(Done::Yes)));
    ground.hear(0);
    let networks = &ground.machines[0].member.mirror.view().networks;
    let of = |name: &str| -> &NetworkRecord { &networks[&name.parse::<NetworkName>().unwrap()] };
    let numbers: BTreeSet<u32> = networks.values().map(|r| u32::from(r.network.vni.unwrap())).collect();
    assert_eq!(numbers, [1, 2, 3].into());
    assert_eq!((of("two").block4, of("three").block4), (24, 26));
    // One in use stays; one that is not goes with its blocks.
    ground.settle();
    assert!(ground.machines[1].sim.attach(1, ground.seconds));
    ground.settle();
    let used = ground.machines[0].member.remove_network(&"app".parse().unwrap());
    assert!(used.is_err_and(|e| e.message.contains("c1 on host1")));
    assert!(matches!(ground.machines[0].member.remove_network(&"two".parse().unwrap()), Ok(Done::Yes)));
    ground.hear(1);
    let view = ground.machines[1].member.mirror.view();
    assert!(!view.networks.contains_key(&"two".parse::<NetworkName>().unwrap()));
    assert!(!view.blocks.contains_key(&"two".parse::<NetworkName>().unwrap()));
}
