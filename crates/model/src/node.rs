//! Hosts: what all of them know of one another, and what each knows of itself alone.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::label::Labels;
use crate::mac::Mac;
use crate::name::{IfName, NetworkName, NodeName};

/// The label of a host's name.
pub const NAME_LABEL: &str = "kubernetes.io/hostname";
/// The label of the zone it stands in.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// A host as all hosts of a cluster know it. Fields that a newer version added are passed over, so that
/// hosts of different versions can share a cluster while it is upgraded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its addresses on the underlay, at most one per family, each with the prefix length of the subnet it
    /// lies in: a host whose address lies in the same subnet is reached without a router.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpNet>,
    /// Largest packet its uplink carries, in bytes.
    pub mtu: u32,
    /// The blocks of each network that it holds, in the order in which it claimed them. The first of each
    /// family holds the host's own address ([`crate::network::gateway`]), so it is given back last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blocks: BTreeMap<NetworkName, Vec<IpNet>>,
    /// The Ethernet address of its ends of tunnels; unique in the cluster.
    pub mac: Mac,
    /// Distinguishes a host from an earlier one of the same name; grows.
    #[serde(default)]
    pub incarnation: u64,
    /// The zone it stands in, such as a rack or a data centre.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Node {
    /// A host that stands alone: nobody else needs to know more of it.
    #[must_use]
    pub fn alone(mtu: u32) -> Node {
        Node {
            addresses: Vec::new(),
            mtu,
            blocks: BTreeMap::new(),
            mac: Mac::from_seed(1),
            incarnation: 0,
            zone: None,
        }
    }

    /// Its address of a family on the underlay, with the prefix length of that subnet.
    #[must_use]
    pub fn address(&self, v4: bool) -> Option<IpNet> {
        self.addresses.iter().find(|a| a.addr().is_ipv4() == v4).copied()
    }

    /// The labels by which policies for hosts select it: what it is called and where it stands (Kubernetes' well-known ones).
    #[must_use]
    pub fn labels(&self, name: &NodeName) -> Labels {
        let zone = self.zone.as_deref().map(|zone| (ZONE_LABEL, zone));
        let all = [(NAME_LABEL, name.as_str())].into_iter().chain(zone);
        // A zone that is no label value is none that a selector could name.
        all.filter_map(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?))).collect()
    }

    /// Its blocks of a network.
    #[must_use]
    pub fn blocks(&self, network: &NetworkName) -> &[IpNet] {
        self.blocks.get(network).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What only the host itself knows and needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Its name.
    pub name: NodeName,
    /// Links that learn routes from router advertisements (`accept_ra` is 1), which a host that forwards
    /// would stop to believe.
    pub learning_links: BTreeSet<IfName>,
    /// Whether workloads are kept from the cloud's metadata addresses.
    pub block_metadata: bool,
    /// The interface that holds its underlay addresses.
    pub uplink: Option<IfName>,
    /// Where services may have their addresses and ports.
    pub services: ServiceRanges,
}

impl Here {
    /// A host of which nothing else is known.
    #[must_use]
    pub fn new(name: NodeName) -> Here {
        Here {
            name,
            learning_links: BTreeSet::new(),
            block_metadata: false,
            uplink: None,
            services: ServiceRanges::default(),
        }
    }
}

/// Where services may have their addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRanges {
    /// Their own addresses, at most one range per family.
    pub addresses: Vec<IpNet>,
    /// The first and the last port of hosts that they may have.
    pub node_ports: (u16, u16),
    /// Addresses of others at which they may answer, too; none if it is empty.
    pub external: Vec<IpNet>,
}

impl Default for ServiceRanges {
    fn default() -> ServiceRanges {
        let ranges = ["10.96.0.0/16", "fd77:6566:7400:96::/112"];
        ServiceRanges {
            addresses: ranges.map(|r| r.parse().expect("the constants are ranges")).to_vec(),
            node_ports: (30_000, 32_767),
            external: Vec::new(),
        }
    }
}

impl ServiceRanges {
    /// The range of a family.
    #[must_use]
    pub fn of(&self, v4: bool) -> Option<IpNet> {
        self.addresses.iter().find(|r| r.addr().is_ipv4() == v4).copied()
    }
}
