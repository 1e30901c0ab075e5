//! `weft doctor`: what on this host hurts a container network, why, and the command that mends it.
//!
//! [`facts`] asks the host once; each family of findings is a pure function of what was found, in a file of its own.
//! A further family is one more file and one more line in [`FAMILIES`]. Nothing here changes anything, and no agent is needed.

mod agent;
mod clock;
mod cni;
mod conntrack;
mod facts;
mod firewall;
mod forwarding;
mod managers;
mod mtu;
mod neighbours;
mod peers;
mod rp_filter;

use serde::Serialize;

pub use facts::{CniFile, Facts, Managed, Place, gather};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Packets or containers are failing now, or will as soon as there are any.
    Error,
    /// It hurts under conditions that are not known to be met.
    Warning,
    /// Worth knowing; often meant so.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding, for programs: a word that stays.
    pub kind: &'static str,
    /// What was found, on what.
    pub what: String,
    /// Why it hurts.
    pub why: String,
    /// The commands that mend it; a line that is no command begins with `#`.
    pub fix: Vec<String>,
}

/// The families of findings, in the order in which a person would look.
const FAMILIES: [fn(&Facts) -> Vec<Finding>; 11] = [
    agent::findings,
    forwarding::findings,
    rp_filter::findings,
    peers::findings,
    mtu::findings,
    firewall::findings,
    cni::findings,
    managers::findings,
    conntrack::findings,
    neighbours::findings,
    clock::findings,
];

/// Judges the facts; the worst come first. Pure.
#[must_use]
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all: Vec<Finding> = FAMILIES.iter().flat_map(|family| family(facts)).collect();
    all.sort_by_key(|finding| finding.severity);
    all
}
