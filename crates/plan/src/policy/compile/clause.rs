//! Terms in a form that is quick to decide: who, which ports, what then.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::policy::{Action, Direction, Protocol, WorkloadPort};

use super::super::matcher::{Matcher, Member, Members, Namespaces};
use super::super::resolve::{Port, Rule, Terms};
use super::Row;
use super::classes::Interned;

/// Where a clause stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Admin,
    Namespace,
    Baseline,
}

#[derive(Debug)]
struct Clause {
    tier: Tier,
    /// All of these must match the peer.
    who: Vec<u32>,
    /// Any of these; `None` is any protocol.
    ports: Option<Vec<(Protocol, u16, u16)>>,
    action: Action,
}

/// What is asked of the packets of some workloads in one direction.
#[derive(Debug)]
pub(super) struct Clauses {
    /// In the order in which they are asked.
    all: Vec<Clause>,
    /// Those that mean anybody, and those that begin with a matcher.
    anybody: Vec<usize>,
    by_matcher: BTreeMap<u32, Vec<usize>>,
    isolated: bool,
}

impl Clauses {
    pub(super) fn of(
        terms: &Terms,
        direction: Direction,
        own: &Member,
        members: &Members,
        interned: &mut Interned,
    ) -> Clauses {
        let mut all = Vec::new();
        for (tier, rules) in [
            (Tier::Admin, &terms.admin),
            (Tier::Namespace, &terms.allowing),
            (Tier::Baseline, &terms.baseline),
        ] {
            for rule in rules {
                expand(rule, tier, direction, own, members, interned, &mut all);
            }
        }
        let mut anybody = Vec::new();
        let mut by_matcher: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, clause) in all.iter().enumerate() {
            match clause.who.first() {
                None => anybody.push(index),
                Some(first) => by_matcher.entry(*first).or_default().push(index),
            }
        }
        Clauses { all, anybody, by_matcher, isolated: !terms.isolating.is_empty() }
    }

    /// The matchers that make a difference here.
    pub(super) fn mentioned(&self) -> impl Iterator<Item = u32> {
        self.by_matcher.keys().copied()
    }

    /// What passes for peers that match exactly these.
    pub(super) fn row(&self, ids: &[u32]) -> Row {
        let mut picked: Vec<usize> = self.anybody.clone();
        for id in ids {
            let of = self.by_matcher.get(id).into_iter().flatten();
            picked.extend(of.filter(|i| self.all[**i].who.iter().all(|who| ids.binary_search(who).is_ok())));
        }
        picked.sort_unstable();
        picked.dedup();
        let clauses: Vec<&Clause> = picked.into_iter().map(|index| &self.all[index]).collect();
        let ports = |protocol| self.ports(&clauses, protocol);
        Row {
            others: self.passes(&clauses, None),
            tcp: ports(Protocol::Tcp),
            udp: ports(Protocol::Udp),
            sctp: ports(Protocol::Sctp),
        }
    }

    fn ports(&self, clauses: &[&Clause], protocol: Protocol) -> Vec<(u16, u16)> {
        let mut starts: BTreeSet<u16> = [0].into();
        for (_, first, last) in
            clauses.iter().filter_map(|c| c.ports.as_ref()).flatten().filter(|(p, ..)| *p == protocol)
        {
            starts.insert(*first);
            starts.extend(last.checked_add(1));
        }
        let starts: Vec<u16> = starts.into_iter().collect();
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for (index, first) in starts.iter().enumerate() {
            if !self.passes(clauses, Some((protocol, *first))) {
                continue;
            }
            let last = starts.get(index + 1).map_or(u16::MAX, |next| next - 1);
            match ranges.last_mut() {
                Some(range) if range.1.checked_add(1) == Some(*first) => range.1 = last,
                _ => ranges.push((*first, last)),
            }
        }
        ranges
    }

    /// Whether a packet passes: of a protocol without ports, or to a port.
    fn passes(&self, clauses: &[&Clause], to: Option<(Protocol, u16)>) -> bool {
        let (mut ask_admin, mut ask_baseline) = (true, true);
        for clause in clauses {
            let asked = match clause.tier {
                Tier::Admin => ask_admin,
                Tier::Namespace => self.isolated,
                Tier::Baseline => ask_baseline && !self.isolated,
            };
            if !asked || !clause.means(to) {
                continue;
            }
            match (clause.action, clause.tier) {
                (Action::Accept, _) => return true,
                (Action::Deny, _) => return false,
                (Action::Pass, Tier::Admin) => ask_admin = false,
                (Action::Pass, _) => ask_baseline = false,
            }
        }
        !self.isolated
    }
}

impl Clause {
    fn means(&self, to: Option<(Protocol, u16)>) -> bool {
        match (&self.ports, to) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ports), Some((protocol, port))) => {
                ports.iter().any(|(of, first, last)| *of == protocol && (*first..=*last).contains(&port))
            }
        }
    }
}

/// A rule as clauses: one per peer, and more where what it reaches names its ports.
fn expand(
    rule: &Rule,
    tier: Tier,
    direction: Direction,
    own: &Member,
    members: &Members,
    interned: &mut Interned,
    all: &mut Vec<Clause>,
) {
    let mut peers: Vec<Vec<u32>> = match &rule.peers {
        None => vec![Vec::new()],
        Some(peers) => peers.iter().map(|peer| vec![interned.id(peer)]).collect(),
    };
    peers.dedup();
    let Some(ports) = &rule.ports else {
        all.extend(peers.into_iter().map(|who| Clause { tier, who, ports: None, action: rule.action }));
        return;
    };
    let names = match direction {
        Direction::Ingress => Some(own),
        Direction::Egress => None,
    };
    let plain: Vec<(Protocol, u16, u16)> = ports.iter().filter_map(|port| port.span(names)).collect();
    if !plain.is_empty() {
        all.extend(peers.iter().map(|who| Clause {
            tier,
            who: who.clone(),
            ports: Some(plain.clone()),
            action: rule.action,
        }));
    }
    if direction == Direction::Ingress {
        return;
    }
    for (of, name) in ports.iter().filter_map(|port| match port {
        Port::Named(of, name) => Some((of, name)),
        Port::Span(..) => None,
    }) {
        let values: BTreeSet<WorkloadPort> = members
            .all
            .iter()
            .filter_map(|m| m.ports.get(name).copied())
            .filter(|value| of.is_none_or(|of| of == value.protocol))
            .collect();
        for value in values {
            let named = interned.id(&Matcher::Pods {
                namespaces: Namespaces::Selected(weft_model::Selector::default()),
                pods: weft_model::Selector::default(),
                port: Some((name.clone(), value)),
            });
            all.extend(peers.iter().map(|who| Clause {
                tier,
                who: who.iter().copied().chain([named]).collect(),
                ports: Some(vec![(value.protocol, value.port, value.port)]),
                action: rule.action,
            }));
        }
    }
}
