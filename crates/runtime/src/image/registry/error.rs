//! What can go wrong with a registry.

use std::io;
use std::path::PathBuf;

use crate::image::layer::show;

/// What can go wrong with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The name does not say where the image is.
    #[error("'{0}' names no registry, and none is assumed")]
    NoRegistry(String),
    /// It cannot be reached, or TLS did not come about.
    #[error("the registry {host} cannot be reached")]
    Reach {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The connection ended too early.
    #[error("the registry {host} broke off")]
    Cut {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not let us in.
    #[error("the registry {host} {}", match .user {
        Some(user) => format!("does not let '{user}' in"),
        None => "wants a name and a password".to_owned(),
    })]
    Refused {
        /// The registry.
        host: String,
        /// Who we said we are.
        user: Option<String>,
        /// Whether it had let us in before.
        again: bool,
    },
    /// It wants the password to be sent in the open.
    #[error("the registry {host} names a token server without TLS, {realm}")]
    PlainRealm {
        /// The registry.
        host: String,
        /// The token server.
        realm: String,
    },
    /// It has no such thing.
    #[error("the registry {host} has no {what}")]
    NotFound {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// The blob is shorter than what we have of it.
    #[error("the registry has nothing after what was fetched before")]
    Range,
    /// It refused for another reason.
    #[error("the registry {host} answered {status} when asked for {what}{}", .words.as_ref().map(|w| format!(": {w}")).unwrap_or_default())]
    Status {
        /// The registry.
        host: String,
        /// What was asked for.
        what: String,
        /// The status of HTTP.
        status: u16,
        /// What it said.
        words: Option<String>,
    },
    /// Its answer cannot be understood.
    #[error("the registry {host} sent {what}")]
    Nonsense {
        /// The registry.
        host: String,
        /// What it sent.
        what: &'static str,
    },
    /// The certificate authorities cannot be read.
    #[error("the certificate authorities in {path} cannot be used: {why}")]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The file of passwords cannot be read.
    #[error("the passwords in {path} cannot be used: {why}")]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl RegistryError {
    /// True if trying again may help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            RegistryError::Cut { .. } | RegistryError::Range => true,
            RegistryError::Status { status, .. } => *status >= 500 || *status == 429,
            RegistryError::Reach { source, .. } => matches!(
                **source,
                ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed
            ),
            _ => false,
        }
    }
}

/// The first message of an answer in the registries' form, `{"errors": [{"message"}]}`.
pub(super) fn first_message(bytes: &[u8]) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    answer["errors"][0]["message"].as_str().map(|message| show(message.as_bytes()))
}
