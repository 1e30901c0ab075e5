//! The workload's side: settings, addresses, neighbours and routes in its namespace; and the check of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use weft_model::IfName;

use super::wire::{PATIENCE, open};
use crate::change::Cause;
use crate::netlink::{Family, Messages, Socket};
use crate::netns;
use crate::ours::ROUTE_PROTOCOL;
use crate::rtnl::{address, link, neighbour, route};
use crate::state::{Inside, InsideRoute};
use crate::sysctl;

const LOOPBACK: u32 = 1; // LOOPBACK_IFINDEX, the same in every namespace

/// Brings the inner end up, with everything it needs.
pub(super) fn configure(inside: &Inside) -> Result<(), Cause> {
    let netns = open(inside)?;
    let _inside = netns.enter()?;
    // Settings first: the kernel acts on some of them in the moment the interface comes up.
    let mut settings = sysctl::Writer::default();
    for (key, value) in &inside.sysctls {
        settings.write(key, value).map_err(|source| Cause::Sysctl { key: key.path().to_owned(), source })?;
    }
    let index = index(&inside.ifname)?;
    let up = link::Change { up: Some(true), ..link::Change::default() };
    let mut messages = Messages::default();
    link::change(&mut messages, LOOPBACK, &up);
    link::change(&mut messages, index, &up);
    for to in &inside.addresses {
        address::add(&mut messages, index, *to);
    }
    for (ip, mac) in &inside.neighbours {
        neighbour::set(&mut messages, index, *ip, *mac);
    }
    for wanted in &inside.routes {
        route::add(&mut messages, &described(wanted, index));
    }
    let mut socket = Socket::open(Family::Route)?;
    for answer in socket.transact(&messages)? {
        answer?;
    }
    inside.addresses.iter().try_for_each(|to| wait_until_local(&mut socket, inside, to.addr()))
}

/// A new IPv6 address does not count yet when the kernel has acknowledged it: its local route is made by
/// a worker (net/ipv6/addrconf.c `addrconf_dad_start`, also where there is no detection of duplicates), and
/// packets that arrive before are dropped. Mostly it is there already.
fn wait_until_local(socket: &mut Socket, inside: &Inside, address: IpAddr) -> Result<(), Cause> {
    if address.is_ipv4() {
        return Ok(());
    }
    let mut request = Messages::default();
    route::get(&mut request, address);
    let deadline = Instant::now() + PATIENCE;
    // Refused while there is no route to it at all.
    while !socket.dump(&request, |local: &mut bool, m| *local |= route::is_local(m)).unwrap_or(false) {
        if Instant::now() > deadline {
            return Err(Cause::NotOperational(inside.ifname.clone()));
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

/// What is wrong inside, in words; empty when all is as it was written.
///
/// # Errors
/// When the namespace cannot be entered or asked.
pub fn check(inside: &Inside) -> Result<Vec<String>, Cause> {
    let netns = open(inside)?;
    let _inside = netns.enter()?;
    let mut socket = Socket::open(Family::Route)?;
    let name = &inside.ifname;
    let mut wrong = Vec::new();

    let links: Vec<link::Described> =
        socket.dump(&link::list(), |all: &mut Vec<_>, m| all.extend(link::read(m)))?;
    let Some(found) = links.iter().find(|l| l.name.as_ref() == Some(name)) else {
        return Ok(vec![format!("there is no interface {name}")]);
    };
    if !found.up {
        wrong.push(format!("{name} is down"));
    }
    if found.mac != Some(inside.mac) {
        let now = found.mac.map_or("nothing".to_owned(), |m| m.to_string());
        wrong.push(format!("{name} has the Ethernet address {now} instead of {}", inside.mac));
    }
    if !links.iter().any(|l| l.index == LOOPBACK && l.up) {
        wrong.push("the loopback is down".to_owned());
    }

    let here: BTreeSet<_> = socket
        .dump(&address::list(), |all: &mut Vec<_>, m| all.extend(address::read(m)))?
        .into_iter()
        .filter(|a| a.index == found.index && !a.automatic)
        .map(|a| a.address)
        .collect();
    let wanted: BTreeSet<_> = inside.addresses.iter().copied().collect();
    wrong.extend(wanted.difference(&here).map(|a| format!("{name} lacks the address {a}")));
    // Addresses beyond those are nobody's fault: a later plugin of the chain may have added them.

    let here = socket.dump(&neighbour::list(), |all: &mut Vec<_>, m| all.extend(neighbour::read(m)))?;
    for (ip, mac) in &inside.neighbours {
        if !here.iter().any(|n| n.index == found.index && n.address == *ip && n.mac == Some(*mac)) {
            wrong.push(format!("{name} lacks the permanent neighbour {ip} at {mac}"));
        }
    }

    let here = socket.dump(&route::list(), |all: &mut Vec<_>, m| all.extend(route::read(m)))?;
    for wanted in &inside.routes {
        let same = |r: &route::Described| {
            r.destination == wanted.destination && r.gateway == Some(wanted.gateway) && r.index == found.index
        };
        if !here.iter().any(same) {
            wrong.push(format!("{name} lacks the route to {} via {}", wanted.destination, wanted.gateway));
        }
    }
    for (key, value) in &inside.sysctls {
        if let Ok(Some(now)) = sysctl::read(key)
            && now != *value
        {
            wrong.push(format!("the setting {} is {now} instead of {value}", key.path()));
        }
    }
    Ok(wrong)
}

fn described(wanted: &InsideRoute, index: u32) -> route::Described {
    route::Described {
        destination: wanted.destination,
        index,
        gateway: Some(wanted.gateway),
        source: None,
        protocol: ROUTE_PROTOCOL,
        mtu: None,
        metric: None,
    }
}

fn index(name: &IfName) -> Result<u32, Cause> {
    netns::index_of(name.as_str()).ok_or_else(|| Cause::NoLink(name.clone()))
}
