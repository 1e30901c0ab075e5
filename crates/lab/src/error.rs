//! What can go wrong in a lab.

use std::io;
use std::path::PathBuf;

use weft_kernel::netlink::{self, Refusal};
use weft_kernel::netns;
use weft_model::api;

/// A failure of the lab itself, or of an agent in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A namespace could not be made or entered.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The kernel could not be asked.
    #[error("failed to {what}")]
    Netlink {
        /// What was to be done.
        what: String,
        /// Why.
        #[source]
        source: netlink::Error,
    },
    /// The kernel said no.
    #[error("failed to {what}")]
    Refused {
        /// What was to be done.
        what: String,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// There is no such interface.
    #[error("there is no interface {0}")]
    NoLink(String),
    /// A name is none that weft accepts.
    #[error(transparent)]
    Name(#[from] weft_model::InvalidName),
    /// A file or folder of the lab's could not be used.
    #[error("failed to use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An underlay has no more room for hosts.
    #[error("an underlay has room for {0} hosts")]
    Full(u8),
    /// A program could not be started or signalled.
    #[error("failed to {what} {program}")]
    Program {
        /// `start`, `stop`, `wait for`.
        what: &'static str,
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program that the lab needs is not on this machine.
    #[error("there is no {program}: {hint}")]
    Missing {
        /// The program.
        program: PathBuf,
        /// How to get it.
        hint: &'static str,
    },
    /// The agent ended instead of getting ready.
    #[error("the agent of {node} ended ({status}); the end of its log:\n{log}")]
    Ended {
        /// The host.
        node: String,
        /// How it ended.
        status: String,
        /// Its last words.
        log: String,
    },
    /// The agent does neither answer nor end.
    #[error("the agent of {node} did not {what} within {seconds} s; the end of its log:\n{log}")]
    Silent {
        /// The host.
        node: String,
        /// What it was to do.
        what: &'static str,
        /// How long it was given.
        seconds: u64,
        /// Its last words.
        log: String,
    },
    /// The agent could not be asked.
    #[error("failed to ask the agent at {socket}")]
    Ask {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The agent answered something else than was asked for.
    #[error("the agent's answer makes no sense here: {0}")]
    Answer(String),
    /// The agent refused.
    #[error(transparent)]
    Agent(#[from] api::Error),
}

impl Error {
    /// The agent's refusal, if that is what it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&api::Error> {
        if let Error::Agent(refusal) = self { Some(refusal) } else { None }
    }
}
