//! The values of the shared store.
//!
//! Never refuses a field that it does not know: hosts of several versions share one store while they are
//! brought up to date one by one.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use weft_model::policy::NamedPorts;
use weft_model::{Labels, NamespaceName, Network, NodeName, PodIdentity};

/// Which life of which host: two hosts of one name, or a host before and after it was set up anew, differ in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// That a host runs. The key is bound to the host's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Which life of the host.
    pub incarnation: Incarnation,
    /// The version of its agent.
    #[serde(default)]
    pub version: String,
}

/// A network of all hosts. The length of its blocks is part of it: blocks of one length never overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// What was declared; its `id`, which is each host's own, means nothing here.
    pub network: Network,
    /// The prefix length of its IPv4 blocks, in bits.
    pub block4: u8,
    /// The prefix length of its IPv6 blocks, in bits.
    pub block6: u8,
}

impl NetworkRecord {
    /// The prefix length of the blocks of one of its subnets, in bits.
    #[must_use]
    pub fn block_length(&self, subnet: IpNet) -> u8 {
        if subnet.addr().is_ipv4() { self.block4 } else { self.block6 }
    }
}

/// Whose the addresses of a block are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRecord {
    /// The node; `None` while the block rests after it was given back. A resting block's key is bound to
    /// a lease, with which it becomes free.
    pub node: Option<NodeName>,
    /// The place in the order in which the node claimed its blocks of this network.
    #[serde(default)]
    pub order: u32,
}

/// Which network numbers were given: one more than the highest. Every change of a network changes this
/// key as well, so that no two hosts change networks at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkHistory {
    /// The lowest VNI that no network has had; 0 means that there was none yet.
    pub next_vni: u32,
}

/// A workload as other hosts need to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its addresses, without prefix.
    pub addresses: Vec<std::net::IpAddr>,
    /// The namespace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceName>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// The names of its ports.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub named_ports: NamedPorts,
    /// Who it is to Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
}

impl Summary {
    /// What others need to know of a workload.
    #[must_use]
    pub fn of(workload: &weft_model::Workload) -> Summary {
        Summary {
            addresses: workload.addresses.iter().map(IpNet::addr).collect(),
            namespace: workload.profile.namespace.clone(),
            labels: workload.profile.labels.clone(),
            named_ports: workload.profile.named_ports.clone(),
            pod: workload.pod.clone(),
        }
    }
}
