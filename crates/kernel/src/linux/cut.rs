//! Cutting a wire without an agent: all that `DEL` can do by itself.
//!
//! Ports that lead to it go, too: the next workload may want them. What else there is of the attachment (its guard,
//! its record) waits for the next agent, to whom a guard without a wire means nothing.

use std::path::Path;

use weft_model::AttachmentId;

use super::withdraw::withdraw;
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
    if let Some(name) = find(&mut Socket::open(Family::Route)?, |l| is_meant(l, id))?.and_then(|l| l.name) {
        // Whatever comes of it, the wire goes.
        let _ = withdraw(name.as_str());
    }
    let there_was = cut_both_ends(netns, id)?;
    // After the wire: without its detour a limited wire lets nothing through, which is no way to end.
    let alias = detour_alias(id);
    cut(|l| l.kind == "ifb" && is_our_work(l) && l.alias.as_ref() == Some(&alias))?;
    Ok(there_was)
}

fn is_a_wire(link: &link::Described) -> bool {
    link.kind == "veth" && is_wire(link.group)
}

/// Whether it is the host's end of the attachment's finished wire.
fn is_meant(link: &link::Described, id: &AttachmentId) -> bool {
    is_a_wire(link) && link.alias.as_deref().and_then(read_wire_alias).is_some_and(|a| a.id == *id)
}

fn cut_both_ends(netns: Option<&Path>, id: &AttachmentId) -> Result<bool, Cause> {
    if let Some(netns) = netns.and_then(|path| Netns::open(path).ok()) {
        let of_inside = |l: &link::Described| is_a_wire(l) && l.name.as_ref() == Some(&id.ifname);
        if netns.inode() != Netns::current()?.inode() && netns.run(|| cut(of_inside))?? {
            return Ok(true);
        }
    }
    cut(|l| is_meant(l, id))
}

fn find(
    socket: &mut Socket,
    wanted: impl Fn(&link::Described) -> bool,
) -> Result<Option<link::Described>, Cause> {
    let links: Vec<link::Described> =
        socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
    Ok(links.into_iter().find(|l| wanted(l)))
}

fn cut(wanted: impl Fn(&link::Described) -> bool) -> Result<bool, Cause> {
    let mut socket = Socket::open(Family::Route)?;
    let Some(found) = find(&mut socket, wanted)? else { return Ok(false) };
    let mut messages = Messages::default();
    link::delete(&mut messages, found.index);
    for answer in socket.transact(&messages)? {
        answer?;
    }
    Ok(true)
}
