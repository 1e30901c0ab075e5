//! Words about the state of a host: `weft status`, `explain` and `inventory`.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::NetworkStatus;
use crate::bandwidth::Bandwidth;
use crate::mac::Mac;
use crate::name::{IfName, NetworkName, NodeName};
use crate::ports::PortMapping;
use crate::workload::{AttachmentId, Phase, PodIdentity};

/// What `weft status` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of this structure.
    pub api: u32,
    /// This host.
    pub node: NodeName,
    /// weft's version.
    pub version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime: u64,
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// The dataplane in use.
    pub dataplane: String,
    /// Its networks.
    pub networks: Vec<NetworkStatus>,
    /// Its workloads.
    pub workloads: Vec<WorkloadStatus>,
    /// Other hosts of the cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerStatus>,
    /// Packets refused, by reason.
    pub refused: Vec<Refused>,
    /// What is wrong, with what to do; empty when all is well.
    pub health: Vec<String>,
    /// The store that hosts share, if this one is in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<StoreState>,
}

/// How it is with the store that hosts share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreState {
    /// Where it is.
    pub address: String,
    /// Whether this host knows all that is in it, and does its part.
    pub in_sync: bool,
    /// The last change that was heard of.
    pub revision: u64,
    /// How many hosts there are.
    pub nodes: usize,
    /// How many of them run.
    pub alive: usize,
}

/// A host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: NodeName,
    /// Its addresses on the underlay.
    pub addresses: Vec<IpNet>,
    /// Whether its agent has said so lately.
    pub alive: bool,
    /// The agent's version, while it runs.
    #[serde(default)]
    pub version: String,
    /// The blocks of addresses that it holds.
    pub blocks: Vec<IpNet>,
    /// How many workloads it has.
    pub workloads: usize,
}

/// Another host in `weft status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub node: NodeName,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// The ways to its blocks.
    pub reaches: Vec<ReachStatus>,
    /// Seconds since it answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<u64>,
    /// What is wrong, with what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The same for programs, where it is about the way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<PeerFault>,
    /// How far its clock is ahead of this host's, in milliseconds, give or take the time of the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock: Option<i64>,
}

/// What is wrong with the way to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerFault {
    /// There is none.
    Nowhere,
    /// Nothing comes back.
    Silent,
    /// Packets of the largest size get lost.
    Size,
    /// Packets with checksums get lost in the tunnel.
    Checksums,
}

/// The way to a host's blocks of one network and family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachStatus {
    /// The network.
    pub network: NetworkName,
    /// `direct`, `vxlan`, `router` (as it is, by the host's own routes) or `nowhere`.
    pub path: String,
    /// The interface that it leads by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<IfName>,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// The blocks.
    pub blocks: Vec<IpNet>,
}

/// The way of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// From where: the address, and whose it is.
    pub from: String,
    /// To where.
    pub to: String,
    /// What happens to it, in order.
    pub hops: Vec<Hop>,
    /// Largest packet in bytes, as far as this host knows the way; 0 if it knows nothing of it.
    pub mtu: u32,
    /// Whether there is a way.
    pub reached: bool,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One thing that happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Where: a host or workload.
    pub at: String,
    /// What.
    pub does: String,
    /// Largest packet here, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// One workload in `weft status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// Its identity.
    pub id: AttachmentId,
    /// The host's end.
    pub host_ifname: IfName,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// How far it has come.
    pub phase: Phase,
    /// Its namespace.
    pub netns: PathBuf,
    /// `namespace/name` in Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// Ports of the host that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// Its limits.
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    pub bandwidth: Bandwidth,
}

/// A counter of refused packets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Why: the comment of the rule that refused them.
    pub reason: String,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// One kernel object or file of weft's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owned {
    /// `link`, `address`, `route`, `neighbour`, `limit`, `detour`, `nftables`, `bpf`, `sysctl`, `file`.
    pub kind: String,
    /// The object, as the command that lists it would show it.
    pub object: String,
}
