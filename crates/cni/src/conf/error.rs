//! What can be wrong with a configuration.

use crate::field::FieldError;
use crate::version::SpecVersion;

/// Why a configuration cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfError {
    /// More than anybody would write.
    #[error("the network configuration on stdin is longer than {limit} bytes")]
    TooLong {
        /// The most bytes allowed.
        limit: usize,
    },
    /// Not JSON.
    #[error("the network configuration on stdin is not JSON")]
    NotJson {
        /// Where and why.
        source: serde_json::Error,
    },
    /// JSON, but a list or a string or the like.
    #[error("the network configuration on stdin is not a JSON object")]
    NotAnObject,
    /// Nobody here speaks it.
    #[error("cniVersion '{version}' is not supported")]
    UnknownVersion {
        /// The version asked for.
        version: String,
    },
    /// The version asked for does not know the command.
    #[error("{command} needs cniVersion {since} or newer, the configuration has {version}")]
    CommandTooNew {
        /// The command.
        command: &'static str,
        /// Where it came in.
        since: SpecVersion,
        /// What the configuration speaks.
        version: SpecVersion,
    },
    /// A key of a known name with a wrong value.
    #[error("the network configuration's {0}")]
    Field(#[from] FieldError),
    /// A key of an unknown name.
    #[error("the network configuration has an unknown key '{key}'")]
    UnknownKey {
        /// The key.
        key: String,
        /// What may have been meant.
        hint: String,
    },
    /// A wish that this release cannot fulfil.
    #[error("'{key}' is not supported by this release of weft")]
    Unsupported {
        /// The key, with the keys that lead to it.
        key: String,
        /// What to do.
        hint: &'static str,
    },
    /// The result of the plugins before this one is not to be understood.
    #[error("the network configuration's {0}")]
    Previous(FieldError),
    /// `CHECK` has nothing to compare with.
    #[error("CHECK needs the key 'prevResult' with the result of ADD")]
    NoPrevious,
}

impl ConfError {
    /// Its number (CNI SPEC.md 1.1.0, section 5, "Error").
    pub(crate) fn code(&self) -> u32 {
        match self {
            ConfError::UnknownVersion { .. } | ConfError::CommandTooNew { .. } => 1,
            ConfError::Unsupported { .. } => 2,
            ConfError::TooLong { .. }
            | ConfError::NotJson { .. }
            | ConfError::NotAnObject
            | ConfError::Previous(_) => 6,
            ConfError::Field(_) | ConfError::UnknownKey { .. } | ConfError::NoPrevious => 7,
        }
    }

    /// More than one line's worth, or what to do.
    pub(crate) fn details(&self) -> Option<String> {
        match self {
            ConfError::NotJson { source } => Some(source.to_string()),
            ConfError::UnknownVersion { .. } => {
                let all = SpecVersion::ALL.map(SpecVersion::as_str).join(", ");
                Some(format!("supported are {all}"))
            }
            ConfError::UnknownKey { hint, .. } => Some(hint.clone()),
            ConfError::Unsupported { hint, .. } => Some((*hint).to_owned()),
            _ => None,
        }
    }
}
