//! Random sets, rules and tables.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weft_model::Mac;

use super::samples::name;
use super::*;

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
    (key, data).prop_map(|((key, interval), data)| Declaration {
        key,
        data,
        interval,
        ..Declaration::default()
    })
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

/// The fields that mean something in an inet table.
fn fields() -> Vec<Field> {
    Field::named().filter(|field| field.needs().network != Some(field::Net::Arp)).collect()
}

fn expression(fields: Vec<Field>, masks: bool) -> impl Strategy<Value = Expr> {
    let matching = prop::sample::select(fields).prop_flat_map(move |field| {
        let none = Just(None).boxed();
        let some = value(field.kind()).prop_map(Some).boxed();
        let mask = if masks { prop_oneof![3 => none, 1 => some].boxed() } else { none };
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
    let raw =
        (0..60_u32, prop::collection::vec(any::<u8>(), 1..=16)).prop_map(|(offset, bytes)| Expr::Match {
            left: Field::Payload {
                base: PayloadBase::Network,
                offset: offset + 100,
                length: bytes.len() as u8,
            }
            .into(),
            compare: Compare::Eq,
            right: Right::Value(Value::Raw(Raw::new(&bytes).unwrap())),
        });
    prop_oneof![6 => matching, 1 => bits, 1 => raw, 1 => Just(Expr::Counter)]
}

pub(super) fn rule() -> impl Strategy<Value = Rule> {
    rule_of(expression(fields(), true).boxed())
}

/// Rules that `nft` can write and list: without flags of its own making, and without masks.
pub(super) fn rule_for_people() -> impl Strategy<Value = Rule> {
    // One of each header, and none of Ethernet's: `nft` loads neighbours together, and changes their order when it lists them.
    let fields = vec![
        Field::IifName,
        Field::OifName,
        Field::IifGroup,
        Field::OifGroup,
        Field::Mark,
        Field::CtMark,
        Field::IpSaddr,
        Field::ThDport,
    ];
    // `nft` puts the match of TCP that a reset implies at the rule's beginning.
    let reset = |rule: &Rule| !rule.expressions.contains(&Expr::Reject(Reject::TcpReset));
    rule_of(expression(fields, false).boxed()).prop_filter("no reset", reset)
}

fn rule_of(expression: BoxedStrategy<Expr>) -> impl Strategy<Value = Rule> {
    let end = prop::sample::select(vec![
        Expr::accept(),
        Expr::drop(),
        Expr::Verdict(Verdict::Return),
        Expr::jump("target"),
        Expr::Reject(Reject::ADMIN_PROHIBITED),
        Expr::Reject(Reject::TcpReset),
    ]);
    let comment = prop::option::of("[ -!#-~]{0,127}");
    let rule = (prop::collection::vec(expression, 0..4), end, comment).prop_map(
        |(mut expressions, end, comment)| {
            expressions.push(end);
            Rule { expressions, comment }
        },
    );
    let possible = |rule: &Rule| depend::conflict(Family::Inet, &rule.expressions).is_none();
    rule.prop_filter("no packet is both IPv4 and IPv6", possible)
}

/// A table with random sets, and a chain with random rules.
pub(super) fn table() -> impl Strategy<Value = Table> {
    let sets = prop::collection::btree_map("s[0-4]", set(), 0..4);
    let rules = prop::collection::vec(rule(), 0..5);
    (sets, rules, prop::collection::vec(rule(), 0..3), any::<bool>()).prop_map(
        |(sets, rules, more, hooked)| {
            let base = hooked.then(|| Base::new(Kind::Filter, Hook::Input, 0));
            let mut chains = BTreeMap::new();
            chains.insert("target".to_owned(), Chain::default());
            chains.insert("rules".to_owned(), Chain { base, rules });
            if !more.is_empty() {
                chains.insert("more".to_owned(), Chain { base: None, rules: more });
            }
            Table { sets, chains, foreign: Vec::new() }
        },
    )
}
