//! A plan that followed change by change is the plan of the world as it is now.

use weft_model::policy::Direction;
use weft_model::{Mode, World};

use super::{Standing, Touched};
use crate::policy::cases::{Dice, case, here, packets, step};
use crate::policy::matcher::Members;
use crate::policy::resolve::Policies;
use crate::policy::verdict::judge;
use crate::policy::{Difference, Numbering, PolicyPlan, Tables};

/// How many sequences of changes, of a hundred each.
fn seeds() -> u64 {
    if std::env::var_os("WEFT_FULL").is_some() { 2_000 } else { 24 }
}

/// From scratch, with the numbers that classes have already.
fn scratch(world: &World, numbering: &Numbering) -> PolicyPlan {
    let mut plan = PolicyPlan::default();
    Standing::default().follow(
        world,
        &here().name,
        Touched::everything(world),
        &mut plan,
        &mut numbering.clone(),
    );
    plan
}

#[test]
fn what_followed_is_what_is_made_from_scratch() {
    for seed in 0..seeds() {
        let mut dice = Dice::new(seed);
        let mut world = case(seed, Mode::Routed, true);
        let (mut standing, mut plan) = (Standing::default(), PolicyPlan::default());
        let mut numbering = Numbering::default();
        standing.follow(&world, &here().name, Touched::everything(&world), &mut plan, &mut numbering);
        for at in 0..100 {
            let before = plan.clone();
            let touched = step(&mut dice, &mut world);
            let difference =
                standing.follow(&world, &here().name, touched.clone(), &mut plan, &mut numbering);
            assert_eq!(plan, scratch(&world, &numbering), "seed {seed}, change {at}: {touched:?}");
            let mut again = before.clone();
            difference.apply(&mut again);
            assert_eq!(again, plan, "seed {seed}, change {at}: the difference lacks something");
            let between = Difference::between(&before, &plan);
            assert_eq!(difference.peers, between.peers, "seed {seed}, change {at}");
            assert_eq!(difference.classes, between.classes, "seed {seed}, change {at}");
        }
    }
}

#[test]
fn several_changes_at_once_are_followed_too() {
    for seed in 0..seeds() {
        let mut dice = Dice::new(seed + 7);
        let mut world = case(seed, Mode::Routed, true);
        let (mut standing, mut plan) = (Standing::default(), PolicyPlan::default());
        let mut numbering = Numbering::default();
        standing.follow(&world, &here().name, Touched::everything(&world), &mut plan, &mut numbering);
        for at in 0..12 {
            let mut touched = Touched::default();
            for _ in 0..=dice.roll(9) {
                touched.extend(step(&mut dice, &mut world));
            }
            standing.follow(&world, &here().name, touched, &mut plan, &mut numbering);
            assert_eq!(plan, scratch(&world, &numbering), "seed {seed}, round {at}");
        }
    }
}

#[test]
fn nothing_is_left_when_everything_is_gone() {
    let mut world = case(3, Mode::Routed, true);
    let (mut standing, mut plan) = (Standing::default(), PolicyPlan::default());
    let mut numbering = Numbering::default();
    standing.follow(&world, &here().name, Touched::everything(&world), &mut plan, &mut numbering);
    let mut touched = Touched::default();
    for (name, remote) in std::mem::take(&mut world.remote) {
        touched.remote(name, Some(remote));
    }
    for (id, _) in std::mem::take(&mut world.workloads) {
        touched.workload(id);
    }
    standing.follow(&world, &here().name, touched, &mut plan, &mut numbering);
    assert_eq!(plan, PolicyPlan::default());
    let Standing { kinds, locals, holders, contested, matchers, ranges: _, segments, cells, .. } = &standing;
    assert_eq!((kinds.len(), locals.len(), holders.len(), contested.len()), (0, 0, 0, 0));
    assert_eq!((matchers.len(), segments.len(), cells.classes.len()), (0, 0, 0));
}

/// The oracle knows nothing of the index: what stands after a hundred changes says what it says.
#[test]
fn the_oracle_says_the_same_after_changes() {
    let packets = packets();
    for seed in 0..seeds() / 4 {
        let mut dice = Dice::new(seed + 99);
        let mut world = case(seed, Mode::Routed, true);
        let (mut standing, mut plan) = (Standing::default(), PolicyPlan::default());
        let mut numbering = Numbering::default();
        standing.follow(&world, &here().name, Touched::everything(&world), &mut plan, &mut numbering);
        for _ in 0..100 {
            let touched = step(&mut dice, &mut world);
            standing.follow(&world, &here().name, touched, &mut plan, &mut numbering);
        }
        let (policies, members) = (Policies::of(&world), Members::of(&world));
        let tables = Tables::of(&plan);
        for packet in &packets {
            // An address that two have at once is the first one's; whose wire it is at is not for policy to say.
            let twice = |address| {
                let has = members.all.iter().filter(|m| m.addresses.contains(&address));
                has.count() > 1
            };
            if twice(packet.source) || twice(packet.destination) {
                continue;
            }
            let verdict = judge(&policies, &members, packet);
            // By address: while a workload moves there are two of its name.
            let own =
                |direction| if direction == Direction::Egress { packet.source } else { packet.destination };
            let here = |direction| members.end(own(direction)).workload.is_some_and(|w| w.local);
            let allowed = verdict.sides.iter().filter(|s| here(s.direction)).all(|s| s.allowed);
            assert_eq!(tables.pass(packet), allowed, "seed {seed}: {packet:?}: {verdict:#?}");
        }
    }
}
