//! Detaching: absence is success, and what is slow is left to the reaper.

use weft_kernel::Change;
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
        fault::point(OPERATION);
        // The record first: killed from here on, the next agent finds a wire that nobody wants.
        let now = clock::now();
        let freed = self.addresses.get_mut(&id.network).map(|a| a.free(id, now)).unwrap_or_default();
        self.remove(id);
        self.record_removal(Write::RemoveWorkload { id: id.clone(), freed, at: now });
        fault::point(OPERATION);
        self.retire(changes);
        fault::point(OPERATION);
        self.end_namespaces();
        Vec::new()
    }

    /// Makes the quick changes now and hands the slow ones to the reaper: a guard's elements harm nobody,
    /// for no other wire will ever bear that name.
    fn retire(&mut self, changes: Vec<Change>) {
        let (slow, quick): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|c| matches!(c, Change::RemoveRules(..)));
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
        self.remove(id);
        self.record_removal(Write::RemoveWorkload { id: id.clone(), freed: Vec::new(), at: clock::now() });
    }
}
