//! ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2), and the same kind of weft's own group for hosts themselves.
//!
//! Peers by domain name are not known here, and so refused like any unknown field.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Direction, Protocol, enforcement, selector};
use crate::name::PortName;
use crate::object::{Flaw, Metadata, Resource};
use crate::selector::Selector;

/// The most rules per direction, peers per rule and matches per rule (the API's own limits).
const MOST: usize = 25;

/// The `apiVersion` of policies whose subject is hosts, which upstream has none for.
pub const HOST_VERSION: &str = "weft.network/v1alpha1";

/// `kind: ClusterNetworkPolicy`: what the administrator says before, or after, the policies of namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterNetworkPolicy {
    /// `policy.networking.k8s.io/v1alpha2`; [`HOST_VERSION`] if it concerns hosts themselves.
    pub api_version: String,
    /// Its name.
    pub metadata: Metadata,
    /// What it says.
    pub spec: ClusterPolicySpec,
}

/// What a [`ClusterNetworkPolicy`] says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterPolicySpec {
    /// Before or after the policies of namespaces.
    pub tier: Tier,
    /// 0 to 1000; lower numbers are looked at first.
    pub priority: u16,
    /// Which workloads it concerns.
    pub subject: Subject,
    /// Rules for what reaches them; the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<ClusterRuleIn>,
    /// Rules for what they reach; the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<ClusterRuleOut>,
}

/// Where a policy stands among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// Before the policies of namespaces.
    Admin,
    /// After them, for workloads that none of them isolates.
    Baseline,
}

/// Workloads or hosts, by exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Subject {
    /// All workloads of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Selector>,
    /// Some workloads of some namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
    /// Hosts themselves, by their labels ([`Node::labels`](crate::Node::labels)); only of [`HOST_VERSION`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<Selector>,
}

/// Some workloads of some namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespacedPods {
    /// The namespaces; empty means all.
    #[serde(default)]
    pub namespace_selector: Selector,
    /// Their workloads; empty means all.
    pub pod_selector: Selector,
}

/// What becomes of what a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// It passes; nothing further is asked in this direction.
    Accept,
    /// It is dropped.
    Deny,
    /// The next tier decides.
    Pass,
}

/// A rule for what reaches the subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRuleIn {
    /// For people; at most 100 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What becomes of it.
    pub action: Action,
    /// From any of these.
    pub from: Vec<ClusterPeer>,
    /// By any of these protocols; absent means by any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<ProtocolMatch>>,
}

/// A rule for what the subject reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterRuleOut {
    /// For people; at most 100 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What becomes of it.
    pub action: Action,
    /// Any of these.
    pub to: Vec<ClusterPeer>,
    /// By any of these protocols; absent means by any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<ProtocolMatch>>,
}

/// The other end, by exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ClusterPeer {
    /// All workloads of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Selector>,
    /// Some workloads of some namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
    /// Addresses; in rules for what reaches the subject only where that is hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<IpNet>>,
}

/// A protocol with its ports, by exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ProtocolMatch {
    /// TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<PortMatch>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<PortMatch>,
    /// SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<PortMatch>,
    /// The port that the workload gives this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<PortName>,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortMatch {
    /// The port it is sent to.
    pub destination_port: PortNumber,
}

/// A port or several, by exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct PortNumber {
    /// This port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    /// All from the first to the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<PortSpan>,
}

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortSpan {
    /// The first.
    pub start: u16,
    /// The last; more than the first.
    pub end: u16,
}

impl Resource for ClusterNetworkPolicy {
    const API_VERSION: &'static str = "policy.networking.k8s.io/v1alpha2";
    const KIND: &'static str = "ClusterNetworkPolicy";
    const PLURAL: &'static str = "clusternetworkpolicies";
    const SHORT: &'static str = "cnp";
    const NAMESPACED: bool = false;

    fn versions() -> &'static [&'static str] {
        &[Self::API_VERSION, HOST_VERSION]
    }

    fn validate_spec(&self) -> Result<(), Flaw> {
        enforcement(&self.metadata)?;
        let spec = &self.spec;
        priority(spec.priority)?;
        let Subject { namespaces, pods, nodes } = &spec.subject;
        let of_hosts = self.api_version == HOST_VERSION;
        match nodes {
            Some(_) if !of_hosts => {
                let why = format!("hosts are the subject of policies of apiVersion {HOST_VERSION} only");
                return Err(Flaw::new("spec.subject.nodes", why));
            }
            None if of_hosts => {
                let why = format!(
                    "policies of apiVersion {HOST_VERSION} are for hosts; those for workloads are of {}",
                    Self::API_VERSION
                );
                return Err(Flaw::new("spec.subject", why));
            }
            Some(nodes) => selector(nodes, "spec.subject.nodes")?,
            None => {}
        }
        one_of(
            [namespaces.is_some(), pods.is_some(), nodes.is_some()],
            "spec.subject",
            "namespaces, pods and nodes",
        )?;
        select(namespaces.as_ref(), pods.as_ref(), "spec.subject")?;
        rules(&spec.ingress, &spec.egress, of_hosts)
    }
}

fn priority(priority: u16) -> Result<(), Flaw> {
    let fits = priority <= 1000;
    if fits { Ok(()) } else { Err(Flaw::new("spec.priority", format!("{priority} is more than 1000"))) }
}

fn one_of(present: impl IntoIterator<Item = bool>, path: &str, names: &str) -> Result<(), Flaw> {
    match present.into_iter().filter(|p| *p).count() {
        1 => Ok(()),
        _ => Err(Flaw::new(path, format!("exactly one of {names} must be given"))),
    }
}

fn some(count: usize, path: &str) -> Result<(), Flaw> {
    if (1..=MOST).contains(&count) {
        return Ok(());
    }
    Err(Flaw::new(path, format!("has {count} entries; 1 to {MOST} are allowed")))
}

fn select(namespaces: Option<&Selector>, pods: Option<&NamespacedPods>, path: &str) -> Result<(), Flaw> {
    if let Some(namespaces) = namespaces {
        selector(namespaces, &format!("{path}.namespaces"))?;
    }
    if let Some(pods) = pods {
        selector(&pods.namespace_selector, &format!("{path}.pods.namespaceSelector"))?;
        selector(&pods.pod_selector, &format!("{path}.pods.podSelector"))?;
    }
    Ok(())
}

fn rules(ingress: &[ClusterRuleIn], egress: &[ClusterRuleOut], of_hosts: bool) -> Result<(), Flaw> {
    let inward = ingress.iter().map(|r| (&r.name, &r.from, &r.protocols));
    let outward = egress.iter().map(|r| (&r.name, &r.to, &r.protocols));
    for (direction, list, all) in [
        (Direction::Ingress, "from", inward.collect::<Vec<_>>()),
        (Direction::Egress, "to", outward.collect::<Vec<_>>()),
    ] {
        let word = direction.as_str();
        if all.len() > MOST {
            some(all.len(), &format!("spec.{word}"))?;
        }
        for (index, (name, peers, protocols)) in all.into_iter().enumerate() {
            let path = format!("spec.{word}[{index}]");
            if name.len() > 100 {
                return Err(Flaw::new(format!("{path}.name"), "is longer than 100 bytes"));
            }
            if name.chars().any(char::is_control) {
                return Err(Flaw::new(format!("{path}.name"), "holds a control character"));
            }
            some(peers.len(), &format!("{path}.{list}"))?;
            let networks = of_hosts || direction == Direction::Egress;
            for (at, peer) in peers.iter().enumerate() {
                peer.validate(&format!("{path}.{list}[{at}]"), networks)?;
            }
            let Some(protocols) = protocols else { continue };
            some(protocols.len(), &format!("{path}.protocols"))?;
            let nameless = match direction {
                // Only workloads give names to ports.
                Direction::Ingress => of_hosts,
                Direction::Egress => peers.iter().any(|p| p.networks.is_some()),
            };
            for (at, protocol) in protocols.iter().enumerate() {
                protocol.validate(&format!("{path}.protocols[{at}]"), nameless)?;
            }
        }
    }
    Ok(())
}

impl ClusterPeer {
    fn validate(&self, path: &str, networks: bool) -> Result<(), Flaw> {
        if self.networks.is_some() && !networks {
            return Err(Flaw::new(format!("{path}.networks"), "is for egress only"));
        }
        let present = [self.namespaces.is_some(), self.pods.is_some(), self.networks.is_some()];
        one_of(present, path, "namespaces, pods and networks")?;
        if let Some(networks) = &self.networks {
            some(networks.len(), &format!("{path}.networks"))?;
        }
        select(self.namespaces.as_ref(), self.pods.as_ref(), path)
    }
}

impl ProtocolMatch {
    /// The protocol and its ports, first and last; `None` for a named port.
    #[must_use]
    pub fn ports(&self) -> Option<(Protocol, u16, u16)> {
        let all = [(Protocol::Tcp, &self.tcp), (Protocol::Udp, &self.udp), (Protocol::Sctp, &self.sctp)];
        let (protocol, found) = all.into_iter().find_map(|(p, m)| Some((p, m.as_ref()?)))?;
        let PortNumber { number, range } = &found.destination_port;
        let (first, last) = number.map(|n| (n, n)).or(range.map(|r| (r.start, r.end)))?;
        Some((protocol, first, last))
    }

    fn validate(&self, path: &str, nameless: bool) -> Result<(), Flaw> {
        let ProtocolMatch { tcp, udp, sctp, destination_named_port } = self;
        let present = [tcp.is_some(), udp.is_some(), sctp.is_some(), destination_named_port.is_some()];
        one_of(present, path, "tcp, udp, sctp and destinationNamedPort")?;
        if destination_named_port.is_some() && nameless {
            let why = "neither networks nor hosts give names to ports";
            return Err(Flaw::new(format!("{path}.destinationNamedPort"), why));
        }
        for (word, ports) in [("tcp", tcp), ("udp", udp), ("sctp", sctp)] {
            let Some(ports) = ports else { continue };
            let path = format!("{path}.{word}.destinationPort");
            let PortNumber { number, range } = &ports.destination_port;
            one_of([number.is_some(), range.is_some()], &path, "number and range")?;
            if *number == Some(0) {
                return Err(Flaw::new(format!("{path}.number"), "ports are 1 to 65535"));
            }
            if range.is_some_and(|r| r.start == 0 || r.start >= r.end) {
                return Err(Flaw::new(format!("{path}.range"), "start is at least 1 and less than end"));
            }
        }
        Ok(())
    }
}
