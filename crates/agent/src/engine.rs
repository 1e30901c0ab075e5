//! The one place where world, store and kernel meet. Callers hold its lock for one operation at a time:
//! the kernel serialises changes to links anyway (RTNL).

mod attach;
mod bandwidth;
mod check;
mod cluster;
mod collect;
mod detach;
mod events;
mod network;
mod object;
mod peers;
mod recover;
mod report;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::Sender;
use std::time::Instant;

use weft_kernel::nft::{Item, Key, TableName, Value};
use weft_kernel::{Change, ChangeError, Kernel as _, Linux};
use weft_model::api::{Error, ErrorKind};
use weft_model::{AttachmentId, Cluster, Here, IfName, NetworkName, NodeName, Workload, World};
use weft_plan::Plan;
use weft_plan::address::Addresses;
use weft_store::{Embedded, Store, Write};

use crate::fault;
use crate::probe::Sample;
use crate::reaper::Retired;

pub use recover::StartError;

/// World, plan, store and kernel of one host.
pub(crate) struct Engine {
    here: Here,
    world: World,
    /// What the world makes of this host; follows every change of the world.
    plan: Plan,
    addresses: BTreeMap<NetworkName, Addresses>,
    /// Which attachment a host end belongs to.
    host_ends: BTreeMap<IfName, AttachmentId>,
    /// Finished attachments whose record still says pending: written along with the next change.
    unwritten: BTreeSet<AttachmentId>,
    /// Removals that could not be recorded when they were made: written before anything else is.
    owed: Vec<Write>,
    store: Embedded,
    kernel: Linux,
    reaper: Sender<Retired>,
    /// Where plugins leave word.
    journal: std::path::PathBuf,
    started: Instant,
    /// What is wrong, for `weft status`.
    health: Vec<String>,
    /// Who of the other hosts claims what; follows the plan.
    claims: weft_plan::peer::Claims,
    /// What is known of other hosts by asking them.
    heard: BTreeMap<NodeName, Sample>,
    /// What of the cluster's records cannot be used, for the same.
    strange: Vec<String>,
    /// Where the cluster as it was last heard of is kept until the next reboot.
    cluster_record: std::path::PathBuf,
    /// What is to be written there.
    unwritten_cluster: Option<Cluster>,
}

impl Engine {
    /// Makes changes; with a fault point armed, one by one with a point before each.
    fn apply(&mut self, operation: &str, changes: &[Change]) -> Vec<Result<(), ChangeError>> {
        if !fault::watched(operation) {
            return self.kernel.apply(changes);
        }
        let one = |change: &Change| {
            fault::point(operation);
            self.kernel.apply(std::slice::from_ref(change)).pop().unwrap_or(Ok(()))
        };
        changes.iter().map(one).collect()
    }

    /// Records changes of the world, and along with them which attachments were finished since.
    fn record(&mut self, writes: Vec<Write>) -> Result<(), Error> {
        let finished = std::mem::take(&mut self.unwritten);
        let finished_workloads = finished.iter().filter_map(|id| self.world.workloads.get(id));
        let owed = std::mem::take(&mut self.owed);
        let mut all = owed.clone();
        all.extend(writes);
        all.extend(finished_workloads.map(|w| Write::PutWorkload(Box::new(w.clone()))));
        let result = self.store.commit(&all);
        if result.is_err() {
            self.unwritten.extend(finished);
            self.owed = owed;
        }
        result.map_err(|e| storage(&e))
    }

    /// Records that an attachment is no more. Where that is not possible it is owed: whatever is gone from
    /// the kernel must not come back because a disk is full, and no record that is written later can
    /// overtake it.
    fn record_removal(&mut self, removal: Write) {
        if let Err(error) = self.record(vec![removal.clone()]) {
            tracing::warn!(%error, "failed to record a removal; it is done and will be recorded later");
            self.owed.push(removal);
        }
    }

    /// Whether removals wait for storage that can be written.
    pub(crate) fn is_owing(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Writes down what was finished or is owed, if anything is left to write.
    pub(crate) fn settle(&mut self) {
        if !(self.unwritten.is_empty() && self.owed.is_empty())
            && let Err(error) = self.record(Vec::new())
        {
            tracing::warn!(%error, "failed to record what was done before");
        }
    }

    fn insert(&mut self, workload: Workload) {
        if let Some(network) = self.plan.networks.get(&workload.id.network) {
            let planned = weft_plan::attach::plan(&workload, network);
            self.plan.workloads.insert(workload.id.clone(), planned);
        }
        self.host_ends.insert(workload.host_end.clone(), workload.id.clone());
        self.world.workloads.insert(workload.id.clone(), workload);
    }

    fn remove(&mut self, id: &AttachmentId) -> Option<Workload> {
        let workload = self.world.workloads.remove(id)?;
        self.plan.workloads.remove(id);
        self.host_ends.remove(&workload.host_end);
        self.unwritten.remove(id);
        Some(workload)
    }

    /// Whether the guard of a wire of now has this element.
    pub(crate) fn wants_element(&self, table: &TableName, set: &str, key: &Key) -> bool {
        let Some(Item::One(Value::IfName(name))) = key.0.first() else { return false };
        let wire = name.as_str().parse().ok().and_then(|name: IfName| self.host_ends.get(&name));
        let Some(workload) = wire.and_then(|id| self.plan.workloads.get(id)) else { return false };
        let tables = weft_dataplane::render_workload(workload).state.tables;
        tables.get(table).and_then(|t| t.sets.get(set)).is_some_and(|s| s.elements.contains_key(key))
    }

    /// Computes the plan anew, after a change of more than one workload.
    fn replan(&mut self) {
        self.plan = weft_plan::plan(&self.world, &self.here);
        self.claims = weft_plan::peer::Claims::of(self.plan.peers.values());
    }

    fn addresses(&mut self, network: &NetworkName) -> Result<&mut Addresses, Error> {
        self.addresses.get_mut(network).ok_or_else(|| no_network(network))
    }

    /// The port numbers of this engine's sockets, by which events of its own making are told.
    #[must_use]
    pub(crate) fn ports(&self) -> [u32; 2] {
        self.kernel.ports()
    }
}

/// 64 bits that nobody can foresee: the standard library keys its hashers from the system's random source.
fn random() -> u64 {
    RandomState::new().hash_one(std::thread::current().id())
}

fn no_network(name: &NetworkName) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no network '{name}'"))
        .hint(format!("`weft network ls` shows those there are, `weft network create {name}` makes it"))
}

fn storage(error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Storage, crate::chain(error))
        .hint("free space below the agent's state_dir and run_dir, or make them writable, and try again")
}
