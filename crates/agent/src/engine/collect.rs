//! Garbage collection (CNI SPEC.md 1.1.0, "GC").

use weft_model::AttachmentId;
use weft_model::api::{Collect, Detach};

use super::Engine;

impl Engine {
    /// Removes the attachments of a network that are not listed. Without a list, only those whose
    /// namespace is gone: "delete everything" is nothing to do by omission.
    pub(crate) fn collect(&mut self, request: &Collect) -> Vec<AttachmentId> {
        let of_network = self
            .world
            .workloads
            .values()
            .filter(|w| w.id.network == request.network && w.owner == request.owner);
        let doomed: Vec<AttachmentId> = match &request.keep {
            Some(keep) => of_network
                .filter(|w| !keep.iter().any(|(c, i)| *c == w.id.container && *i == w.id.ifname))
                .map(|w| w.id.clone())
                .collect(),
            None => of_network.filter(|w| super::sync::is_dead(w)).map(|w| w.id.clone()).collect(),
        };
        for id in &doomed {
            self.detach(&Detach { id: id.clone(), netns: None, expect: Vec::new(), explain: false });
        }
        doomed
    }
}
