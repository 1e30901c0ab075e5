//! From terms to tables: for each class of peers, which protocols and ports pass.
//!
//! All that is ordered (tiers, priorities, first match) is decided here; what is left is a set of what passes.

mod classes;
mod clause;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use weft_model::policy::{Direction, Protocol};
use weft_model::{AttachmentId, NodeName, World};

use self::classes::{Classes, Interned};
use self::clause::Clauses;
use super::host;
use super::matcher::{Member, Members};
use super::resolve::{Policies, Terms};
use super::{Class, Judged, PolicyPlan, Subject, Table};

/// Ports that pass: from the first to the last of each range, in order, apart from each other.
pub type Ports = Vec<(u16, u16)>;

/// What passes between a workload and a class of peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Whether protocols without ports do: ICMP and all that is not TCP, UDP or SCTP.
    pub others: bool,
    /// The ports of TCP.
    pub tcp: Ports,
    /// The ports of UDP.
    pub udp: Ports,
    /// The ports of SCTP.
    pub sctp: Ports,
}

impl Row {
    /// The ports of a protocol.
    #[must_use]
    pub fn ports(&self, protocol: Protocol) -> &Ports {
        match protocol {
            Protocol::Tcp => &self.tcp,
            Protocol::Udp => &self.udp,
            Protocol::Sctp => &self.sctp,
        }
    }

    /// Whether everything passes.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.others && Protocol::ALL.into_iter().all(|p| *self.ports(p) == [(0, u16::MAX)])
    }

    /// Whether a packet passes.
    #[must_use]
    pub fn passes(&self, protocol: u8, port: u16) -> bool {
        Protocol::from_number(protocol).map_or(self.others, |protocol| {
            self.ports(protocol).iter().any(|(first, last)| (*first..=*last).contains(&port))
        })
    }
}

/// Compiles the policies of the world for the workloads that are on this host.
#[must_use]
pub fn compile(world: &World, here: &NodeName) -> PolicyPlan {
    let mut plan = PolicyPlan { failsafe: world.failsafe.clone(), ..PolicyPlan::default() };
    if world.declared.policies.is_empty() && world.declared.cluster_policies.is_empty() {
        return plan;
    }
    let policies = Policies::of(world);
    let members = Members::of(world);
    let mut interned = Interned::default();
    let mut shared = Shared::default();
    let mut drafts: Vec<(AttachmentId, &Member, [Option<usize>; 2])> = Vec::new();
    for (id, member) in world.workloads.keys().zip(members.all.iter().filter(|m| m.local)) {
        let drafted = Direction::BOTH.map(|d| shared.draft(&policies, &members, member, d, &mut interned));
        if drafted.iter().any(Option::is_some) {
            drafts.push((id.clone(), member, drafted));
        }
    }
    let labels = world.nodes.get(here).map(|node| node.labels(here)).unwrap_or_default();
    let for_host = Policies::of_host(world, &labels);
    let host = host::member(here, labels);
    let of_host = Direction::BOTH.map(|d| shared.draft_alone(&for_host, &members, &host, d, &mut interned));
    let classes = Classes::of(&members, &interned);
    let judged: Vec<Arc<Judged>> =
        shared.drafts.iter().map(|draft| Arc::new(draft.judge(&classes))).collect();
    let take = |index: Option<usize>| {
        let judged = &judged[index?];
        (judged.enforced.is_some() || judged.audit.is_some()).then(|| (**judged).clone())
    };
    for (id, member, [ingress, egress]) in drafts {
        let subject = Subject {
            name: member.name.clone(),
            host_end: world.workloads[&id].host_end.clone(),
            addresses: member.addresses.clone(),
            ingress: take(ingress),
            egress: take(egress),
        };
        if subject.ingress.is_some() || subject.egress.is_some() {
            plan.subjects.insert(id, subject);
        }
    }
    let [ingress, egress] = of_host.map(take);
    if ingress.is_some() || egress.is_some() {
        let host_end = host::HOST.parse().expect("the constant is an interface's name");
        plan.host =
            Some(Subject { name: host.name.clone(), host_end, addresses: Vec::new(), ingress, egress });
    }
    classes.fill(&members, &mut plan);
    for (number, plan_number) in (1..).zip(plan.classes.values_mut()) {
        *plan_number = number;
    }
    plan
}

/// What workloads have in common that share a table: direction, namespace, policies that select them, and their named ports.
type Key = (Direction, String, Vec<(u8, usize)>, Vec<(u8, u16, String)>);

/// Tables under way, each for all the workloads that the same policies select.
#[derive(Default)]
struct Shared {
    drafts: Vec<Draft>,
    by_key: BTreeMap<Key, Option<usize>>,
}

struct Draft {
    enforced: Option<Clauses>,
    audit: Option<Clauses>,
    by: Vec<String>,
}

impl Shared {
    fn draft(
        &mut self,
        policies: &Policies,
        members: &Members,
        member: &Member,
        direction: Direction,
        interned: &mut Interned,
    ) -> Option<usize> {
        let selecting = policies.selecting(member);
        if selecting.is_empty() {
            return None;
        }
        // Named ports of rules for what reaches it are its own.
        let names = match direction {
            Direction::Ingress => member.ports.iter().map(named).collect(),
            Direction::Egress => Vec::new(),
        };
        let key = (direction, member.namespace.to_string(), selecting, names);
        if let Some(known) = self.by_key.get(&key) {
            return *known;
        }
        let index = self.draft_alone(policies, members, member, direction, interned);
        self.by_key.insert(key, index);
        index
    }

    /// The table of one that shares it with nobody.
    fn draft_alone(
        &mut self,
        policies: &Policies,
        members: &Members,
        member: &Member,
        direction: Direction,
        interned: &mut Interned,
    ) -> Option<usize> {
        let terms = policies.terms(member, direction);
        (!terms.is_empty()).then(|| {
            let mut clauses = |terms: &Terms| Clauses::of(terms, direction, member, members, interned);
            let enforced = terms.enforced();
            self.drafts.push(Draft {
                enforced: (!enforced.is_empty()).then(|| clauses(&enforced)),
                audit: terms.has_audit().then(|| clauses(&terms)),
                by: terms.by(),
            });
            self.drafts.len() - 1
        })
    }
}

fn named((name, port): (&weft_model::PortName, &weft_model::policy::WorkloadPort)) -> (u8, u16, String) {
    (port.protocol.number(), port.port, name.to_string())
}

impl Draft {
    fn judge(&self, classes: &Classes) -> Judged {
        let table = |clauses: &Clauses| {
            let rest = clauses.row(&[]);
            let rows: BTreeMap<Class, Row> = classes
                .touching(clauses.mentioned())
                .map(|(class, ids)| (class, clauses.row(ids)))
                .filter(|(_, row)| *row != rest)
                .collect();
            Table { rows, rest }
        };
        let open = |table: &Table| table.rows.is_empty() && table.rest.is_open();
        let make = |clauses: &Option<Clauses>| {
            clauses.as_ref().map(table).filter(|table| !open(table)).map(Arc::new)
        };
        Judged { enforced: make(&self.enforced), audit: make(&self.audit), by: self.by.clone() }
    }
}
