//! What exists in a weft network, and the words of the local API.
//!
//! Types and parsing only: nothing here opens a file, a socket or a namespace.

pub mod address;
pub mod api;
pub mod bandwidth;
pub mod cluster;
pub mod mac;
pub mod name;
pub mod network;
pub mod node;
pub mod profile;
pub mod workload;
pub mod world;

pub use address::AddressRange;
pub use bandwidth::{Bandwidth, InvalidBandwidth, Limit};
pub use cluster::Cluster;
pub use mac::Mac;
pub use name::{ContainerId, IfName, InvalidName, NetworkName, NodeName};
pub use network::{Encapsulation, Mode, Network, NetworkId, Vni};
pub use node::{Here, Node};
pub use profile::Profile;
pub use workload::{AttachmentId, Netns, Owner, Phase, PodIdentity, Workload};
pub use world::World;
