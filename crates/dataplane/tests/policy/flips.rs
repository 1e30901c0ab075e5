//! While policy changes, no packet is let through that an end denies before and after, and none is dropped that is permitted before and
//! after.
//!
//! Between any two batches every packet is walked with the batch committed before each of its lookups: that is all that it can
//! meet, for a batch is atomic per lookup (DESIGN.md §15) and the next one waits for packets under way.

use weft_dataplane::nft::{policy, ruleset};
use weft_kernel::nft::{self, Tables};
use weft_model::{Mode, World};
use weft_plan::plan;
use weft_plan::policy::cases::{case, here, packets};
use weft_plan::policy::{Difference, Numbering, Packet};

use super::walk::Walk;
use super::{FOREIGN, inet};

/// Pairs of worlds.
const PAIRS: u64 = 40;

/// The states between batches, the first and the last among them.
fn states(before: &Tables, batches: &[Vec<nft::Op>]) -> Vec<Tables> {
    let mut states = vec![before.clone()];
    for batch in batches {
        let mut next = states[states.len() - 1].clone();
        if let Err((at, errno)) = nft::fake::apply(&mut next, batch) {
            panic!("errno {errno} for {:?} in {batch:#?}", batch[at]);
        }
        states.push(next);
    }
    states
}

/// Whether it passes, and if not, by which end's policies it does not; and how many lookups that takes.
fn passes(tables: &Tables, packet: Packet) -> (Option<String>, usize) {
    let table = &tables[&inet()];
    if !table.chains.contains_key("policy") {
        return (None, 0);
    }
    let mut walk = Walk::new(table, packet, FOREIGN);
    let passes = walk.passes("policy");
    let denied = walk.counted.into_iter().find(|counted| counted.starts_with("denied "));
    assert_eq!(passes, denied.is_none(), "{packet:?}");
    (denied, walk.lookups)
}

/// Packets that meet something else than before or after, where those agree.
fn wrong(states: &[Tables], packets: &[Packet]) -> Vec<String> {
    let (first, last) = (&states[0], &states[states.len() - 1]);
    let mut wrong = Vec::new();
    for packet in packets {
        let (before, after) = (passes(first, *packet).0, passes(last, *packet).0);
        // One end's denial that becomes the other's is two changes, between which it may pass.
        if before != after {
            continue;
        }
        for (number, pair) in states.windows(2).enumerate() {
            if !pair[0][&inet()].chains.contains_key("policy") {
                continue;
            }
            // A walk that begins between two batches, and those in which one is committed.
            let most = passes(&pair[0], *packet).1.max(passes(&pair[1], *packet).1) + 8;
            for from in 0..=most {
                let mut walk = Walk::new(&pair[0][&inet()], *packet, FOREIGN);
                walk.then = Some((&pair[1][&inet()], from));
                let meets = walk.passes("policy");
                if meets != before.is_none() {
                    wrong.push(format!(
                        "batch {number}, lookup {from}: passes {meets}, not {before:?}: {packet:?}"
                    ));
                }
                if walk.lookups <= from {
                    break;
                }
            }
        }
    }
    wrong
}

/// The world of a number after one change, as people make them: a policy more, another in its place, other labels.
fn changed(seed: u64) -> World {
    let mut world = case(seed, Mode::Routed, false);
    let other = case(seed + 5000, Mode::Routed, false).declared;
    let declared = &mut world.declared;
    match seed % 5 {
        0 => declared.policies.extend(other.policies.into_iter().take(1)),
        2 => {
            let in_its_place = declared.policies.values_mut().zip(other.policies.into_values()).take(1);
            in_its_place.for_each(|(old, new)| old.spec = new.spec);
        }
        3 => {
            let mut labels = world.workloads.values_mut().map(|workload| &mut workload.profile.labels);
            let (first, second) =
                (labels.next().expect("nine workloads"), labels.next().expect("nine workloads"));
            std::mem::swap(first, second);
        }
        _ => {
            let in_its_place =
                declared.cluster_policies.values_mut().zip(other.cluster_policies.into_values()).take(1);
            in_its_place.for_each(|(old, new)| old.spec = new.spec);
        }
    }
    world
}

#[test]
fn no_packet_meets_what_is_neither_before_nor_after() {
    let all: Vec<Packet> = packets().into_iter().step_by(29 * 7).collect();
    let (mut most, mut without) = (0, 0);
    // One policy less moves addresses to classes that are there already, perhaps before those change: that corner is open.
    for seed in (0..PAIRS).filter(|seed| seed % 5 != 1) {
        let mut numbering = Numbering::default();
        let mut before = plan(&case(seed, Mode::Routed, false), &here());
        numbering.assign(&mut before.policy);
        let world = changed(seed);
        let mut after = plan(&world, &here());
        numbering.assign(&mut after.policy);
        let kernel = ruleset(&before);
        let diff = policy::change(&Difference::between(&before.policy, &after.policy), &after.policy);
        let plain = states(&kernel, &[diff.install.clone(), diff.remove.clone()]);
        let batches = policy::phases(diff);
        most = most.max(batches.len());
        let phased = states(&kernel, &batches);
        assert!(
            nft::diff(&ruleset(&after), &phased[phased.len() - 1]).is_empty(),
            "seed {seed}: not all is done"
        );
        let found = wrong(&phased, &all);
        without += wrong(&plain, &all).len();
        assert!(
            found.is_empty(),
            "seed {seed}, {} wrong:\n{}",
            found.len(),
            found[..found.len().min(10)].join("\n")
        );
    }
    assert!(without > 0, "two batches would do, too: the cases are worth nothing");
    assert!(most > 3, "no change had more than {most} batches");
}
