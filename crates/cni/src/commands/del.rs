//! `DEL`: disconnect a container (CNI SPEC.md 1.1.0, section 2, "DEL").
//!
//! Once it is known what is meant, it does not fail: a pod whose `DEL` fails cannot end (PAINS.md 3).

use weft_model::AttachmentId;
use weft_model::api::{Detach, ErrorKind, Reply, Request};

use super::Call;
use crate::conf::Essentials;
use crate::env::Command;
use crate::error::Failure;
use crate::ipam::Ipam;
use crate::offline;
use weft_kernel::agent::{self, AgentError};

/// Disconnects; what went otherwise than hoped is noted.
pub(crate) fn del(call: &Call<'_>, notes: &mut Vec<String>) -> Result<(), Failure> {
    let (container, ifname) = call.env.target()?;
    let essentials = Essentials::parse(call.stdin)?;
    let netns = call.env.netns().unwrap_or_else(|error| {
        notes.push(format!("{error}; going on without it"));
        None
    });
    let id = AttachmentId { network: essentials.network.clone(), container, ifname };
    let detach = Detach { id, netns, expect: Vec::new(), explain: false };
    if let Err(reason) = detach_now(call, &essentials, &detach) {
        notes.push(format!("{}: {reason}", detach.id));
        offline::leave_word(&essentials, &detach, notes);
    }
    // Last, so that an address is not given away while the wire still bears it.
    let ipam = Ipam::find(essentials.ipam.as_deref(), call.env, call.stdin, call.host);
    if let Err(error) = ipam.and_then(|ipam| ipam.map_or(Ok(Vec::new()), |ipam| ipam.call(Command::Del))) {
        notes.push(format!("{}: the addresses could not be given back: {error}", detach.id));
    }
    Ok(())
}

/// Has the agent do it; otherwise says why that did not succeed.
fn detach_now(call: &Call<'_>, essentials: &Essentials, detach: &Detach) -> Result<(), String> {
    let request = Request::Detach(detach.clone());
    match agent::ask(&essentials.socket, &request, call.host.patience_del) {
        Ok(Reply::Done { .. }) => Ok(()),
        Ok(Reply::Error(error)) if error.kind == ErrorKind::NotFound => Ok(()),
        Ok(Reply::Error(error)) => Err(error.message),
        Ok(_) => Err("the agent gave an answer that does not belong to DEL".to_owned()),
        Err(error) => {
            // An agent that is slow has the request and will do it.
            if matches!(error, AgentError::Away { .. } | AgentError::Lost { .. }) {
                offline::cut_wire(detach.netns.as_deref(), &detach.id);
            }
            Err(error.to_string())
        }
    }
}
