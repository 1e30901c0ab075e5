//! Namespaces: what groups workloads and the policies that protect them. They are not network namespaces.
//!
//! A namespace exists once something is in it; an object of kind `Namespace` gives it labels.

use serde::{Deserialize, Serialize};

use crate::label::{LabelKey, Labels};
use crate::name::NamespaceName;
use crate::object::{Flaw, Metadata, Resource};

/// The label that every namespace has, with its own name as value. Nobody can set it to something else.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A namespace as it was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Namespace {
    /// `v1`.
    pub api_version: String,
    /// Its name and labels.
    pub metadata: Metadata,
    /// Nothing that weft knows of.
    #[serde(default, skip_serializing_if = "NamespaceSpec::is_empty")]
    pub spec: NamespaceSpec,
    /// Whether it is on its way out.
    #[serde(default, skip_serializing_if = "NamespaceStatus::is_active")]
    pub status: NamespaceStatus,
}

/// Nothing that weft knows of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceSpec {
    /// What Kubernetes waits for before it removes a namespace; kept as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}

impl NamespaceSpec {
    fn is_empty(&self) -> bool {
        self.finalizers.is_empty()
    }
}

/// How far a namespace has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceStatus {
    /// `Active` or `Terminating`.
    pub phase: NamespacePhase,
}

/// How far a namespace has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespacePhase {
    /// In use.
    #[default]
    Active,
    /// Deleted, with workloads left: its policies stay in force until the last of them is gone.
    Terminating,
}

impl NamespaceStatus {
    fn is_active(&self) -> bool {
        self.phase == NamespacePhase::Active
    }
}

impl Resource for Namespace {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";
    const SHORT: &'static str = "ns";
    const NAMESPACED: bool = false;

    fn validate_spec(&self) -> Result<(), Flaw> {
        let name = self.metadata.name.as_str();
        let valid = name.parse::<NamespaceName>();
        valid.map(|_| ()).map_err(|error| Flaw::new("metadata.name", error.to_string()))
    }
}

/// The labels that selectors see: the declared ones, and the name.
#[must_use]
pub fn labels(name: &NamespaceName, declared: Option<&Namespace>) -> Labels {
    let mut labels = declared.map(|n| n.metadata.labels.clone()).unwrap_or_default();
    let key: LabelKey = NAME_LABEL.parse().expect("the constant is a label key");
    labels.insert(key, name.as_str().parse().expect("a namespace's name is a label value"));
    labels
}

#[must_use]
/// The namespace of what does not name one.
///
/// # Panics
/// Never.
pub fn default_namespace() -> NamespaceName {
    "default".parse().expect("default is a namespace's name")
}
