//! Rules in a form that is quick to decide: who, which ports, what then.

use std::collections::{BTreeMap, BTreeSet};

use weft_model::policy::{Action, NamedPorts, Protocol};

use super::super::Row;
use super::slots::{NAMESPACED, Rule, Slot};

#[derive(Debug)]
struct Clause {
    /// Where it stands: before the policies of namespaces, among them, or behind.
    tier: u8,
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
    /// From policies in their order, and the names of the ports that packets go to if those are known. With `only`
    /// what peers that match none of these meet is left out.
    pub(super) fn of<'a>(
        policies: impl Iterator<Item = &'a Slot>,
        direction: usize,
        names: &NamedPorts,
        only: Option<&BTreeSet<u32>>,
    ) -> Clauses {
        let mut clauses =
            Clauses { all: Vec::new(), anybody: Vec::new(), by_matcher: BTreeMap::new(), isolated: false };
        for policy in policies {
            clauses.isolated |= policy.rank.0 == NAMESPACED;
            for rule in &policy.rules[direction] {
                expand(rule, policy.rank.0, names, only, &mut clauses.all);
            }
        }
        for (index, clause) in clauses.all.iter().enumerate() {
            match clause.who.first() {
                None => clauses.anybody.push(index),
                Some(first) => clauses.by_matcher.entry(*first).or_default().push(index),
            }
        }
        clauses
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
                0 => ask_admin,
                NAMESPACED => self.isolated,
                _ => ask_baseline && !self.isolated,
            };
            if !asked || !clause.means(to) {
                continue;
            }
            match (clause.action, clause.tier) {
                (Action::Accept, _) => return true,
                (Action::Deny, _) => return false,
                (Action::Pass, 0) => ask_admin = false,
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
fn expand(rule: &Rule, tier: u8, names: &NamedPorts, only: Option<&BTreeSet<u32>>, all: &mut Vec<Clause>) {
    let of_interest = |peer: &&u32| only.is_none_or(|only| only.contains(peer));
    let peers: Vec<Option<u32>> = match &rule.peers {
        None => vec![None],
        Some(peers) => peers.iter().filter(of_interest).map(|peer| Some(*peer)).collect(),
    };
    let action = rule.action;
    let clause = |who: Vec<u32>, ports| Clause { tier, who, ports, action };
    let Some(ports) = &rule.ports else {
        all.extend(peers.iter().map(|peer| clause(peer.iter().copied().collect(), None)));
        return;
    };
    let plain: Vec<(Protocol, u16, u16)> = ports.iter().filter_map(|port| port.span(names)).collect();
    if !plain.is_empty() {
        all.extend(peers.iter().map(|peer| clause(peer.iter().copied().collect(), Some(plain.clone()))));
    }
    for (value, calls) in rule.named.iter().filter(|(_, calls)| of_interest(&calls)) {
        let ports = vec![(value.protocol, value.port, value.port)];
        all.extend(
            peers
                .iter()
                .map(|peer| clause(peer.iter().copied().chain([*calls]).collect(), Some(ports.clone()))),
        );
    }
}
