//! Invariants 4 and 7: killed after any step, and with steps that are refused.

use std::collections::BTreeSet;

use proptest::prelude::*;
use weft_dataplane::{steps, sync};
use weft_kernel::{Change, Kernel};
use weft_model::IfName;

use crate::reach::{cases, mended, reached, smooth};
use crate::universe::{choice, universe};
use crate::{foreign, tamper};

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn killed_after_any_step_and_restarted_with_any_world_it_converges(
        u in universe(), lives in prop::collection::vec((choice(), 0_usize..60, any::<bool>()), 1..6), last in choice(),
    ) {
        let mut kernel = u.kernel();
        let theirs = foreign::of(&kernel);
        for (choice, steps, reaped) in &lives {
            kernel.dies_after = Some(*steps);
            let _ = sync(&mut kernel, &u.wanted(choice));
            kernel.dies_after = None;
            if *reaped {
                kernel.reap();
            }
        }
        mended(&mut kernel, &u.wanted(&last))?;
        prop_assert_eq!(foreign::of(&kernel), theirs, "foreign objects were touched");
    }

    #[test]
    fn killed_in_the_world_it_is_restarted_in_it_loses_no_finished_wire(
        u in universe(), choice in choice(), steps in 0_usize..40,
    ) {
        let wanted = u.wanted(&choice);
        let mut kernel = u.kernel();
        kernel.dies_after = Some(steps);
        let _ = sync(&mut kernel, &wanted);
        kernel.dies_after = None;
        let finished = |kernel: &weft_kernel::FakeKernel| -> BTreeSet<IfName> {
            let links = kernel.host.links.iter().filter(|(_, l)| l.alias.is_some());
            links.map(|(name, _)| name.clone()).filter(|name| wanted.wires.contains_key(name)).collect()
        };
        let before = finished(&kernel);
        let report = smooth(&mut kernel, &wanted)?;
        for change in &report.made {
            if let Change::CreateWire(name, ..) | Change::Retire(name) | Change::Configure(name, _) = change {
                prop_assert!(!before.contains(name), "{} was finished and made again: {}", name, change);
            }
        }
        reached(&mut kernel, &wanted)?;
    }

    #[test]
    fn a_refused_step_keeps_its_neighbours_going(
        u in universe(), choice in choice(), picks in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let wanted = u.wanted(&choice);
        let mut kernel = u.kernel();
        let found = kernel.read(&[]).unwrap();
        let all = steps(&wanted, &found);
        // Steps that belong to one wire and to nothing else.
        let wire = |change: &Change| -> Option<IfName> {
            let name = match change {
                Change::CreateWire(name, ..) | Change::SetLink(name, _) | Change::Configure(name, _)
                | Change::Finish(name, _) | Change::SetNeighbour(name, ..) => name,
                Change::SetRoute(_, route) => &route.device,
                _ => return None,
            };
            wanted.wires.contains_key(name).then(|| name.clone())
        };
        let candidates: Vec<usize> = (0..all.len()).filter(|at| wire(&all[*at]).is_some()).collect();
        prop_assume!(!candidates.is_empty());
        kernel.refuses = picks.iter().map(|pick| candidates[pick.index(candidates.len())]).collect();
        let hurt: BTreeSet<IfName> = kernel.refuses.iter().filter_map(|at| wire(&all[*at])).collect();

        let report = sync(&mut kernel, &wanted).unwrap();
        prop_assert!(!report.refused.is_empty());
        for (name, wire) in wanted.wires.iter().filter(|(name, _)| !hurt.contains(*name)) {
            let alias = kernel.host.links.get(name).and_then(|l| l.alias.as_ref());
            prop_assert_eq!(alias, Some(&wire.alias), "{} suffered from the refusals at {:?}", name, &hurt);
        }
        smooth(&mut kernel, &wanted)?;
        reached(&mut kernel, &wanted)?;
    }

    #[test]
    fn any_refusals_at_all_are_mended_by_the_next_syncs(
        u in universe(), before in choice(), choice in choice(), refuses in prop::collection::btree_set(0_usize..60, 0..12),
    ) {
        let mut kernel = u.kernel();
        mended(&mut kernel, &u.wanted(&before))?;
        kernel.asked = 0;
        kernel.refuses = refuses;
        let _ = sync(&mut kernel, &u.wanted(&choice));
        kernel.refuses.clear();
        kernel.reap();
        mended(&mut kernel, &u.wanted(&choice))?;
    }

    #[test]
    fn whatever_others_do_to_our_objects_is_mended(
        u in universe(), choice in choice(), hands in prop::collection::vec(tamper::tamper(), 1..12), killed in prop::option::of(0_usize..30),
    ) {
        let wanted = u.wanted(&choice);
        let mut kernel = u.kernel();
        mended(&mut kernel, &wanted)?;
        let theirs = foreign::of(&kernel);
        for hand in &hands {
            tamper::apply(&mut kernel, hand);
        }
        if let Some(steps) = killed {
            kernel.dies_after = Some(steps);
            let _ = sync(&mut kernel, &wanted);
            kernel.dies_after = None;
        }
        mended(&mut kernel, &wanted)?;
        prop_assert_eq!(foreign::of(&kernel), theirs, "foreign objects were touched");
    }
}
