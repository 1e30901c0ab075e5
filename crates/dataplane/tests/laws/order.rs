//! The order of steps: no wire carries packets before its guard is in force, at any moment between two steps.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_dataplane::{Wanted, steps, sync};
use weft_kernel::nft::Tables;
use weft_kernel::{Change, FakeKernel, Kernel};
use weft_model::IfName;

use crate::reach::{canonicalise, cases, mended};
use crate::universe::{choice, universe};

/// Every wire that could carry packets has its elements in the sets, and the rules that ask them are there.
fn guarded(
    kernel: &FakeKernel,
    wires: &BTreeMap<IfName, Wanted>,
    rules: &Tables,
) -> Result<(), TestCaseError> {
    for (name, link) in kernel.host.links.iter().filter(|(name, _)| wires.contains_key(*name)) {
        let inside =
            kernel.peers.get(name).and_then(|(path, ifname)| kernel.namespaces.get(path)?.get(ifname));
        if !link.up || !matches!(inside, Some(Some(_))) {
            continue;
        }
        for (table, wanted) in &wires[name].state.tables {
            let found = kernel.host.tables.get(table);
            prop_assert!(found.is_some(), "{} is open without the table {:?}", name, table);
            let found = found.expect("asserted above");
            for (set, wanted) in &wanted.sets {
                let there = |key| found.sets.get(set).is_some_and(|s| s.elements.contains_key(key));
                prop_assert!(
                    wanted.elements.keys().all(there),
                    "{} is open without its elements of {}",
                    name,
                    set
                );
            }
            for (chain, wanted) in
                rules[table].chains.iter().filter(|(name, _)| name.as_str() != "from_workload")
            {
                prop_assert_eq!(found.chains.get(chain), Some(wanted), "{} is open without {}", name, chain);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_wire_is_open_before_its_guard(
        u in universe(), before in choice(), killed in prop::option::of(0_usize..40), after in choice(),
    ) {
        let (wires, wanted) = (u.wires(), u.wanted(&after));
        let mut rules = wanted.state.tables.clone();
        canonicalise(&mut rules);
        let mut kernel = u.kernel();
        mended(&mut kernel, &u.wanted(&before))?;
        if killed.is_some() {
            kernel.dies_after = killed;
            let _ = sync(&mut kernel, &wanted);
            kernel.dies_after = None;
        }
        for _round in 0..2 {
            let keys: Vec<_> = wanted.state.sysctls.keys().cloned().collect();
            let found = kernel.read(&keys).unwrap();
            for step in steps(&wanted, &found) {
                let _ = kernel.apply(std::slice::from_ref(&step));
                guarded(&kernel, &wires, &rules)?;
            }
            kernel.reap();
        }
    }

    #[test]
    fn no_wire_is_opened_whose_guard_was_refused(u in universe(), choice in choice()) {
        let (wires, wanted) = (u.wires(), u.wanted(&choice));
        let mut rules = wanted.state.tables.clone();
        canonicalise(&mut rules);
        let mut kernel = u.kernel();
        let found = kernel.read(&[]).unwrap();
        let at = steps(&wanted, &found).iter().position(|s| matches!(s, Change::InstallRules(_)));
        kernel.refuses.extend(at);
        let report = sync(&mut kernel, &wanted).unwrap();
        prop_assert!(at.is_none() || report.refused.len() == 1, "{:?}", report.refused);
        guarded(&kernel, &wires, &rules)?;
        mended(&mut kernel, &wanted)?;
    }

    #[test]
    fn a_single_attach_and_detach_keep_the_same_order(u in universe()) {
        let wires = u.wires();
        for wanted in wires.values() {
            let empty = weft_dataplane::empty_for_workload();
            let to = steps(wanted, &empty.state);
            let back = steps(&empty, &wanted.state);
            for steps in [&to, &back] {
                let ranks: Vec<u8> = steps.iter().map(Change::rank).collect();
                prop_assert!(ranks.is_sorted(), "{:?}", ranks);
            }
        }
    }
}
