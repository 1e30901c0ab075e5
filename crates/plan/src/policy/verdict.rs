//! The oracle: what becomes of one packet, and why (DESIGN.md §3, invariant 10).
//!
//! It walks the world's policies one by one, and shares nothing with the tables that [`compile`](super::compile) makes but the
//! meaning of a single rule; so each can find the other's mistakes.

use std::net::IpAddr;

use serde::Serialize;
use weft_model::World;
use weft_model::policy::{Action, Direction};

use super::host::Hosts;
use super::matcher::{End, Member, Members};
use super::resolve::{Policies, Terms};

/// The first packet of a connection, between two workloads or a workload and somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Packet {
    /// From.
    pub source: IpAddr,
    /// To, after translation of services.
    pub destination: IpAddr,
    /// The protocol's number: 6 is TCP.
    pub protocol: u8,
    /// The port it is sent to; 0 where the protocol has none.
    pub port: u16,
}

/// What becomes of a packet: both directions must let it pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether it passes.
    pub allowed: bool,
    /// What each end says that has policies, egress of the source first.
    pub sides: Vec<Side>,
}

/// What the policies of one end say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Which.
    pub direction: Direction,
    /// `namespace/container` whose policies these are.
    pub workload: String,
    /// Whether they let it pass.
    pub allowed: bool,
    /// What decided.
    pub by: Cause,
    /// What was looked at, in order, and whether it matched.
    pub considered: Vec<Considered>,
    /// What policies under audit would have denied it, if they would.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<Cause>,
}

/// What decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// This rule.
    Rule {
        /// Of this policy.
        policy: String,
        /// This one.
        rule: String,
    },
    /// These policies isolate the workload, and none has a rule that matches.
    Isolated(Vec<String>),
    /// No policy says anything.
    Default,
}

/// A rule that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The policy.
    pub policy: String,
    /// The rule.
    pub rule: String,
    /// What it says.
    pub action: Action,
    /// Whether the packet matches.
    pub matched: bool,
}

/// What becomes of a packet.
#[must_use]
pub fn verdict(world: &World, packet: &Packet) -> Verdict {
    let (members, hosts) = (Members::of(world), Hosts::of(world));
    let mut said = judge(&Policies::of(world), &members, packet);
    if hosts.is_node_local(&members, packet) {
        said.sides.clear(); // a host and its own workloads reach each other, whatever workloads' policies say
    }
    said.sides.extend(hosts.sides(&members, packet));
    said.sides.sort_by_key(|side| side.direction == Direction::Ingress);
    said.allowed = said.sides.iter().all(|side| side.allowed);
    said
}

/// The same, for whoever has prepared policies and members before.
#[must_use]
pub fn judge(policies: &Policies, members: &Members, packet: &Packet) -> Verdict {
    if packet.source == packet.destination {
        // Nobody is kept from reaching himself (Kubernetes, "Network Policies": a pod cannot block access to itself).
        return Verdict { allowed: true, sides: Vec::new() };
    }
    let (source, destination) = (members.end(packet.source), members.end(packet.destination));
    let sides: Vec<Side> = Direction::BOTH
        .into_iter()
        .rev()
        .filter_map(|direction| {
            let (own, peer) = match direction {
                Direction::Ingress => (&destination, &source),
                Direction::Egress => (&source, &destination),
            };
            side(policies, direction, own.workload?, peer, &destination, packet)
        })
        .collect();
    Verdict { allowed: sides.iter().all(|s| s.allowed), sides }
}

pub(super) fn side(
    policies: &Policies,
    direction: Direction,
    workload: &Member,
    peer: &End<'_>,
    destination: &End<'_>,
    packet: &Packet,
) -> Option<Side> {
    let all = policies.terms(workload, direction);
    if all.is_empty() {
        return None;
    }
    let enforced = all.enforced();
    let (allowed, by, considered) = decide(&enforced, peer, destination, packet);
    let audit = if all.has_audit() {
        let (would, cause, _) = decide(&all, peer, destination, packet);
        (allowed && !would).then_some(cause)
    } else {
        None
    };
    Some(Side { direction, workload: workload.name.clone(), allowed, by, considered, audit })
}

fn decide(
    terms: &Terms,
    peer: &End<'_>,
    destination: &End<'_>,
    packet: &Packet,
) -> (bool, Cause, Vec<Considered>) {
    let mut considered = Vec::new();
    let mut matches = |rule: &super::Rule| {
        let matched = rule.matches(peer, destination, packet.protocol, packet.port);
        considered.push(Considered {
            policy: rule.policy.to_string(),
            rule: rule.rule.to_string(),
            action: rule.action,
            matched,
        });
        matched
    };
    let cause =
        |rule: &super::Rule| Cause::Rule { policy: rule.policy.to_string(), rule: rule.rule.to_string() };
    if let Some(rule) = terms.admin.iter().find(|rule| matches(rule))
        && rule.action != Action::Pass
    {
        return (rule.action == Action::Accept, cause(rule), considered);
    }
    if !terms.isolating.is_empty() {
        return match terms.allowing.iter().find(|rule| matches(rule)) {
            Some(rule) => (true, cause(rule), considered),
            None => {
                let names = terms.isolating.iter().map(|(name, _)| name.clone()).collect();
                (false, Cause::Isolated(names), considered)
            }
        };
    }
    if let Some(rule) = terms.baseline.iter().find(|rule| matches(rule))
        && rule.action != Action::Pass
    {
        return (rule.action == Action::Accept, cause(rule), considered);
    }
    (true, Cause::Default, considered)
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Rule { policy, rule } => write!(f, "{policy} {rule}"),
            Cause::Isolated(policies) => write!(f, "isolated by {}; no rule matches", policies.join(", ")),
            Cause::Default => f.write_str("no policy says anything"),
        }
    }
}
