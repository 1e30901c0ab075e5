//! Without an agent: taking away what leads to the holder of a wire, so that the next workload can have its ports.
//!
//! Nothing here knows the names of weft's sets: what is guarded for the wire alone tells the addresses, and whatever
//! leads to one of them goes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Linux;
use crate::change::{Cause, Stale};
use crate::loopback::Place;
use crate::nft::{self, Datum, Item, Key, Op, Tables, Value};
use crate::ours::tables;

/// Takes away what leads to the holder of a wire: elements of maps, ports of the loopback, connections.
pub(super) fn withdraw(host_end: &str) -> Result<(), Cause> {
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
