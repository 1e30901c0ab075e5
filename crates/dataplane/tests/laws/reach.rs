//! Reaching what is wanted, and seeing that it was reached.

use proptest::prelude::*;
use weft_dataplane::{Report, Wanted, sync};
use weft_kernel::nft::{Tables, canonical};
use weft_kernel::{FakeKernel, Kernel, State};

/// How many cases a law gets; the long run has the figures of BAR.md.
pub(crate) fn cases() -> ProptestConfig {
    let full = std::env::var_os("WEFT_FULL").is_some_and(|v| v == "1");
    let cases = if full { 20_000 } else { 100 };
    // Some laws speak only of worlds with wires.
    let max_global_rejects = cases * 4;
    ProptestConfig { failure_persistence: None, max_global_rejects, ..ProptestConfig::with_cases(cases) }
}

/// A sync that nothing may stop.
pub(crate) fn smooth(kernel: &mut FakeKernel, wanted: &Wanted) -> Result<Report, TestCaseError> {
    let report = sync(kernel, wanted).expect("the fake can always be read");
    prop_assert!(report.refused.is_empty(), "refused: {:?}", report.refused);
    Ok(report)
}

/// Syncs as the agent does after trouble: once or twice, with the reaper's round between. The first may be
/// refused something (an interface name that a retired wire still bears); the second may not.
pub(crate) fn mended(kernel: &mut FakeKernel, wanted: &Wanted) -> Result<(), TestCaseError> {
    sync(kernel, wanted).expect("the fake can always be read");
    kernel.reap();
    smooth(kernel, wanted)?;
    kernel.reap();
    reached(kernel, wanted)
}

/// The kernel holds what is wanted, no more and no less, and another sync would do nothing.
pub(crate) fn reached(kernel: &mut FakeKernel, wanted: &Wanted) -> Result<(), TestCaseError> {
    let keys: Vec<_> = wanted.state.sysctls.keys().cloned().collect();
    let found = kernel.read(&keys).expect("the fake can always be read");
    prop_assert_eq!(comparable(&found), comparable(&wanted.state));
    for (name, wire) in &wanted.wires {
        let inside = kernel.namespaces.get(&wire.inside.netns.path).and_then(|n| n.get(&wire.inside.ifname));
        prop_assert_eq!(inside, Some(&Some(wire.inside.clone())), "inside of {}", name);
    }
    let report = smooth(kernel, wanted)?;
    prop_assert!(report.made.is_empty(), "a second sync did {:?}", report.made);
    Ok(())
}

/// The kernel gives rules back in its own words; equal rules have equal canonical forms.
fn comparable(state: &State) -> State {
    let mut state = state.clone();
    canonicalise(&mut state.tables);
    state
}

pub(crate) fn canonicalise(tables: &mut Tables) {
    for (name, table) in tables {
        for rule in table.chains.values_mut().flat_map(|c| &mut c.rules) {
            *rule = canonical(name.family, rule);
        }
    }
}
