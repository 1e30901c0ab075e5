//! What a workload is and wants beyond an address: carried from the wish for an interface into its record.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bandwidth::Bandwidth;

/// What a workload is and wants beyond an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Its labels, by which selectors find it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
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
