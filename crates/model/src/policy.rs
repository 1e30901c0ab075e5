//! Who may speak to whom: NetworkPolicy (networking.k8s.io/v1), ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2).
//!
//! Only the words; what they come to is `weft_plan::policy`'s.

mod cluster;
mod failsafe;
mod port;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use cluster::{
    Action, ClusterNetworkPolicy, ClusterPeer, ClusterPolicySpec, ClusterRuleIn, ClusterRuleOut,
    HOST_VERSION, NamespacedPods, PortMatch, PortNumber, PortSpan, ProtocolMatch, Subject, Tier,
};
pub use failsafe::{Failsafe, OpenPort};
pub use port::{NamedPorts, PolicyPort, PortRef, Protocol, WorkloadPort, named_port};

use crate::object::{Flaw, Metadata, Resource};
use crate::selector::Selector;

/// The annotation that makes a policy only count what it would deny: its value is `audit` then, or `enforce`.
pub const ENFORCEMENT: &str = "weft.network/enforcement";

/// Whether a policy denies, or only counts what it would deny.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// It is in force.
    #[default]
    Enforce,
    /// It only counts.
    Audit,
}

/// What a policy's annotation says.
///
/// # Errors
/// If it is neither `audit` nor `enforce`.
pub fn enforcement(metadata: &Metadata) -> Result<Enforcement, Flaw> {
    match metadata.annotations.get(ENFORCEMENT).map(String::as_str) {
        None | Some("enforce") => Ok(Enforcement::Enforce),
        Some("audit") => Ok(Enforcement::Audit),
        Some(other) => {
            let why = format!("'{}' is neither enforce nor audit", other.escape_default());
            Err(Flaw::new(format!("metadata.annotations.{ENFORCEMENT}"), why))
        }
    }
}

/// `kind: NetworkPolicy`: what may reach, and be reached by, some workloads of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicy {
    /// `networking.k8s.io/v1`.
    pub api_version: String,
    /// Its name and namespace.
    pub metadata: Metadata,
    /// What it says.
    pub spec: NetworkPolicySpec,
}

/// What a [`NetworkPolicy`] says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkPolicySpec {
    /// Which workloads of the policy's namespace it protects; empty means all of them.
    #[serde(default)]
    pub pod_selector: Selector,
    /// Which directions it isolates them in. Absent or empty: `Ingress`, and `Egress` if there is a rule for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_types: Vec<Direction>,
    /// What may reach them, when `Ingress` is isolated; no rule lets nothing in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressRule>,
    /// What they may reach, when `Egress` is isolated; no rule lets nothing out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressRule>,
}

/// A direction, seen from the workload that is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// To it.
    Ingress,
    /// From it.
    Egress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    /// In lower case, as logs and counters have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

/// What may reach the workloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct IngressRule {
    /// From any of these; absent or empty means from anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Peer>,
    /// At any of these ports; absent or empty means by any protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PolicyPort>,
}

/// What the workloads may reach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EgressRule {
    /// Any of these; absent or empty means anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Peer>,
    /// At any of these ports; absent or empty means by any protocol.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PolicyPort>,
}

/// One form of the other end. That a selector is absent is something else than that it is empty: an empty one
/// means everything, an absent one means nothing of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Peer {
    /// Workloads with these labels: in the namespaces that are selected too, or else in the policy's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<Selector>,
    /// Namespaces with these labels: all their workloads, or those that are selected too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<Selector>,
    /// Addresses; excludes the two above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// A range of addresses with holes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpBlock {
    /// The range.
    pub cidr: IpNet,
    /// The holes; each lies in the range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<IpNet>,
}

impl NetworkPolicySpec {
    /// Whether it isolates its workloads in a direction.
    #[must_use]
    pub fn isolates(&self, direction: Direction) -> bool {
        if !self.policy_types.is_empty() {
            return self.policy_types.contains(&direction);
        }
        match direction {
            Direction::Ingress => true,
            Direction::Egress => !self.egress.is_empty(),
        }
    }

    /// The rules of a direction: peers and ports of each.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Vec<(&[Peer], &[PolicyPort])> {
        match direction {
            Direction::Ingress => {
                self.ingress.iter().map(|r| (r.from.as_slice(), r.ports.as_slice())).collect()
            }
            Direction::Egress => self.egress.iter().map(|r| (r.to.as_slice(), r.ports.as_slice())).collect(),
        }
    }
}

impl Resource for NetworkPolicy {
    const API_VERSION: &'static str = "networking.k8s.io/v1";
    const KIND: &'static str = "NetworkPolicy";
    const PLURAL: &'static str = "networkpolicies";
    const SHORT: &'static str = "netpol";
    const NAMESPACED: bool = true;

    fn validate_spec(&self) -> Result<(), Flaw> {
        enforcement(&self.metadata)?;
        let spec = &self.spec;
        selector(&spec.pod_selector, "spec.podSelector")?;
        for direction in Direction::BOTH {
            let (word, list) =
                (direction.as_str(), if direction == Direction::Ingress { "from" } else { "to" });
            for (index, (peers, ports)) in spec.rules(direction).into_iter().enumerate() {
                for (at, peer) in peers.iter().enumerate() {
                    peer.validate(&format!("spec.{word}[{index}].{list}[{at}]"))?;
                }
                for (at, port) in ports.iter().enumerate() {
                    port.validate(&format!("spec.{word}[{index}].ports[{at}]"))?;
                }
            }
        }
        Ok(())
    }
}

impl Peer {
    fn validate(&self, path: &str) -> Result<(), Flaw> {
        let selects = self.pod_selector.is_some() || self.namespace_selector.is_some();
        match &self.ip_block {
            Some(_) if selects => {
                let why = "ipBlock stands alone; give selectors as a peer of their own";
                return Err(Flaw::new(format!("{path}.ipBlock"), why));
            }
            None if !selects => {
                let why = "a peer needs a podSelector, a namespaceSelector or an ipBlock";
                return Err(Flaw::new(path, why));
            }
            Some(block) => block.validate(path)?,
            None => {}
        }
        for (name, selected) in
            [("podSelector", &self.pod_selector), ("namespaceSelector", &self.namespace_selector)]
        {
            if let Some(selected) = selected {
                selector(selected, &format!("{path}.{name}"))?;
            }
        }
        Ok(())
    }
}

impl IpBlock {
    fn validate(&self, path: &str) -> Result<(), Flaw> {
        for (at, hole) in self.except.iter().enumerate() {
            let same_family = hole.addr().is_ipv4() == self.cidr.addr().is_ipv4();
            if !same_family || !self.cidr.trunc().contains(&hole.trunc()) || hole.trunc() == self.cidr.trunc()
            {
                let why = format!("{hole} is not a part of {}", self.cidr);
                return Err(Flaw::new(format!("{path}.ipBlock.except[{at}]"), why));
            }
        }
        Ok(())
    }
}

fn selector(selector: &Selector, path: &str) -> Result<(), Flaw> {
    selector.validate().map_err(|(below, why)| Flaw::new(format!("{path}{below}"), why))
}
