//! What is kept, and the changes to it.
//!
//! Never knows how a store lays it out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use weft_model::{AttachmentId, Network, NetworkName, Object, ObjectId, Workload};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Keep a network, also across reboots. Its number is never offered again by [`Loaded::next_network_id`].
    PutNetwork(Network),
    /// Forget a network.
    RemoveNetwork(NetworkName),
    /// Remember what a kernel setting was before weft changed it. The first value stays: later ones are weft's own.
    KeepSysctl {
        /// Path below `/proc/sys`, such as `net/ipv4/ip_forward`.
        key: String,
        /// What it was.
        value: String,
    },
    /// Forget a kernel setting, because it has been put back.
    ForgetSysctl(String),
    /// Keep a declared object, also across reboots.
    PutObject(Box<Object>),
    /// Forget a declared object.
    RemoveObject(ObjectId),
    /// Keep a workload until the next reboot. Its addresses rest no longer.
    PutWorkload(Box<Workload>),
    /// Forget a workload; its addresses rest.
    RemoveWorkload {
        /// Whose.
        id: AttachmentId,
        /// Which addresses it held in `id.network`.
        freed: Vec<IpAddr>,
        /// Since when they rest, in seconds since boot.
        at: u64,
    },
    /// Forget resting addresses of all networks that were freed before this second since boot.
    ForgetRested {
        /// The second.
        before: u64,
    },
}

impl Write {
    /// Whether it outlives a reboot.
    #[must_use]
    pub fn outlives_boot(&self) -> bool {
        match self {
            Write::PutNetwork(_)
            | Write::RemoveNetwork(_)
            | Write::PutObject(_)
            | Write::RemoveObject(_)
            | Write::KeepSysctl { .. }
            | Write::ForgetSysctl(_) => true,
            Write::PutWorkload(_) | Write::RemoveWorkload { .. } | Write::ForgetRested { .. } => false,
        }
    }
}

/// Everything a store keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// Networks by name.
    pub networks: BTreeMap<NetworkName, Network>,
    /// The lowest number that no network has ever had here; 1 at first.
    pub next_network_id: u16,
    /// Declared objects.
    pub objects: BTreeMap<ObjectId, Object>,
    /// This boot's workloads.
    pub workloads: BTreeMap<AttachmentId, Workload>,
    /// Resting addresses with the second since boot at which they were freed.
    pub resting: BTreeMap<(NetworkName, IpAddr), u64>,
    /// Kernel settings as they were before weft changed them, by path below `/proc/sys`.
    pub sysctls: BTreeMap<String, String>,
    /// Records that are there and make no sense to this version; they stay as they are.
    pub unreadable: Vec<Unreadable>,
}

impl Default for Loaded {
    fn default() -> Loaded {
        Loaded {
            networks: BTreeMap::new(),
            next_network_id: 1,
            objects: BTreeMap::new(),
            workloads: BTreeMap::new(),
            resting: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            unreadable: Vec::new(),
        }
    }
}

/// A record that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// What kind of record: `network`, `workload`, `resting address`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}
