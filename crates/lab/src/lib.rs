//! Many hosts on one machine: each a network namespace with a real agent in it, joined by an underlay.
//!
//! ```text
//!   Underlay   lo 198.51.100.1, 2001:db8:2::1       "outside"
//!     ├─────── lan2 203.0.113.1/24, 2001:db8:3::1/64   a second segment, behind the router
//!     │        lan 192.0.2.1/24, 2001:db8:1::1/64   bridge: hosts are neighbours on one segment
//!     ├── eth0 192.0.2.11 ── Host ── agent ── wires ── Namespace (a workload)
//!     └── eth0 192.0.2.12 ── Host ── agent ── wires ── Namespace
//! ```
//!
//! Nothing here touches the namespace of whoever calls: all links live in namespaces without a name,
//! which vanish with the values that hold them; but a [`Site`], which a person plays with, stays until it is
//! taken down. Programs are executed to start agents, etcd and containers.

mod agent;
mod ask;
mod cluster;
mod error;
mod etcd;
mod folder;
mod group;
mod host;
mod links;
mod namespace;
mod shared;
mod site;
pub mod traffic;
mod underlay;

pub use ask::ask;
pub use cluster::{Cluster, shared_network};
pub use error::Error;
pub use etcd::Etcd;
pub use folder::Folder;
pub use group::Group;
pub use host::Host;
pub use links::Links;
pub use namespace::Namespace;
pub use shared::{LEASE, Shared};
pub use site::{Site, Standing, Store};
pub use underlay::{OUTSIDE4, OUTSIDE6, ROUTER4, ROUTER6, Underlay};

use std::hash::{BuildHasher, RandomState};

/// Digits that nothing else on this machine bears.
fn tag() -> String {
    let random = RandomState::new().hash_one(std::thread::current().id());
    format!("{random:016x}")
}
