//! Cutting a wire without an agent: all that `DEL` can do by itself.
//!
//! Ports that lead to it go, too: the next workload may want them. What else there is of the attachment (its record)
//! waits for the next agent, to whom a guard without a wire means nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use weft_model::AttachmentId;

use super::Linux;
use crate::change::{Cause, Stale};
use crate::loopback::Place;
use crate::netlink::{Family, Messages, Socket};
use crate::netns::Netns;
use crate::nft::{self, Datum, Item, Key, Op, Tables, Value};
use crate::ours::{is_wire, read_wire_alias, tables};
use crate::rtnl::link;

/// Deletes an attachment's wire, from inside its namespace where that is known, and from the calling
/// thread's otherwise. Returns whether there was one; a link that is not weft's is left alone.
///
/// # Errors
/// When a namespace cannot be entered or the kernel refuses.
pub fn cut_wire(netns: Option<&Path>, id: &AttachmentId) -> Result<bool, Cause> {
    let of_host = |l: &link::Described| {
        l.alias.as_deref().and_then(read_wire_alias).is_some_and(|(found, _)| found == *id)
    };
    if let Some(name) = find(&mut Socket::open(Family::Route)?, of_host)?.and_then(|l| l.name) {
        // Whatever comes of it, the wire goes.
        let _ = withdraw(name.as_str());
    }
    if let Some(netns) = netns.and_then(|path| Netns::open(path).ok()) {
        let of_inside = |l: &link::Described| l.name.as_ref() == Some(&id.ifname);
        if netns.inode() != Netns::current()?.inode() && netns.run(|| cut(of_inside))?? {
            return Ok(true);
        }
    }
    cut(of_host)
}

fn find(
    socket: &mut Socket,
    wanted: impl Fn(&link::Described) -> bool,
) -> Result<Option<link::Described>, Cause> {
    let links: Vec<link::Described> =
        socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
    Ok(links.into_iter().find(|l| l.kind == "veth" && is_wire(l.group) && wanted(l)))
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

/// Takes away what leads to the holder of a wire: elements of maps, ports of the loopback, connections.
fn withdraw(host_end: &str) -> Result<(), Cause> {
    let mut linux = Linux::open()?;
    let found = nft::read(&mut linux.netfilter, &tables())?;
    let addresses = guarded(&found, host_end);
    let ops = leading_to(&found, &addresses);
    if ops.is_empty() {
        return Ok(());
    }
    nft::apply(&mut linux.netfilter, &ops)?;
    // Where the agent's names are elsewhere, they wait for it; the ports lead to nobody until then.
    if let Some(place) = Place::of_this_machine()
        && let Some(loopback) = place.read()?
    {
        place.unset(
            loopback.ports.iter().filter(|(_, to)| addresses.contains(&to.ip())).map(|(port, _)| port),
        )?;
    }
    linux.forget(&addresses.into_iter().map(Stale::Of).collect::<Vec<_>>())
}

/// The addresses that only this wire may bear: the last part of every key that begins with its name.
fn guarded(found: &Tables, host_end: &str) -> BTreeSet<IpAddr> {
    let is_its = |key: &&Key| matches!(key.0.first(), Some(Item::One(Value::IfName(name))) if name.as_str() == host_end);
    let sets = found.values().flat_map(|table| table.sets.values());
    let keys = sets.flat_map(|set| set.elements.keys()).filter(is_its);
    keys.filter_map(|key| key.0.last().and_then(|last| address(last.first()))).collect()
}

fn leading_to(found: &Tables, addresses: &BTreeSet<IpAddr>) -> Vec<Op> {
    let leads = |datum: &Option<Datum>| match datum {
        Some(Datum::Values(values)) => {
            values.first().and_then(|v| address(*v)).is_some_and(|a| addresses.contains(&a))
        }
        _ => false,
    };
    let mut ops = Vec::new();
    for (name, table) in found {
        for (set, content) in &table.sets {
            let keys = content.elements.iter().filter(|(_, datum)| leads(datum));
            let keys: Vec<Key> = keys.map(|(key, _)| key.clone()).collect();
            if !keys.is_empty() {
                let interval = content.declaration.interval;
                ops.push(Op::DeleteElements { table: name.clone(), set: set.clone(), interval, keys });
            }
        }
    }
    ops
}

fn address(value: Value) -> Option<IpAddr> {
    match value {
        Value::Ipv4(v4) => Some(v4.into()),
        Value::Ipv6(v6) if !v6.is_unicast_link_local() => Some(v6.into()),
        _ => None,
    }
}
