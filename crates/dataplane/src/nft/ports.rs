//! Published ports: maps from the host's ports to workloads, and the few rules that look into them.
//!
//! One element per port, in hash maps: a range is written out, because an interval map of concatenations takes
//! milliseconds to change where this takes microseconds, and no lookup grows with their number.
//!
//! Only packets to addresses of the host's own come here (`fib daddr type local`), so that a published port never
//! shadows the same port of a service or of a host elsewhere (CVE-2019-9946). The loopback's addresses are left
//! alone: a packet led off from there would bear a source that nobody may answer. The programs of
//! [`loopback`](crate::loopback) see to those.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weft_kernel::nft::{
    Base, Chain, Datum, Declaration, Expr, Family, Field, Hook, Item, Key, Kind, Rule, Set, SetRef, Table,
    Tables, Type, Value,
};
use weft_model::{PortMapping, Protocol};
use weft_plan::WorkloadPlan;
use weft_plan::ports::PortPlan;

use super::name;

/// (protocol, port) at any address of the host's.
const PORTS4: &str = "ports4";
const PORTS6: &str = "ports6";
/// (address, protocol, port) at this one.
const PORTS4_AT: &str = "ports4_at";
const PORTS6_AT: &str = "ports6_at";
/// Workloads that may reach themselves by a port of the host's: (address, the same address).
const HAIRPIN4: &str = "hairpin4";
const HAIRPIN6: &str = "hairpin6";

/// NF_IP_PRI_NAT_DST (linux/netfilter_ipv4.h).
const DSTNAT: i32 = -100;
const PROTOCOLS: [u32; 3] = [6, 17, 132];

/// The sets that workloads with published ports have elements in.
pub(super) fn sets() -> Vec<(&'static str, Declaration)> {
    let at_any = [Type::Protocol, Type::Port];
    let map = |key: &[Type], address| Declaration::map(key, &[address, Type::Port]);
    let at = |address| map(&[address, Type::Protocol, Type::Port], address);
    let pair = |address| Declaration::set(&[address, address]);
    vec![
        (PORTS4, map(&at_any, Type::Ipv4)),
        (PORTS6, map(&at_any, Type::Ipv6)),
        (PORTS4_AT, at(Type::Ipv4)),
        (PORTS6_AT, at(Type::Ipv6)),
        (HAIRPIN4, pair(Type::Ipv4)),
        (HAIRPIN6, pair(Type::Ipv6)),
    ]
}

/// Whether a set is one of those from which a removal must not wait: the next workload may want the port.
#[must_use]
pub fn is_of_ports(set: &str) -> bool {
    [PORTS4, PORTS6, PORTS4_AT, PORTS6_AT, HAIRPIN4, HAIRPIN6].contains(&set)
}

pub(super) fn fill(table: &mut Table) {
    let mut chain = |name: &str, base: Option<Base>, rules: Vec<Rule>| {
        let before = table.chains.insert(name.to_owned(), Chain { base, rules });
        debug_assert!(before.is_none(), "two features want a chain {name}");
    };
    let base = |hook| Some(Base::new(Kind::Nat, hook, DSTNAT));
    chain("ports_from_outside", base(Hook::Prerouting), to_own());
    let mut from_here = loopback();
    from_here.extend(to_own());
    chain("ports_from_here", base(Hook::Output), from_here);
    chain("published", None, published());
}

fn to_own() -> Vec<Rule> {
    const LOCAL: u32 = 2; // RTN_LOCAL, linux/rtnetlink.h
    let ports = Expr::one_of(Field::L4Proto, &PROTOCOLS);
    vec![Rule::new([ports, Expr::number(Field::FibDaddrType, LOCAL), Expr::jump("published")])]
}

fn loopback() -> Vec<Rule> {
    let v4 = Expr::masked(Field::IpDaddr, Ipv4Addr::new(255, 0, 0, 0), Ipv4Addr::new(127, 0, 0, 0));
    let v6 = Expr::eq(Field::Ip6Daddr, Ipv6Addr::LOCALHOST);
    vec![Rule::new([v4, Expr::accept()]), Rule::new([v6, Expr::accept()])]
}

fn published() -> Vec<Rule> {
    let lead = |ipv6: bool, key: &[Field], map: &str| {
        let family = Expr::number(Field::NfProto, if ipv6 { 10 } else { 2 });
        let ports = Expr::one_of(Field::L4Proto, &PROTOCOLS);
        Rule::new([family, ports, Expr::dnat_map(ipv6, key, SetRef::hash(map))])
    };
    let port = [Field::L4Proto, Field::ThDport];
    vec![
        lead(false, &[Field::IpDaddr, port[0], port[1]], PORTS4_AT),
        lead(false, &port, PORTS4),
        lead(true, &[Field::Ip6Daddr, port[0], port[1]], PORTS6_AT),
        lead(true, &port, PORTS6),
    ]
}

/// What comes back to whom it came from must seem to come from somebody else, or it is not taken.
pub(super) fn hairpin() -> [Rule; 2] {
    let one = |fields: [Field; 2], set: &str| {
        Rule::new([Expr::lookup(&fields, SetRef::hash(set)), Expr::Masquerade { fully_random: false }])
    };
    [one([Field::IpSaddr, Field::IpDaddr], HAIRPIN4), one([Field::Ip6Saddr, Field::Ip6Daddr], HAIRPIN6)]
}

/// Adds a workload's elements to the sets, where those are declared.
pub fn ports(workload: &WorkloadPlan, tables: &mut Tables) {
    if workload.ports.is_empty() {
        return;
    }
    let Some(table) = tables.get_mut(&name(Family::Inet)) else { return };
    let mut add = |set: &str, key: Key, datum: Option<Datum>| {
        if let Some(set) = table.sets.get_mut(set) {
            set.elements.insert(key, datum);
        }
    };
    for plan in &workload.ports {
        let to = plan.to.ip();
        if plan.at.is_some_and(|at| at.is_loopback()) {
            continue;
        }
        let (set, hairpin) = match (to.is_ipv4(), plan.at) {
            (true, None) => (PORTS4, HAIRPIN4),
            (true, Some(_)) => (PORTS4_AT, HAIRPIN4),
            (false, None) => (PORTS6, HAIRPIN6),
            (false, Some(_)) => (PORTS6_AT, HAIRPIN6),
        };
        add(set, key(plan), Some(Datum::from([Value::ip(to), Value::port(plan.to.port())])));
        add(hairpin, Key::from([Value::ip(to), Value::ip(to)]), None);
    }
}

fn key(plan: &PortPlan) -> Key {
    let port = [Value::protocol(plan.protocol.number()), Value::port(plan.port)];
    Key(plan.at.map(Value::ip).into_iter().chain(port).map(Item::from).collect())
}

/// What leads to these addresses: the inverse of [`ports`], for rebuilding a lost record. Ranges come as single
/// ports, and what was published at the loopback only is not in nftables.
#[must_use]
pub fn published_to(tables: &Tables, addresses: &[IpAddr]) -> Vec<PortMapping> {
    let Some(table) = tables.get(&name(Family::Inet)) else { return Vec::new() };
    let of = |set: &str| table.sets.get(set).map(|set| found(set, addresses)).unwrap_or_default();
    let (any4, any6) = (of(PORTS4), of(PORTS6));
    let mut all: Vec<PortMapping> = [of(PORTS4_AT), of(PORTS6_AT)].concat();
    let dual = addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6);
    let only = |mapping: &PortMapping, any: IpAddr| {
        PortMapping::new(mapping.protocol(), dual.then_some(any), mapping.host(), mapping.container()).ok()
    };
    for mapping in &any4 {
        let both = any6.contains(mapping);
        all.extend(if both { Some(*mapping) } else { only(mapping, Ipv4Addr::UNSPECIFIED.into()) });
    }
    let rest = any6.iter().filter(|mapping| !any4.contains(mapping));
    all.extend(rest.filter_map(|mapping| only(mapping, Ipv6Addr::UNSPECIFIED.into())));
    all
}

fn found(set: &Set, addresses: &[IpAddr]) -> Vec<PortMapping> {
    let one = |(key, datum): (&Key, &Option<Datum>)| {
        let (_, to) = target(datum.as_ref())
            .filter(|to| addresses.contains(&to.ip()))
            .map(|to| (to.ip(), to.port()))?;
        let (at, protocol, port) = read_key(key)?;
        PortMapping::new(protocol, at, (port, port), to).ok()
    };
    set.elements.iter().filter_map(one).collect()
}

fn target(datum: Option<&Datum>) -> Option<SocketAddr> {
    let Datum::Values(values) = datum? else { return None };
    let [address, Value::Number(Type::Port, port)] = values[..] else { return None };
    Some(SocketAddr::new(ip(address)?, u16::try_from(port).ok()?))
}

/// Address, protocol and port of an element's key.
pub(crate) fn read_key(key: &Key) -> Option<(Option<IpAddr>, Protocol, u16)> {
    let (at, rest) = match key.0.as_slice() {
        [Item::One(address), rest @ ..] if rest.len() == 2 => (Some(ip(*address)?), rest),
        rest => (None, rest),
    };
    let [Item::One(Value::Number(Type::Protocol, protocol)), Item::One(Value::Number(Type::Port, port))] =
        rest
    else {
        return None;
    };
    let protocol = Protocol::from_number(u8::try_from(*protocol).ok()?)?;
    Some((at, protocol, u16::try_from(*port).ok()?))
}

fn ip(value: Value) -> Option<IpAddr> {
    match value {
        Value::Ipv4(v4) => Some(v4.into()),
        Value::Ipv6(v6) => Some(v6.into()),
        _ => None,
    }
}

/// The family of a map from ports, by its name; `None` for other sets.
pub(crate) fn is_ipv4_map(set: &str) -> Option<bool> {
    match set {
        PORTS4 | PORTS4_AT => Some(true),
        PORTS6 | PORTS6_AT => Some(false),
        _ => None,
    }
}
