//! Which ends of a packet a rule means, and who is at an end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use weft_model::policy::{ClusterPeer, NamedPorts, NamespacedPods, Peer, WorkloadPort};
use weft_model::{Labels, NamespaceName, PortName, Selector, World};

/// Which namespaces are meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// This one.
    One(NamespaceName),
    /// Those with such labels.
    Selected(Selector),
}

/// Who is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matcher {
    /// Workloads.
    Pods {
        /// Of these namespaces.
        namespaces: Namespaces,
        /// With such labels.
        pods: Selector,
        /// Only those that give a port this name and number.
        port: Option<(PortName, WorkloadPort)>,
    },
    /// Addresses, of whomever they are.
    Block {
        /// The range.
        cidr: IpNet,
        /// The holes.
        except: BTreeSet<IpNet>,
    },
}

impl Matcher {
    /// A NetworkPolicy's peer, in a policy of that namespace. `None` if it is not understood.
    #[must_use]
    pub fn of_peer(peer: &Peer, own: &NamespaceName) -> Option<Matcher> {
        if let Some(block) = &peer.ip_block {
            let except = block.except.iter().map(IpNet::trunc).collect();
            return Some(Matcher::Block { cidr: block.cidr.trunc(), except });
        }
        let namespaces = match (&peer.namespace_selector, &peer.pod_selector) {
            (None, None) => return None,
            (None, Some(_)) => Namespaces::One(own.clone()),
            (Some(selector), _) => Namespaces::Selected(selector.clone()),
        };
        Some(Matcher::Pods { namespaces, pods: peer.pod_selector.clone().unwrap_or_default(), port: None })
    }

    /// A ClusterNetworkPolicy's peer. `None` if it is not understood.
    #[must_use]
    pub fn of_cluster_peer(peer: &ClusterPeer) -> Option<Vec<Matcher>> {
        match (&peer.namespaces, &peer.pods, &peer.networks) {
            (Some(namespaces), None, None) => Some(vec![Matcher::Pods {
                namespaces: Namespaces::Selected(namespaces.clone()),
                pods: Selector::default(),
                port: None,
            }]),
            (None, Some(pods), None) => Some(vec![Matcher::of_pods(pods)]),
            (None, None, Some(networks)) => {
                let block = |net: &IpNet| Matcher::Block { cidr: net.trunc(), except: BTreeSet::new() };
                Some(networks.iter().map(block).collect())
            }
            _ => None,
        }
    }

    /// Some workloads of some namespaces.
    #[must_use]
    pub fn of_pods(pods: &NamespacedPods) -> Matcher {
        let NamespacedPods { namespace_selector, pod_selector } = pods.clone();
        Matcher::Pods { namespaces: Namespaces::Selected(namespace_selector), pods: pod_selector, port: None }
    }

    /// Whether an end is meant.
    #[must_use]
    pub fn matches(&self, end: &End<'_>) -> bool {
        match self {
            Matcher::Block { cidr, except } => {
                cidr.contains(&end.address) && !except.iter().any(|hole| hole.contains(&end.address))
            }
            Matcher::Pods { namespaces, pods, port } => end.workload.is_some_and(|w| {
                let named = |(name, port): &(PortName, WorkloadPort)| w.ports.get(name) == Some(port);
                namespaces.matches(w) && pods.matches(&w.labels) && port.as_ref().is_none_or(named)
            }),
        }
    }
}

impl Namespaces {
    fn matches(&self, workload: &Member) -> bool {
        match self {
            Namespaces::One(name) => workload.namespace == *name,
            Namespaces::Selected(selector) => selector.matches(&workload.namespace_labels),
        }
    }
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Matcher::Block { cidr, except } if except.is_empty() => write!(f, "{cidr}"),
            Matcher::Block { cidr, except } => {
                let holes: Vec<String> = except.iter().map(ToString::to_string).collect();
                write!(f, "{cidr} without {}", holes.join(", "))
            }
            Matcher::Pods { namespaces, pods, port } => {
                match namespaces {
                    Namespaces::One(name) => write!(f, "{pods} in namespace {name}")?,
                    Namespaces::Selected(s) if s.is_everything() => write!(f, "{pods} in any namespace")?,
                    Namespaces::Selected(s) => write!(f, "{pods} in namespaces {s}")?,
                }
                port.as_ref().map_or(Ok(()), |(name, port)| write!(f, " with {name}={}", port.port))
            }
        }
    }
}

/// One end of a packet.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Its address.
    pub address: IpAddr,
    /// The workload that has it.
    pub workload: Option<&'a Member>,
}

/// A workload, as far as selectors see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `namespace/container`.
    pub name: String,
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its namespace's labels.
    pub namespace_labels: Arc<Labels>,
    /// Its own labels.
    pub labels: Arc<Labels>,
    /// Its named ports.
    pub ports: NamedPorts,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether its wire is on this host.
    pub local: bool,
}

/// All workloads of the world, and who has which address.
#[derive(Clone, Debug, Default)]
pub struct Members {
    /// The workloads; those of this host first, in the order of their identities.
    pub all: Vec<Member>,
    by_address: BTreeMap<IpAddr, usize>,
}

impl Members {
    /// Collects them.
    #[must_use]
    pub fn of(world: &World) -> Members {
        Members::some(world, None)
    }

    /// Collects those that have one of these addresses.
    #[must_use]
    pub fn at(world: &World, addresses: &BTreeSet<IpAddr>) -> Members {
        Members::some(world, Some(addresses))
    }

    fn some(world: &World, at: Option<&BTreeSet<IpAddr>>) -> Members {
        let wanted = |mut addresses: &mut dyn Iterator<Item = IpAddr>| {
            at.is_none_or(|at| Iterator::any(&mut addresses, |address| at.contains(&address)))
        };
        let mut labels_of: BTreeMap<NamespaceName, Arc<Labels>> = BTreeMap::new();
        let mut namespace_labels = |name: &NamespaceName| {
            let declared = || Arc::new(world.declared.namespace_labels(name));
            labels_of.entry(name.clone()).or_insert_with(declared).clone()
        };
        let mut all = Vec::new();
        for workload in world.workloads.values().filter(|w| wanted(&mut w.addresses.iter().map(IpNet::addr)))
        {
            let namespace = workload.namespace();
            all.push(Member {
                name: format!("{namespace}/{}", workload.id.container),
                namespace_labels: namespace_labels(&namespace),
                namespace,
                labels: Arc::new(workload.profile.labels.clone()),
                ports: workload.profile.named_ports.clone(),
                addresses: workload.addresses.iter().map(IpNet::addr).collect(),
                local: true,
            });
        }
        for (name, remote) in world.remote.iter().filter(|(_, r)| wanted(&mut r.addresses.iter().copied())) {
            all.push(Member {
                name: format!("{}/{}", remote.namespace, name.id.container),
                namespace_labels: namespace_labels(&remote.namespace),
                namespace: remote.namespace.clone(),
                labels: remote.labels.clone(),
                ports: remote.ports.clone(),
                addresses: remote.addresses.clone(),
                local: false,
            });
        }
        let mut by_address = BTreeMap::new();
        for (index, member) in all.iter().enumerate() {
            for address in &member.addresses {
                by_address.entry(*address).or_insert(index);
            }
        }
        Members { all, by_address }
    }

    /// Who is at an address.
    #[must_use]
    pub fn end(&self, address: IpAddr) -> End<'_> {
        End { address, workload: self.by_address.get(&address).map(|index| &self.all[*index]) }
    }

    /// All addresses of workloads, with their place in `all`.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, usize)> {
        self.by_address.iter().map(|(address, index)| (*address, *index))
    }
}
