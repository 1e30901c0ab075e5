//! A ruleset for every family with every word.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use weft_model::Mac;

use super::sets::sets;
use super::*;

pub(super) fn name(name: &str) -> IfName {
    IfName::new(name).unwrap()
}

pub(super) fn v4(text: &str) -> Value {
    Value::Ipv4(text.parse().unwrap())
}

pub(super) fn v6(text: &str) -> Value {
    Value::Ipv6(text.parse().unwrap())
}

pub(super) fn mac(last: u8) -> Value {
    Value::Mac(Mac([2, 0x77, 0x65, 0, 0, last]))
}

pub(super) fn filled(declaration: Declaration, elements: Vec<(Key, Option<Datum>)>) -> Set {
    Set { declaration, elements: elements.into_iter().collect() }
}

/// Rules that hold in tables that see IPv4.
fn rules4() -> Vec<Expr> {
    vec![
        Expr::lookup(&[Field::IifName, Field::EtherSaddr, Field::IpSaddr], SetRef::hash("guard4")),
        Expr::absent(&[Field::IpDaddr], SetRef::interval("cidrs4")),
        Expr::masked(Field::IpSaddr, Ipv4Addr::new(255, 255, 128, 0), Ipv4Addr::new(10, 1, 128, 0)),
        Expr::masked(Field::IpSaddr, Ipv4Addr::new(0, 0, 0, 255), Ipv4Addr::new(0, 0, 0, 1)),
        Expr::compare(Field::IpDaddr, Compare::Ne, Ipv4Addr::new(10, 1, 2, 3)),
        Expr::number(Field::IcmpType, 8),
        Expr::one_of(Field::IcmpType, &[3, 11, 12]),
        Expr::one_of(Field::IpProtocol, &[6, 17]),
        Expr::lookup(
            &[Field::Mark, Field::IpSaddr, Field::L4Proto, Field::ThDport],
            SetRef::interval("allow"),
        ),
        Expr::lookup(&[Field::OifName, Field::IpDaddr], SetRef::interval("egress")),
        Expr::SetMark {
            mark: Mark::Packet,
            to: MarkSource::Map {
                key: vec![Field::IpDaddr.into(), Field::IpProtocol.into(), Field::ThDport.into()],
                map: SetRef::hash("services"),
            },
        },
        Expr::SetMark {
            mark: Mark::Connection,
            to: MarkSource::Map { key: vec![Field::IpSaddr.into()], map: SetRef::interval("identity") },
        },
        Expr::Update {
            key: vec![Field::IpSaddr.into(), Field::Mark.into()],
            data: vec![Field::IpDaddr.into(), Field::ThDport.into()],
            set: SetRef::hash("affinity"),
            timeout: None,
        },
        Expr::Update {
            key: vec![Field::IpSaddr.into(), Field::Mark.into()],
            data: vec![Field::IpDaddr.into(), Field::ThDport.into()],
            set: SetRef::hash("affinity"),
            timeout: Some(Duration::from_secs(30)),
        },
    ]
}

fn rules6() -> Vec<Expr> {
    vec![
        Expr::lookup(&[Field::IifName, Field::EtherSaddr, Field::Ip6Saddr], SetRef::hash("guard6")),
        Expr::lookup(&[Field::Ip6Daddr], SetRef::interval("cidrs6")),
        Expr::masked(
            Field::Ip6Saddr,
            "ffc0::".parse::<Ipv6Addr>().unwrap(),
            "fe80::".parse::<Ipv6Addr>().unwrap(),
        ),
        Expr::number(Field::Icmpv6Type, 134),
        Expr::one_of(Field::Icmpv6Type, &[133, 135, 136]),
    ]
}

fn rules_anywhere() -> Vec<Expr> {
    vec![
        Expr::bits(Field::IifGroup, 0xffff_8000, 0x7765_0000),
        Expr::number(Field::OifGroup, 5),
        Expr::lookup(&[Field::IifGroup, Field::OifGroup], SetRef::hash("groups")),
        Expr::bits(Field::Mark, 0xff00, 0x100),
        Expr::compare(Field::Mark, Compare::Ne, Value::mark(7)),
        Expr::lookup(&[Field::Mark], SetRef::interval("marks")),
        Expr::eq(Field::IifName, name("eth0")),
        Expr::compare(Field::OifName, Compare::Ne, Value::IfPrefix(name("weft"))),
        Expr::number(Field::Iif, 1),
        Expr::number(Field::PktType, 1),
        Expr::lookup(&[Field::L4Proto], SetRef::hash("numbers")),
        Expr::Counter,
        Expr::set_mark(Mark::Packet, 0xff00, 0x1200),
        Expr::set_mark(Mark::Packet, u32::MAX, 9),
        Expr::set_mark(Mark::Packet, 0x00ff_0000, 0),
        Expr::Log { group: Some(5), prefix: "weft: (x) `y` 'z'".to_owned() },
        Expr::Log { group: None, prefix: String::new() },
        Expr::Limit { rate: 10, unit: Unit::Second, burst: 7, over: false },
        Expr::Limit { rate: 600, unit: Unit::Minute, burst: 5, over: true },
        Expr::number(Field::Random(3), 2),
        Expr::number(Field::Increment(4), 0),
        Expr::verdict_map(&[Field::Mark], SetRef::hash("verdicts")),
        Expr::VerdictMap { key: vec![Operand::masked(Field::Mark, 0xff)], map: SetRef::hash("verdicts") },
    ]
}

fn rules_connection() -> Vec<Expr> {
    vec![
        Expr::any_bit(Field::CtState, 6),
        Expr::any_bit(Field::CtState, 1),
        Expr::any_bit(Field::CtStatus, 0x20),
        Expr::no_bit(Field::CtStatus, 0x20),
        Expr::no_bit(Field::CtState, 6),
        Expr::bits(Field::CtMark, 0xff, 1),
        Expr::number(Field::CtDirection, 1),
        Expr::set_mark(Mark::Connection, 0xff, 5),
        Expr::SetMark {
            mark: Mark::Packet,
            to: MarkSource::Bits { field: Field::CtMark, mask: 0xff, flip: 0 },
        },
        Expr::SetMark {
            mark: Mark::Connection,
            to: MarkSource::Bits { field: Field::Mark, mask: u32::MAX, flip: 0 },
        },
    ]
}

fn rules_arp() -> Vec<Expr> {
    vec![
        Expr::number(Field::ArpOperation, 1),
        Expr::lookup(&[Field::IifName, Field::ArpSaddrEther, Field::ArpSaddrIp], SetRef::hash("guard4")),
        Expr::eq(Field::ArpDaddrIp, Ipv4Addr::new(169, 254, 1, 1)),
        Expr::eq(Field::ArpDaddrEther, mac(7)),
    ]
}

fn chain(base: Option<Base>, rules: Vec<Rule>) -> Chain {
    Chain { base, rules }
}

fn filter(hook: Hook, priority: i32) -> Option<Base> {
    Some(Base::new(Kind::Filter, hook, priority))
}

/// Every word that the family knows.
pub(super) fn rich(family: Family) -> Table {
    let mut words = match family {
        Family::Inet => [rules4(), rules6(), rules_anywhere(), rules_connection()].concat(),
        Family::Ip => [rules4(), rules_anywhere(), rules_connection()].concat(),
        Family::Ip6 => [rules6(), rules_anywhere(), rules_connection()].concat(),
        Family::Arp => rules_arp(),
        Family::Bridge => [rules4(), rules6(), rules_anywhere(), rules_arp()].concat(),
        Family::Netdev => [rules4(), rules6(), rules_anywhere()].concat(),
    };
    if matches!(family, Family::Netdev | Family::Bridge) {
        // Only the families of IP can have the kernel track connections for a rule.
        words.retain(|word| !matches!(word, Expr::SetMark { mark: Mark::Connection, .. }));
    }
    if matches!(family, Family::Inet | Family::Ip | Family::Ip6) {
        words.push(Expr::number(Field::FibDaddrType, 2));
        words.push(Expr::number(Field::FibSaddrType, 2));
        words.push(Expr::eq(Field::EtherSaddr, mac(1)));
        words.push(Expr::Reject(Reject::TcpReset));
    }
    if family == Family::Inet {
        words.push(Expr::Reject(Reject::ADMIN_PROHIBITED));
    }
    if matches!(family, Family::Inet | Family::Ip) {
        words.push(Expr::Reject(Reject::Icmp(13)));
        words.push(Expr::eq(Field::CtOriginalIpDaddr, Ipv4Addr::new(10, 96, 0, 1)));
    }
    if matches!(family, Family::Inet | Family::Ip6) {
        words.push(Expr::Reject(Reject::Icmpv6(1)));
        words.push(Expr::eq(Field::CtOriginalIp6Daddr, v6("fd00::1")));
    }
    if family != Family::Arp {
        words.push(Expr::Match {
            left: Field::Payload { base: PayloadBase::Transport, offset: 42, length: 3 }.into(),
            compare: Compare::Eq,
            right: Right::Value(Value::Raw(Raw::new(&[10, 11, 12]).unwrap())),
        });
    }
    let mut rules: Vec<Rule> = words
        .into_iter()
        .enumerate()
        .map(|(index, word)| {
            let last = matches!(word, Expr::Reject(_) | Expr::VerdictMap { .. });
            let rule = Rule::new(if last { vec![word] } else { vec![word, Expr::Counter, Expr::accept()] });
            if index.is_multiple_of(3) {
                rule.comment(&format!("rule {index} of $HOME; `x` 'y' {{}}"))
            } else {
                rule
            }
        })
        .collect();
    if family != Family::Arp {
        rules.push(Rule::new([
            Expr::number(Field::L4Proto, 17),
            Expr::number(Field::ThDport, 4789),
            Expr::drop(),
        ]));
        rules.push(Rule::new([
            Expr::number(Field::L4Proto, 17),
            Expr::compare(Field::ThSport, Compare::Ge, Value::port(100)),
            Expr::compare(Field::ThSport, Compare::Lt, Value::port(200)),
            Expr::jump("n2"),
        ]));
    }
    if matches!(family, Family::Inet | Family::Ip | Family::Ip6) {
        let port = Expr::number(Field::CtOriginalDport, 443);
        rules.push(Rule::new([Expr::number(Field::L4Proto, 6), port, Expr::accept()]));
    }
    rules.push(Rule::new([Expr::Verdict(Verdict::Return)]).comment("back"));
    let mut chains: Vec<(&str, Chain)> = vec![("n2", chain(None, vec![Rule::new([Expr::drop()])]))];
    match family {
        Family::Arp => {
            chains.push(("main", chain(filter(Hook::Input, -5), rules)));
            chains.push((
                "out",
                chain(
                    Some(Base { policy: Policy::Drop, ..Base::new(Kind::Filter, Hook::Output, 7) }),
                    vec![],
                ),
            ));
        }
        Family::Netdev => {
            chains.push(("main", chain(None, rules)));
            let base = Base { device: IfName::new("lo"), ..Base::new(Kind::Filter, Hook::Ingress, -500) };
            chains.push(("ingress", chain(Some(base), vec![Rule::new([Expr::goto("main")])])));
        }
        _ => chains.push(("main", chain(filter(Hook::Input, -5), rules))),
    }
    if matches!(family, Family::Inet | Family::Ip | Family::Ip6) {
        chains.push(("raw", chain(filter(Hook::Prerouting, -300), vec![Rule::new([Expr::NoTrack])])));
        chains.push((
            "route",
            chain(
                Some(Base::new(Kind::Route, Hook::Output, -150)),
                vec![Rule::new([Expr::set_mark(Mark::Packet, 0xf0, 0x10)])],
            ),
        ));
        chains.push((
            "post",
            chain(
                Some(Base::new(Kind::Nat, Hook::Postrouting, 100)),
                vec![
                    Rule::new([Expr::Masquerade { fully_random: false }]),
                    Rule::new([Expr::Counter, Expr::Masquerade { fully_random: true }]).comment("masquerade"),
                ],
            ),
        ));
        chains.push(("nat", chain(Some(Base::new(Kind::Nat, Hook::Prerouting, -100)), nat(family))));
    }
    let chains = chains.into_iter().map(|(name, chain)| (name.to_owned(), chain)).collect();
    Table { sets: sets(family), chains, foreign: Vec::new() }
}

fn nat(family: Family) -> Vec<Rule> {
    let dnat = |ipv6, to| Expr::Nat { kind: NatKind::Dnat, ipv6, to, fully_random: false };
    let tcp = || Expr::number(Field::L4Proto, 6);
    let mut rules = Vec::new();
    if family != Family::Ip6 {
        rules
            .push(Rule::new([tcp(), dnat(false, NatTarget::Address("10.1.1.1".parse().unwrap(), Some(80)))]));
        rules.push(Rule::new([dnat(false, NatTarget::Address("10.1.1.1".parse().unwrap(), None))]));
        let random = Expr::dnat_map(false, &[Field::Mark, Field::Random(2)], SetRef::hash("backends"));
        rules.push(Rule::new([Expr::one_of(Field::L4Proto, &[6, 17]), random]));
        let masked = NatTarget::Map {
            key: vec![Operand::masked(Field::Mark, 0xffff), Field::Random(2).into()],
            map: SetRef::hash("backends"),
            port: true,
        };
        rules.push(Rule::new([tcp(), dnat(false, masked)]));
        let sticky = Expr::dnat_map(false, &[Field::IpSaddr, Field::Mark], SetRef::hash("affinity"));
        rules.push(Rule::new([tcp(), sticky]));
        let host =
            NatTarget::Map { key: vec![Field::ThDport.into()], map: SetRef::hash("hosts"), port: false };
        rules.push(Rule::new([tcp(), dnat(false, host)]));
    }
    if family != Family::Ip {
        rules.push(Rule::new([tcp(), dnat(true, NatTarget::Address("fd00::1".parse().unwrap(), Some(80)))]));
        let map = Expr::dnat_map(true, &[Field::L4Proto, Field::ThDport], SetRef::hash("backends6"));
        rules.push(Rule::new([tcp(), map]));
    }
    rules
}

/// Every family's.
pub(super) fn all() -> Tables {
    Family::ALL.iter().map(|family| (TableName::new(*family, "weft"), rich(*family))).collect()
}

/// The same with every rule in the form in which it is read.
pub(super) fn as_read(tables: &Tables) -> Tables {
    let mut tables = tables.clone();
    for (name, table) in &mut tables {
        for rule in table.chains.values_mut().flat_map(|chain| &mut chain.rules) {
            *rule = canonical(name.family, rule);
        }
    }
    tables
}
