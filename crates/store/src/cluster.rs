//! The store that many hosts share: who they are, which networks there are, whose each block of addresses is.
//!
//! Never holds what is one host's alone: attachments, resting addresses and settings stay in [`Embedded`](crate::Embedded),
//! so that attaching waits for no network.
//!
//! ```text
//!   ClusterStore     snapshot + revision, watch from a revision, compare-and-swap, lease
//!     ├─ Etcd        etcd 3.4 and later
//!     └─ InMemory    for tests: several handles on one store, time that is set by hand
//!   Mirror           snapshot and changes, in whatever order they come → View
//!   View             what the keys say; those that make no sense are listed, not believed
//! ```

pub mod authority;
mod error;
pub mod etcd;
pub mod key;
pub mod laws;
mod memory;
mod mirror;
mod record;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use error::ClusterError;
pub use etcd::{Credentials, Etcd};
pub use key::Key;
pub use memory::InMemory;
pub use mirror::{Mirror, OutOfDate};
pub use record::{Alive, BlockRecord, Incarnation, NetworkHistory, NetworkRecord, Summary};
pub use view::View;

/// A point in the store's history: each commit has one, later ones are larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A promise of the server's to keep some keys as long as it is renewed. Its clock is the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease(pub i64);

/// A value and the revision that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Vec<u8>,
    /// The commit that put them there.
    pub revision: Revision,
}

/// Everything that is kept, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Entries by key, without the store's prefix.
    pub entries: BTreeMap<String, Entry>,
    /// The revision.
    pub revision: Revision,
    /// Which history the revision belongs to: a store that was restored from a backup begins another.
    pub history: u64,
}

/// A change that has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The key, without the store's prefix.
    pub key: String,
    /// Its value from then on; `None` if it was deleted.
    pub value: Option<Vec<u8>>,
    /// The commit that it was part of.
    pub revision: Revision,
}

/// What has to hold for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no such key.
    Absent(String),
    /// The key was last put by this commit.
    Unchanged(String, Revision),
}

/// A change that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Put a value, bound to a lease or to none.
    Put {
        /// The key, without the store's prefix.
        key: String,
        /// The value.
        value: Vec<u8>,
        /// What it depends on.
        lease: Option<Lease>,
    },
    /// Delete a key. Absence is success.
    Delete(String),
    /// Delete all keys that begin so.
    DeleteBelow(String),
}

impl Op {
    /// Puts a value that depends on no lease.
    #[must_use]
    pub fn put(key: &Key, value: Vec<u8>) -> Op {
        Op::Put { key: key.to_string(), value, lease: None }
    }
}

/// Changes that are made together, if all conditions hold. No key may be changed twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What has to hold.
    pub conditions: Vec<Condition>,
    /// What is changed then.
    pub changes: Vec<Op>,
}

/// More conditions and changes in one [`Transaction`] are refused by etcd (`--max-txn-ops`, 128 by default).
pub const TRANSACTION_LIMIT: usize = 100;

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The changes are made, with this revision.
    Done(Revision),
    /// A condition does not hold; nothing is changed.
    Conflict,
}

/// What weft needs of a store that hosts share. Any implementation has to pass [`laws::cluster_laws`].
///
/// Every call ends within [`PATIENCE`], whatever the network and the servers do.
pub trait ClusterStore: Send + Sync {
    /// Everything that is kept. Never older than any commit that was answered before the call.
    ///
    /// # Errors
    /// [`ClusterError`].
    fn snapshot(&self) -> Result<Snapshot, ClusterError>;

    /// Follows the changes after `revision`.
    ///
    /// # Errors
    /// [`ClusterError::Compacted`] if the store does not remember that far back: take a snapshot.
    fn watch(&self, after: Revision) -> Result<Box<dyn Watch>, ClusterError>;

    /// Makes changes if the conditions hold.
    ///
    /// # Errors
    /// [`ClusterError`]; after [`ClusterError::Away`] the changes may have been made or not, or may be
    /// made yet: only conditions on what is read later tell.
    fn commit(&self, transaction: &Transaction) -> Result<Outcome, ClusterError>;

    /// Begins a lease of that length.
    ///
    /// # Errors
    /// [`ClusterError`].
    fn grant(&self, length: Duration) -> Result<Lease, ClusterError>;

    /// Renews a lease to its full length.
    ///
    /// # Errors
    /// [`ClusterError::LeaseEnded`] if it is over.
    fn renew(&self, lease: Lease) -> Result<(), ClusterError>;

    /// Ends a lease; its keys vanish.
    ///
    /// # Errors
    /// [`ClusterError`]; that it is over already is none.
    fn revoke(&self, lease: Lease) -> Result<(), ClusterError>;
}

/// A stream of changes.
pub trait Watch: Send {
    /// The next changes; empty if there were none within `patience`. They may come twice after the
    /// connection was lost; per key they come in order.
    ///
    /// # Errors
    /// [`ClusterError`]: the stream is over. Watch again from the last revision seen.
    fn next(&mut self, patience: Duration) -> Result<Vec<Fact>, ClusterError>;
}

/// No call takes longer.
pub const PATIENCE: Duration = Duration::from_secs(10);
