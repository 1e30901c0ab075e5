//! Workloads: what a runtime attached to a network.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::mac::Mac;
use crate::name::{ContainerId, IfName, NetworkName};
use crate::profile::Profile;

/// What identifies an attachment: CNI's (network, container id, interface) triple.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentId {
    /// The network.
    pub network: NetworkName,
    /// The container, as its runtime calls it.
    pub container: ContainerId,
    /// The interface inside the container.
    pub ifname: IfName,
}

impl AttachmentId {
    /// The name of the journal's entry for this attachment. Names may contain `@`, but only the last may:
    /// split it at the first two.
    #[must_use]
    pub fn journal_entry(&self) -> String {
        format!("{}@{}@{}.json", self.network, self.container, self.ifname)
    }
}

impl std::fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container, self.ifname)
    }
}

/// A network namespace: where to find it, and how to know that it is still the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Netns {
    /// Where it is mounted, such as `/run/netns/x` or `/proc/42/ns/net`.
    pub path: PathBuf,
    /// Inode of the namespace on nsfs; 0 when it is not known (state rebuilt from the kernel).
    pub inode: u64,
}

/// On whose behalf an attachment was made: only its owner's garbage collection may remove it. `weft` for
/// people, `cni:NAME` for the CNI configuration of that name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Owner(pub String);

impl Default for Owner {
    fn default() -> Owner {
        Owner("weft".to_owned())
    }
}

impl Owner {
    /// A runtime's CNI configuration, by its `name`.
    #[must_use]
    pub fn cni(name: &str) -> Owner {
        Owner(format!("cni:{name}"))
    }
}

/// Who the workload is to Kubernetes, from `CNI_ARGS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodIdentity {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

/// How far an attachment has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Recorded, wire not known to be complete: an agent that finds this after a crash completes the
    /// record if the kernel shows a finished wire, and undoes it otherwise.
    Pending,
    /// In force.
    Ready,
}

/// One interface of one container on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its identity.
    pub id: AttachmentId,
    /// On whose behalf it was made.
    #[serde(default)]
    pub owner: Owner,
    /// How far it has come.
    pub phase: Phase,
    /// The namespace it lives in.
    pub netns: Netns,
    /// The host's end of its wire; unique per attempt, never reused.
    pub host_end: IfName,
    /// Ethernet address inside.
    pub mac: Mac,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its addresses with the prefix length of their subnets; at most one per family.
    pub addresses: Vec<IpNet>,
    /// Whether its default routes go through this interface.
    pub default_route: bool,
    /// Who it is to Kubernetes, when Kubernetes started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// What it is and wants beyond an address.
    #[serde(default, skip_serializing_if = "Profile::is_empty")]
    pub profile: Profile,
}

impl Workload {
    /// The namespace it belongs to.
    #[must_use]
    pub fn namespace(&self) -> crate::name::NamespaceName {
        let pods = || self.pod.as_ref().and_then(|pod| pod.namespace.parse().ok());
        self.profile.namespace.clone().or_else(pods).unwrap_or_else(crate::namespace::default_namespace)
    }
}
