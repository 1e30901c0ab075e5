//! Everything the store and the host have told us. Plain data: no handles, no clocks, no I/O.

use std::collections::BTreeMap;

use crate::name::{NetworkName, NodeName};
use crate::network::Network;
use crate::node::Node;
use crate::workload::{AttachmentId, Workload};

/// What exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// All hosts of the cluster by name, this one among them.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Networks by name.
    pub networks: BTreeMap<NetworkName, Network>,
    /// This host's workloads by identity.
    pub workloads: BTreeMap<AttachmentId, Workload>,
}
