//! From objects to terms: what is asked of a packet of one workload in one direction, in order.
//!
//! The order is the API's: tier Admin by priority, then the policies of namespaces, then tier Baseline. What is not understood
//! fails closed: as an Accept it matches nothing, as a Deny or Pass it denies all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_model::policy::{
    Action, ClusterNetworkPolicy, ClusterPeer, Direction, Enforcement, NamedPorts, NetworkPolicy, PolicyPort,
    PortRef, Protocol, ProtocolMatch, Tier, WorkloadPort, enforcement,
};
use weft_model::{Labels, NamespaceName, PortName, World};

use super::matcher::{End, Matcher, Member, Members, Namespaces};

/// What is asked of the packets of a workload in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Tier Admin, in order.
    pub admin: Vec<Rule>,
    /// Policies of the namespace that isolate the workload in this direction.
    pub isolating: Vec<(String, Enforcement)>,
    /// What those let pass.
    pub allowing: Vec<Rule>,
    /// Tier Baseline, in order.
    pub baseline: Vec<Rule>,
}

/// One rule of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose: `NetworkPolicy/shop/web`.
    pub policy: Arc<str>,
    /// Which: `ingress[0]`, with its name if it has one.
    pub rule: Arc<str>,
    /// Whether the policy is in force.
    pub enforcement: Enforcement,
    /// What becomes of what it matches.
    pub action: Action,
    /// Who is at the other end; `None` is anybody, an empty list is nobody.
    pub peers: Option<Vec<Matcher>>,
    /// By which protocols and ports; `None` is any, an empty list is none.
    pub ports: Option<Vec<Port>>,
}

/// Ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// From the first to the last.
    Span(Protocol, u16, u16),
    /// What the packet's destination calls by this name; of that protocol, or of any.
    Named(Option<Protocol>, PortName),
}

impl Rule {
    /// Whether it matches a packet to `destination` whose other end is `peer`.
    #[must_use]
    pub fn matches(&self, peer: &End<'_>, destination: &End<'_>, protocol: u8, port: u16) -> bool {
        self.peers.as_ref().is_none_or(|all| all.iter().any(|one| one.matches(peer)))
            && self
                .ports
                .as_ref()
                .is_none_or(|all| all.iter().any(|one| one.matches(destination.workload, protocol, port)))
    }
}

impl Port {
    fn matches(&self, destination: Option<&Member>, protocol: u8, port: u16) -> bool {
        match self {
            Port::Span(of, first, last) => of.number() == protocol && (*first..=*last).contains(&port),
            Port::Named(of, name) => destination.and_then(|w| w.ports.get(name)).is_some_and(|named| {
                of.is_none_or(|of| of == named.protocol)
                    && named.protocol.number() == protocol
                    && named.port == port
            }),
        }
    }

    /// The ports, if it says them by itself or these names do.
    #[must_use]
    pub fn span(&self, names: &NamedPorts) -> Option<(Protocol, u16, u16)> {
        match self {
            Port::Span(protocol, first, last) => Some((*protocol, *first, *last)),
            Port::Named(of, name) => {
                let WorkloadPort { protocol, port } = *names.get(name)?;
                of.is_none_or(|of| of == protocol).then_some((protocol, port, port))
            }
        }
    }

    /// The name, if it says the ports by one, and the protocol that they must be of.
    #[must_use]
    pub fn name(&self) -> Option<(Option<Protocol>, &PortName)> {
        match self {
            Port::Span(..) => None,
            Port::Named(of, name) => Some((*of, name)),
        }
    }
}

impl Terms {
    /// Whether nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admin.is_empty() && self.isolating.is_empty() && self.baseline.is_empty()
    }

    /// All rules, in order.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.admin.iter().chain(&self.allowing).chain(&self.baseline)
    }

    /// The same without the policies that are only under audit.
    #[must_use]
    pub fn enforced(&self) -> Terms {
        let rules =
            |all: &[Rule]| all.iter().filter(|r| r.enforcement == Enforcement::Enforce).cloned().collect();
        Terms {
            admin: rules(&self.admin),
            isolating: self.isolating.iter().filter(|(_, e)| *e == Enforcement::Enforce).cloned().collect(),
            allowing: rules(&self.allowing),
            baseline: rules(&self.baseline),
        }
    }

    /// Whether a policy under audit says something.
    #[must_use]
    pub fn has_audit(&self) -> bool {
        self.isolating.iter().any(|(_, e)| *e == Enforcement::Audit)
            || self.rules().any(|r| r.enforcement == Enforcement::Audit)
    }

    /// The policies that say something, in order, each once.
    #[must_use]
    pub fn by(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let admin = self.admin.iter().map(|r| r.policy.to_string());
        let isolating = self.isolating.iter().map(|(name, _)| name.clone());
        for name in admin.chain(isolating).chain(self.baseline.iter().map(|r| r.policy.to_string())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// The world's policies, prepared once to be asked for many workloads.
#[derive(Debug)]
pub struct Policies {
    admin: Vec<Prepared>,
    namespaced: BTreeMap<NamespaceName, Vec<Prepared>>,
    baseline: Vec<Prepared>,
}

/// A policy with its rules as terms.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) subject: Matcher,
    pub(super) name: Arc<str>,
    pub(super) enforcement: Enforcement,
    pub(super) isolates: [bool; 2],
    pub(super) rules: [Vec<Rule>; 2],
}

impl Policies {
    /// Prepares them.
    #[must_use]
    pub fn of(world: &World) -> Policies {
        Policies::some(world, |_| true)
    }

    /// Prepares those that can select one of these workloads.
    #[must_use]
    pub fn for_members(world: &World, members: &Members) -> Policies {
        let namespaces: BTreeSet<&NamespaceName> = members.all.iter().map(|m| &m.namespace).collect();
        Policies::some(world, |namespace| namespaces.contains(namespace))
    }

    fn some(world: &World, wanted: impl Fn(&NamespaceName) -> bool) -> Policies {
        // Those whose subject is hosts are no business of workloads.
        let mut policies = Policies::of_cluster(world, |policy| policy.spec.subject.nodes.is_none());
        for ((namespace, _), policy) in world.declared.policies.iter().filter(|((ns, _), _)| wanted(ns)) {
            policies.namespaced.entry(namespace.clone()).or_default().push(of_namespace(namespace, policy));
        }
        policies
    }

    /// Prepares those of hosts with such labels: all of them select whatever they are asked about.
    #[must_use]
    pub fn of_host(world: &World, labels: &Labels) -> Policies {
        Policies::of_cluster(world, |policy| {
            policy.spec.subject.nodes.as_ref().is_some_and(|nodes| nodes.matches(labels))
        })
    }

    fn of_cluster(world: &World, admits: impl Fn(&ClusterNetworkPolicy) -> bool) -> Policies {
        let mut cluster: Vec<&ClusterNetworkPolicy> =
            world.declared.cluster_policies.values().filter(|policy| admits(policy)).collect();
        // Equal priorities: by name, so that it is at least always the same.
        cluster.sort_by_key(|p| (p.spec.priority, p.metadata.name.clone()));
        let tier =
            |tier| cluster.iter().filter(move |p| p.spec.tier == tier).map(|p| of_cluster(p)).collect();
        Policies { admin: tier(Tier::Admin), namespaced: BTreeMap::new(), baseline: tier(Tier::Baseline) }
    }

    /// The numbers of the policies that select a workload: workloads with the same share their terms.
    #[must_use]
    pub fn selecting(&self, workload: &Member) -> Vec<(u8, usize)> {
        let end =
            End { address: std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), workload: Some(workload) };
        let own = self.namespaced.get(&workload.namespace).map(Vec::as_slice).unwrap_or_default();
        let mut selecting = Vec::new();
        for (tier, all) in [(0, self.admin.as_slice()), (1, own), (2, self.baseline.as_slice())] {
            let matching = all.iter().enumerate().filter(|(_, p)| p.subject.matches(&end));
            selecting.extend(matching.map(|(index, _)| (tier, index)));
        }
        selecting
    }

    /// The terms of a workload in a direction.
    #[must_use]
    pub fn terms(&self, workload: &Member, direction: Direction) -> Terms {
        let own = self.namespaced.get(&workload.namespace).map(Vec::as_slice).unwrap_or_default();
        let at = direction as usize;
        let mut terms = Terms::default();
        for (tier, index) in self.selecting(workload) {
            match tier {
                0 => terms.admin.extend(self.admin[index].rules[at].iter().cloned()),
                1 if own[index].isolates[at] => {
                    terms.isolating.push((own[index].name.to_string(), own[index].enforcement));
                    terms.allowing.extend(own[index].rules[at].iter().cloned());
                }
                1 => {}
                _ => terms.baseline.extend(self.baseline[index].rules[at].iter().cloned()),
            }
        }
        terms
    }
}

pub(super) fn of_namespace(namespace: &NamespaceName, policy: &NetworkPolicy) -> Prepared {
    let name: Arc<str> = format!("NetworkPolicy/{namespace}/{}", policy.metadata.name).into();
    let enforcement = enforcement(&policy.metadata).unwrap_or_default();
    let rules = |direction: Direction| {
        let rules = policy.spec.rules(direction).into_iter().enumerate();
        rules
            .map(|(index, (peers, ports))| Rule {
                policy: name.clone(),
                rule: format!("{}[{index}]", direction.as_str()).into(),
                enforcement,
                action: Action::Accept,
                // A peer that is not understood matches nothing; none at all mean everybody.
                peers: (!peers.is_empty())
                    .then(|| peers.iter().filter_map(|peer| Matcher::of_peer(peer, namespace)).collect()),
                ports: (!ports.is_empty()).then(|| ports.iter().map(port).collect()),
            })
            .collect()
    };
    Prepared {
        subject: Matcher::Pods {
            namespaces: Namespaces::One(namespace.clone()),
            pods: policy.spec.pod_selector.clone(),
            port: None,
        },
        isolates: Direction::BOTH.map(|d| policy.spec.isolates(d)),
        rules: Direction::BOTH.map(rules),
        enforcement,
        name,
    }
}

fn port(port: &PolicyPort) -> Port {
    match &port.port {
        None => Port::Span(port.protocol, 0, u16::MAX),
        Some(PortRef::Number(first)) => Port::Span(port.protocol, *first, port.end_port.unwrap_or(*first)),
        Some(PortRef::Name(name)) => Port::Named(Some(port.protocol), name.clone()),
    }
}

pub(super) fn of_cluster(policy: &ClusterNetworkPolicy) -> Prepared {
    let name: Arc<str> = format!("ClusterNetworkPolicy/{}", policy.metadata.name).into();
    let enforcement = enforcement(&policy.metadata).unwrap_or_default();
    let subject = &policy.spec.subject;
    let everybody = || Matcher::Pods {
        namespaces: Namespaces::Selected(weft_model::Selector::default()),
        pods: weft_model::Selector::default(),
        port: None,
    };
    let as_peer = ClusterPeer {
        namespaces: subject.namespaces.clone(),
        pods: subject.pods.clone(),
        ..ClusterPeer::default()
    };
    let subject = Matcher::of_cluster_peer(&as_peer).and_then(|mut all| all.pop()).unwrap_or_else(everybody);
    let rule = |direction: Direction,
                index: usize,
                given: &str,
                action,
                peers: &[ClusterPeer],
                protocols: &Option<Vec<ProtocolMatch>>| {
        let peers: Option<Vec<Matcher>> =
            peers.iter().map(Matcher::of_cluster_peer).collect::<Option<Vec<_>>>().map(|p| p.concat());
        let ports: Option<Option<Vec<Port>>> =
            protocols.as_ref().map(|all| all.iter().map(protocol).collect::<Option<Vec<_>>>());
        let understood = peers.as_ref().is_some_and(|p| !p.is_empty()) && ports != Some(None);
        let shown = if given.is_empty() { String::new() } else { format!(" '{given}'") };
        let (action, peers, ports) = match (understood, action) {
            (true, action) => (action, peers, ports.flatten()),
            (false, Action::Accept) => (Action::Accept, Some(Vec::new()), None),
            (false, Action::Deny | Action::Pass) => (Action::Deny, None, None),
        };
        Rule {
            policy: name.clone(),
            rule: format!("{}[{index}]{shown}", direction.as_str()).into(),
            enforcement,
            action,
            peers,
            ports,
        }
    };
    let ingress = policy.spec.ingress.iter().enumerate();
    let egress = policy.spec.egress.iter().enumerate();
    Prepared {
        rules: [
            ingress
                .map(|(i, r)| rule(Direction::Ingress, i, &r.name, r.action, &r.from, &r.protocols))
                .collect(),
            egress.map(|(i, r)| rule(Direction::Egress, i, &r.name, r.action, &r.to, &r.protocols)).collect(),
        ],
        subject,
        enforcement,
        isolates: [false; 2],
        name,
    }
}

fn protocol(given: &ProtocolMatch) -> Option<Port> {
    match (&given.destination_named_port, given.ports()) {
        (Some(name), None) => Some(Port::Named(None, name.clone())),
        (None, Some((protocol, first, last))) => Some(Port::Span(protocol, first, last)),
        _ => None,
    }
}
