//! Why the shared store could not do what was asked, and what to do about it.
//!
//! Never retries and never logs.

use std::path::PathBuf;

use weft_model::api::{self, ErrorKind};

/// Why the shared store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// No server answered in time, or none has a leader to follow.
    #[error("the store does not answer ({endpoints}): {why}")]
    Away {
        /// Who was asked.
        endpoints: String,
        /// What the last of them said.
        why: String,
    },
    /// The store refused, and would refuse again.
    #[error("the store refused to {what}: {why}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Why not.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The history that was asked for is forgotten.
    #[error("the store has forgotten what happened before its revision {0}")]
    Compacted(u64),
    /// The lease is over.
    #[error("the lease is over")]
    LeaseEnded,
    /// A certificate, key or password cannot be used.
    #[error("{path} cannot be used for the store: {why}")]
    Credential {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The store's address makes no sense.
    #[error("'{address}' is no address of a store: {why}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ClusterError {
    /// Whether the same call may succeed later, with nothing done about it.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, ClusterError::Away { .. } | ClusterError::Compacted(_) | ClusterError::LeaseEnded)
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            ClusterError::Away { .. } => {
                "what runs goes on meanwhile; see that most etcd members run and that this host reaches one: docs/cluster.md"
            }
            ClusterError::Refused { hint, .. } => hint,
            ClusterError::Compacted(_) | ClusterError::LeaseEnded => {
                "the agent does what is needed by itself"
            }
            ClusterError::Credential { .. } => {
                "correct store_ca, store_cert, store_key or store_password_file in the configuration"
            }
            ClusterError::Address { .. } => "write it like etcd://10.0.0.1:2379,10.0.0.2:2379",
        }
    }
}

impl From<ClusterError> for api::Error {
    fn from(error: ClusterError) -> api::Error {
        let kind = if error.is_passing() { ErrorKind::TryAgain } else { ErrorKind::Storage };
        api::Error::new(kind, error.to_string()).hint(error.hint())
    }
}
