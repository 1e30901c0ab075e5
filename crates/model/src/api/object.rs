//! Words about declared objects: `weft apply`, `get` and `delete`.

use serde::{Deserialize, Serialize};

use crate::name::{NamespaceName, ObjectName};
use crate::object::{Kind, Object};

/// Objects to take in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// The objects.
    pub objects: Vec<Object>,
    /// Only say what would become of them.
    #[serde(default)]
    pub dry_run: bool,
}

/// Which objects are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get {
    /// Their kind; all kinds without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Their namespace; all namespaces without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NamespaceName>,
    /// Its name; all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<ObjectName>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is new.
    Created,
    /// It takes the place of an older one.
    Configured,
    /// It was there, as it is.
    Unchanged,
    /// It is gone.
    Deleted,
    /// It was not there.
    Absent,
    /// It goes when the last workload of its namespace does.
    Terminating,
}
