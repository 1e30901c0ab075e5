//! What exists in a weft network, and the words of the local API.
//!
//! Types and parsing only: nothing here opens a file, a socket or a namespace.

pub mod address;
pub mod api;
pub mod bandwidth;
pub mod cluster;
pub mod declared;
pub mod label;
pub mod mac;
pub mod name;
pub mod namespace;
pub mod network;
pub mod node;
pub mod object;
pub mod policy;
pub mod ports;
pub mod profile;
pub mod selector;
pub mod service;
pub mod slice;
pub mod workload;
pub mod world;

pub use address::AddressRange;
pub use bandwidth::{Bandwidth, InvalidBandwidth, Limit};
pub use cluster::Cluster;
pub use declared::Declared;
pub use label::{LabelKey, LabelValue, Labels};
pub use mac::Mac;
pub use name::{
    ContainerId, IfName, InvalidName, NamespaceName, NetworkName, NodeName, ObjectName, PortName,
};
pub use namespace::Namespace;
pub use network::{Encapsulation, Mode, Network, NetworkId, Vni};
pub use node::{Here, Node, ServiceRanges};
pub use object::{Kind, Object, ObjectId};
pub use policy::{ClusterNetworkPolicy, NetworkPolicy};
pub use ports::{PortMapping, Protocol};
pub use profile::Profile;
pub use selector::Selector;
pub use service::{Service, ServiceName};
pub use slice::EndpointSlice;
pub use workload::{AttachmentId, Netns, Owner, Phase, PodIdentity, Workload};
pub use world::{Remote, RemoteName, World};
