//! What others need to know of this host's workloads.
//!
//! Never asks what changed: what is published is compared with what is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_model::{Remote, RemoteName};
use weft_store::cluster::{ClusterError, Fact, Key, Op, Summary, TRANSACTION_LIMIT};

use super::member::{Host, Member, json};

/// A change of a workload of another host; `None` if it is gone.
pub(crate) type Elsewhere = (RemoteName, Option<Remote>);

impl Member {
    /// Which workloads of other hosts these news concern, and what they are now.
    pub(super) fn elsewhere(&self, news: &[Fact]) -> Vec<Elsewhere> {
        let workloads = &self.mirror.view().workloads;
        let of = |fact: &Fact| match Key::parse(&fact.key) {
            Some(Key::Workload(node, id)) if node != self.name => {
                let now = workloads.get(&node).and_then(|of_node| of_node.get(&id)).map(remote);
                Some((RemoteName { node, id }, now))
            }
            _ => None,
        };
        news.iter().filter_map(of).collect()
    }

    /// All workloads of other hosts.
    pub(super) fn all_elsewhere(&self) -> BTreeMap<RemoteName, Remote> {
        let others = self.mirror.view().workloads.iter().filter(|(node, _)| **node != self.name);
        let named = others.flat_map(|(node, all)| {
            all.iter()
                .map(|(id, summary)| (RemoteName { node: node.clone(), id: id.clone() }, remote(summary)))
        });
        named.collect()
    }

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

/// As policies see it: without a namespace of its own, in its pod's, or in `default`.
fn remote(summary: &Summary) -> Remote {
    let of_pod = || summary.pod.as_ref().and_then(|pod| pod.namespace.parse().ok());
    let usual = || "default".parse().expect("default is a valid name");
    Remote {
        namespace: summary.namespace.clone().or_else(of_pod).unwrap_or_else(usual),
        labels: Arc::new(summary.labels.clone()),
        ports: summary.named_ports.clone(),
        addresses: summary.addresses.clone(),
    }
}
