//! The chains of services. They change only when the first service comes, the last goes, or one outgrows them all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weft_kernel::nft::{
    Base, Chain, Compare, Expr, Field, Hook, Kind, NatKind, NatTarget, Operand, Reject, Right, Rule, SetRef,
    Table, Value,
};
use weft_kernel::ours::{DEVICE, GROUP, GROUP_MASK, TUNNEL};

use super::{At, Frame, Ip, addresses, dead, hairpin, ranges};
use crate::nft::inet::{DNAT, ESTABLISHED_OR_RELATED, not_ours, refuse};

/// Just before published ports (NF_IP_PRI_NAT_DST is -100). The two never want one packet: a port of the host's is given once.
const BEFORE_PORTS: i32 = -101;
/// Just before the masquerade of what leaves (NF_IP_PRI_NAT_SRC is 100).
const BEFORE_MASQUERADE: i32 = 99;
/// Before policy: what leads nowhere is nobody's to permit.
const BEFORE_POLICY: i32 = -6;
const PROTOCOLS: [u32; 3] = [6, 17, 132];
const TCP: u32 = 6;
const LOCAL: u32 = 2; // RTN_LOCAL, linux/rtnetlink.h

/// So many slots are tried. More than half of them are full, so that one packet in 65,536 at most comes to the end, where
/// slot 0 takes it.
const TRIES: usize = 16;

pub(super) fn fill(frame: &Frame, table: &mut Table) {
    if frame.classes.is_empty() {
        return;
    }
    let mut chain = |name: &str, base: Option<Base>, rules: Vec<Rule>| {
        let before = table.chains.insert(name.to_owned(), Chain { base, rules });
        debug_assert!(before.is_none(), "two features want a chain {name}");
    };
    let base = |kind, hook, priority| Some(Base::new(kind, hook, priority));
    let all = || vec![Rule::new([Expr::one_of(Field::L4Proto, &PROTOCOLS), Expr::jump("services")])];
    chain("services_from_outside", base(Kind::Nat, Hook::Prerouting, BEFORE_PORTS), all());
    chain("services_from_here", base(Kind::Nat, Hook::Output, BEFORE_PORTS), all());
    chain("services", None, services());
    chain("services_forward", base(Kind::Filter, Hook::Forward, BEFORE_POLICY), untranslated());
    chain("services_output", base(Kind::Filter, Hook::Output, BEFORE_POLICY), untranslated());
    chain("services_leaving", base(Kind::Nat, Hook::Postrouting, BEFORE_MASQUERADE), leaving(frame));
    chain("service_refused", None, refused());
    for ip in Ip::BOTH {
        for at in At::BOTH {
            chain(&entry(at, ip), None, classes(frame, at, ip));
            for size in &frame.classes {
                chain(&at.pick(ip, *size), None, pick(at, ip, *size));
            }
        }
    }
}

/// The chain that asks for the class of a frontend.
fn entry(at: At, ip: Ip) -> String {
    ip.name(if at == At::Address { "services" } else { "host_services" })
}

fn destination(ip: Ip) -> Field {
    if ip == Ip::V4 { Field::IpDaddr } else { Field::Ip6Daddr }
}

fn source(ip: Ip) -> Field {
    if ip == Ip::V4 { Field::IpSaddr } else { Field::Ip6Saddr }
}

fn family(ip: Ip) -> Expr {
    Expr::number(Field::NfProto, if ip == Ip::V4 { 2 } else { 10 })
}

fn key(at: At, ip: Ip) -> Vec<Field> {
    let address = (at == At::Address).then(|| destination(ip));
    address.into_iter().chain([Field::L4Proto, Field::ThDport]).collect()
}

fn services() -> Vec<Rule> {
    // Ports of hosts answer at all of their addresses but the loopback's (CVE-2020-8558).
    let v4 = Expr::masked(Field::IpDaddr, Ipv4Addr::new(255, 0, 0, 0), Ipv4Addr::new(127, 0, 0, 0));
    let v6 = Expr::eq(Field::Ip6Daddr, Ipv6Addr::LOCALHOST);
    let local = |ip: Ip| {
        let local = Expr::number(Field::FibDaddrType, LOCAL);
        Rule::new([family(ip), local, Expr::jump(&entry(At::Host, ip))])
    };
    vec![
        Rule::new([v4, Expr::accept()]),
        Rule::new([v6, Expr::accept()]),
        Rule::new([family(Ip::V4), Expr::jump(&entry(At::Address, Ip::V4))]),
        Rule::new([family(Ip::V6), Expr::jump(&entry(At::Address, Ip::V6))]),
        local(Ip::V4),
        local(Ip::V6),
    ]
}

fn classes(frame: &Frame, at: At, ip: Ip) -> Vec<Rule> {
    let one = |size: &u32| {
        let class = Expr::lookup(&key(at, ip), SetRef::hash(&at.class(ip, *size)));
        Rule::new([class, Expr::goto(&at.pick(ip, *size))])
    };
    frame.classes.iter().map(one).collect()
}

fn pick(at: At, ip: Ip, size: u32) -> Vec<Rule> {
    let attempt = |of: u32| {
        let key: Vec<Field> = key(at, ip).into_iter().chain([Field::Random(of)]).collect();
        let translate = Expr::dnat_map(ip == Ip::V6, &key, SetRef::hash(&at.backends(ip)));
        let family = (at == At::Host).then(|| family(ip)); // elsewhere the address implies it
        Rule::new(family.into_iter().chain([translate]))
    };
    // Of one and of two no slot is ever empty, but in the moment of a change.
    let tries = if size <= 2 { 2 } else { TRIES };
    std::iter::repeat_n(size, tries).chain([1]).map(attempt).collect()
}

/// What is for a service and was not translated.
fn untranslated() -> Vec<Rule> {
    let mut rules = vec![Rule::new([Expr::any_bit(Field::CtState, ESTABLISHED_OR_RELATED), Expr::accept()])];
    for ip in Ip::BOTH {
        let no_backends = Expr::lookup(&key(At::Address, ip), SetRef::hash(&dead(ip)));
        let protocols = Expr::one_of(Field::L4Proto, &PROTOCOLS);
        rules.push(Rule::new([protocols, no_backends, Expr::jump("service_refused")]));
        let in_range = Expr::lookup(&[destination(ip)], SetRef::interval(&ranges(ip)));
        let of_service = Expr::lookup(&[destination(ip)], SetRef::hash(&addresses(ip)));
        rules.push(Rule::new([of_service, Expr::jump("service_refused")]));
        rules.push(refuse([in_range], Expr::drop(), "address of no service"));
    }
    rules
}

fn refused() -> Vec<Rule> {
    let reason = "service without backends, or not at this port";
    vec![
        refuse([Expr::number(Field::L4Proto, TCP)], Expr::Reject(Reject::TcpReset), reason),
        refuse([], Expr::Reject(Reject::PORT_UNREACHABLE), reason),
    ]
}

/// Whose answers would not come back this way, or would not be taken.
fn leaving(frame: &Frame) -> Vec<Rule> {
    let translated = || Expr::any_bit(Field::CtStatus, DNAT);
    let mut rules = vec![Rule::new([Expr::no_bit(Field::CtStatus, DNAT), Expr::accept()])];
    for ip in Ip::BOTH {
        let itself = Expr::lookup(&[source(ip), destination(ip)], SetRef::hash(&hairpin(ip)));
        rules.push(Rule::new([translated(), itself, Expr::Masquerade { fully_random: false }]));
    }
    for (_, subnet, own) in &frame.shared {
        let tunnel = Expr::bits(Field::OifGroup, GROUP_MASK | DEVICE | TUNNEL, GROUP | DEVICE | TUNNEL);
        for way in [tunnel, not_ours(Field::OifGroup)] {
            rules.push(Rule::new([
                way,
                within(true, *subnet, Compare::Eq),
                within(false, *subnet, Compare::Ne),
                as_source(*own),
            ]));
        }
    }
    rules
}

/// Whether the destination (or the source) is of a subnet, or is not.
fn within(destined: bool, subnet: IpNet, compare: Compare) -> Expr {
    let ip = Ip::of(subnet.addr().is_ipv4());
    let field = if destined { destination(ip) } else { source(ip) };
    let left = Operand { field, mask: Some(Value::ip(subnet.netmask())) };
    Expr::Match { left, compare, right: Right::Value(Value::ip(subnet.network())) }
}

fn as_source(own: IpAddr) -> Expr {
    let to = NatTarget::Address(own, None);
    Expr::Nat { kind: NatKind::Snat, ipv6: own.is_ipv6(), to, fully_random: true }
}
