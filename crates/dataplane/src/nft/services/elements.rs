//! The elements of services, and what they say of connections that must not go on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use weft_kernel::change::Service;
use weft_kernel::nft::{Datum, Declaration, Diff, Item, Key, Op, Set, Table, Tables, Type, Value};
use weft_plan::services::{Frontend, PortPlan, ServicePlan};

use super::{At, Ip, addresses, class, dead, hairpin};

fn insert(table: &mut Table, set: &str, key: Key, datum: Option<Datum>) {
    if let Some(set) = table.sets.get_mut(set) {
        set.elements.insert(key, datum);
    }
}

pub(super) fn of_ranges(ip: Ip, all: &[IpNet]) -> Set {
    let mut set = Declaration::set(&[ip.kind()]).intervals().empty();
    for range in all.iter().filter(|r| Ip::of(r.addr().is_ipv4()) == ip) {
        set.elements.insert(Key(vec![Item::net(*range)]), None);
    }
    set
}

/// A workload that a service may lead to itself.
pub(super) fn of_served(address: IpAddr, table: &mut Table) {
    let own = Value::ip(address);
    insert(table, &hairpin(Ip::of(address.is_ipv4())), Key::from([own, own]), None);
}

pub(super) fn of_service(service: &ServicePlan, table: &mut Table) {
    for address in &service.addresses {
        insert(table, &addresses(Ip::of(address.is_ipv4())), Key::from([Value::ip(*address)]), None);
    }
    for port in &service.ports {
        let ip = Ip::of(port.ipv4);
        for frontend in &port.frontends {
            let (at, key) = key(*frontend, port);
            if port.backends.is_empty() {
                // A port of the host without backends is one that nobody listens at: the host itself says so.
                if at == At::Address {
                    insert(table, &dead(ip), Key(key), None);
                }
                continue;
            }
            for (slot, backend) in (0_u32..).zip(&port.backends) {
                let slot = Item::One(Value::integer(slot));
                let key = Key(key.iter().copied().chain([slot]).collect());
                let to = Datum::from([Value::ip(backend.ip()), Value::port(backend.port())]);
                insert(table, &at.backends(ip), key, Some(to));
            }
            insert(table, &at.class(ip, class(port.backends.len())), Key(key), None);
        }
    }
}

fn key(frontend: Frontend, port: &PortPlan) -> (At, Vec<Item>) {
    let (at, address, number) = match frontend {
        Frontend::At(address, number) => (At::Address, Some(Value::ip(address)), number),
        Frontend::Host(number) => (At::Host, None, number),
    };
    let rest = [Value::protocol(port.protocol.number()), Value::port(number)];
    (at, address.into_iter().chain(rest).map(Item::from).collect())
}

/// The backends that a table has of a frontend, by slot.
pub(super) fn slots(frontend: Frontend, port: &PortPlan, table: &Table) -> Vec<SocketAddr> {
    let (at, key) = key(frontend, port);
    let Some(set) = table.sets.get(&at.backends(Ip::of(port.ipv4))) else { return Vec::new() };
    let one = |slot: u32| {
        let key = Key(key.iter().copied().chain([Item::One(Value::integer(slot))]).collect());
        backend(set.elements.get(&key)?.as_ref())
    };
    (0..).map_while(one).collect()
}

fn backend(datum: Option<&Datum>) -> Option<SocketAddr> {
    let Datum::Values(values) = datum? else { return None };
    let [address, Value::Number(Type::Port, port)] = values[..] else { return None };
    Some(SocketAddr::new(ip(address)?, u16::try_from(port).ok()?))
}

fn ip(value: Value) -> Option<IpAddr> {
    match value {
        Value::Ipv4(v4) => Some(v4.into()),
        Value::Ipv6(v6) => Some(v6.into()),
        _ => None,
    }
}

/// The services that lose a backend by these steps, or are new: their connections may lead where they must not.
pub(crate) fn touched(
    changes: &Diff,
    wanted: &Tables,
    before: &Tables,
) -> BTreeMap<Service, BTreeSet<SocketAddr>> {
    let mut found: BTreeMap<Service, BTreeSet<SocketAddr>> = BTreeMap::new();
    let mut note = |set: &str, keys: &mut dyn Iterator<Item = &Key>| {
        let Some((ipv4, addressed)) = super::is_backends(set) else { return };
        let services = keys.filter_map(|key| read_key(key, ipv4, addressed));
        found.extend(services.map(|service| (service, BTreeSet::new())));
    };
    for op in changes.install.iter().chain(&changes.remove) {
        match op {
            Op::DeleteElements { set, keys, .. } => note(set, &mut keys.iter()),
            // With the last service its sets go, and what they held.
            Op::DeleteSet { table, set } => {
                let held = before.get(table).and_then(|t| t.sets.get(set));
                note(set, &mut held.into_iter().flat_map(|set| set.elements.keys()));
            }
            // The first slot is new: so is the service.
            Op::AddElements { set, elements, .. } => {
                let first = |key: &&Key| matches!(key.0.last(), Some(Item::One(Value::Number(_, 0))));
                note(set, &mut elements.iter().map(|(key, _)| key).filter(first));
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return found;
    }
    for (name, set) in wanted.values().flat_map(|table| &table.sets) {
        let Some((ipv4, addressed)) = super::is_backends(name) else { continue };
        for (key, datum) in &set.elements {
            let backends = read_key(key, ipv4, addressed).and_then(|service| found.get_mut(&service));
            if let (Some(backends), Some(to)) = (backends, backend(datum.as_ref())) {
                backends.insert(to);
            }
        }
    }
    found
}

fn read_key(key: &Key, ipv4: bool, addressed: bool) -> Option<Service> {
    let (at, rest) = match key.0.as_slice() {
        [Item::One(address), rest @ ..] if addressed => (Some(ip(*address)?), rest),
        rest => (None, rest),
    };
    let [
        Item::One(Value::Number(Type::Protocol, protocol)),
        Item::One(Value::Number(Type::Port, port)),
        Item::One(_slot),
    ] = rest
    else {
        return None;
    };
    Some(Service { ipv4, at, protocol: u8::try_from(*protocol).ok()?, port: u16::try_from(*port).ok()? })
}
