//! The third judge of policy: real packets between real workloads, and what else policy promises (BAR.md, security rows 11 to 16).

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use weft_model::Mode;
use weft_plan::policy::cases::{Dice, case, packets};
use weft_plan::policy::matcher::Members;
use weft_plan::policy::resolve::Policies;
use weft_plan::policy::verdict::judge;
use weft_plan::policy::{Packet, Verdict};
use weft_tests::cases::Cases;

/// Worlds per mode, and packets of each: together more than 300 worlds.
const WORLDS: u64 = 152;
const PACKETS: u64 = 40;

#[test]
fn real_packets_meet_what_the_oracle_says_routed() -> Result<()> {
    real_packets(Mode::Routed)
}

#[test]
fn real_packets_meet_what_the_oracle_says_on_a_bridge() -> Result<()> {
    real_packets(Mode::Bridge)
}

fn real_packets(mode: Mode) -> Result<()> {
    let mut cases = Cases::new(mode)?;
    let all: Vec<Packet> = packets().into_iter().filter(|p| cases.can_send(p)).collect();
    let (mut passed, mut denied) = (0, 0);
    for seed in 0..WORLDS {
        let declared = case(seed, mode, false).declared;
        cases.declare(&declared)?;
        let mut dice = Dice::new(seed);
        let drawn = (0..PACKETS).map(|_| all[usize::try_from(dice.roll(all.len() as u64)).unwrap_or(0)]);
        // A protocol without ports has one flow between two ends: the second packet would be the answer to the first.
        let mut portless = BTreeSet::new();
        let mut alone = |p: &Packet| {
            p.protocol != 47 || portless.insert((p.source.min(p.destination), p.source.max(p.destination)))
        };
        let some: Vec<Packet> = drawn.filter(|p| alone(p)).collect();
        let (policies, members) = (Policies::of(&cases.world), Members::of(&cases.world));
        let verdicts: Vec<Verdict> = some.iter().map(|p| judge(&policies, &members, p)).collect();
        let expected: Vec<bool> = verdicts.iter().map(|v| v.allowed).collect();
        let arrived = cases.arrived(&some, &expected)?;
        passed += arrived.iter().filter(|a| **a).count();
        denied += arrived.iter().filter(|a| !**a).count();
        let wrong: Vec<String> = some
            .iter()
            .zip(&verdicts)
            .zip(&arrived)
            .filter(|((_, verdict), arrived)| verdict.allowed != **arrived)
            .map(|((packet, verdict), arrived)| format!("arrived {arrived}: {packet:?}: {:?}", verdict.sides))
            .collect();
        ensure!(wrong.is_empty(), "world {seed}, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
    ensure!(
        passed > 1000 && denied > 500,
        "{passed} packets passed and {denied} did not: the cases are worth nothing"
    );
    Ok(())
}
