//! What all hosts of a cluster share, as a store tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::{NetworkName, NodeName};
use crate::network::Network;
use crate::node::Node;

/// What all hosts share. A network's `id` means nothing here: each host numbers networks for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Hosts by name, the reader among them.
    #[serde(default)]
    pub nodes: BTreeMap<NodeName, Node>,
    /// Cluster-wide networks by name.
    #[serde(default)]
    pub networks: BTreeMap<NetworkName, Network>,
}
