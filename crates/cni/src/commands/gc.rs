//! `GC`: remove what is not in use any more (CNI SPEC.md 1.1.0, section 2, "GC").

use weft_model::api::{Collect, Reply, Request};

use super::Call;
use crate::conf::GcConf;
use crate::env::Command;
use crate::error::Failure;
use crate::ipam::Ipam;

/// Removes; without a list only what belongs to vanished namespaces.
pub(crate) fn gc(call: &Call<'_>) -> Result<(), Failure> {
    let GcConf { essentials, disabled, keep } = GcConf::parse(call.stdin)?;
    if disabled {
        return Ok(());
    }
    let request = Request::Collect(Collect {
        network: essentials.network.clone(),
        owner: essentials.owner.clone(),
        keep,
    });
    let ours = match call.ask(&essentials, &request) {
        Ok(Reply::Collected(_)) => Ok(()),
        Ok(_) => Err(call.unexpected()),
        Err(failure) => Err(failure),
    };
    // As much as possible is removed: the other plugin is told even where the agent failed.
    let ipam = Ipam::find(essentials.ipam.as_deref(), call.env, call.stdin, call.host);
    let theirs = ipam.and_then(|ipam| ipam.map_or(Ok(Vec::new()), |ipam| ipam.call(Command::Gc)));
    ours?;
    theirs?;
    Ok(())
}
