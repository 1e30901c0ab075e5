//! Batches that Linux takes or refuses, and the tables that they meet.

use super::samples::{filled, v4};
use super::*;

pub(super) fn t() -> TableName {
    TableName::new(Family::Inet, "weft")
}

pub(super) fn add_set(set: &str, declaration: Declaration) -> Op {
    Op::AddSet { table: t(), set: set.to_owned(), declaration }
}

pub(super) fn add_chain(chain: &str, base: Option<Base>) -> Op {
    Op::AddChain { table: t(), chain: chain.to_owned(), base }
}

pub(super) fn add_rule(chain: &str, expressions: &[Expr]) -> Op {
    Op::AddRule { table: t(), chain: chain.to_owned(), rule: Rule::new(expressions.to_vec()) }
}

pub(super) fn add(set: &str, interval: bool, elements: Vec<(Key, Option<Datum>)>) -> Op {
    Op::AddElements { table: t(), set: set.to_owned(), interval, elements }
}

pub(super) fn delete(set: &str, interval: bool, keys: Vec<Key>) -> Op {
    Op::DeleteElements { table: t(), set: set.to_owned(), interval, keys }
}

pub(super) fn delete_set(set: &str) -> Op {
    Op::DeleteSet { table: t(), set: set.to_owned() }
}

pub(super) fn delete_chain(chain: &str) -> Op {
    Op::DeleteChain { table: t(), chain: chain.to_owned() }
}

pub(super) fn flush(chain: &str) -> Op {
    Op::FlushChain { table: t(), chain: chain.to_owned() }
}

pub(super) fn ip(text: &str) -> Key {
    Key::from([v4(text)])
}

pub(super) fn range(first: &str, last: &str) -> Key {
    Key(vec![Item::range(v4(first), v4(last))])
}

pub(super) fn mark(mark: u32) -> Option<Datum> {
    Some(Datum::from([Value::mark(mark)]))
}

pub(super) fn to(chain: &str) -> Option<Datum> {
    Some(Datum::Verdict(Verdict::Jump(chain.to_owned())))
}

pub(super) fn hook(priority: i32) -> Option<Base> {
    Some(Base::new(Kind::Filter, Hook::Input, priority))
}

/// What every case begins with.
pub(super) fn ground() -> Tables {
    let mut table = Table::default();
    let mut set = |name: &str, set| table.sets.insert(name.to_owned(), set);
    set("ips", filled(Declaration::set(&[Type::Ipv4]), vec![(ip("1.1.1.1"), None)]));
    set("pairs", Declaration::set(&[Type::Ipv4, Type::Port]).empty());
    set(
        "nets",
        filled(Declaration::set(&[Type::Ipv4]).intervals(), vec![(range("10.0.0.0", "10.0.0.255"), None)]),
    );
    set(
        "areas",
        filled(
            Declaration::set(&[Type::Ipv4, Type::Port]).intervals(),
            vec![(Key(vec![Item::range(v4("10.0.0.0"), v4("10.0.0.255")), Value::port(80).into()]), None)],
        ),
    );
    set("marks", filled(Declaration::map(&[Type::Ipv4], &[Type::Mark]), vec![(ip("1.1.1.1"), mark(1))]));
    set(
        "netmarks",
        filled(
            Declaration::map(&[Type::Ipv4], &[Type::Mark]).intervals(),
            vec![(range("10.0.0.0", "10.0.0.255"), mark(1))],
        ),
    );
    set(
        "verdicts",
        filled(Declaration::verdicts(&[Type::Mark]), vec![(Key::from([Value::mark(1)]), to("aimed"))]),
    );
    set(
        "small",
        filled(Declaration { size: Some(1), ..Declaration::set(&[Type::Ipv4]) }, vec![(ip("1.1.1.1"), None)]),
    );
    set("used", Declaration::set(&[Type::Ipv4]).empty());
    let mut chain = |name: &str, base, rules| table.chains.insert(name.to_owned(), Chain { base, rules });
    chain("base", hook(0), vec![Rule::new([Expr::jump("jumped")])]);
    chain("jumped", None, vec![]);
    chain("aimed", None, vec![]);
    chain("alone", None, vec![Rule::new([Expr::drop()])]);
    chain("user", None, vec![Rule::new([Expr::lookup(&[Field::IpSaddr], SetRef::hash("used"))])]);
    Tables::from([(t(), table)])
}

pub(super) fn cases() -> Vec<(&'static str, Vec<Op>)> {
    let other = TableName::new(Family::Ip6, "weft");
    let ours = |table: &TableName, chain: &str| Op::AddChain {
        table: table.clone(),
        chain: chain.to_owned(),
        base: None,
    };
    let lookup = |fields: &[Field], set| [Expr::lookup(fields, set)];
    let ip_map = |map| Expr::SetMark {
        mark: Mark::Packet,
        to: MarkSource::Map { key: vec![Field::IpSaddr.into()], map },
    };
    vec![
        ("the table twice", vec![Op::AddTable(t())]),
        ("delete a missing table", vec![Op::DeleteTable(other.clone())]),
        ("delete the table", vec![Op::DeleteTable(t())]),
        ("delete and add the table", vec![Op::DeleteTable(t()), Op::AddTable(t()), add_chain("new", None)]),
        ("use the deleted table", vec![Op::DeleteTable(t()), add_chain("new", None)]),
        ("chain in a missing table", vec![ours(&other, "new")]),
        ("a new chain", vec![add_chain("new", None)]),
        ("a chain twice", vec![add_chain("alone", None)]),
        ("a base chain twice", vec![add_chain("base", hook(0))]),
        ("a base chain without hook", vec![add_chain("base", None)]),
        ("a chain becomes a base chain", vec![add_chain("alone", hook(0))]),
        ("another priority", vec![add_chain("base", hook(1))]),
        ("another hook", vec![add_chain("base", Some(Base::new(Kind::Filter, Hook::Output, 0)))]),
        ("another kind", vec![add_chain("base", Some(Base::new(Kind::Nat, Hook::Input, 0)))]),
        (
            "another policy",
            vec![add_chain(
                "base",
                Some(Base { policy: Policy::Drop, ..Base::new(Kind::Filter, Hook::Input, 0) }),
            )],
        ),
        ("delete a missing chain", vec![delete_chain("missing")]),
        ("delete a chain with rules", vec![delete_chain("alone")]),
        ("delete a chain that is jumped to", vec![delete_chain("jumped")]),
        ("delete a chain that a map leads to", vec![delete_chain("aimed")]),
        ("delete a chain after the jump", vec![flush("base"), delete_chain("jumped")]),
        (
            "delete a chain after the element",
            vec![delete("verdicts", false, vec![Key::from([Value::mark(1)])]), delete_chain("aimed")],
        ),
        ("flush a missing chain", vec![flush("missing")]),
        ("flush an empty chain", vec![flush("jumped")]),
        ("rule in a missing chain", vec![add_rule("missing", &[Expr::drop()])]),
        ("jump to a missing chain", vec![add_rule("alone", &[Expr::jump("missing")])]),
        ("jump to a base chain", vec![add_rule("alone", &[Expr::jump("base")])]),
        (
            "jump in a circle",
            vec![add_rule("jumped", &[Expr::jump("alone")]), add_rule("alone", &[Expr::jump("jumped")])],
        ),
        ("jump to itself", vec![add_rule("jumped", &[Expr::jump("jumped")])]),
        (
            "lookup in a missing set",
            vec![add_rule("alone", &lookup(&[Field::IpSaddr], SetRef::hash("missing")))],
        ),
        (
            "lookup with a short key",
            vec![add_rule("alone", &lookup(&[Field::IpSaddr], SetRef::hash("pairs")))],
        ),
        (
            "lookup with a good key",
            vec![add_rule("alone", &lookup(&[Field::IpSaddr, Field::ThDport], SetRef::hash("pairs")))],
        ),
        ("lookup in a map", vec![add_rule("alone", &lookup(&[Field::IpSaddr], SetRef::hash("marks")))]),
        ("mark from a map", vec![add_rule("alone", &[ip_map(SetRef::hash("marks"))])]),
        ("mark from a set", vec![add_rule("alone", &[ip_map(SetRef::hash("ips"))])]),
        ("mark from verdicts", vec![add_rule("alone", &[ip_map(SetRef::hash("verdicts"))])]),
        (
            "verdicts from a set",
            vec![add_rule("alone", &[Expr::verdict_map(&[Field::Mark], SetRef::hash("ips"))])],
        ),
        (
            "verdicts from marks",
            vec![add_rule("alone", &[Expr::verdict_map(&[Field::Mark], SetRef::hash("marks"))])],
        ),
        (
            "verdicts in a circle",
            vec![add_rule("aimed", &[Expr::verdict_map(&[Field::Mark], SetRef::hash("verdicts"))])],
        ),
        ("the same set", vec![add_set("ips", Declaration::set(&[Type::Ipv4]))]),
        ("the same set with another type", vec![add_set("ips", Declaration::set(&[Type::Ipv6]))]),
        ("the same set with intervals", vec![add_set("ips", Declaration::set(&[Type::Ipv4]).intervals())]),
        ("the same set as map", vec![add_set("ips", Declaration::map(&[Type::Ipv4], &[Type::Mark]))]),
        ("a new set", vec![add_set("new", Declaration::set(&[Type::Ipv4]))]),
        (
            "set in a missing table",
            vec![Op::AddSet {
                table: other.clone(),
                set: "x".to_owned(),
                declaration: Declaration::set(&[Type::Ipv4]),
            }],
        ),
        ("delete a missing set", vec![delete_set("missing")]),
        ("delete a set", vec![delete_set("ips")]),
        ("delete a set in use", vec![delete_set("used")]),
        ("delete a set after its use", vec![flush("user"), delete_set("used")]),
        ("delete a set and its chain", vec![delete_chain("user"), delete_set("used")]),
        (
            "delete a map and where it leads",
            vec![
                delete("verdicts", false, vec![Key::from([Value::mark(1)])]),
                delete_set("verdicts"),
                delete_chain("aimed"),
            ],
        ),
        ("element of a missing set", vec![add("missing", false, vec![(ip("1.1.1.1"), None)])]),
        ("element with another width", vec![add("ips", false, vec![(Key::from([Value::port(1)]), None)])]),
        ("element twice", vec![add("ips", false, vec![(ip("1.1.1.1"), None)])]),
        (
            "element twice in a batch",
            vec![
                add("ips", false, vec![(ip("1.1.1.2"), None)]),
                add("ips", false, vec![(ip("1.1.1.2"), None)]),
            ],
        ),
        ("element with data in a set", vec![add("ips", false, vec![(ip("1.1.1.2"), mark(1))])]),
        ("element without data in a map", vec![add("marks", false, vec![(ip("1.1.1.2"), None)])]),
        ("element with the same data", vec![add("marks", false, vec![(ip("1.1.1.1"), mark(1))])]),
        ("element with other data", vec![add("marks", false, vec![(ip("1.1.1.1"), mark(2))])]),
        (
            "element replaced",
            vec![
                delete("marks", false, vec![ip("1.1.1.1")]),
                add("marks", false, vec![(ip("1.1.1.1"), mark(2))]),
            ],
        ),
        (
            "element with wide data",
            vec![add(
                "marks",
                false,
                vec![(ip("1.1.1.2"), Some(Datum::from([v4("1.1.1.1"), Value::mark(1)])))],
            )],
        ),
        (
            "element with a verdict in a map of marks",
            vec![add("marks", false, vec![(ip("1.1.1.2"), to("alone"))])],
        ),
        (
            "element that leads to a chain",
            vec![add("verdicts", false, vec![(Key::from([Value::mark(2)]), to("alone"))])],
        ),
        (
            "element that leads nowhere",
            vec![add("verdicts", false, vec![(Key::from([Value::mark(2)]), to("missing"))])],
        ),
        (
            "element that leads to a base chain",
            vec![add("verdicts", false, vec![(Key::from([Value::mark(2)]), to("base"))])],
        ),
        (
            "element with a mark as verdict",
            vec![add("verdicts", false, vec![(Key::from([Value::mark(2)]), mark(1))])],
        ),
        ("one element too many", vec![add("small", false, vec![(ip("1.1.1.2"), None)])]),
        (
            "one instead of the other",
            vec![
                delete("small", false, vec![ip("1.1.1.1")]),
                add("small", false, vec![(ip("1.1.1.2"), None)]),
            ],
        ),
        ("delete an element", vec![delete("ips", false, vec![ip("1.1.1.1")])]),
        ("delete a missing element", vec![delete("ips", false, vec![ip("1.1.1.2")])]),
        (
            "delete an element twice",
            vec![delete("ips", false, vec![ip("1.1.1.1")]), delete("ips", false, vec![ip("1.1.1.1")])],
        ),
        ("delete from a missing set", vec![delete("missing", false, vec![ip("1.1.1.1")])]),
        ("range twice", vec![add("nets", true, vec![(range("10.0.0.0", "10.0.0.255"), None)])]),
        (
            "range beside",
            vec![add(
                "nets",
                true,
                vec![(range("10.0.1.0", "10.0.1.255"), None), (range("9.255.255.0", "9.255.255.255"), None)],
            )],
        ),
        ("range inside", vec![add("nets", true, vec![(range("10.0.0.4", "10.0.0.7"), None)])]),
        ("range around", vec![add("nets", true, vec![(range("10.0.0.0", "10.0.1.255"), None)])]),
        ("range across", vec![add("nets", true, vec![(range("10.0.0.128", "10.0.1.255"), None)])]),
        ("delete a range", vec![delete("nets", true, vec![range("10.0.0.0", "10.0.0.255")])]),
        ("delete a part of a range", vec![delete("nets", true, vec![range("10.0.0.4", "10.0.0.7")])]),
        ("delete a missing range", vec![delete("nets", true, vec![range("11.0.0.0", "11.0.0.255")])]),
        (
            "range replaced by a part",
            vec![
                delete("nets", true, vec![range("10.0.0.0", "10.0.0.255")]),
                add("nets", true, vec![(range("10.0.0.4", "10.0.0.7"), None)]),
            ],
        ),
        (
            "range with the same data",
            vec![add("netmarks", true, vec![(range("10.0.0.0", "10.0.0.255"), mark(1))])],
        ),
        (
            "range with other data",
            vec![add("netmarks", true, vec![(range("10.0.0.0", "10.0.0.255"), mark(2))])],
        ),
        (
            "area twice",
            vec![add(
                "areas",
                true,
                vec![(
                    Key(vec![Item::range(v4("10.0.0.0"), v4("10.0.0.255")), Value::port(80).into()]),
                    None,
                )],
            )],
        ),
        (
            "area inside",
            vec![add("areas", true, vec![(Key(vec![v4("10.0.0.1").into(), Value::port(80).into()]), None)])],
        ),
        (
            "area beside",
            vec![add("areas", true, vec![(Key(vec![v4("10.0.0.1").into(), Value::port(81).into()]), None)])],
        ),
        (
            "area missing",
            vec![delete("areas", true, vec![Key(vec![v4("10.0.0.1").into(), Value::port(80).into()])])],
        ),
        ("second of two fails", vec![add("ips", false, vec![(ip("2.2.2.2"), None)]), delete_set("missing")]),
        ("first of two fails", vec![delete_set("missing"), add("ips", false, vec![(ip("2.2.2.2"), None)])]),
        (
            "update of a plain set",
            vec![add_rule(
                "alone",
                &[Expr::Update {
                    key: vec![Field::IpSaddr.into()],
                    data: vec![],
                    set: SetRef::hash("ips"),
                    timeout: None,
                }],
            )],
        ),
    ]
}
