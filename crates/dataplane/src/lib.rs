//! Plan to kernel: [`render`] says what is wanted, [`steps`] how to get there from what was found,
//! [`sync`] goes there.
//!
//! `render` and `steps` are pure. Nothing here remembers anything: a restart is a read and a diff.

pub mod attach;
pub mod bandwidth;
mod flows;
pub mod loopback;
pub mod network;
pub mod nft;
pub mod overlay;
pub mod peer;
mod steps;
mod sync;

use std::collections::BTreeMap;

use weft_kernel::State;
use weft_kernel::state::{Inside, Sysctl};
use weft_model::IfName;
use weft_plan::Plan;

pub use peer::{render_peers, spare};
pub use steps::steps;
pub use sync::{Report, SyncError, sync, sync_from};

/// What the kernel should hold: the host's side, and for each wire the workload's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The host's side.
    pub state: State,
    /// The workload's side of each wire, by the name of the host's end.
    pub wires: BTreeMap<IfName, Wire>,
}

/// A wire, beyond what the host's end shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The workload's side.
    pub inside: Inside,
    /// What its alias says once it is finished.
    pub alias: String,
}

/// Computes what the kernel should hold for a plan. Pure.
#[must_use]
pub fn render(plan: &Plan) -> Wanted {
    let mut wanted = Wanted::default();
    plan.learning_links.iter().for_each(|link| learn(link, &mut wanted.state));
    let sysctls = &mut wanted.state.sysctls;
    if plan.forward_ipv4 {
        sysctls.insert(Sysctl::global("net/ipv4/ip_forward"), "1".to_owned());
    }
    if plan.forward_ipv6 {
        sysctls.insert(Sysctl::global("net/ipv6/conf/all/forwarding"), "1".to_owned());
    }
    wanted.state.tables = nft::ruleset(plan);
    for network in plan.networks.values() {
        network::render(network, &mut wanted.state);
        overlay::render(network, &mut wanted.state);
    }
    for peer in plan.peers.values() {
        peer::render(peer, &mut wanted.state);
    }
    for workload in plan.workloads.values() {
        attach::render(workload, &mut wanted);
    }
    wanted
}

/// Adds what a link needs that learns its routes from routers, on a host that forwards.
pub fn learn(link: &IfName, state: &mut State) {
    state.sysctls.insert(Sysctl::of_link("ipv6", link, "accept_ra"), "2".to_owned());
}

/// What one workload adds to the kernel, and nothing else: the same rendering as [`render`], over
/// tables that have only the declarations that it needs.
#[must_use]
pub fn render_workload(workload: &weft_plan::WorkloadPlan) -> Wanted {
    let mut wanted = empty_for_workload();
    attach::render(workload, &mut wanted);
    wanted
}

/// What [`render_workload`] starts from: to be diffed against when the workload is known to be absent.
#[must_use]
pub fn empty_for_workload() -> Wanted {
    let loopback = Some(weft_kernel::state::Loopback::default());
    Wanted { state: State { tables: nft::declarations(), loopback, ..State::default() }, ..Wanted::default() }
}
