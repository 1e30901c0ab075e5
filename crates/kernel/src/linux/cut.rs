//! Cutting a wire without an agent: all that `DEL` can do by itself.
//!
//! What else there is of the attachment (its guard, its record) waits for the next agent, to whom a
//! guard without a wire means nothing.

use std::path::Path;

use weft_model::AttachmentId;

use crate::change::Cause;
use crate::netlink::{Family, Messages, Socket};
use crate::netns::Netns;
use crate::ours::{is_wire, read_wire_alias};
use crate::rtnl::link;

/// Deletes an attachment's wire, from inside its namespace where that is known, and from the calling
/// thread's otherwise. Returns whether there was one; a link that is not weft's is left alone.
///
/// # Errors
/// When a namespace cannot be entered or the kernel refuses.
pub fn cut_wire(netns: Option<&Path>, id: &AttachmentId) -> Result<bool, Cause> {
    if let Some(netns) = netns.and_then(|path| Netns::open(path).ok()) {
        let of_inside = |l: &link::Described| l.name.as_ref() == Some(&id.ifname);
        if netns.inode() != Netns::current()?.inode() && netns.run(|| cut(of_inside))?? {
            return Ok(true);
        }
    }
    cut(|l| l.alias.as_deref().and_then(read_wire_alias).is_some_and(|found| found.id == *id))
}

fn cut(wanted: impl Fn(&link::Described) -> bool) -> Result<bool, Cause> {
    let mut socket = Socket::open(Family::Route)?;
    let links = socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
    let Some(found) = links.iter().find(|l| l.kind == "veth" && is_wire(l.group) && wanted(l)) else {
        return Ok(false);
    };
    let mut messages = Messages::default();
    link::delete(&mut messages, found.index);
    for answer in socket.transact(&messages)? {
        answer?;
    }
    Ok(true)
}
