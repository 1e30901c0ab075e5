//! Policies by number: whom each selects, and its rules where it is in force for somebody here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_model::policy::{Action, Direction, Enforcement, Tier, WorkloadPort};
use weft_model::{Declared, Kind, Labels, ObjectId, ObjectName, PortName, Selector};

use super::super::matcher::{Matcher, Member, Namespaces};
use super::super::resolve::{self, Port, Prepared};
use super::finder::{Finder, Place};
use super::kinds::{Kinds, means};
use super::matchers::Matchers;
use super::numbered::Numbered;

/// Where a policy stands among others: tier, priority, name.
type Rank = (u8, u16, ObjectName);

/// The tier of the policies of namespaces.
pub(super) const NAMESPACED: u8 = 1;

/// A policy.
#[derive(Debug)]
pub(super) struct Slot {
    object: ObjectId,
    pub(super) rank: Rank,
    pub(super) name: Arc<str>,
    pub(super) enforcement: Enforcement,
    subject: Matcher,
    /// The hosts that it selects, instead of workloads.
    nodes: Option<Selector>,
    place: Option<Place>,
    /// In which directions it says something.
    pub(super) speaks: [bool; 2],
    /// The drafts that it has a part in, by direction.
    pub(super) drafts: [BTreeSet<u32>; 2],
    /// Its rules, in directions where there are such drafts.
    pub(super) rules: [Vec<Rule>; 2],
    /// The peers that those mention.
    mentioned: [BTreeSet<u32>; 2],
}

impl Slot {
    /// Whether it selects a workload.
    pub(super) fn selects(&self, member: &Member) -> bool {
        self.nodes.is_none() && means(&self.subject, member)
    }
}

/// What became of a policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub(super) id: u32,
    /// Whether it is still there.
    pub(super) there: bool,
    /// Whether it stands where it stood among others, and is in force as it was.
    pub(super) alike: bool,
}

/// One rule, with peers by number.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) action: Action,
    /// Any of these; `None` is anybody.
    pub(super) peers: Option<Vec<u32>>,
    /// Any of these; `None` is any protocol.
    pub(super) ports: Option<Vec<Port>>,
    /// For what is sent: the ports that workloads call as the rule says, and the number of who does.
    pub(super) named: Vec<(WorkloadPort, u32)>,
}

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_id: BTreeMap<ObjectId, u32>,
    all: Numbered<Slot>,
    finder: Finder,
    /// Those that select hosts.
    for_hosts: BTreeSet<u32>,
    /// Policies in force here whose rules for what is sent say a port by its name.
    naming: BTreeMap<PortName, BTreeSet<u32>>,
}

impl Slots {
    pub(super) fn get(&self, id: u32) -> Option<&Slot> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Slot> {
        self.all.get_mut(id)
    }

    /// The policies that say a port by this name.
    pub(super) fn naming(&self, name: &PortName) -> impl Iterator<Item = u32> {
        self.naming.get(name).into_iter().flatten().copied()
    }

    /// Takes over how a policy is declared now.
    pub(super) fn follow(&mut self, object: &ObjectId, declared: &Declared) -> Option<Followed> {
        let known = self.by_id.get(object).copied();
        if let Some(slot) = known.and_then(|id| self.all.get_mut(id))
            && let (Some(id), Some(place)) = (known, slot.place.take())
        {
            self.finder.forget(&place, id);
        }
        let Some((prepared, rank, nodes)) = prepare(object, declared) else {
            let id = self.by_id.remove(object)?;
            self.for_hosts.remove(&id);
            // It selects nobody any more; who is selected by it still finds it by its number.
            if let Some(slot) = self.all.get_mut(id) {
                slot.speaks = [false; 2];
            }
            return Some(Followed { id, there: false, alike: false });
        };
        let speaks = Direction::BOTH.map(|d| match rank.0 {
            NAMESPACED => prepared.isolates[d as usize],
            _ => !prepared.rules[d as usize].is_empty(),
        });
        let id = known.unwrap_or_else(|| {
            let id = self.all.add(Slot {
                object: object.clone(),
                rank: rank.clone(),
                name: Arc::clone(&prepared.name),
                enforcement: prepared.enforcement,
                subject: prepared.subject.clone(),
                nodes: None,
                place: None,
                speaks,
                drafts: Default::default(),
                rules: Default::default(),
                mentioned: Default::default(),
            });
            self.by_id.insert(object.clone(), id);
            id
        });
        let place = if nodes.is_some() { None } else { self.finder.file(&prepared.subject, id) };
        match nodes {
            Some(_) => self.for_hosts.insert(id),
            None => self.for_hosts.remove(&id),
        };
        let mut alike = false;
        if let Some(slot) = self.all.get_mut(id) {
            alike = slot.rank == rank && slot.enforcement == prepared.enforcement;
            let Prepared { subject, name, enforcement, .. } = prepared;
            (slot.rank, slot.name, slot.enforcement) = (rank, name, enforcement);
            (slot.subject, slot.place, slot.speaks, slot.nodes) = (subject, place, speaks, nodes);
        }
        Some(Followed { id, there: true, alike })
    }

    /// Gives the number of a policy back that is gone.
    pub(super) fn release(&mut self, id: u32) {
        self.all.remove(id);
    }

    /// The policies that select a workload, in the order of their numbers.
    pub(super) fn selecting(&self, member: &Member) -> Vec<u32> {
        let selects = |id: &u32| self.all.get(*id).is_some_and(|slot| slot.selects(member));
        let mut ids: Vec<u32> = self.finder.candidates(member).filter(selects).collect();
        ids.sort_unstable();
        ids
    }

    /// The policies that select a host with such labels, in the order of their numbers.
    pub(super) fn of_host(&self, labels: impl FnOnce() -> Labels) -> Vec<u32> {
        if self.for_hosts.is_empty() {
            return Vec::new();
        }
        let labels = labels();
        let nodes = |id: &&u32| self.all.get(**id).and_then(|slot| slot.nodes.as_ref());
        self.for_hosts.iter().filter(|id| nodes(id).is_some_and(|n| n.matches(&labels))).copied().collect()
    }

    /// Takes over the rules of a policy, in the directions in which it is in force for somebody here. Returns, for each, the peers
    /// that its rules mention or mentioned; nothing if they mean or meant anybody.
    pub(super) fn rule(
        &mut self,
        id: u32,
        declared: &Declared,
        kinds: &Kinds,
        matchers: &mut Matchers,
    ) -> [Option<BTreeSet<u32>>; 2] {
        let mut concerned = [const { None }; 2];
        let Some(slot) = self.all.get_mut(id) else { return concerned };
        let active = [0, 1].map(|at| !slot.drafts[at].is_empty());
        let prepared = if active == [false; 2] { None } else { prepare(&slot.object, declared) };
        let mut all = prepared.map(|(prepared, ..)| prepared.rules).unwrap_or_default();
        for at in [0, 1] {
            let mut mentioned = BTreeSet::new();
            let (mut rules, mut names) = (Vec::new(), BTreeSet::new());
            let given = if active[at] { std::mem::take(&mut all[at]) } else { Vec::new() };
            for rule in given {
                let mut number = |matcher: &Matcher| {
                    let number = matchers.mention(matcher, (id, at));
                    mentioned.insert(number);
                    number
                };
                let peers = rule.peers.map(|peers| {
                    let mut ids: Vec<u32> = peers.iter().map(&mut number).collect();
                    ids.dedup();
                    ids
                });
                let mut named = Vec::new();
                if at == Direction::Egress as usize {
                    for (of, name) in rule.ports.iter().flatten().filter_map(Port::name) {
                        names.insert(name.clone());
                        let meant = kinds.called(name).filter(|p| of.is_none_or(|of| of == p.protocol));
                        for port in meant {
                            named.push((port, number(&calls(name, port))));
                        }
                    }
                }
                rules.push(Rule { action: rule.action, peers, ports: rule.ports, named });
            }
            for gone in slot.mentioned[at].difference(&mentioned) {
                matchers.release(*gone, (id, at));
            }
            let anybody = slot.rules[at].iter().chain(&rules).any(|rule: &Rule| rule.peers.is_none());
            concerned[at] = (!anybody).then(|| slot.mentioned[at].union(&mentioned).copied().collect());
            (slot.mentioned[at], slot.rules[at]) = (mentioned, rules);
            if at == Direction::Egress as usize {
                note(&mut self.naming, id, names);
            }
        }
        concerned
    }
}

fn note(naming: &mut BTreeMap<PortName, BTreeSet<u32>>, id: u32, names: BTreeSet<PortName>) {
    naming.retain(|name, ids| {
        if !names.contains(name) {
            ids.remove(&id);
        }
        !ids.is_empty()
    });
    for name in names {
        naming.entry(name).or_default().insert(id);
    }
}

/// Who calls a port so.
fn calls(name: &PortName, port: WorkloadPort) -> Matcher {
    Matcher::Pods {
        namespaces: Namespaces::Selected(Selector::default()),
        pods: Selector::default(),
        port: Some((name.clone(), port)),
    }
}

fn prepare(object: &ObjectId, declared: &Declared) -> Option<(Prepared, Rank, Option<Selector>)> {
    match object.kind {
        Kind::NetworkPolicy => {
            let namespace = object.namespace.clone()?;
            let policy = declared.policies.get(&(namespace.clone(), object.name.clone()))?;
            Some((resolve::of_namespace(&namespace, policy), (NAMESPACED, 0, object.name.clone()), None))
        }
        Kind::ClusterNetworkPolicy => {
            let policy = declared.cluster_policies.get(&object.name)?;
            let tier = if policy.spec.tier == Tier::Admin { 0 } else { NAMESPACED + 1 };
            let rank = (tier, policy.spec.priority, object.name.clone());
            Some((resolve::of_cluster(policy), rank, policy.spec.subject.nodes.clone()))
        }
        Kind::Namespace | Kind::Service | Kind::EndpointSlice => None,
    }
}
