//! Services: from where they are reached to a backend, by a handful of lookups however many there are.
//!
//! ```text
//!   prerouting, output      is (address, protocol, port) a frontend with 1 backend? with 2? with 3 or 4? 5 to 8? …
//!     one set per class         │ class of 8
//!                               ▼
//!   pick4_8                 backend4[(address, protocol, port, a random slot of 8)]?    ── there: translate to it
//!     16 tries                  │ the slot is empty: try again
//!                               ▼
//!                           slot 0, which is never empty
//! ```
//!
//! A try that misses is made anew, so that every backend is as likely as the others whatever their number is, and no slot
//! ever needs to be moved to keep it so: a backend that comes or goes is one element or two, and a packet finds at every
//! moment either the old or the new one. Nothing but elements of plain sets and maps changes: verdict maps would have the
//! kernel walk all chains again, and marks are other people's.
//!
//! Where nothing was translated, a packet to a frontend without backends is rejected, one to another port of a service's
//! address too, and one to an address that no service has leads nowhere (BAR.md, security row 26).

mod elements;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use weft_kernel::Change;
use weft_kernel::change::Stale;
use weft_kernel::nft::{Declaration, Family, Table, Tables, Type, diff};
use weft_plan::services::{ServicePlan, ServicesPlan};
use weft_plan::{NetworkPlan, Plan};

use super::name;

pub(crate) use elements::touched;

/// The two families, each with its types and names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ip {
    V4,
    V6,
}

impl Ip {
    pub(super) const BOTH: [Ip; 2] = [Ip::V4, Ip::V6];

    fn of(v4: bool) -> Ip {
        if v4 { Ip::V4 } else { Ip::V6 }
    }

    fn digit(self) -> char {
        if self == Ip::V4 { '4' } else { '6' }
    }

    fn kind(self) -> Type {
        if self == Ip::V4 { Type::Ipv4 } else { Type::Ipv6 }
    }

    /// The name of one of its sets or chains: `backend4`.
    fn name(self, what: &str) -> String {
        format!("{what}{}", self.digit())
    }
}

/// Whether a frontend is an address with a port, or a port of all addresses of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    Address,
    Host,
}

impl At {
    pub(super) const BOTH: [At; 2] = [At::Address, At::Host];

    /// The set of frontends of a class: `service4_8`.
    fn class(self, ip: Ip, size: u32) -> String {
        let what = if self == At::Address { "service" } else { "host_service" };
        format!("{}_{size}", ip.name(what))
    }

    /// The chain that picks one of a class's backends: `pick4_8`.
    fn pick(self, ip: Ip, size: u32) -> String {
        let what = if self == At::Address { "pick" } else { "host_pick" };
        format!("{}_{size}", ip.name(what))
    }

    /// The map to backends.
    fn backends(self, ip: Ip) -> String {
        ip.name(if self == At::Address { "backend" } else { "host_backend" })
    }

    fn key(self, ip: Ip) -> Vec<Type> {
        let address = (self == At::Address).then_some(ip.kind());
        address.into_iter().chain([Type::Protocol, Type::Port]).collect()
    }
}

/// Frontends without backends.
fn dead(ip: Ip) -> String {
    ip.name("service_dead")
}

/// Addresses of services.
fn addresses(ip: Ip) -> String {
    ip.name("service_address")
}

/// Where services have their addresses.
fn ranges(ip: Ip) -> String {
    ip.name("service_range")
}

/// Workloads that a service may lead to themselves.
fn hairpin(ip: Ip) -> String {
    ip.name("service_hairpin")
}

/// The class of so many backends: the next power of two. Beyond the largest class slots are picked of it alone.
fn class(backends: usize) -> u32 {
    u32::try_from(backends).unwrap_or(u32::MAX).min(LARGEST).next_power_of_two()
}

/// More backends than this a port does not have.
const LARGEST: u32 = 1 << 17;
/// The classes that are there from the first service on, so that few changes ever touch chains.
const USUAL: u32 = 8;

/// What of services does not change with one of them: chains, and which sets there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The sizes of the classes; none if there is no service.
    classes: Vec<u32>,
    ranges: Vec<IpNet>,
    /// Networks that other hosts have parts of: what leaves for those bears this host's address in it.
    shared: Vec<(NetworkPlanId, IpNet, IpAddr)>,
}

/// The number of a network.
type NetworkPlanId = weft_model::NetworkId;

impl Frame {
    /// The frame of a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Frame {
        let services = &plan.services;
        if services.services.is_empty() {
            return Frame::default();
        }
        let largest = services.sizes.keys().next_back().copied().unwrap_or(0);
        let top = class(largest).max(USUAL);
        let classes = std::iter::successors(Some(1_u32), |size| Some(size << 1)).take_while(|s| *s <= top);
        let shared = plan.networks.values().filter(|n| n.declared.vni.is_some()).flat_map(own);
        Frame { classes: classes.collect(), ranges: services.ranges.clone(), shared: shared.collect() }
    }
}

/// A network's subnets, each with this host's own address in it.
fn own(network: &NetworkPlan) -> impl Iterator<Item = (NetworkPlanId, IpNet, IpAddr)> {
    network.subnets.iter().filter_map(|subnet| {
        let like = |g: &&IpNet| g.addr().is_ipv4() == subnet.addr().is_ipv4();
        Some((network.id, *subnet, network.gateways.iter().find(like)?.addr()))
    })
}

/// Adds what a plan's services need.
pub(super) fn fill(plan: &Plan, table: &mut Table) {
    let frame = Frame::of(plan);
    declare(&frame, table);
    rules::fill(&frame, table);
    plan.services.services.values().for_each(|service| elements::of_service(service, table));
    plan.services.served.keys().for_each(|address| elements::of_served(*address, table));
}

/// The sets, and what of them belongs to no service in particular.
fn declare(frame: &Frame, table: &mut Table) {
    if frame.classes.is_empty() {
        return;
    }
    for ip in Ip::BOTH {
        for at in At::BOTH {
            let key = at.key(ip);
            for size in &frame.classes {
                table.sets.insert(at.class(ip, *size), Declaration::set(&key).empty());
            }
            let slot: Vec<Type> = key.into_iter().chain([Type::Integer]).collect();
            table.sets.insert(at.backends(ip), Declaration::map(&slot, &[ip.kind(), Type::Port]).empty());
        }
        table.sets.insert(dead(ip), Declaration::set(&At::Address.key(ip)).empty());
        table.sets.insert(addresses(ip), Declaration::set(&[ip.kind()]).empty());
        table.sets.insert(hairpin(ip), Declaration::set(&[ip.kind(), ip.kind()]).empty());
        table.sets.insert(ranges(ip), elements::of_ranges(ip, &frame.ranges));
    }
}

/// What changed: of services, before and after; and of addresses of this host's workloads, those that became backends
/// and those that are none any more.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Services as they were and as they are.
    pub services: Vec<(Option<ServicePlan>, Option<ServicePlan>)>,
    /// Whether each of these addresses is a backend now.
    pub served: BTreeMap<IpAddr, bool>,
}

/// What a change takes, without asking the kernel: only what differs is looked at.
#[must_use]
pub fn change(before: &Frame, after: &Frame, changed: &Changed) -> Vec<Change> {
    let tables = |frame: &Frame, fill: &dyn Fn(&mut Table)| {
        let mut table = Table::default();
        declare(frame, &mut table);
        if before != after {
            rules::fill(frame, &mut table);
        }
        fill(&mut table);
        Tables::from([(name(Family::Inet), table)])
    };
    let old = tables(before, &|table| {
        changed
            .services
            .iter()
            .filter_map(|(old, _)| old.as_ref())
            .for_each(|s| elements::of_service(s, table));
        let no_more = changed.served.iter().filter(|(_, serves)| !**serves);
        no_more.for_each(|(address, _)| elements::of_served(*address, table));
    });
    let new = tables(after, &|table| {
        changed
            .services
            .iter()
            .filter_map(|(_, new)| new.as_ref())
            .for_each(|s| elements::of_service(s, table));
        let serving = changed.served.iter().filter(|(_, serves)| **serves);
        serving.for_each(|(address, _)| elements::of_served(*address, table));
    });
    let diff = diff(&new, &old);
    let astray = touched(&diff, &new, &old);
    let mut changes = Vec::new();
    if !diff.install.is_empty() {
        changes.push(Change::InstallRules(diff.install));
    }
    if !diff.remove.is_empty() {
        changes.push(Change::RemoveRules(diff.remove));
    }
    if !astray.is_empty() {
        changes.push(Change::ForgetFlows(vec![Stale::Astray(astray)]));
    }
    changes
}

/// The slots in which backends stand, so that a restart moves none of them.
#[must_use]
pub fn found(tables: &Tables, plan: &ServicesPlan) -> ServicesPlan {
    let mut found = plan.clone();
    let table = tables.get(&name(Family::Inet));
    for service in found.services.values_mut() {
        for port in &mut service.ports {
            let slots = port.frontends.first().and_then(|f| Some(elements::slots(*f, port, table?)));
            port.backends = slots.unwrap_or_default();
        }
    }
    found
}

/// The sets in which services have elements.
pub(crate) fn is_backends(set: &str) -> Option<(bool, bool)> {
    let all = Ip::BOTH.into_iter().flat_map(|ip| At::BOTH.map(|at| (at.backends(ip), ip, at)));
    all.into_iter().find(|(name, ..)| name == set).map(|(_, ip, at)| (ip == Ip::V4, at == At::Address))
}

/// The addresses of hosts' workloads that services touched by a change lead to, before and after.
#[must_use]
pub fn concerned(changed: &[(Option<ServicePlan>, Option<ServicePlan>)]) -> BTreeSet<IpAddr> {
    let all = changed.iter().flat_map(|(old, new)| [old, new]).flatten();
    all.flat_map(|service| service.local.iter().copied()).collect()
}

#[cfg(test)]
mod tests;
