//! A host's membership in a cluster: its files, the invitation and the exchange by which it gets them, and
//! the share of the store that some hosts run.
//!
//! ```text
//!   <state_dir>/cluster/store.toml          where the store is: the agent reads it
//!                       ca.pem node.pem node.key
//!                       member/             only on hosts that run a share of the store
//!                         authority.pem authority.key server.pem server.key member.json
//!   <state_dir>/etcd/                       its data
//! ```

pub(crate) mod door;
pub(crate) mod etcd;
pub(crate) mod exchange;
pub(crate) mod files;
pub(crate) mod service;
pub(crate) mod token;

/// Where a host that runs a share of the store listens for those who want to join.
pub(crate) const DOOR: u16 = 2378;
/// Where its etcd listens for clients, and for the other members.
pub(crate) const CLIENTS: u16 = 2379;
pub(crate) const PEERS: u16 = 2380;
