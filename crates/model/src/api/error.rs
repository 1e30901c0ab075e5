//! How the agent says no.

use serde::{Deserialize, Serialize};

/// Kinds of failure; a client decides by them, people read the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The request makes no sense, or asks for what is not allowed.
    Invalid,
    /// The named thing does not exist.
    NotFound,
    /// The named thing exists already, or is in use.
    Exists,
    /// No address is left.
    Exhausted,
    /// It may work later.
    TryAgain,
    /// The kernel refused.
    Kernel,
    /// The agent's own state could not be read or written.
    Storage,
}

/// A failure: what failed, on what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What failed, on what, why: one line.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Error {
    /// A failure without advice.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }
}
