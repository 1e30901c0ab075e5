//! What others need to know of this host's workloads.
//!
//! Never asks what changed: what is published is compared with what is there.

use weft_store::cluster::{ClusterError, Key, Op, TRANSACTION_LIMIT};

use super::member::{Host, Member, json};

impl Member {
    pub(super) fn publish(&mut self, host: &mut impl Host) -> Result<(), ClusterError> {
        let wanted = host.summaries();
        let view = self.mirror.view();
        let there = view.workloads.get(&self.name).cloned().unwrap_or_default();
        let key = |id: &weft_model::AttachmentId| Key::Workload(self.name.clone(), id.clone());
        let puts = wanted
            .iter()
            .filter(|(id, summary)| there.get(*id) != Some(summary))
            .map(|(id, summary)| Op::put(&key(id), json(summary)));
        let gone = there.keys().filter(|id| !wanted.contains_key(*id));
        let gone = gone.map(|id| Op::Delete(key(id).to_string()));
        // Records of this host's that make no sense are nobody else's to remove.
        let prefix = Key::workloads_of(&self.name);
        let strange = view.unreadable.keys().filter(|k| k.starts_with(&prefix));
        let strange = strange
            .filter(|k| !wanted.keys().any(|id| key(id).to_string() == **k))
            .map(|k| Op::Delete(k.clone()));
        let changes: Vec<Op> = puts.chain(gone).chain(strange).collect();
        for some in changes.chunks(TRANSACTION_LIMIT - 1) {
            if self.commit(Vec::new(), some.to_vec())?.is_none() {
                break;
            }
        }
        Ok(())
    }
}
