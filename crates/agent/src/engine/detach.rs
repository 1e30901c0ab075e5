//! Detaching: absence is success, and what is slow is left to the reaper.

use std::net::IpAddr;
use std::time::Instant;

use weft_kernel::Change;
use weft_kernel::change::Stale;
use weft_kernel::nft::Op;
use weft_model::AttachmentId;
use weft_model::api::Detach;
use weft_store::Write;

use super::Engine;
use crate::reaper::Retired;
use crate::{chain, clock, fault};

const OPERATION: &str = "detach";

impl Engine {
    /// Takes an interface away: unreachable when this returns, its link gone within a second.
    /// Returns the equivalent commands if they were asked for. It cannot fail, and needs no storage that can
    /// be written (DESIGN.md, invariant 9).
    pub(crate) fn detach(&mut self, request: &Detach) -> Vec<String> {
        let id = &request.id;
        let Some(planned) = self.plan.workloads.get(id) else {
            // Its network may be gone from the plan while the record is left.
            if self.world.workloads.contains_key(id) {
                self.forget(id);
            }
            return Vec::new();
        };
        let wanted = weft_dataplane::render_workload(planned).state;
        let changes = weft_dataplane::steps(&weft_dataplane::empty_for_workload(), &wanted);
        if request.explain {
            return changes.iter().flat_map(Change::commands).collect();
        }
        let published = !planned.ports.is_empty();
        fault::point(OPERATION);
        // The record first: killed from here on, the next agent finds a wire that nobody wants.
        let now = clock::now();
        let freed = self.addresses.get_mut(&id.network).map(|a| a.free(id, now)).unwrap_or_default();
        let gone = self.remove(id);
        self.record_or_owe(vec![Write::RemoveWorkload { id: id.clone(), freed, at: now }]);
        fault::point(OPERATION);
        gone.iter().for_each(|gone| self.unserve_workload(gone));
        self.retire(changes);
        // Behind the wire, which is shut by now; at once, because its address may soon be another's.
        self.enforce(OPERATION);
        fault::point(OPERATION);
        if published && self.loopback.is_some() && self.plan.workloads.values().all(|w| w.ports.is_empty()) {
            self.unled_since = Some(Instant::now());
        }
        self.end_namespaces();
        Vec::new()
    }

    /// Makes the quick changes now and hands the slow ones to the reaper: a guard's elements harm nobody,
    /// for no other wire will ever bear that name.
    fn retire(&mut self, changes: Vec<Change>) {
        let (mut slow, mut quick) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::RemoveRules(ops) => {
                    // The next workload may want the port at once.
                    let (ports, guard): (Vec<_>, Vec<_>) = ops.into_iter().partition(is_of_ports);
                    quick.extend((!ports.is_empty()).then_some(Change::RemoveRules(ports)));
                    slow.push(Change::RemoveRules(guard));
                }
                Change::ForgetFlows(stale) => {
                    self.leaving.extend(stale.iter().filter_map(departed));
                    slow.push(Change::ForgetFlows(stale));
                }
                other => quick.push(other),
            }
        }
        for answer in self.apply(OPERATION, &quick) {
            if let Err(error) = answer {
                tracing::warn!(error = chain(&error), "failed to retire a wire");
                self.reaper.send(Retired::Resync).ok();
            }
        }
        self.reaper.send(Retired::Rules(slow)).ok();
    }

    /// Lets the reaper look for wires that were retired before this agent's time.
    pub(crate) fn reap_later(&self) {
        self.reaper.send(Retired::Rules(Vec::new())).ok();
    }

    /// Removes the record of an attachment whose namespace is gone, and what the kernel may still hold.
    pub(super) fn forget(&mut self, id: &AttachmentId) {
        tracing::info!(%id, "the namespace of an attachment is gone");
        let request = Detach { id: id.clone(), netns: None, expect: Vec::new(), explain: false };
        if self.plan.workloads.contains_key(id) {
            self.detach(&request);
            return;
        }
        let gone = self.remove(id);
        gone.iter().for_each(|gone| self.unserve_workload(gone));
        self.enforce(OPERATION);
        let (id, at) = (id.clone(), clock::now());
        self.record_or_owe(vec![Write::RemoveWorkload { id, freed: Vec::new(), at }]);
    }
}

fn is_of_ports(op: &Op) -> bool {
    matches!(op, Op::DeleteElements { set, .. } if weft_dataplane::nft::is_of_ports(set))
}

fn departed(stale: &Stale) -> Option<IpAddr> {
    if let Stale::Of(address) = stale { Some(*address) } else { None }
}
