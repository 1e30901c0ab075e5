//! A ruleset for every family with every word, and random ones.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use weft_model::Mac;

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

fn net(text: &str) -> Item {
    Item::net(text.parse().unwrap())
}

fn mac(last: u8) -> Value {
    Value::Mac(Mac([2, 0x77, 0x65, 0, 0, last]))
}

pub(super) fn filled(declaration: Declaration, elements: Vec<(Key, Option<Datum>)>) -> Set {
    Set { declaration, elements: elements.into_iter().collect() }
}

fn plain(declaration: Declaration, keys: Vec<Key>) -> Set {
    filled(declaration, keys.into_iter().map(|key| (key, None)).collect())
}

fn sets(family: Family) -> BTreeMap<String, Set> {
    use Type::{IfGroup, IfName, Integer, Ipv4, Ipv6, Mac, Mark, Port, Protocol};
    let jump = |chain: &str| Some(Datum::Verdict(Verdict::Jump(chain.to_owned())));
    let guard = vec![
        Key::from([Value::from(name("weft1")), mac(1), v4("10.0.0.2")]),
        Key::from([Value::from(name("weft.2-b")), mac(2), v4("10.0.0.3")]),
    ];
    let mut sets: Vec<(&str, Set)> = vec![
        ("guard4", plain(Declaration::set(&[IfName, Mac, Ipv4]), guard)),
        (
            "guard6",
            plain(
                Declaration::set(&[IfName, Mac, Ipv6]),
                vec![Key::from([Value::from(name("weft1")), mac(1), v6("fe80::1")])],
            ),
        ),
        (
            "cidrs4",
            plain(
                Declaration::set(&[Ipv4]).intervals(),
                vec![
                    Key(vec![net("10.0.0.0/24")]),
                    Key(vec![net("10.0.1.0/24")]),
                    Key(vec![net("255.255.0.0/16")]),
                    Key(vec![v4("1.1.1.1").into()]),
                    Key(vec![Item::range(v4("1.1.1.3"), v4("1.1.1.9"))]),
                ],
            ),
        ),
        (
            "cidrs6",
            plain(
                Declaration::set(&[Ipv6]).intervals(),
                vec![Key(vec![net("fd00::/8")]), Key(vec![v6("::1").into()]), Key(vec![net("ff00::/8")])],
            ),
        ),
        (
            "groups",
            plain(
                Declaration::set(&[IfGroup, IfGroup]),
                vec![Key::from([Value::group(0x7765_0001), Value::group(0x7765_0002)])],
            ),
        ),
        (
            "verdicts",
            filled(
                Declaration::verdicts(&[Mark]),
                vec![
                    (Key::from([Value::mark(1)]), jump("n2")),
                    (Key::from([Value::mark(2)]), Some(Datum::Verdict(Verdict::Drop))),
                    (Key::from([Value::mark(3)]), Some(Datum::Verdict(Verdict::Goto("n2".to_owned())))),
                    (Key::from([Value::mark(4)]), Some(Datum::Verdict(Verdict::Return))),
                ],
            ),
        ),
        ("sized", Declaration { size: Some(7), ..Declaration::set(&[Port]) }.empty()),
        ("numbers", plain(Declaration::set(&[Protocol]), vec![Key::from([Value::protocol(6)])])),
        (
            "services",
            filled(
                Declaration::map(&[Ipv4, Protocol, Port], &[Mark]),
                vec![(
                    Key::from([v4("10.96.0.1"), Value::protocol(6), Value::port(443)]),
                    Some(Datum::from([Value::mark(0x102)])),
                )],
            ),
        ),
        (
            "backends",
            filled(
                Declaration::map(&[Mark, Integer], &[Ipv4, Port]),
                vec![
                    (
                        Key::from([Value::mark(0x102), Value::integer(0)]),
                        Some(Datum::from([v4("10.0.0.2"), Value::port(6443)])),
                    ),
                    (
                        Key::from([Value::mark(0x102), Value::integer(1)]),
                        Some(Datum::from([v4("10.0.0.3"), Value::port(6443)])),
                    ),
                ],
            ),
        ),
        (
            "backends6",
            filled(
                Declaration::map(&[Protocol, Port], &[Ipv6, Port]),
                vec![(
                    Key::from([Value::protocol(6), Value::port(80)]),
                    Some(Datum::from([v6("fd00::2"), Value::port(8080)])),
                )],
            ),
        ),
        ("hosts", Declaration::map(&[Port], &[Ipv4]).empty()),
        (
            "identity",
            filled(
                Declaration::map(&[Ipv4], &[Mark]).intervals(),
                vec![
                    (Key(vec![net("10.0.0.0/25")]), Some(Datum::from([Value::mark(1)]))),
                    (Key(vec![net("10.0.0.128/25")]), Some(Datum::from([Value::mark(2)]))),
                ],
            ),
        ),
        (
            "allow",
            plain(
                Declaration::set(&[Mark, Ipv4, Protocol, Port]).intervals(),
                vec![
                    Key(vec![
                        Value::mark(5).into(),
                        net("10.0.0.0/8"),
                        Value::protocol(6).into(),
                        Item::range(Value::port(0), Value::port(65535)),
                    ]),
                    Key(vec![
                        Item::range(Value::mark(6), Value::mark(300)),
                        v4("9.0.0.1").into(),
                        Value::protocol(17).into(),
                        Item::range(Value::port(53), Value::port(54)),
                    ]),
                ],
            ),
        ),
        ("marks", plain(Declaration::set(&[Mark]).intervals(), vec![Key(vec![Item::range(Value::mark(5), Value::mark(0x1234_5678))])])),
        (
            "egress",
            plain(
                Declaration::set(&[IfName, Ipv4]).intervals(),
                vec![Key(vec![name("weft1").into(), net("10.0.0.0/8")])],
            ),
        ),
        (
            "affinity",
            Declaration {
                dynamic: true,
                timeout: Some(Duration::from_secs(10800)),
                size: Some(65535),
                ..Declaration::map(&[Ipv4, Mark], &[Ipv4, Port])
            }
            .empty(),
        ),
    ];
    if family == Family::Arp {
        sets.truncate(1);
    }
    sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect()
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
        Expr::lookup(&[Field::Mark, Field::IpSaddr, Field::L4Proto, Field::ThDport], SetRef::interval("allow")),
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
        Expr::masked(Field::Ip6Saddr, "ffc0::".parse::<Ipv6Addr>().unwrap(), "fe80::".parse::<Ipv6Addr>().unwrap()),
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
    }
    if matches!(family, Family::Inet | Family::Ip6) {
        words.push(Expr::Reject(Reject::Icmpv6(1)));
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
            if index.is_multiple_of(3) { rule.comment(&format!("rule {index} of $HOME; `x` 'y' {{}}")) } else { rule }
        })
        .collect();
    if family != Family::Arp {
        rules.push(Rule::new([Expr::number(Field::L4Proto, 17), Expr::number(Field::ThDport, 4789), Expr::drop()]));
        rules.push(Rule::new([
            Expr::number(Field::L4Proto, 17),
            Expr::compare(Field::ThSport, Compare::Ge, Value::port(100)),
            Expr::compare(Field::ThSport, Compare::Lt, Value::port(200)),
            Expr::jump("n2"),
        ]));
    }
    rules.push(Rule::new([Expr::Verdict(Verdict::Return)]).comment("back"));
    let mut chains: Vec<(&str, Chain)> = vec![("n2", chain(None, vec![Rule::new([Expr::drop()])]))];
    match family {
        Family::Arp => {
            chains.push(("main", chain(filter(Hook::Input, -5), rules)));
            chains.push(("out", chain(Some(Base { policy: Policy::Drop, ..Base::new(Kind::Filter, Hook::Output, 7) }), vec![])));
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
            chain(Some(Base::new(Kind::Route, Hook::Output, -150)), vec![Rule::new([Expr::set_mark(Mark::Packet, 0xf0, 0x10)])]),
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
        rules.push(Rule::new([tcp(), dnat(false, NatTarget::Address("10.1.1.1".parse().unwrap(), Some(80)))]));
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
        let host = NatTarget::Map { key: vec![Field::ThDport.into()], map: SetRef::hash("hosts"), port: false };
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

// ---- random ones ----

fn numeric(kind: Type) -> BoxedStrategy<Value> {
    let max = if kind.size() == 4 { u32::MAX } else { (1 << (8 * kind.size())) - 1 };
    prop_oneof![Just(0), Just(max), 0..=max].prop_map(move |n| Value::Number(kind, n)).boxed()
}

pub(super) fn value(kind: Type) -> BoxedStrategy<Value> {
    match kind {
        Type::Ipv4 => any::<u32>().prop_map(|n| Value::Ipv4(n.into())).boxed(),
        Type::Ipv6 => any::<u128>().prop_map(|n| Value::Ipv6(n.into())).boxed(),
        Type::Mac => any::<[u8; 6]>().prop_map(|m| Value::Mac(Mac(m))).boxed(),
        Type::IfName => "[a-z][a-z0-9._-]{0,14}".prop_map(|n| Value::IfName(name(&n))).boxed(),
        kind => numeric(kind),
    }
}

/// The types that sets are really made of; `nft` stumbles over some of the others as keys.
pub(super) const USUAL: [Type; 9] = [
    Type::Ipv4,
    Type::Ipv6,
    Type::Mac,
    Type::IfName,
    Type::IfGroup,
    Type::Mark,
    Type::Port,
    Type::Protocol,
    Type::EtherType,
];

fn item(kind: Type, interval: bool) -> BoxedStrategy<Item> {
    if !interval || kind == Type::IfName {
        return value(kind).prop_map(Item::One).boxed();
    }
    (value(kind), value(kind)).prop_map(|(a, b)| Item::range(a.min(b), a.max(b))).boxed()
}

fn key(kinds: &[Type], interval: bool) -> impl Strategy<Value = Key> + use<> {
    kinds.iter().map(|kind| item(*kind, interval)).collect::<Vec<_>>().prop_map(Key)
}

fn kinds(of: &[Type], parts: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Type>> + use<> {
    let fits = |kinds: &Vec<Type>| kinds.iter().map(|k| k.size().next_multiple_of(4)).sum::<usize>() <= 64;
    prop::collection::vec(prop::sample::select(of.to_vec()), parts).prop_filter("64 bytes", fits)
}

fn datum(data: &Data) -> BoxedStrategy<Datum> {
    match data {
        Data::Verdict => prop::sample::select(vec![
            Verdict::Accept,
            Verdict::Drop,
            Verdict::Return,
            Verdict::Continue,
            Verdict::Jump("target".to_owned()),
            Verdict::Goto("target".to_owned()),
        ])
        .prop_map(Datum::Verdict)
        .boxed(),
        Data::Values(kinds) => {
            kinds.iter().map(|kind| value(*kind)).collect::<Vec<_>>().prop_map(Datum::Values).boxed()
        }
    }
}

/// Ranges that overlap are refused by the kernel: the first of them stay.
pub(super) fn without_overlaps(set: Set) -> Set {
    if !set.declaration.interval {
        return set;
    }
    let mut elements: BTreeMap<Key, Option<Datum>> = BTreeMap::new();
    for (key, datum) in set.elements {
        if !elements.keys().any(|other| other.overlaps(&key)) {
            elements.insert(key, datum);
        }
    }
    Set { elements, ..set }
}

fn declaration(of: Vec<Type>) -> impl Strategy<Value = Declaration> {
    let data = prop_oneof![
        Just(None),
        Just(Some(Data::Verdict)),
        kinds(&of, 1..=2).prop_map(|kinds| Some(Data::Values(kinds)))
    ];
    let key = any::<bool>().prop_flat_map(move |interval| {
        let parts = kinds(&of, 1..=4).prop_filter("a single name has no intervals", move |kinds| {
            !interval || kinds.as_slice() != [Type::IfName]
        });
        (parts, Just(interval))
    });
    (key, data).prop_map(|((key, interval), data)| Declaration { key, data, interval, ..Declaration::default() })
}

pub(super) fn set() -> impl Strategy<Value = Set> {
    set_of(Type::all().collect())
}

pub(super) fn set_of(of: Vec<Type>) -> impl Strategy<Value = Set> {
    declaration(of).prop_flat_map(|declaration| {
        let data: BoxedStrategy<Option<Datum>> = match &declaration.data {
            None => Just(None).boxed(),
            Some(data) => datum(data).prop_map(Some).boxed(),
        };
        prop::collection::btree_map(key(&declaration.key, declaration.interval), data, 0..8)
            .prop_map(move |elements| without_overlaps(Set { declaration: declaration.clone(), elements }))
    })
}

fn expression() -> impl Strategy<Value = Expr> {
    let fields: Vec<Field> = Field::named()
        .filter(|f| !matches!(f, Field::ArpOperation | Field::ArpSaddrEther | Field::ArpSaddrIp))
        .filter(|f| !matches!(f, Field::ArpDaddrEther | Field::ArpDaddrIp))
        .collect();
    let matching = prop::sample::select(fields).prop_flat_map(|field| {
        let mask = prop_oneof![3 => Just(None), 1 => value(field.kind()).prop_map(Some)];
        let mask = mask.prop_filter("names have no masks", |m| !matches!(m, Some(Value::IfName(_))));
        let right = prop_oneof![
            3 => value(field.kind()).prop_map(Right::Value),
            1 => prop::collection::btree_set(value(field.kind()), 1..5).prop_map(Right::OneOf),
        ];
        let compare = prop_oneof![Just(Compare::Eq), Just(Compare::Ne)];
        (mask, compare, right).prop_map(move |(mask, compare, right)| Expr::Match {
            left: Operand { field, mask },
            compare,
            right,
        })
    });
    let bits = (any::<u32>(), any::<u32>(), any::<bool>()).prop_map(|(mask, flip, packet)| Expr::SetMark {
        mark: if packet { Mark::Packet } else { Mark::Connection },
        to: MarkSource::Bits { field: if packet { Field::Mark } else { Field::CtMark }, mask, flip },
    });
    let raw = (0..60_u32, prop::collection::vec(any::<u8>(), 1..=16)).prop_map(|(offset, bytes)| Expr::Match {
        left: Field::Payload { base: PayloadBase::Network, offset: offset + 100, length: bytes.len() as u8 }.into(),
        compare: Compare::Eq,
        right: Right::Value(Value::Raw(Raw::new(&bytes).unwrap())),
    });
    prop_oneof![6 => matching, 1 => bits, 1 => raw, 1 => Just(Expr::Counter)]
}

pub(super) fn rule() -> impl Strategy<Value = Rule> {
    let end = prop::sample::select(vec![
        Expr::accept(),
        Expr::drop(),
        Expr::Verdict(Verdict::Return),
        Expr::jump("target"),
        Expr::Reject(Reject::ADMIN_PROHIBITED),
        Expr::Reject(Reject::TcpReset),
    ]);
    let comment = prop::option::of("[ -!#-~]{0,127}");
    (prop::collection::vec(expression(), 0..4), end, comment).prop_map(|(mut expressions, end, comment)| {
        expressions.push(end);
        Rule { expressions, comment }
    })
}

/// A table with random sets, and a chain with random rules.
pub(super) fn table() -> impl Strategy<Value = Table> {
    let sets = prop::collection::btree_map("s[0-4]", set(), 0..4);
    let rules = prop::collection::vec(rule(), 0..5);
    (sets, rules, prop::collection::vec(rule(), 0..3), any::<bool>()).prop_map(|(sets, rules, more, hooked)| {
        let base = hooked.then(|| Base::new(Kind::Filter, Hook::Input, 0));
        let mut chains = BTreeMap::new();
        chains.insert("target".to_owned(), Chain::default());
        chains.insert("rules".to_owned(), Chain { base, rules });
        if !more.is_empty() {
            chains.insert("more".to_owned(), Chain { base: None, rules: more });
        }
        Table { sets, chains, foreign: Vec::new() }
    })
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
