//! The second judge of policy: a walk through the rendered rules says what the oracle says, for every packet of many worlds
//! (DESIGN.md §3, invariant 10). Real packets are the third: `tests/tests/policy.rs`.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod flips;
mod host;
mod walk;

use weft_dataplane::nft::{policy, ruleset};
use weft_kernel::netlink::{self, Socket};
use weft_kernel::nft::{self, Family, TableName, Tables};
use weft_kernel::ours::{POLICY_MARK, TABLE};
use weft_model::Mode;
use weft_plan::policy::cases::{Dice, case, here, packets, step};
use weft_plan::policy::matcher::Members;
use weft_plan::policy::resolve::Policies;
use weft_plan::policy::verdict::judge;
use weft_plan::policy::{Difference, Numbering, Packet, PolicyPlan, Standing, Touched, Verdict};
use weft_plan::{Plan, plan};

use walk::Walk;

/// How many worlds are walked; all of them in the long run (BAR.md, C2).
fn seeds() -> u64 {
    if std::env::var_os("WEFT_FULL").is_some() { 10_000 } else { 60 }
}

fn inet() -> TableName {
    TableName::new(Family::Inet, TABLE)
}

/// Foreign bits that a packet comes with; they must be there behind the rules too.
const FOREIGN: u32 = 0x8000_4005;

#[test]
fn the_rules_say_what_the_oracle_says() {
    let packets = packets();
    let (mut denied, mut most) = (0, 0);
    for seed in 0..seeds() {
        let world = case(seed, Mode::Routed, seed % 3 == 2);
        let plan = plan(&world, &here());
        let tables = ruleset(&plan);
        let (policies, members) = (Policies::of(&world), Members::of(&world));
        let local = |name: &str| members.all.iter().any(|m| m.local && m.name == name);
        let mut wrong = Vec::new();
        for packet in &packets {
            let verdict = judge(&policies, &members, packet);
            let allowed = verdict.sides.iter().filter(|s| local(&s.workload)).all(|s| s.allowed);
            let audited = verdict.sides.iter().any(|s| local(&s.workload) && s.audit.is_some());
            let mut walk = Walk::new(&tables[&inet()], *packet, FOREIGN);
            let passes = plan.policy.subjects.is_empty() || walk.passes("policy");
            if passes != allowed {
                wrong.push((packet, passes, verdict));
                continue;
            }
            denied += u64::from(!allowed);
            most = most.max(walk.lookups);
            if passes {
                assert_eq!(walk.mark, FOREIGN, "seed {seed}: {packet:?} leaves with another mark");
                let would = walk.counted.iter().any(|c| c.starts_with("would deny"));
                assert_eq!(would, audited, "seed {seed}, audit: {packet:?}: {:?}", walk.counted);
            } else {
                assert!(
                    walk.counted.iter().any(|c| c.starts_with("denied ")),
                    "{packet:?}: {:?}",
                    walk.counted
                );
            }
        }
        assert!(wrong.is_empty(), "seed {seed}\n{}", truth_table(&plan, &wrong));
    }
    assert!(denied > 1000, "only {denied} packets were denied: the cases are worth nothing");
    assert!(most < 80, "{most} lookups for one packet");
}

/// Through a service or a published port a workload's packets come back to it: policy does not keep it from itself.
#[test]
fn nobody_is_kept_from_reaching_himself() {
    let itself: Vec<Packet> = packets().into_iter().map(|p| Packet { destination: p.source, ..p }).collect();
    let mut judged = 0;
    for seed in 0..20 {
        let world = case(seed, Mode::Routed, false);
        let plan = plan(&world, &here());
        let tables = ruleset(&plan);
        judged += plan.policy.subjects.len();
        for packet in &itself {
            let mut walk = Walk::new(&tables[&inet()], *packet, FOREIGN);
            assert!(walk.passes("policy"), "seed {seed}: {packet:?}");
            assert_eq!(walk.mark, FOREIGN);
            assert!(weft_plan::policy::Tables::of(&plan.policy).pass(packet));
        }
    }
    assert!(judged > 20, "only {judged} workloads are judged: the cases are worth nothing");
}

/// What differs, a line each, and the first in full.
fn truth_table(plan: &Plan, wrong: &[(&Packet, bool, Verdict)]) -> String {
    let word = |passes: bool| if passes { "pass" } else { "drop" };
    let mut text = format!("{} packets differ\nSOURCE DESTINATION PROTOCOL PORT RULES ORACLE\n", wrong.len());
    for (packet, passes, _) in wrong.iter().take(40) {
        let Packet { source, destination, protocol, port } = packet;
        text += &format!("{source} {destination} {protocol} {port} {} {}\n", word(*passes), word(!passes));
    }
    if let Some((_, _, verdict)) = wrong.first() {
        text += &format!(
            "{verdict:#?}\n{:#?}\n",
            plan.policy.subjects.values().map(|s| &s.name).collect::<Vec<_>>()
        );
    }
    text
}

/// From each world to the next by steps: what is left is what a fresh rendering has, and every step is acceptable.
#[test]
fn changes_lead_where_a_fresh_rendering_leads() {
    let mut numbering = Numbering::default();
    let mut before = plan(&case(1000, Mode::Routed, false), &here());
    numbering.assign(&mut before.policy);
    let mut kernel = Tables::default();
    apply(&mut kernel, &nft::diff(&ruleset(&before), &Tables::default()));
    for seed in 1001..1000 + seeds().min(200) {
        let mut after = plan(&case(seed, Mode::Routed, false), &here());
        numbering.assign(&mut after.policy);
        let difference = Difference::between(&before.policy, &after.policy);
        apply(&mut kernel, &policy::change(&difference, &after.policy));
        let wanted = nft::diff(&ruleset(&after), &kernel);
        assert!(wanted.is_empty(), "seed {seed}: left over: {wanted:?}");
        assert_eq!(policy::numbers(&kernel).len(), after.policy.classes.len());
        before = after;
    }
}

/// The same where the plan follows a world that changes bit by bit.
#[test]
fn what_stands_follows_into_the_kernel() {
    for seed in 0..seeds().min(500) / 4 {
        let mut dice = Dice::new(seed);
        let mut world = case(seed, Mode::Routed, true);
        let mut plan = plan(&world, &here());
        let (mut standing, mut numbering) = (Standing::default(), Numbering::default());
        plan.policy = PolicyPlan::default();
        standing.follow(&world, &here().name, Touched::everything(&world), &mut plan.policy, &mut numbering);
        let mut kernel = Tables::default();
        apply(&mut kernel, &nft::diff(&ruleset(&plan), &Tables::default()));
        for at in 0..40 {
            let touched = step(&mut dice, &mut world);
            let difference =
                standing.follow(&world, &here().name, touched.clone(), &mut plan.policy, &mut numbering);
            apply(&mut kernel, &policy::change(&difference, &plan.policy));
            let wanted = nft::diff(&ruleset(&plan), &kernel);
            assert!(wanted.is_empty(), "seed {seed}, change {at}, {touched:?}: left over: {wanted:?}");
        }
    }
}

fn apply(kernel: &mut Tables, diff: &nft::Diff) {
    for batch in [&diff.install, &diff.remove] {
        if let Err((at, errno)) = nft::fake::apply(kernel, batch) {
            panic!("errno {errno} for {:?}", batch[at]);
        }
    }
}

/// The real kernel takes the rules, and what it gives back is what was wanted: nothing is left to do.
#[test]
fn the_kernel_takes_the_rules_and_gives_them_back() {
    let netns = weft_kernel::netns::Netns::anonymous().unwrap();
    netns
        .run(|| {
            let mut socket = Socket::open(netlink::Family::Netfilter).unwrap();
            let names = weft_kernel::ours::tables();
            let mut numbering = Numbering::default();
            for seed in 0..12 {
                let mut plan = plan(&case(seed, Mode::Bridge, true), &here());
                numbering.assign(&mut plan.policy);
                let wanted = ruleset(&plan);
                let found = nft::read(&mut socket, &names).unwrap();
                let steps = nft::diff(&wanted, &found);
                for batch in [&steps.install, &steps.remove] {
                    nft::apply(&mut socket, batch).unwrap();
                }
                let found = nft::read(&mut socket, &names).unwrap();
                let left = nft::diff(&wanted, &found);
                assert!(left.is_empty(), "seed {seed}: {left:?}");
                assert_eq!(policy::numbers(&found), plan.policy.classes, "seed {seed}");
            }
        })
        .unwrap();
}

#[test]
fn the_mark_is_weft_own() {
    assert_eq!(POLICY_MARK & FOREIGN, 0);
}
