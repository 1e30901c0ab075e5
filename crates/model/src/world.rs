//! Everything the store and the host have told us. Plain data: no handles, no clocks, no I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::declared::Declared;
use crate::label::Labels;
use crate::name::{NamespaceName, NetworkName, NodeName};
use crate::network::Network;
use crate::node::Node;
use crate::policy::{Failsafe, NamedPorts};
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
    /// Workloads of other hosts, as far as policies must know them.
    pub remote: BTreeMap<RemoteName, Remote>,
    /// What people have declared.
    pub declared: Declared,
    /// What policies for hosts cannot close.
    pub failsafe: Failsafe,
}

/// What names a workload of another host: the node and its attachment there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteName {
    /// The host.
    pub node: NodeName,
    /// Its attachment there.
    pub id: AttachmentId,
}

/// A workload of another host, as far as policies must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its labels; many workloads have the same ones.
    pub labels: Arc<Labels>,
    /// Its named ports.
    pub ports: NamedPorts,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}
