//! The commands, a file each.

pub(crate) mod add;
pub(crate) mod check;
pub(crate) mod del;
pub(crate) mod gc;
pub(crate) mod status;
pub(crate) mod version;

use weft_kernel::agent;
use weft_model::api::{Reply, Request};

use crate::conf::Essentials;
use crate::env::{Command, Env};
use crate::error::Failure;
use crate::host::Host;

/// What a runtime has said.
pub(crate) struct Call<'a> {
    pub(crate) command: Command,
    pub(crate) env: &'a Env,
    pub(crate) stdin: &'a [u8],
    pub(crate) host: &'a Host,
}

impl Call<'_> {
    /// Asks the agent; its refusal is a failure.
    fn ask(&self, essentials: &Essentials, request: &Request) -> Result<Reply, Failure> {
        match agent::ask(&essentials.socket, request, self.host.patience)? {
            Reply::Error(error) => Err(Failure::Refused { command: self.command, error }),
            reply => Ok(reply),
        }
    }

    fn unexpected(&self) -> Failure {
        Failure::Unexpected { command: self.command }
    }
}
