//! A host's part in the shared store: it says who it is, stays alive, holds the blocks that it needs and
//! publishes its workloads. All of it compares what should be there with what is, so that it does not matter
//! what was done before.
//!
//! Never waits: each call makes what can be made now. Every commit depends on the host's own sign of life,
//! so that nothing comes into force late that an earlier life of the host, or another host of its name, sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use weft_model::api::Error;
use weft_model::{AttachmentId, Cluster, Network, NetworkName, Node, NodeName};
use weft_store::cluster::{
    Alive, ClusterError, ClusterStore, Condition, Fact, Incarnation, Key, Lease, Mirror, Op, Outcome,
    Revision, Summary, Transaction,
};

use super::claims::Need;

/// How often the host's own record is compared with the host, in seconds.
const LOOK: u64 = 2;

/// What a host does for its part in the store: an engine, or a test's.
pub(crate) trait Host {
    /// What it is, for the others; without blocks.
    fn node(&mut self) -> Node;
    /// The hosts that it knows of, from before.
    fn known(&mut self) -> BTreeSet<NodeName>;
    /// What its networks need of blocks, at second `now`.
    fn needs(&mut self, now: u64) -> Vec<Need>;
    /// Takes over what all share. `unreadable` is there and makes no sense: of it the host keeps what it had.
    fn adopt(&mut self, cluster: Cluster, unreadable: &Unreadable);
    /// Gives no address from a block any more, also not after a crash. Returns whether that is sure.
    fn leave(&mut self, network: &NetworkName, block: IpNet) -> bool;
    /// Its workloads.
    fn summaries(&mut self) -> BTreeMap<AttachmentId, Summary>;
    /// The networks it brings along into a cluster that has none.
    fn founding_networks(&mut self) -> Vec<Network>;
    /// Holds nothing of the cluster any more, also not after a crash.
    fn stand_alone(&mut self) -> Result<(), Error>;
}

/// Records that are there and make no sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) nodes: BTreeSet<NodeName>,
    pub(crate) networks: BTreeSet<NetworkName>,
}

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// A host that says nothing for so long counts as gone.
    pub(crate) lease: Duration,
    /// A block without workloads is given back after so long, in seconds.
    pub(crate) idle: u64,
    /// A block that was given back is nobody's for so long.
    pub(crate) quarantine: Duration,
}

impl Default for Times {
    fn default() -> Times {
        Times { lease: Duration::from_secs(15), idle: 300, quarantine: Duration::from_secs(60) }
    }
}

/// A host's part in the store.
pub(crate) struct Member {
    pub(super) store: Arc<dyn ClusterStore>,
    pub(crate) mirror: Mirror,
    pub(super) name: NodeName,
    incarnation: Incarnation,
    pub(super) times: Times,
    pub(super) lease: Option<(Lease, u64)>,
    /// The commit of the present sign of life.
    pub(super) fence: Option<Revision>,
    looked: Option<u64>,
    /// Hosts that ran before the store was heard again, and until when they are believed to, in seconds: they
    /// may come back to it a moment later than this one did.
    before: (BTreeSet<NodeName>, u64),
    /// Blocks that are given up here and may still bear this host's name there, with the commit that gave it.
    pub(super) leaving: BTreeMap<(NetworkName, IpNet), Revision>,
    /// Since when a block could be given back, in seconds.
    pub(super) idle: BTreeMap<(NetworkName, IpNet), u64>,
    /// How many free blocks to leave to others that race.
    pub(super) skip: u64,
    /// What cannot be done, for people.
    pub(super) problems: Vec<String>,
    /// The network whose blocks are exhausted, with why.
    pub(super) exhausted: BTreeMap<NetworkName, weft_plan::address::block::BlockError>,
}

impl Member {
    pub(crate) fn new(
        store: Arc<dyn ClusterStore>,
        name: NodeName,
        incarnation: Incarnation,
        times: Times,
    ) -> Member {
        Member {
            store,
            mirror: Mirror::default(),
            name,
            incarnation,
            times,
            lease: None,
            fence: None,
            looked: None,
            before: (BTreeSet::new(), 0),
            leaving: BTreeMap::new(),
            idle: BTreeMap::new(),
            skip: 0,
            problems: Vec::new(),
            exhausted: BTreeMap::new(),
        }
    }

    /// Begins with a fresh snapshot at second `now`.
    pub(crate) fn begin(&mut self, host: &mut impl Host, now: u64) {
        self.before = (host.known(), now + self.times.lease.as_secs());
        self.tell(host);
    }

    /// What cannot be done, for people.
    pub(crate) fn problems(&self) -> Vec<String> {
        let unreadable = &self.mirror.view().unreadable;
        let named = unreadable
            .iter()
            .map(|(key, why)| format!("the store's key '{key}' makes no sense and is passed over: {why}"));
        self.problems.iter().cloned().chain(named).collect()
    }

    /// Makes what can be made now. `now` is in seconds of a clock that never goes back.
    pub(crate) fn step(&mut self, host: &mut impl Host, now: u64) -> Result<(), ClusterError> {
        self.problems.clear();
        if now >= self.before.1 && !self.before.0.is_empty() {
            self.before.0.clear();
            self.tell(host);
        }
        if !self.is_alive(host, now)? {
            return Ok(());
        }
        self.found_networks(host)?;
        // What was claimed shows what is needed next.
        for _ in 0..8 {
            if !self.claim(host, now)? {
                break;
            }
            self.tell(host);
        }
        self.publish(host)
    }

    /// Tells the host what all share.
    pub(crate) fn tell(&self, host: &mut impl Host) {
        let unreadable = self.unreadable();
        let cluster = self.cluster(host);
        host.adopt(cluster, &unreadable);
    }

    /// What all share, as far as it makes sense.
    fn cluster(&self, host: &mut impl Host) -> Cluster {
        let view = self.mirror.view();
        let mut nodes = view.nodes_with_blocks();
        for name in &self.before.0 {
            if let Some(node) = view.nodes.get(name).filter(|_| !nodes.contains_key(name)) {
                nodes.insert(name.clone(), Node { blocks: view.blocks_of(name), ..node.clone() });
            }
        }
        // This host runs, whatever the store thinks of its lease.
        let known = view.nodes.get(&self.name).filter(|n| n.incarnation == self.incarnation.0);
        let mut own = known.cloned().unwrap_or_else(|| self.record(host));
        // What another host of this name holds is not this host's.
        if self.other().is_none() {
            own.blocks = view.blocks_of(&self.name);
            for (network, blocks) in &mut own.blocks {
                blocks.retain(|block| !self.is_left(network, block));
            }
        }
        nodes.insert(self.name.clone(), own);
        let networks = view.networks.iter().map(|(name, record)| (name.clone(), record.network.clone()));
        Cluster { nodes, networks: networks.collect() }
    }

    /// Whether a block is given up here, and nobody has given it to this host again since.
    pub(super) fn is_left(&self, network: &NetworkName, block: &IpNet) -> bool {
        let key = Key::Block(network.clone(), *block).to_string();
        let left = self.leaving.get(&(network.clone(), *block));
        left.is_some_and(|revision| self.mirror.revision_of(&key) == Some(*revision))
    }

    fn unreadable(&self) -> Unreadable {
        let mut unreadable = Unreadable::default();
        for key in self.mirror.view().unreadable.keys() {
            match Key::parse(key) {
                Some(Key::Node(name) | Key::Alive(name)) => drop(unreadable.nodes.insert(name)),
                Some(Key::Network(name)) => drop(unreadable.networks.insert(name)),
                _ => {}
            }
        }
        unreadable
    }

    /// Commits, if this host is still who it was. `None` if not, or if a condition does not hold.
    pub(super) fn commit(
        &mut self,
        mut conditions: Vec<Condition>,
        changes: Vec<Op>,
    ) -> Result<Option<Revision>, ClusterError> {
        let Some(fence) = self.fence else { return Ok(None) };
        conditions.push(Condition::Unchanged(Key::Alive(self.name.clone()).to_string(), fence));
        self.commit_freely(Transaction { conditions, changes })
    }

    /// Commits, and knows of it before the store tells.
    pub(super) fn commit_freely(
        &mut self,
        transaction: Transaction,
    ) -> Result<Option<Revision>, ClusterError> {
        match self.store.commit(&transaction)? {
            Outcome::Conflict => Ok(None),
            Outcome::Done(revision) => {
                let fact = |op: Op| match op {
                    Op::Put { key, value, .. } => Some(Fact { key, value: Some(value), revision }),
                    Op::Delete(key) => Some(Fact { key, value: None, revision }),
                    // Rare, and told soon.
                    Op::DeleteBelow(_) => None,
                };
                self.mirror.note(transaction.changes.into_iter().filter_map(fact).collect());
                Ok(Some(revision))
            }
        }
    }

    /// Sees to this host's sign of life and its record. Returns whether it may act under its name.
    fn is_alive(&mut self, host: &mut impl Host, now: u64) -> Result<bool, ClusterError> {
        let key = Key::Alive(self.name.clone()).to_string();
        if self.fence.is_some() && self.mirror.revision_of(&key) != self.fence {
            // The lease is over, or somebody removed the host.
            (self.fence, self.lease) = (None, None);
        }
        if let Some((lease, renewed)) = self.lease
            && now.saturating_sub(renewed) >= self.times.lease.as_secs() / 3
        {
            match self.store.renew(lease) {
                Ok(()) => self.lease = Some((lease, now)),
                Err(ClusterError::LeaseEnded) => (self.fence, self.lease) = (None, None),
                Err(error) => return Err(error),
            }
        }
        if self.fence.is_none() && !self.register(host, now)? {
            return Ok(false);
        }
        if self.looked.is_none_or(|at| now.saturating_sub(at) >= LOOK) {
            self.looked = Some(now);
            self.describe(host)?;
        }
        Ok(true)
    }

    /// Another host that runs under this one's name, or this host before it booted.
    fn other(&self) -> Option<&Alive> {
        self.mirror.view().alive.get(&self.name).filter(|other| other.incarnation != self.incarnation)
    }

    fn register(&mut self, host: &mut impl Host, now: u64) -> Result<bool, ClusterError> {
        let (name, view) = (&self.name, self.mirror.view());
        if self.other().is_some() {
            let at = view.nodes.get(name).map(addresses).unwrap_or_default();
            let seconds = self.times.lease.as_secs();
            self.problems.push(format!(
                "another host{at} runs under the name '{name}': this one does not take part. Give one of them \
                 another name (`node` in the configuration); if it was this host before a reboot, wait {seconds} s"
            ));
            return Ok(false);
        }
        let key = Key::Alive(name.clone()).to_string();
        let condition = match self.mirror.revision_of(&key) {
            None => Condition::Absent(key.clone()),
            Some(revision) => Condition::Unchanged(key.clone(), revision),
        };
        let alive = Alive { incarnation: self.incarnation, version: env!("CARGO_PKG_VERSION").to_owned() };
        let lease = self.store.grant(self.times.lease)?;
        let sign = Op::Put { key, value: json(&alive), lease: Some(lease) };
        let node = Op::put(&Key::Node(self.name.clone()), json(&self.record(host)));
        let transaction = Transaction { conditions: vec![condition], changes: vec![sign, node] };
        let Some(revision) = self.commit_freely(transaction)? else {
            // Whoever was faster is told soon.
            self.store.revoke(lease)?;
            return Ok(false);
        };
        tracing::info!(node = %self.name, revision = revision.0, "registered in the store");
        (self.fence, self.lease) = (Some(revision), Some((lease, now)));
        Ok(true)
    }

    /// Keeps the record of this host what it is.
    fn describe(&mut self, host: &mut impl Host) -> Result<(), ClusterError> {
        let record = self.record(host);
        if self.mirror.view().nodes.get(&self.name) == Some(&record) {
            return Ok(());
        }
        let put = Op::put(&Key::Node(self.name.clone()), json(&record));
        if self.commit(Vec::new(), vec![put])?.is_some() {
            self.tell(host);
        }
        Ok(())
    }

    fn record(&self, host: &mut impl Host) -> Node {
        Node { incarnation: self.incarnation.0, blocks: BTreeMap::new(), ..host.node() }
    }
}

fn addresses(node: &Node) -> String {
    let all: Vec<String> = node.addresses.iter().map(|a| a.addr().to_string()).collect();
    if all.is_empty() { String::new() } else { format!(" ({})", all.join(", ")) }
}

/// A record as bytes.
pub(super) fn json(record: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are plain data with text keys")
}
