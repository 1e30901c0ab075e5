//! Everything the store and the host have told us. Plain data: no handles, no clocks, no I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::{IfName, NetworkName, NodeName};
use crate::network::Network;
use crate::workload::{AttachmentId, Workload};

/// A host, as far as others and its own plan need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Largest packet its uplink carries, in bytes.
    pub mtu: u32,
    /// Links that learn routes from router advertisements (`accept_ra` is 1), which a host that forwards
    /// would stop to believe.
    pub learning_links: BTreeSet<IfName>,
    /// Whether workloads are kept from the cloud's metadata addresses.
    pub block_metadata: bool,
}

/// What exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Hosts by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Networks by name.
    pub networks: BTreeMap<NetworkName, Network>,
    /// This host's workloads by identity.
    pub workloads: BTreeMap<AttachmentId, Workload>,
}
