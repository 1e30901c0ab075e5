//! Cutting a wire without an agent: all that `DEL` can do by itself.
//!
//! What else there is of the attachment (its guard, its record) waits for the next agent, to whom a
//! guard without a wire means nothing.

use std::path::Path;

use weft_model::AttachmentId;

use crate::change::Cause;
use crate::netlink::{Family, Messages, Socket};
use crate::netns::Netns;
use crate::ours::{detour_alias, is_our_work, is_wire, read_wire_alias};
use crate::rtnl::link;

/// Deletes an attachment's wire and the detour of it, the wire from inside its namespace where that is known, and from the calling
/// thread's otherwise. Returns whether there was one; a link that is not weft's is left alone.
///
/// # Errors
/// When a namespace cannot be entered or the kernel refuses.
pub fn cut_wire(netns: Option<&Path>, id: &AttachmentId) -> Result<bool, Cause> {
    let there_was = cut_both_ends(netns, id)?;
    // After the wire: without its detour a limited wire lets nothing through, which is no way to end.
    let alias = detour_alias(id);
    cut(|l| l.kind == "ifb" && is_our_work(l) && l.alias.as_ref() == Some(&alias))?;
    Ok(there_was)
}

fn cut_both_ends(netns: Option<&Path>, id: &AttachmentId) -> Result<bool, Cause> {
    let is_a_wire = |l: &link::Described| l.kind == "veth" && is_wire(l.group);
    if let Some(netns) = netns.and_then(|path| Netns::open(path).ok()) {
        let of_inside = |l: &link::Described| is_a_wire(l) && l.name.as_ref() == Some(&id.ifname);
        if netns.inode() != Netns::current()?.inode() && netns.run(|| cut(of_inside))?? {
            return Ok(true);
        }
    }
    let is_meant =
        |l: &link::Described| l.alias.as_deref().and_then(read_wire_alias).is_some_and(|a| a.0 == *id);
    cut(|l| is_a_wire(l) && is_meant(l))
}

fn cut(wanted: impl Fn(&link::Described) -> bool) -> Result<bool, Cause> {
    let mut socket = Socket::open(Family::Route)?;
    let links = socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
    let Some(found) = links.iter().find(|l| wanted(l)) else {
        return Ok(false);
    };
    let mut messages = Messages::default();
    link::delete(&mut messages, found.index);
    for answer in socket.transact(&messages)? {
        answer?;
    }
    Ok(true)
}
