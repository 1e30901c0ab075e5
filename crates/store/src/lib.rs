//! Where the world comes from, and where changes to it are kept across crashes.
//!
//! Never decides anything about networks or workloads: it keeps what it is told and gives it back.
//!
//! ```text
//!   Store            what the agent needs of any store: load everything, commit a batch
//!     ├─ Embedded    two files of this host: declared.redb (durable), attachments.redb (this boot)
//!     └─ Memory      for tests, and the model that the laws compare the others with
//!   cluster          what many hosts share, in etcd: hosts, networks, blocks of addresses
//! ```

pub mod cluster;
mod embedded;
mod error;
mod memory;
mod write;

pub mod laws;

pub use embedded::{Condition, Embedded, Opened, Paths};
pub use error::StoreError;
pub use memory::Memory;
pub use write::{Loaded, Unreadable, Write};

use std::net::IpAddr;

use weft_model::{AttachmentId, Network, NetworkName, Workload};

/// What the agent needs of a store. Any implementation has to pass [`laws::store_laws`].
pub trait Store {
    /// Everything that is kept.
    ///
    /// # Errors
    /// The store cannot be read. A single record that makes no sense is no error; see [`Loaded::unreadable`].
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Makes these changes in this order, all or none, and returns when they survive a crash.
    /// Removing what is absent is success; putting what is there replaces it.
    ///
    /// # Errors
    /// The store cannot be written; the changes are not made.
    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError>;

    /// Commits one network.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn put_network(&mut self, network: &Network) -> Result<(), StoreError> {
        self.commit(&[Write::PutNetwork(network.clone())])
    }

    /// Removes one network.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn remove_network(&mut self, name: &NetworkName) -> Result<(), StoreError> {
        self.commit(&[Write::RemoveNetwork(name.clone())])
    }

    /// Commits one workload.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn put_workload(&mut self, workload: &Workload) -> Result<(), StoreError> {
        self.commit(&[Write::PutWorkload(Box::new(workload.clone()))])
    }

    /// Removes one workload and lets `freed` rest from second `at` (since boot) on.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn remove_workload(&mut self, id: &AttachmentId, freed: &[IpAddr], at: u64) -> Result<(), StoreError> {
        self.commit(&[Write::RemoveWorkload { id: id.clone(), freed: freed.to_vec(), at }])
    }
}
