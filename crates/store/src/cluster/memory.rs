//! A shared store in memory: the model for the laws, and many hosts in one process.
//!
//! Never lets time pass by itself: [`InMemory::pass`] does. It fails when it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{
    ClusterError, ClusterStore, Condition, Entry, Fact, Lease, Op, Outcome, Revision, Snapshot, Transaction,
    Watch,
};

/// A handle; clones share one store.
#[derive(Clone, Debug, Default)]
pub struct InMemory {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, (Entry, Option<Lease>)>,
    revision: u64,
    /// Changes since `compacted`, in order.
    facts: Vec<Fact>,
    compacted: u64,
    leases: BTreeMap<Lease, (Duration, Duration)>,
    next_lease: i64,
    now: Duration,
    away: bool,
}

impl InMemory {
    /// Lets time pass; leases that were not renewed end.
    pub fn pass(&self, time: Duration) {
        let mut state = self.state();
        state.now += time;
        let now = state.now;
        let over: Vec<Lease> =
            state.leases.iter().filter(|(_, (_, until))| *until <= now).map(|(lease, _)| *lease).collect();
        over.into_iter().for_each(|lease| state.end(lease));
        self.shared.changed.notify_all();
    }

    /// Forgets the history up to now, as etcd's compaction does.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.revision;
        state.facts.clear();
        self.shared.changed.notify_all();
    }

    /// Stops or goes on answering.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
        self.shared.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn there(&self) -> Result<MutexGuard<'_, State>, ClusterError> {
        let state = self.state();
        if state.away { Err(away()) } else { Ok(state) }
    }
}

fn away() -> ClusterError {
    ClusterError::Away { endpoints: "in memory".to_owned(), why: "it was told not to answer".to_owned() }
}

impl State {
    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Absent(key) => !self.entries.contains_key(key),
            Condition::Unchanged(key, revision) => {
                self.entries.get(key).is_some_and(|(entry, _)| entry.revision == *revision)
            }
        }
    }

    fn put(&mut self, key: String, value: Vec<u8>, lease: Option<Lease>, revision: Revision) {
        self.entries.insert(key.clone(), (Entry { value: value.clone(), revision }, lease));
        self.facts.push(Fact { key, value: Some(value), revision });
    }

    fn delete(&mut self, key: &str, revision: Revision) -> bool {
        let was = self.entries.remove(key).is_some();
        if was {
            self.facts.push(Fact { key: key.to_owned(), value: None, revision });
        }
        was
    }

    fn end(&mut self, lease: Lease) {
        self.leases.remove(&lease);
        let bound =
            |(key, (_, of)): (&String, &(Entry, Option<Lease>))| (*of == Some(lease)).then(|| key.clone());
        let keys: Vec<String> = self.entries.iter().filter_map(bound).collect();
        if keys.is_empty() {
            return;
        }
        self.revision += 1;
        for key in keys {
            self.delete(&key, Revision(self.revision));
        }
    }
}

impl ClusterStore for InMemory {
    fn snapshot(&self) -> Result<Snapshot, ClusterError> {
        let state = self.there()?;
        let entries = state.entries.iter().map(|(key, (entry, _))| (key.clone(), entry.clone())).collect();
        Ok(Snapshot { entries, revision: Revision(state.revision), history: 1 })
    }

    fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, ClusterError> {
        let state = self.there()?;
        if after.0 < state.compacted {
            return Err(ClusterError::Compacted(state.compacted));
        }
        Ok(Box::new(Following { store: self.clone(), seen: after.0 }))
    }

    fn commit(&self, transaction: &Transaction) -> Result<Outcome, ClusterError> {
        let mut state = self.there()?;
        if !transaction.conditions.iter().all(|c| state.holds(c)) {
            return Ok(Outcome::Conflict);
        }
        let bound = transaction.changes.iter().filter_map(|op| match op {
            Op::Put { lease, .. } => *lease,
            Op::Delete(_) | Op::DeleteBelow(_) => None,
        });
        if bound.into_iter().any(|lease| !state.leases.contains_key(&lease)) {
            return Err(ClusterError::LeaseEnded);
        }
        let revision = Revision(state.revision + 1);
        let mut changed = false;
        for op in &transaction.changes {
            match op.clone() {
                Op::Put { key, value, lease } => {
                    state.put(key, value, lease, revision);
                    changed = true;
                }
                Op::Delete(key) => changed |= state.delete(&key, revision),
                Op::DeleteBelow(prefix) => {
                    let keys: Vec<String> =
                        state.entries.keys().filter(|k| k.starts_with(&prefix)).cloned().collect();
                    changed |= !keys.is_empty();
                    for key in keys {
                        state.delete(&key, revision);
                    }
                }
            }
        }
        if changed {
            state.revision = revision.0;
        }
        let now = Revision(state.revision);
        drop(state);
        self.shared.changed.notify_all();
        Ok(Outcome::Done(now))
    }

    fn grant(&self, length: Duration) -> Result<Lease, ClusterError> {
        let mut state = self.there()?;
        state.next_lease += 1;
        let (lease, until) = (Lease(state.next_lease), state.now + length);
        state.leases.insert(lease, (length, until));
        Ok(lease)
    }

    fn renew(&self, lease: Lease) -> Result<(), ClusterError> {
        let mut state = self.there()?;
        let now = state.now;
        let (length, until) = state.leases.get_mut(&lease).ok_or(ClusterError::LeaseEnded)?;
        *until = now + *length;
        Ok(())
    }

    fn revoke(&self, lease: Lease) -> Result<(), ClusterError> {
        self.there()?.end(lease);
        self.shared.changed.notify_all();
        Ok(())
    }
}

struct Following {
    store: InMemory,
    seen: u64,
}

impl Watch for Following {
    fn next(&mut self, patience: Duration) -> Result<Vec<Fact>, ClusterError> {
        let until = Instant::now() + patience;
        let mut state = self.store.there()?;
        loop {
            if state.away {
                return Err(away());
            }
            if self.seen < state.compacted {
                return Err(ClusterError::Compacted(state.compacted));
            }
            let from = state.facts.partition_point(|f| f.revision.0 <= self.seen);
            let facts: Vec<Fact> = state.facts[from..].to_vec();
            let left = until.saturating_duration_since(Instant::now());
            if !facts.is_empty() || left.is_zero() {
                self.seen = state.revision;
                return Ok(facts);
            }
            let waited = self.store.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
