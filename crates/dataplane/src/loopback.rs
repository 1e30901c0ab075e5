//! Published ports at 127.0.0.1 and ::1, which nftables cannot lead elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use weft_kernel::Change;
use weft_kernel::state::{LocalPort, State};
use weft_model::Protocol;
use weft_model::ports::loopback;
use weft_plan::WorkloadPlan;

/// Adds a workload's ports, and the wish for the programs that lead them.
pub fn render(workload: &WorkloadPlan, state: &mut State) {
    for plan in &workload.ports {
        let at = plan.at.unwrap_or_else(|| loopback(plan.to.is_ipv4()));
        // The kernel calls no program when a socket of SCTP connects.
        if at.is_loopback() && plan.protocol != Protocol::Sctp {
            let port = LocalPort { protocol: plan.protocol.number(), at: SocketAddr::new(at, plan.port) };
            state.loopback.get_or_insert_default().ports.insert(port, plan.to);
        }
    }
}

/// The steps from what was found to what is wanted.
pub(crate) fn steps(wanted: &State, found: &State, steps: &mut Vec<Change>) {
    let nothing = BTreeMap::new();
    let want = match (&wanted.loopback, &found.loopback) {
        (None, None) => return,
        (None, Some(_)) => {
            steps.push(Change::RemoveLoopback);
            return;
        }
        (Some(want), _) => &want.ports,
    };
    let have = match &found.loopback {
        Some(found) if found.whole => &found.ports,
        _ => {
            steps.push(Change::InstallLoopback);
            &nothing
        }
    };
    let new = want.iter().filter(|(port, to)| have.get(port) != Some(*to));
    let new: BTreeMap<LocalPort, SocketAddr> = new.map(|(port, to)| (*port, *to)).collect();
    let gone: BTreeSet<LocalPort> = have.keys().filter(|port| !want.contains_key(port)).copied().collect();
    if !new.is_empty() {
        steps.push(Change::SetLocalPorts(new));
    }
    if !gone.is_empty() {
        steps.push(Change::UnsetLocalPorts(gone));
    }
}
