//! The reaper deletes retired wires and their guards in batches, away from everybody's path.
//!
//! Deleting a link takes the kernel 20 ms and holds the lock that every attach needs (RTNL); many in one
//! message cost hardly more than one. So it gathers for a moment, but never longer than [`GATHER`].

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use weft_kernel::change::Stale;
use weft_kernel::nft::{Key, Op, TableName};
use weft_kernel::{Change, Kernel, Linux};

use crate::agent::Agent;
use crate::chain;

/// A detached link is gone after at most this time and the kernel's own (the promise is one second).
const GATHER: Duration = Duration::from_millis(200);
/// A round is begun early when so many wait, to keep each one short.
const ROUND: usize = 64;

/// Work for the reaper.
#[derive(Debug)]
pub(crate) enum Retired {
    /// A wire was retired; these are the removals that can wait.
    Rules(Vec<Change>),
    /// A removal failed, or there may be more to remove: only a full comparison can tell what is left.
    Resync,
}

/// Works until the agent's end.
pub(crate) fn run(agent: &Arc<Agent>, work: &Receiver<Retired>, mut kernel: Linux) {
    while let Ok(first) = work.recv() {
        let (mut removals, mut resync) = (Vec::new(), false);
        let mut take = |retired: Retired| match retired {
            Retired::Rules(changes) => removals.extend(changes),
            Retired::Resync => resync = true,
        };
        take(first);
        let (deadline, mut count) = (Instant::now() + GATHER, 1);
        while count < ROUND {
            match work.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(retired) => take(retired),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            count += 1;
        }
        let (rules, stale) = merge(removals);
        round(agent, &mut kernel, &rules, stale, resync);
    }
}

fn round(agent: &Arc<Agent>, kernel: &mut Linux, removals: &[Change], stale: Vec<Stale>, mut resync: bool) {
    match kernel.reap() {
        Ok(reaped) if !reaped.foreign.is_empty() => {
            tracing::warn!(links = ?reaped.foreign, "links that are not weft's bear its group; left alone");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(error = chain(&error), "failed to delete retired links");
            resync = true;
        }
    }
    // No attach comes between the look and the deed: a host end's name can be wanted again by now.
    let mut engine = agent.engine();
    if let Some(error) = engine.forget_flows(stale) {
        tracing::warn!(error = chain(&error), "failed to end connections of detached workloads");
    }
    let removals = unclaimed(removals, |table, set, key| engine.wants_element(table, set, key));
    let answers = kernel.apply(&removals);
    drop(engine);
    for answer in answers {
        if let Err(error) = answer {
            // A sync in between may have removed some already; rules go all or none.
            tracing::debug!(error = chain(&error), "guards were removed by somebody else");
            resync = true;
        }
    }
    if resync {
        agent.repair("something may be left to remove");
    }
    agent.engine().settle();
}

/// The removals without those of elements that belong to a wire of now.
fn unclaimed(removals: &[Change], wanted: impl Fn(&TableName, &str, &Key) -> bool) -> Vec<Change> {
    let filter = |op: &Op| match op.clone() {
        Op::DeleteElements { table, set, interval, mut keys } => {
            keys.retain(|key| !wanted(&table, &set, key));
            (!keys.is_empty()).then_some(Op::DeleteElements { table, set, interval, keys })
        }
        other => Some(other),
    };
    let of = |change: &Change| match change {
        Change::RemoveRules(ops) => Change::RemoveRules(ops.iter().filter_map(filter).collect()),
        other => other.clone(),
    };
    removals.iter().map(of).filter(|c| !matches!(c, Change::RemoveRules(ops) if ops.is_empty())).collect()
}

/// One transaction instead of many, and the connections to be forgotten.
fn merge(removals: Vec<Change>) -> (Vec<Change>, Vec<Stale>) {
    let (mut ops, mut stale) = (Vec::new(), Vec::new());
    for change in removals {
        match change {
            Change::RemoveRules(more) => ops.extend(more),
            Change::ForgetFlows(more) => stale.extend(more),
            _ => {}
        }
    }
    (if ops.is_empty() { Vec::new() } else { vec![Change::RemoveRules(ops)] }, stale)
}
