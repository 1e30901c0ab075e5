//! What a workload is and wants beyond an address: carried from the wish for an interface into its record.

use serde::{Deserialize, Serialize};

use crate::bandwidth::Bandwidth;
use crate::label::Labels;
use crate::name::NamespaceName;
use crate::policy::NamedPorts;
use crate::ports::PortMapping;

/// What a workload is and wants beyond an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Its namespace; without one, the pod's, or else `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceName>,
    /// Its labels, by which selectors find it.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Ports of the host that lead to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// Ports that policies may name.
    #[serde(skip_serializing_if = "NamedPorts::is_empty")]
    pub named_ports: NamedPorts,
    /// How much may flow to it and from it.
    #[serde(skip_serializing_if = "Bandwidth::is_unlimited")]
    pub bandwidth: Bandwidth,
}

impl Profile {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Profile::default()
    }
}
