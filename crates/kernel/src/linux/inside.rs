//! The workload's side: settings, addresses, neighbours and routes in its namespace; and the check of them.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::thread::set_current_timer_slack;
use weft_model::IfName;

use super::Failure;
use super::wire::open;
use crate::change::Cause;
use crate::netlink::{Error, Family, Message, Messages, Socket};
use crate::netns;
use crate::ours::ROUTE_PROTOCOL;
use crate::rtnl::{address, link, neighbour, route};
use crate::state::{Inside, InsideRoute};
use crate::sysctl;

/// How long an address may take to be in force; microseconds are usual, milliseconds on a busy host.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOPBACK: u32 = 1; // LOOPBACK_IFINDEX, the same in every namespace

/// Brings the inner end up, with everything it needs. `host_end` is the other end's index: an interface
/// of that name that somebody else made is left as it is. A failure says at which of the change's
/// commands it happened.
pub(super) fn configure(host_end: u32, inside: &Inside) -> Result<(), Failure> {
    let mut command = 0;
    work(host_end, inside, &mut command).map_err(|cause| Failure { command, cause })
}

/// `command` follows the order of [`Change::commands`](crate::Change::commands): settings, loopback, interface,
/// addresses, neighbours, routes.
fn work(host_end: u32, inside: &Inside, command: &mut usize) -> Result<(), Cause> {
    let netns = open(inside)?;
    let _inside = netns.enter()?;
    let index = index(&inside.ifname)?;
    let mut socket = Socket::open(Family::Route)?;
    if !is_other_end(&mut socket, index, host_end)? {
        return Err(Cause::NotOurs(inside.ifname.clone()));
    }
    // Settings first: the kernel acts on some of them in the moment the interface comes up.
    let mut settings = sysctl::Writer::default();
    for (at, (key, value)) in inside.sysctls.iter().enumerate() {
        *command = at;
        settings.write(key, value).map_err(|source| Cause::Sysctl { key: key.path().to_owned(), source })?;
    }
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
    let before_routes = messages.len();
    for wanted in &inside.routes {
        route::add(&mut messages, &described(wanted, index));
    }
    for (at, answer) in socket.transact(&messages)?.into_iter().enumerate() {
        *command = inside.sysctls.len() + at;
        match (answer, at.checked_sub(before_routes).and_then(|at| inside.routes.get(at))) {
            // Configured before, by an agent that did not live to say so.
            (Err(refusal), Some(wanted)) if refusal.errno == libc::EEXIST => {
                let here = socket.dump(&route::list(), |all: &mut Vec<_>, m| all.extend(route::read(m)))?;
                if !here.iter().any(|r| leads(r, wanted, index)) {
                    return Err(refusal.into());
                }
            }
            (answer, _) => answer?,
        }
    }
    for (at, address) in inside.addresses.iter().enumerate().filter(|(_, a)| a.addr().is_ipv6()) {
        *command = inside.sysctls.len() + 2 + at; // behind loopback and interface
        settle(&mut socket, inside, *address)?;
    }
    Ok(())
}

/// Sets the largest packet of the inner end.
pub(super) fn refit(host_end: u32, inside: &Inside, mtu: u32) -> Result<(), Cause> {
    let netns = open(inside)?;
    let _inside = netns.enter()?;
    let index = index(&inside.ifname)?;
    let mut socket = Socket::open(Family::Route)?;
    if !is_other_end(&mut socket, index, host_end)? {
        return Err(Cause::NotOurs(inside.ifname.clone()));
    }
    let mut messages = Messages::default();
    link::change(&mut messages, index, &link::Change { mtu: Some(mtu), ..link::Change::default() });
    for answer in socket.transact(&messages)? {
        answer?;
    }
    Ok(())
}

/// Waits until packets to an address are taken in. For IPv6 the kernel does not see to that at once but
/// in a worker that needs RTNL (net/ipv6/addrconf.c `addrconf_dad_work`), also where there is nothing to
/// detect: on a busy host the first packets were lost.
fn settle(socket: &mut Socket, inside: &Inside, address: ipnet::IpNet) -> Result<(), Cause> {
    let deadline = Instant::now() + PATIENCE;
    let mut request = Messages::default();
    route::lookup(&mut request, address.addr());
    let note = |found: &mut bool, message: &Message<'_>| *found |= route::is_local(message);
    // The worker needs some tens of microseconds; a thread's sleep is that much longer than asked for, unless it says otherwise (prctl(2)).
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    let mut pause = Duration::from_micros(20);
    loop {
        match socket.dump(&request, note) {
            Ok(true) => return Ok(()),
            Ok(false) | Err(Error::Refused(_)) => {} // another route, or none at all
            Err(error) => return Err(error.into()),
        }
        if Instant::now() > deadline {
            return Err(Cause::NotOperational(inside.ifname.clone()));
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_micros(200));
    }
}

/// Whether an interface here is the other end of a wire on the host.
fn is_other_end(socket: &mut Socket, index: u32, host_end: u32) -> Result<bool, Cause> {
    let mut request = Messages::default();
    link::get(&mut request, index);
    let found = socket.dump(&request, |found: &mut Option<link::Described>, m| {
        *found = link::read(m).filter(|l| l.index == index).or(found.take());
    })?;
    Ok(found.is_some_and(|l| l.kind == "veth" && l.other_end == Some(host_end)))
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
        .filter(|a| a.index == found.index && !a.automatic && !is_link_local(a.address))
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
        if !here.iter().any(|r| leads(r, wanted, found.index)) {
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

/// What a workload calls itself on its own link is its own affair; the guard knows the one it may use.
fn is_link_local(address: ipnet::IpNet) -> bool {
    matches!(address, ipnet::IpNet::V6(v6) if v6.addr().is_unicast_link_local())
}

fn leads(found: &route::Described, wanted: &InsideRoute, index: u32) -> bool {
    (found.destination, found.gateway, found.index) == (wanted.destination, Some(wanted.gateway), index)
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
