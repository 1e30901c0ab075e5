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

use crate::failure::Failure;

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

/// A failure of the store's as one of this command, with its hint.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
pub(crate) fn failure(error: weft_store::cluster::ClusterError) -> anyhow::Error {
    let hint = error.hint();
    Failure::new(error.to_string()).hint(hint).into()
}
