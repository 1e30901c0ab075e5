//! Everything the store and the host have told us. Plain data: no handles, no clocks, no I/O.

use std::collections::{BTreeMap, BTreeSet};

use std::net::IpAddr;
use std::sync::Arc;

use crate::label::Labels;
use crate::name::{IfName, NamespaceName, NetworkName, NodeName, ObjectName};
use crate::namespace::{self, Namespace};
use crate::network::Network;
use crate::object::{Object, ObjectId};
use crate::policy::{ClusterNetworkPolicy, HostPolicy, NamedPorts, NetworkPolicy};
use crate::workload::{AttachmentId, Workload};

/// A host, as far as others and its own plan need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Largest packet its uplink carries, in bytes.
    pub mtu: u32,
    /// Links that learn routes from router advertisements (`accept_ra` is 1), which a host that forwards
    /// would stop to believe.
    pub learning_links: BTreeSet<IfName>,
    /// Whether workloads are kept from the cloud's metadata addresses.
    pub block_metadata: bool,
}

/// What exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Hosts by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Networks by name.
    pub networks: BTreeMap<NetworkName, Network>,
    /// This host's workloads by identity.
    pub workloads: BTreeMap<AttachmentId, Workload>,
    /// Workloads of other hosts, as far as policies must know them.
    pub peers: BTreeMap<PeerName, Peer>,
    /// What people have declared.
    pub declared: Declared,
}

/// What names a workload of another host: the node and its attachment there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName {
    /// The host.
    pub node: NodeName,
    /// Its attachment there.
    pub id: AttachmentId,
}

/// A workload of another host, as far as policies must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its labels; many workloads have the same ones.
    pub labels: Arc<Labels>,
    /// Its named ports.
    pub ports: NamedPorts,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What people have declared, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Namespaces that have an object.
    pub namespaces: BTreeMap<NamespaceName, Namespace>,
    /// Policies of namespaces.
    pub policies: BTreeMap<(NamespaceName, ObjectName), NetworkPolicy>,
    /// Policies for the whole cluster.
    pub cluster_policies: BTreeMap<ObjectName, ClusterNetworkPolicy>,
    /// Policies for hosts.
    pub host_policies: BTreeMap<ObjectName, HostPolicy>,
}

impl Declared {
    /// Takes an object in, in the place of an older one; returns that.
    pub fn insert(&mut self, object: Object) -> Option<Object> {
        let ObjectId { namespace, name, .. } = object.id();
        let namespace = namespace.unwrap_or_else(namespace::default_namespace);
        match object {
            Object::Namespace(object) => {
                let name = name.as_str().parse().ok()?; // checked by `validate`
                self.namespaces.insert(name, object).map(Object::Namespace)
            }
            Object::NetworkPolicy(object) => {
                self.policies.insert((namespace, name), object).map(Object::NetworkPolicy)
            }
            Object::ClusterNetworkPolicy(object) => {
                self.cluster_policies.insert(name, object).map(Object::ClusterNetworkPolicy)
            }
            Object::HostPolicy(object) => self.host_policies.insert(name, object).map(Object::HostPolicy),
        }
    }

    /// Forgets an object; returns it.
    pub fn remove(&mut self, id: &ObjectId) -> Option<Object> {
        use crate::object::Kind;
        let name = &id.name;
        match id.kind {
            Kind::Namespace => self.namespaces.remove(&name.as_str().parse().ok()?).map(Object::Namespace),
            Kind::NetworkPolicy => {
                let namespace = id.namespace.clone().unwrap_or_else(namespace::default_namespace);
                self.policies.remove(&(namespace, name.clone())).map(Object::NetworkPolicy)
            }
            Kind::ClusterNetworkPolicy => {
                self.cluster_policies.remove(name).map(Object::ClusterNetworkPolicy)
            }
            Kind::HostPolicy => self.host_policies.remove(name).map(Object::HostPolicy),
        }
    }

    /// All objects, by kind, namespace and name.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let namespaces = self.namespaces.values().cloned().map(Object::Namespace);
        let policies = self.policies.values().cloned().map(Object::NetworkPolicy);
        let cluster = self.cluster_policies.values().cloned().map(Object::ClusterNetworkPolicy);
        let hosts = self.host_policies.values().cloned().map(Object::HostPolicy);
        namespaces.chain(policies).chain(cluster).chain(hosts)
    }

    /// The labels of a namespace, its name among them.
    #[must_use]
    pub fn namespace_labels(&self, name: &NamespaceName) -> Labels {
        namespace::labels(name, self.namespaces.get(name))
    }
}
