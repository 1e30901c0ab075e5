//! While policy changes, no packet is let through that is denied before and after, and none is dropped that is permitted before and after.
//!
//! Between any two batches every packet is walked with the batch committed before each of its lookups: that is all that it can
//! meet, for a batch is atomic per lookup (DESIGN.md §15) and the next one waits for packets under way.

use weft_dataplane::nft::{policy, ruleset};
use weft_kernel::nft::{self, Tables};
use weft_model::Mode;
use weft_plan::plan;
use weft_plan::policy::cases::{case, here, packets};
use weft_plan::policy::{Difference, Numbering, Packet};

use super::walk::Walk;
use super::{FOREIGN, inet};

/// Pairs of worlds.
fn pairs() -> u64 {
    if std::env::var_os("WEFT_FULL").is_some() { 2000 } else { 40 }
}

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

fn passes(tables: &Tables, packet: Packet) -> (bool, usize) {
    let table = &tables[&inet()];
    if !table.chains.contains_key("policy") {
        return (true, 0);
    }
    let mut walk = Walk::new(table, packet, FOREIGN);
    (walk.passes("policy"), walk.lookups)
}

/// Packets that meet something else than before or after, where those agree.
fn wrong(states: &[Tables], packets: &[Packet]) -> Vec<String> {
    let (first, last) = (&states[0], &states[states.len() - 1]);
    let mut wrong = Vec::new();
    for packet in packets {
        let (before, after) = (passes(first, *packet).0, passes(last, *packet).0);
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
                if meets != before {
                    wrong.push(format!(
                        "batch {number}, lookup {from}: passes {meets}, not {before}: {packet:?}"
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

#[test]
fn no_packet_meets_what_is_neither_before_nor_after() {
    let all: Vec<Packet> = packets().into_iter().step_by(29).collect();
    let (mut most, mut without) = (0, 0);
    for seed in 0..pairs() {
        let mut numbering = Numbering::default();
        let mut before = plan(&case(seed, Mode::Routed, false), &here());
        numbering.assign(&mut before.policy);
        // What people do: a policy more, one less, one changed; and all at once.
        let mut world = case(seed, Mode::Routed, false);
        let other = case(seed + 5000, Mode::Routed, false);
        match seed % 3 {
            0 => world.declared = other.declared,
            1 => drop(world.declared.policies.pop_first()),
            _ => world.declared.policies.extend(other.declared.policies.into_iter().take(1)),
        }
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
        assert!(
            found.is_empty(),
            "seed {seed}, {} wrong:\n{}",
            found.len(),
            found[..found.len().min(10)].join("\n")
        );
        without += wrong(&plain, &all).len();
    }
    assert!(without > 100, "two batches would do, too: {without}; the cases are worth nothing");
    assert!(most > 3, "no change had more than {most} batches");
}
