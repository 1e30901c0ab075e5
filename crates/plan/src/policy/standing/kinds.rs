//! Workloads that selectors cannot tell apart are one kind: same namespace, labels and named ports.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weft_model::policy::{NamedPorts, WorkloadPort};
use weft_model::{Declared, Labels, NamespaceName, PortName};

use super::super::matcher::{End, Matcher, Member, Namespaces};
use super::numbered::Numbered;

/// What makes a kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Alike {
    pub(super) namespace: NamespaceName,
    pub(super) labels: Arc<Labels>,
    pub(super) ports: NamedPorts,
}

/// A kind of workloads.
#[derive(Debug)]
pub(super) struct Kind {
    /// What selectors see of it; nameless and without addresses.
    pub(super) like: Member,
    /// How many are of it.
    members: u32,
    /// The matchers that mean it, in order.
    pub(super) pods: Vec<u32>,
    /// The cells that its addresses are in.
    pub(super) cells: BTreeSet<u32>,
}

#[derive(Debug)]
struct Namespaced {
    labels: Arc<Labels>,
    kinds: BTreeSet<u32>,
}

/// All kinds.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    by_alike: HashMap<Alike, u32>,
    all: Numbered<Kind>,
    namespaces: BTreeMap<NamespaceName, Namespaced>,
    /// Which ports workloads call by a name, and how many kinds do.
    ports: BTreeMap<PortName, BTreeMap<WorkloadPort, u32>>,
    /// Kinds that have just lost their last member, perhaps.
    left: BTreeSet<u32>,
}

/// What adding or removing a member changed.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Kinds whose matchers must be found anew.
    pub(super) kinds: BTreeSet<u32>,
    /// Names of ports that mean something else now.
    pub(super) names: BTreeSet<PortName>,
}

impl Kinds {
    pub(super) fn get(&self, id: u32) -> Option<&Kind> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Kind> {
        self.all.get_mut(id)
    }

    pub(super) fn of(&self, alike: &Alike) -> Option<u32> {
        self.by_alike.get(alike).copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.all.ids()
    }

    /// Counts one more member; returns its kind.
    pub(super) fn enter(&mut self, alike: Alike, declared: &Declared, changed: &mut Changed) -> u32 {
        if let Some(id) = self.by_alike.get(&alike) {
            if let Some(kind) = self.all.get_mut(*id) {
                kind.members += 1;
            }
            return *id;
        }
        let namespace = self.namespaces.entry(alike.namespace.clone()).or_insert_with(|| Namespaced {
            labels: Arc::new(declared.namespace_labels(&alike.namespace)),
            kinds: BTreeSet::new(),
        });
        for (name, port) in &alike.ports {
            let count = self.ports.entry(name.clone()).or_default().entry(*port).or_insert(0);
            *count += 1;
            if *count == 1 {
                changed.names.insert(name.clone());
            }
        }
        let like = Member {
            name: String::new(),
            namespace: alike.namespace.clone(),
            namespace_labels: Arc::clone(&namespace.labels),
            labels: Arc::clone(&alike.labels),
            ports: alike.ports.clone(),
            addresses: Vec::new(),
            local: false,
        };
        let id = self.all.add(Kind { like, members: 1, pods: Vec::new(), cells: BTreeSet::new() });
        namespace.kinds.insert(id);
        self.by_alike.insert(alike, id);
        changed.kinds.insert(id);
        id
    }

    /// Counts one member less.
    pub(super) fn leave(&mut self, alike: &Alike) {
        let Some(id) = self.by_alike.get(alike) else { return };
        let Some(kind) = self.all.get_mut(*id) else { return };
        kind.members = kind.members.saturating_sub(1);
        if kind.members == 0 {
            self.left.insert(*id);
        }
    }

    /// Forgets the kinds that nobody is of any more.
    pub(super) fn sweep(&mut self, changed: &mut Changed) -> Vec<u32> {
        let empty = |id: &u32| self.all.get(*id).is_some_and(|kind| kind.members == 0);
        let gone: Vec<u32> = std::mem::take(&mut self.left).into_iter().filter(empty).collect();
        for id in &gone {
            changed.kinds.remove(id);
            let Some(kind) = self.all.get(*id) else { continue };
            let Member { namespace, labels, ports, .. } = kind.like.clone();
            for (name, port) in &ports {
                if let Some(of_name) = self.ports.get_mut(name) {
                    let count = of_name.get_mut(port).map_or(0, |count| {
                        *count -= 1;
                        *count
                    });
                    if count == 0 {
                        of_name.remove(port);
                        changed.names.insert(name.clone());
                    }
                    if of_name.is_empty() {
                        self.ports.remove(name);
                    }
                }
            }
            if let Some(inside) = self.namespaces.get_mut(&namespace) {
                inside.kinds.remove(id);
                if inside.kinds.is_empty() {
                    self.namespaces.remove(&namespace);
                }
            }
            self.by_alike.remove(&Alike { namespace, labels, ports });
        }
        gone
    }

    /// Gives the number of a kind back, once nothing mentions it.
    pub(super) fn release(&mut self, id: u32) {
        self.all.remove(id);
    }

    /// Takes over a namespace's labels; returns its kinds if they are others now.
    pub(super) fn relabel(&mut self, name: &NamespaceName, declared: &Declared) -> Vec<u32> {
        let Some(inside) = self.namespaces.get_mut(name) else { return Vec::new() };
        let labels = declared.namespace_labels(name);
        if *inside.labels == labels {
            return Vec::new();
        }
        inside.labels = Arc::new(labels);
        let kinds: Vec<u32> = inside.kinds.iter().copied().collect();
        for id in &kinds {
            if let Some(kind) = self.all.get_mut(*id) {
                kind.like.namespace_labels = Arc::clone(&inside.labels);
            }
        }
        kinds
    }

    /// The kinds that a matcher means.
    pub(super) fn meant(&self, matcher: &Matcher) -> Vec<u32> {
        let Matcher::Pods { namespaces, .. } = matcher else { return Vec::new() };
        let matches = |id: &&u32| self.all.get(**id).is_some_and(|kind| means(matcher, &kind.like));
        let of = |inside: &Namespaced| inside.kinds.iter().filter(matches).copied().collect::<Vec<u32>>();
        match namespaces {
            Namespaces::One(name) => self.namespaces.get(name).map(of).unwrap_or_default(),
            Namespaces::Selected(selector) => {
                let selected = self.namespaces.values().filter(|inside| selector.matches(&inside.labels));
                selected.flat_map(of).collect()
            }
        }
    }

    /// The ports that workloads call so.
    pub(super) fn called(&self, name: &PortName) -> impl Iterator<Item = WorkloadPort> {
        self.ports.get(name).into_iter().flat_map(BTreeMap::keys).copied()
    }
}

/// Whether a matcher means a workload, wherever it is.
pub(super) fn means(matcher: &Matcher, member: &Member) -> bool {
    let address = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
    matches!(matcher, Matcher::Pods { .. }) && matcher.matches(&End { address, workload: Some(member) })
}
