//! The words of the agent's socket.
//!
//! One connection carries one request and its reply, each a JSON object on a line of its own.
//! A request is at most [`REQUEST_LIMIT`] bytes. Unknown requests and unknown fields are refused.

mod error;
mod flow;
mod object;
mod status;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address::AddressRange;
use crate::bandwidth::Bandwidth;
use crate::mac::Mac;
use crate::name::{ContainerId, IfName, NetworkName, NodeName};
use crate::network::{Encapsulation, Mode, Network};
use crate::object::{Object, ObjectId};
use crate::profile::Profile;
use crate::workload::{AttachmentId, Owner, PodIdentity};

pub use self::error::{Error, ErrorKind};
pub use self::flow::{Denial, Flows, Judge};
pub use self::object::{Apply, Get, Outcome};
pub use self::status::{
    Explanation, Hop, Member, Owned, PeerFault, PeerStatus, ReachStatus, Refused, Status, StoreState,
    WorkloadStatus,
};

/// Where the agent listens unless told otherwise.
pub const SOCKET: &str = "/run/weft/agent.sock";

/// Where a plugin leaves word of what it could not tell the agent, one file per attachment.
pub const JOURNAL: &str = "/run/weft/journal";

/// The most bytes a request may have.
pub const REQUEST_LIMIT: usize = 1 << 20;

/// What a client asks of the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Give a namespace an interface; returns when it is in force. Reply: [`Reply::Attached`].
    Attach(Box<Attach>),
    /// Take an interface away; absence is success. Reply: [`Reply::Done`].
    Detach(Detach),
    /// Compare an attachment with the kernel. Reply: [`Reply::Checked`].
    Check(Detach),
    /// Remove the attachments of a network that are not listed. Reply: [`Reply::Collected`].
    Collect(Collect),
    /// Can the next attach to this network succeed? Reply: [`Reply::Done`] or an error.
    Ready {
        /// The network asked about.
        network: NetworkName,
    },
    /// Change the limits of an attachment while it lives. Reply: [`Reply::Done`].
    SetBandwidth {
        /// Which attachment.
        id: AttachmentId,
        /// The limits from now on; none where there are to be none.
        bandwidth: Bandwidth,
        /// Only say which commands would do it; nothing is changed.
        #[serde(default)]
        explain: bool,
    },
    /// Declare a network. Reply: [`Reply::Network`].
    NetworkCreate(NetworkSpec),
    /// Remove a network without workloads. Reply: [`Reply::Done`].
    NetworkRemove {
        /// Its name.
        name: NetworkName,
        /// Only say which commands would be run.
        #[serde(default)]
        explain: bool,
    },
    /// All networks. Reply: [`Reply::Networks`].
    NetworkList,
    /// All hosts of the cluster. Reply: [`Reply::Nodes`].
    NodeList,
    /// Remove a host that is gone for ever. Reply: [`Reply::Done`].
    NodeRemove {
        /// Its name.
        name: NodeName,
    },
    /// Stand alone again: give back what this host has of the cluster. Reply: [`Reply::Done`].
    NodeLeave {
        /// Also if the store cannot be told.
        force: bool,
    },
    /// The agent's view of this host. Reply: [`Reply::Status`].
    Status,
    /// What the agent would change in the kernel now. Reply: [`Reply::Diff`].
    Diff,
    /// Everything in the kernel that is weft's. Reply: [`Reply::Inventory`].
    Inventory,
    /// The way of a packet, from the plan. Reply: [`Reply::Explanation`].
    Explain {
        /// An address, a workload's container, or `host`.
        from: String,
        /// An address, a workload's container, or a host's name.
        to: String,
    },
    /// What this host's kernel should hold, as the agent computed it. Reply: [`Reply::Plan`].
    Plan,
    /// Take objects in, all or none. Reply: [`Reply::Applied`].
    Apply(Apply),
    /// Objects of a kind. Reply: [`Reply::Objects`].
    Get(Get),
    /// Forget objects; absence is success. Reply: [`Reply::Applied`].
    Delete(Vec<ObjectId>),
    /// Packets that policy denied a short while ago. Reply: [`Reply::Flows`].
    Flows(Flows),
    /// Whether policy lets a connection pass, and why. Reply: [`Reply::Judged`].
    Judge(Judge),
    /// Where a service is reached and where that leads. Reply: [`Reply::Backends`].
    Backends(ObjectId),
}

/// A wish for an interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Network, container and interface name.
    pub id: AttachmentId,
    /// On whose behalf.
    #[serde(default)]
    pub owner: Owner,
    /// The namespace's file, such as `/run/netns/x`.
    pub netns: PathBuf,
    /// Wanted addresses; each must lie in one of the network's subnets and be free.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
    /// Ranges to choose from, one list per address wanted (CNI capability `ipRanges`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Vec<AddressRange>>,
    /// Addresses that another IPAM has assigned: they are used as they are and not allocated here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assigned: Vec<IpNet>,
    /// Wanted Ethernet address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Wanted name of the host's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ifname: Option<IfName>,
    /// Who the workload is to Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// What it is and wants beyond an address.
    #[serde(default, skip_serializing_if = "Profile::is_empty")]
    pub profile: Profile,
    /// Only say which commands would do it; nothing is changed.
    #[serde(default)]
    pub explain: bool,
}

/// Names an attachment that exists or existed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// Network, container and interface name.
    pub id: AttachmentId,
    /// The namespace's file, if there still is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// With `Check`: addresses the runtime believes the interface has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<IpNet>,
    /// Only say which commands would do it; nothing is changed.
    #[serde(default)]
    pub explain: bool,
}

/// What garbage collection may keep (CNI SPEC.md 1.1.0, "GC").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// The network to clean.
    pub network: NetworkName,
    /// Whose attachments; those of others are not touched.
    pub owner: Owner,
    /// Attachments in use. `None` (no list was given) removes only what belongs to vanished namespaces.
    pub keep: Option<Vec<(ContainerId, IfName)>>,
}

/// A wish for a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its name.
    pub name: NetworkName,
    /// Its subnets, at most one per family; empty lets the agent choose a free pair.
    #[serde(default)]
    pub subnets: Vec<IpNet>,
    /// How wires join it.
    #[serde(default)]
    pub mode: Mode,
    /// Largest packet in bytes; `None` takes the underlay's.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Whether packets for the outside leave with the host's address.
    pub masquerade: bool,
    /// How packets travel to other hosts of a cluster.
    #[serde(default)]
    pub encapsulation: Encapsulation,
    /// Only say which commands would do it; nothing is changed.
    #[serde(default)]
    pub explain: bool,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// It is done; with `explain`, the commands that would have done it.
    Done {
        /// Equivalent commands, when they were asked for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        commands: Vec<String>,
    },
    /// The interface is in force.
    Attached(Box<Attached>),
    /// What `Check` found wrong; empty when all is as it should be.
    Checked(Vec<String>),
    /// What garbage collection removed.
    Collected(Vec<AttachmentId>),
    /// One network.
    Network(Box<NetworkStatus>),
    /// All networks.
    Networks(Vec<NetworkStatus>),
    /// All hosts of the cluster.
    Nodes(Vec<Member>),
    /// The host's state.
    Status(Box<Status>),
    /// Outstanding changes as equivalent commands; empty when kernel and plan agree.
    Diff(Vec<String>),
    /// What is weft's in this kernel, a line per object.
    Inventory(Vec<Owned>),
    /// The plan, as a JSON document in text.
    Plan(String),
    /// What became of the objects, in the order of the request.
    Applied(Vec<(ObjectId, Outcome)>),
    /// Objects.
    Objects(Vec<Object>),
    /// Denials.
    Flows(Vec<Denial>),
    /// What policy says, as a JSON document in text.
    Judged(String),
    /// The way of a packet.
    Explanation(Box<Explanation>),
    /// Where a service leads, in words.
    Backends(String),
    /// It failed.
    Error(Error),
}

/// An interface in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// The host's end.
    pub host_ifname: IfName,
    /// Its Ethernet address.
    pub host_mac: Mac,
    /// The bridge it is a port of, in bridge mode, with its Ethernet address.
    pub bridge: Option<(IfName, Mac)>,
    /// The workload's Ethernet address.
    pub mac: Mac,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Addresses with the gateway of each.
    pub addresses: Vec<AssignedAddress>,
    /// Routes inside the namespace, for the runtime's information: destination and gateway.
    pub routes: Vec<(IpNet, IpAddr)>,
    /// Equivalent commands, when they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignedAddress {
    /// The address with its subnet's prefix length.
    pub address: IpNet,
    /// The next hop for it.
    pub gateway: IpAddr,
}

/// A network with its use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// What was declared.
    #[serde(flatten)]
    pub network: Network,
    /// Its device on this host.
    pub device: IfName,
    /// The MTU its workloads get, in bytes.
    pub effective_mtu: u32,
    /// How many workloads it has here.
    pub workloads: usize,
    /// Addresses used, resting and usable, per family.
    pub pools: Vec<PoolStatus>,
    /// Equivalent commands, when they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// The state of a pool of addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Where the addresses come from.
    pub subnet: IpNet,
    /// Held by workloads.
    pub used: u64,
    /// Freed a short while ago and not given out again yet if others are free.
    pub resting: u64,
    /// How many a workload could have in all; saturates for large IPv6 subnets.
    pub usable: u64,
}
