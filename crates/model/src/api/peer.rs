//! Other hosts, and the way to them, in the words of the socket.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name::{IfName, NetworkName, NodeName};

/// Another host in `weft status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
}

/// The way to a host's blocks of one network and family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
