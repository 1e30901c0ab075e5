//! What can go wrong with a delegated IPAM plugin.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

/// Failures in which no code of the specification fits.
const OWN: u32 = 104;

/// Why a delegated IPAM plugin has not done its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IpamError {
    #[error("the IPAM plugin '{name}' may not be executed")]
    NotListed { name: String, list: PathBuf },
    #[error("{} {reason}", path.display())]
    Untrusted { path: PathBuf, reason: &'static str },
    #[error("the list of IPAM plugins {} cannot be read", path.display())]
    List { path: PathBuf, source: io::Error },
    #[error("the IPAM plugin '{name}' is in none of the directories of CNI_PATH")]
    NotFound { name: String, dirs: Vec<PathBuf> },
    #[error("the IPAM plugin {} cannot be executed", program.display())]
    Exec { program: PathBuf, source: io::Error },
    #[error("the IPAM plugin '{name}' has not finished within {} seconds", patience.as_secs())]
    Slow { name: String, patience: Duration },
    #[error("the IPAM plugin '{name}' failed: {message}")]
    Failed { name: String, code: u32, message: String, details: Option<String> },
    #[error("the IPAM plugin '{name}' printed no result")]
    Unclear { name: String, reason: String },
    #[error("the IPAM plugin '{name}' gave no address")]
    NoAddress { name: String },
}

impl IpamError {
    /// The failure that a plugin reports of itself, as the specification wants it passed on.
    pub(super) fn failed(name: &str, output: &[u8]) -> IpamError {
        let report: Value = serde_json::from_slice(output).unwrap_or_default();
        let text = |key| report.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(str::to_owned);
        let code = report.get("code").and_then(Value::as_u64).and_then(|code| u32::try_from(code).ok());
        IpamError::Failed {
            name: name.to_owned(),
            code: code.filter(|code| *code != 0).unwrap_or(OWN),
            message: text("msg").unwrap_or_else(|| "it does not say why".to_owned()),
            details: text("details"),
        }
    }

    pub(crate) fn code(&self) -> u32 {
        match self {
            IpamError::NotListed { .. }
            | IpamError::Untrusted { .. }
            | IpamError::List { .. }
            | IpamError::NotFound { .. } => 7,
            IpamError::Exec { .. } => 5,
            IpamError::Slow { .. } => 11,
            IpamError::Failed { code, .. } => *code,
            IpamError::Unclear { .. } | IpamError::NoAddress { .. } => OWN,
        }
    }

    pub(crate) fn details(&self) -> Option<String> {
        match self {
            IpamError::NotListed { name, list } => Some(format!(
                "remove 'ipam' from the configuration and weft gives the addresses, or add a line '{name}' to {}",
                list.display()
            )),
            IpamError::Untrusted { .. } => {
                Some("it must belong to root, and nobody else may be able to write there".to_owned())
            }
            IpamError::List { source, .. } | IpamError::Exec { source, .. } => Some(source.to_string()),
            IpamError::NotFound { dirs, .. } => {
                let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
                Some(format!(
                    "searched: {}",
                    if dirs.is_empty() { "nowhere".to_owned() } else { dirs.join(", ") }
                ))
            }
            IpamError::Failed { details, .. } => details.clone(),
            IpamError::Unclear { reason, .. } => Some(reason.clone()),
            IpamError::Slow { .. } | IpamError::NoAddress { .. } => None,
        }
    }
}
