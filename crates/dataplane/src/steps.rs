//! The steps from what was found to what is wanted. Pure; empty when they agree.
//!
//! The diff ranges over wanted ∪ found (invariant 7): what is ours and not wanted is taken away,
//! whoever left it there.

use std::collections::{BTreeMap, BTreeSet};

use weft_kernel::ours::REAPED;
use weft_kernel::state::{Kind, Link};
use weft_kernel::{Change, State};
use weft_model::IfName;

use crate::{Wanted, flows, loopback};

/// Lists the changes that turn `found` into `wanted`, in the order in which they are safe.
#[must_use]
pub fn steps(wanted: &Wanted, found: &State) -> Vec<Change> {
    let mut steps = Vec::new();
    let want = &wanted.state;
    let rules = weft_kernel::nft::diff(&want.tables, &found.tables);
    let stale = flows::stale(&rules, &want.tables, &found.tables);
    if !rules.install.is_empty() {
        steps.push(Change::InstallRules(rules.install));
    }
    settings(want, found, &mut steps);
    let fresh = links(wanted, found, &mut steps);
    let there = Survivors { links: &want.links, fresh: &fresh };

    for (name, address) in &want.addresses {
        if fresh.contains(name) || !found.addresses.contains(&(name.clone(), *address)) {
            steps.push(Change::AddAddress(name.clone(), *address));
        }
    }
    for (name, address) in found.addresses.difference(&want.addresses) {
        if there.keeps(name) {
            steps.push(Change::DeleteAddress(name.clone(), *address));
        }
    }
    for (key @ (name, address), mac) in &want.neighbours {
        if fresh.contains(name) || found.neighbours.get(key) != Some(mac) {
            steps.push(Change::SetNeighbour(name.clone(), *address, *mac));
        }
    }
    // Of what is found with a link, all leaves with it; a workload's diff has its wire, but not its network's bridge.
    let leaves = |link: &IfName| found.links.contains_key(link) && !there.keeps(link);
    for key @ (name, address) in found.neighbours.keys() {
        if !want.neighbours.contains_key(key) && !leaves(name) {
            steps.push(Change::DeleteNeighbour(name.clone(), *address));
        }
    }
    for (key @ (name, mac), to) in &want.forwarding {
        if fresh.contains(name) || found.forwarding.get(key) != Some(to) {
            steps.push(Change::SetForwarding(name.clone(), *mac, *to));
        }
    }
    for key @ (name, mac) in found.forwarding.keys() {
        if !want.forwarding.contains_key(key) && there.keeps(name) {
            steps.push(Change::DeleteForwarding(name.clone(), *mac));
        }
    }
    for (destination, route) in &want.routes {
        if fresh.contains(&route.device) || found.routes.get(destination) != Some(route) {
            steps.push(Change::SetRoute(*destination, route.clone()));
        }
    }
    for (destination, route) in &found.routes {
        // A wire's routes leave with it; those by links that are not ours must be taken away by hand.
        if !want.routes.contains_key(destination) && !leaves(&route.device) {
            steps.push(Change::DeleteRoute(*destination, route.clone()));
        }
    }
    limits(want, found, &there, &mut steps);
    if !rules.remove.is_empty() {
        steps.push(Change::RemoveRules(rules.remove));
    }
    loopback::steps(want, found, &mut steps);
    if !stale.is_empty() {
        steps.push(Change::ForgetFlows(stale));
    }
    steps.sort_by_key(Change::rank);
    steps
}

/// Queues and detours. What hangs on a link that goes leaves with it.
fn limits(want: &State, found: &State, there: &Survivors<'_>, steps: &mut Vec<Change>) {
    for (name, shape) in &want.shapes {
        if there.fresh.contains(name) || found.shapes.get(name) != Some(shape) {
            steps.push(Change::SetShape(name.clone(), *shape));
        }
    }
    for (name, by) in &want.detours {
        let renewed = there.fresh.contains(name) || there.fresh.contains(by);
        if renewed || found.detours.get(name) != Some(by) {
            steps.push(Change::SetDetour(name.clone(), by.clone()));
        }
    }
    for (name, by) in &found.detours {
        if !want.detours.contains_key(name) && there.keeps(name) {
            steps.push(Change::DeleteDetour(name.clone(), by.clone()));
        }
    }
    for (name, shape) in &found.shapes {
        if !want.shapes.contains_key(name) && there.keeps(name) {
            steps.push(Change::DeleteShape(name.clone(), *shape));
        }
    }
}

/// Which links are there before and after: what hangs on others comes and goes with them.
struct Survivors<'a> {
    links: &'a BTreeMap<IfName, Link>,
    fresh: &'a BTreeSet<IfName>,
}

impl Survivors<'_> {
    fn keeps(&self, name: &IfName) -> bool {
        self.links.contains_key(name) && !self.fresh.contains(name)
    }
}

fn settings(want: &State, found: &State, steps: &mut Vec<Change>) {
    // Side by side and not one by one: there are thousands, with long keys that begin alike.
    let mut found = found.sysctls.iter().peekable();
    for (key, value) in &want.sysctls {
        while found.next_if(|(other, _)| *other < key).is_some() {}
        if found.peek() == Some(&(key, value)) {
            continue;
        }
        // Settings of links that are not ours come first: `accept_ra` of an uplink must be 2 before
        // forwarding is switched on, which would forget the routes learnt from its router.
        match key.link().and_then(|l| l.parse::<IfName>().ok()) {
            Some(link) if want.links.contains_key(&link) => {
                steps.push(Change::SetLinkSysctl(key.clone(), value.clone()));
            }
            Some(_) => steps.insert(0, Change::SetSysctl(key.clone(), value.clone())),
            None => steps.push(Change::SetSysctl(key.clone(), value.clone())),
        }
    }
}

/// Links to make, change and take away; returns those that come into being, with nothing on them.
fn links(wanted: &Wanted, found: &State, steps: &mut Vec<Change>) -> BTreeSet<IfName> {
    let mut fresh = BTreeSet::new();
    for (name, link) in &wanted.state.links {
        let present = found.links.get(name).filter(|f| f.kind == link.kind && f.group != REAPED);
        if present.is_none() {
            if found.links.contains_key(name) {
                steps.push(Change::DeleteLink(name.clone()));
            }
            fresh.insert(name.clone());
            create(wanted, name, link, steps);
        }
        if link.master.is_none() && present.is_some_and(|f| f.master.is_some()) {
            steps.push(Change::Release(name.clone()));
        }
        if present.is_none_or(|f| !same(link, f)) {
            steps.push(Change::SetLink(name.clone(), link.clone()));
        }
        if link.hairpin != present.is_some_and(|f| f.hairpin) {
            steps.push(Change::SetHairpin(name.clone(), link.hairpin));
        }
        // The host's end comes last: it shows whether the inner one was done.
        if let Some(wire) = wanted.wires.get(name)
            && present.is_some_and(|f| f.mtu != link.mtu && f.alias.as_ref() == Some(&wire.alias))
        {
            steps.push(Change::Refit(name.clone(), Box::new(wire.inside.clone()), link.mtu));
        }
        if let Some(wire) = wanted.wires.get(name)
            && present.is_none_or(|f| f.alias.as_ref() != Some(&wire.alias))
        {
            steps.push(Change::Configure(name.clone(), Box::new(wire.inside.clone())));
            steps.push(Change::Finish(name.clone(), wire.alias.clone()));
        }
    }
    for (name, link) in &found.links {
        if wanted.state.links.contains_key(name) || (link.group == REAPED && !link.up) {
            continue;
        }
        steps.push(match link.kind {
            Kind::Wire | Kind::Ifb => Change::Retire(name.clone()),
            Kind::Bridge | Kind::Tunnel { .. } => Change::DeleteLink(name.clone()),
        });
    }
    fresh
}

fn create(wanted: &Wanted, name: &IfName, link: &Link, steps: &mut Vec<Change>) {
    match (link.kind, wanted.wires.get(name)) {
        (Kind::Bridge, _) => steps.push(Change::CreateBridge(name.clone(), link.clone())),
        (Kind::Ifb, _) => steps.push(Change::CreateIfb(name.clone(), link.clone())),
        (Kind::Tunnel { .. }, _) => steps.push(Change::CreateTunnel(name.clone(), link.clone())),
        (Kind::Wire, Some(wire)) => {
            steps.push(Change::CreateWire(name.clone(), link.clone(), Box::new(wire.inside.clone())));
        }
        (Kind::Wire, None) => {}
    }
}

/// Whether a found link needs no change. A wire's alias is [`Change::Finish`]'s affair.
fn same(wanted: &Link, found: &Link) -> bool {
    let Link { kind, mac, mtu, group, up, master, hairpin: _, alias } = wanted;
    (*mac, *mtu, *group, *up, master) == (found.mac, found.mtu, found.group, found.up, &found.master)
        && (*kind == Kind::Wire || *alias == found.alias)
}
