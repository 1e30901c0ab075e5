//! `STATUS`: tell whether `ADD` would work (CNI SPEC.md 1.1.0, section 2, "STATUS").
//!
//! containerd asks every few seconds and keeps the node unready while the answer is an error.

use weft_kernel::agent;
use weft_model::api::{self, ErrorKind, Reply, Request};

use super::Call;
use crate::conf::Conf;
use crate::env::Command;
use crate::error::Failure;
use crate::ipam::Ipam;

/// Returns whether `ADD` would work; the failure says why not.
pub(crate) fn status(call: &Call<'_>) -> Result<(), Failure> {
    let conf = Conf::parse(call.stdin, Command::Status)?;
    let ipam = Ipam::find(conf.essentials.ipam.as_deref(), call.env, call.stdin, call.host)?;
    let request = Request::Ready { network: conf.essentials.network };
    match agent::ask(&conf.essentials.socket, &request, call.host.patience_status) {
        Ok(Reply::Done { .. }) => {}
        Ok(Reply::Error(error)) => return Err(not_ready(error)),
        Ok(_) => return Err(call.unexpected()),
        Err(error) if error.is_away() => {
            let (message, hint) = (error.to_string(), error.details());
            return Err(Failure::NotReady { limited: false, message, hint });
        }
        Err(error) => return Err(error.into()),
    }
    if let Some(ipam) = ipam {
        ipam.call(Command::Status)?;
    }
    Ok(())
}

/// The dataplane works on without the agent, so containers that run are in danger only where the kernel or
/// the agent's own state is.
fn not_ready(error: api::Error) -> Failure {
    let limited = matches!(error.kind, ErrorKind::Kernel | ErrorKind::Storage);
    Failure::NotReady { limited, message: error.message, hint: error.hint }
}
