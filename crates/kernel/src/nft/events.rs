//! Events: has somebody changed our tables?
//!
//! What changed is not decoded: whoever asks reads the tables anew.

use super::model::TableName;
use super::wire::{SUBSYSTEM, message, table};
use crate::netlink::Message;

/// The multicast group of nftables' events (`NFNLGRP_NFTABLES`), for [`Socket::join`](crate::netlink::Socket::join).
pub const GROUP: u32 = 7;

/// Whether an event says that something in one of these tables came or went: the table itself, a chain,
/// rule, set, element, object or flowtable. Our own changes are told apart by [`Message::port`].
#[must_use]
pub fn concerns(event: &Message<'_>, tables: &[TableName]) -> bool {
    let generation = message::NEW_GENERATION..=message::GET_GENERATION;
    if event.kind >> 8 != SUBSYSTEM || generation.contains(&(event.kind & 0xff)) {
        return false;
    }
    let Some([family, ..]) = event.structure::<4>() else { return false };
    // In all of these messages attribute 1 names the table.
    let [_, name] = table::<2>(event.body(4));
    let Some(name) = name.and_then(|name| name.text()) else { return false };
    tables.iter().any(|table| table.family as u8 == family && table.name == name)
}
