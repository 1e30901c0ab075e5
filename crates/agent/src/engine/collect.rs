//! Garbage collection (CNI SPEC.md 1.1.0, "GC").

use weft_model::AttachmentId;
use weft_model::api::{Collect, Detach, Error};

use super::Engine;

impl Engine {
    /// Removes the attachments of a network that are not listed. Without a list, only those whose
    /// namespace is gone: "delete everything" is nothing to do by omission.
    ///
    /// # Errors
    /// The first of a removal; the others are tried all the same.
    pub(crate) fn collect(&mut self, request: &Collect) -> Result<Vec<AttachmentId>, Error> {
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
        let mut result = Ok(());
        let mut removed = Vec::new();
        for id in doomed {
            let request = Detach { id: id.clone(), netns: None, expect: Vec::new(), explain: false };
            match self.detach(&request) {
                Ok(_) => removed.push(id),
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.map(|()| removed)
    }
}
