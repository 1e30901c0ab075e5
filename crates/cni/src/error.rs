//! Failures as a runtime is told of them (CNI SPEC.md 1.1.0, section 5, "Error").

use std::io;

use serde::Serialize;
use weft_model::api::{self, ErrorKind};

use crate::conf::{ConfError, LIMIT};
use crate::env::{Command, EnvError};
use crate::ipam::IpamError;
use crate::version::SpecVersion;
use weft_kernel::agent::AgentError;

/// Codes of our own; the specification leaves everything from 100 on to plugins.
mod code {
    /// The kernel refused.
    pub(super) const KERNEL: u32 = 100;
    /// The interface exists already, or an address is taken.
    pub(super) const EXISTS: u32 = 101;
    /// `CHECK` found something wrong.
    pub(super) const CHECK: u32 = 102;
    /// The agent said something that this plugin does not understand.
    pub(super) const AGENT: u32 = 103;
}

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Env(#[from] EnvError),
    #[error(transparent)]
    Conf(#[from] ConfError),
    #[error("cannot read the network configuration from stdin")]
    Stdin(#[source] io::Error),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Ipam(#[from] IpamError),
    /// The agent said no.
    #[error("{error}")]
    Refused { command: Command, error: api::Error },
    #[error("weft's agent gave an answer that does not belong to {}", command.as_str())]
    Unexpected { command: Command },
    #[error("{attachment} is not as it should be")]
    Check { attachment: String, problems: Vec<String> },
    /// `STATUS`: `ADD` would not work now.
    #[error("{message}")]
    NotReady { limited: bool, message: String, hint: Option<String> },
}

impl Failure {
    /// Its number: the specification's below 100, ours from there on.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Failure::Env(_) => 4,
            Failure::Conf(error) => error.code(),
            Failure::Stdin(_) => 5,
            Failure::Agent(error) if error.is_away() => 11,
            Failure::Agent(AgentError::SocketPath { .. } | AgentError::TooLong { .. }) => 7,
            Failure::Agent(_) | Failure::Unexpected { .. } => code::AGENT,
            Failure::Ipam(error) => error.code(),
            Failure::Refused { command, error } => match error.kind {
                ErrorKind::NotFound if *command == Command::Check => 3,
                ErrorKind::Invalid | ErrorKind::NotFound => 7,
                ErrorKind::Exhausted | ErrorKind::TryAgain => 11,
                ErrorKind::Storage => 5,
                ErrorKind::Kernel => code::KERNEL,
                ErrorKind::Exists => code::EXISTS,
            },
            Failure::Check { .. } => code::CHECK,
            Failure::NotReady { limited: false, .. } => 50,
            Failure::NotReady { limited: true, .. } => 51,
        }
    }

    /// The cause, or what to do about it.
    fn details(&self) -> Option<String> {
        match self {
            Failure::Env(EnvError::NoCommand) => Some(
                "this program is a CNI plugin: a container runtime executes it and says in CNI_COMMAND what to do"
                    .to_owned(),
            ),
            Failure::Env(_) | Failure::Unexpected { .. } => None,
            Failure::Conf(error) => error.details(),
            Failure::Stdin(source) => Some(source.to_string()),
            Failure::Agent(error) => error.details(),
            Failure::Ipam(error) => error.details(),
            Failure::Refused { error, .. } => error.hint.clone(),
            Failure::Check { problems, .. } => Some(problems.join("; ")),
            Failure::NotReady { hint, .. } => hint.clone(),
        }
    }

    /// The failure as text for stdout, ending in a newline.
    pub(crate) fn render(&self, version: SpecVersion) -> String {
        let report = Report {
            version: version.as_str(),
            code: self.code(),
            msg: &clipped(self.to_string()),
            details: self.details().map(clipped),
        };
        let text = serde_json::to_string_pretty(&report);
        text.expect("strings and a number always become JSON") + "\n"
    }
}

#[derive(Serialize)]
struct Report<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<String>,
}

/// What others say, at a length that a runtime can put into its log.
fn clipped(mut text: String) -> String {
    const MOST: usize = LIMIT / 64;
    if text.len() > MOST {
        text.truncate(text.floor_char_boundary(MOST));
        text.push('…');
    }
    text
}
