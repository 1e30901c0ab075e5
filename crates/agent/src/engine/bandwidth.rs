//! Changing the limits of an attachment while it lives: nothing is reset, only queues change.

use weft_kernel::Change;
use weft_model::api::{Error, ErrorKind};
use weft_model::{AttachmentId, Bandwidth, Workload};
use weft_store::Write;

use super::Engine;
use crate::{chain, fault};

const OPERATION: &str = "bandwidth";

impl Engine {
    /// Sets the limits of an attachment; in force when this returns. Returns the equivalent commands if they
    /// were asked for.
    ///
    /// # Errors
    /// When there is no such attachment, or with everything as it was before.
    pub(crate) fn set_bandwidth(
        &mut self,
        id: &AttachmentId,
        bandwidth: Bandwidth,
        explain: bool,
    ) -> Result<Vec<String>, Error> {
        let Some(before) = self.world.workloads.get(id).cloned() else {
            return Err(Error::new(ErrorKind::NotFound, format!("{id} is not attached"))
                .hint("`weft status` shows what is; --network, --ifname and --name say which is meant"));
        };
        let mut after = before.clone();
        after.profile.bandwidth = bandwidth;
        let changes = self.between(&before, &after);
        if explain {
            return Ok(changes.iter().flat_map(Change::commands).collect());
        }
        fault::point(OPERATION);
        // Recorded first: killed from here on, the next agent finishes it.
        self.record(vec![Write::PutWorkload(Box::new(after.clone()))])?;
        self.insert(after.clone());
        let refused = self.apply(OPERATION, &changes).into_iter().find_map(Result::err);
        let Some(error) = refused else {
            self.reap_later();
            return Ok(Vec::new());
        };
        // Somebody may have changed a queue just now; a comparison with what is there settles it.
        if self.sync() {
            return Ok(Vec::new());
        }
        let back = self.between(&after, &before);
        self.insert(before.clone());
        if let Err(error) = self.record(vec![Write::PutWorkload(Box::new(before))]) {
            tracing::warn!(%error, "failed to record that limits stay as they were");
        }
        for answer in self.apply(OPERATION, &back) {
            if let Err(error) = answer {
                tracing::warn!(error = chain(&error), "failed to undo a change of limits");
            }
        }
        self.reap_later();
        Err(super::attach::lacking(&error).unwrap_or_else(|| Error::new(ErrorKind::Kernel, chain(&error))))
    }

    /// The changes from one record of a workload to another.
    fn between(&self, before: &Workload, after: &Workload) -> Vec<Change> {
        let Some(network) = self.plan.networks.get(&before.id.network) else { return Vec::new() };
        let render = |w: &Workload| weft_dataplane::render_workload(&weft_plan::attach::plan(w, network));
        weft_dataplane::steps(&render(after), &render(before).state)
    }
}
