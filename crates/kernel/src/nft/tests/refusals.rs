//! The interpreter refuses what Linux refuses, with the same number; and neither does half of a batch.

use proptest::prelude::*;

use super::samples::{filled, v4};
use super::*;

fn t() -> TableName {
    TableName::new(Family::Inet, "weft")
}

fn add_set(set: &str, declaration: Declaration) -> Op {
    Op::AddSet { table: t(), set: set.to_owned(), declaration }
}

fn add_chain(chain: &str, base: Option<Base>) -> Op {
    Op::AddChain { table: t(), chain: chain.to_owned(), base }
}

fn add_rule(chain: &str, expressions: &[Expr]) -> Op {
    Op::AddRule { table: t(), chain: chain.to_owned(), rule: Rule::new(expressions.to_vec()) }
}

fn add(set: &str, interval: bool, elements: Vec<(Key, Option<Datum>)>) -> Op {
    Op::AddElements { table: t(), set: set.to_owned(), interval, elements }
}

fn delete(set: &str, interval: bool, keys: Vec<Key>) -> Op {
    Op::DeleteElements { table: t(), set: set.to_owned(), interval, keys }
}

fn delete_set(set: &str) -> Op {
    Op::DeleteSet { table: t(), set: set.to_owned() }
}

fn delete_chain(chain: &str) -> Op {
    Op::DeleteChain { table: t(), chain: chain.to_owned() }
}

fn flush(chain: &str) -> Op {
    Op::FlushChain { table: t(), chain: chain.to_owned() }
}

fn ip(text: &str) -> Key {
    Key::from([v4(text)])
}

fn range(first: &str, last: &str) -> Key {
    Key(vec![Item::range(v4(first), v4(last))])
}

fn mark(mark: u32) -> Option<Datum> {
    Some(Datum::from([Value::mark(mark)]))
}

fn to(chain: &str) -> Option<Datum> {
    Some(Datum::Verdict(Verdict::Jump(chain.to_owned())))
}

fn hook(priority: i32) -> Option<Base> {
    Some(Base::new(Kind::Filter, Hook::Input, priority))
}

/// What every case begins with.
fn ground() -> Tables {
    let mut table = Table::default();
    let mut set = |name: &str, set| table.sets.insert(name.to_owned(), set);
    set("ips", filled(Declaration::set(&[Type::Ipv4]), vec![(ip("1.1.1.1"), None)]));
    set("pairs", Declaration::set(&[Type::Ipv4, Type::Port]).empty());
    set("nets", filled(Declaration::set(&[Type::Ipv4]).intervals(), vec![(range("10.0.0.0", "10.0.0.255"), None)]));
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
    set("verdicts", filled(Declaration::verdicts(&[Type::Mark]), vec![(Key::from([Value::mark(1)]), to("aimed"))]));
    set("small", filled(Declaration { size: Some(1), ..Declaration::set(&[Type::Ipv4]) }, vec![(ip("1.1.1.1"), None)]));
    set("used", Declaration::set(&[Type::Ipv4]).empty());
    let mut chain = |name: &str, base, rules| table.chains.insert(name.to_owned(), Chain { base, rules });
    chain("base", hook(0), vec![Rule::new([Expr::jump("jumped")])]);
    chain("jumped", None, vec![]);
    chain("aimed", None, vec![]);
    chain("alone", None, vec![Rule::new([Expr::drop()])]);
    chain("user", None, vec![Rule::new([Expr::lookup(&[Field::IpSaddr], SetRef::hash("used"))])]);
    Tables::from([(t(), table)])
}

fn cases() -> Vec<(&'static str, Vec<Op>)> {
    let other = TableName::new(Family::Ip6, "weft");
    let ours = |table: &TableName, chain: &str| Op::AddChain { table: table.clone(), chain: chain.to_owned(), base: None };
    let lookup = |fields: &[Field], set| [Expr::lookup(fields, set)];
    let ip_map = |map| Expr::SetMark { mark: Mark::Packet, to: MarkSource::Map { key: vec![Field::IpSaddr.into()], map } };
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
        ("another policy", vec![add_chain("base", Some(Base { policy: Policy::Drop, ..Base::new(Kind::Filter, Hook::Input, 0) }))]),
        ("delete a missing chain", vec![delete_chain("missing")]),
        ("delete a chain with rules", vec![delete_chain("alone")]),
        ("delete a chain that is jumped to", vec![delete_chain("jumped")]),
        ("delete a chain that a map leads to", vec![delete_chain("aimed")]),
        ("delete a chain after the jump", vec![flush("base"), delete_chain("jumped")]),
        ("delete a chain after the element", vec![delete("verdicts", false, vec![Key::from([Value::mark(1)])]), delete_chain("aimed")]),
        ("flush a missing chain", vec![flush("missing")]),
        ("flush an empty chain", vec![flush("jumped")]),
        ("rule in a missing chain", vec![add_rule("missing", &[Expr::drop()])]),
        ("jump to a missing chain", vec![add_rule("alone", &[Expr::jump("missing")])]),
        ("jump to a base chain", vec![add_rule("alone", &[Expr::jump("base")])]),
        ("jump in a circle", vec![add_rule("jumped", &[Expr::jump("alone")]), add_rule("alone", &[Expr::jump("jumped")])]),
        ("jump to itself", vec![add_rule("jumped", &[Expr::jump("jumped")])]),
        ("lookup in a missing set", vec![add_rule("alone", &lookup(&[Field::IpSaddr], SetRef::hash("missing")))]),
        ("lookup with a short key", vec![add_rule("alone", &lookup(&[Field::IpSaddr], SetRef::hash("pairs")))]),
        ("lookup with a good key", vec![add_rule("alone", &lookup(&[Field::IpSaddr, Field::ThDport], SetRef::hash("pairs")))]),
        ("lookup in a map", vec![add_rule("alone", &lookup(&[Field::IpSaddr], SetRef::hash("marks")))]),
        ("mark from a map", vec![add_rule("alone", &[ip_map(SetRef::hash("marks"))])]),
        ("mark from a set", vec![add_rule("alone", &[ip_map(SetRef::hash("ips"))])]),
        ("mark from verdicts", vec![add_rule("alone", &[ip_map(SetRef::hash("verdicts"))])]),
        ("verdicts from a set", vec![add_rule("alone", &[Expr::verdict_map(&[Field::Mark], SetRef::hash("ips"))])]),
        ("verdicts from marks", vec![add_rule("alone", &[Expr::verdict_map(&[Field::Mark], SetRef::hash("marks"))])]),
        ("verdicts in a circle", vec![add_rule("aimed", &[Expr::verdict_map(&[Field::Mark], SetRef::hash("verdicts"))])]),
        ("the same set", vec![add_set("ips", Declaration::set(&[Type::Ipv4]))]),
        ("the same set with another type", vec![add_set("ips", Declaration::set(&[Type::Ipv6]))]),
        ("the same set with intervals", vec![add_set("ips", Declaration::set(&[Type::Ipv4]).intervals())]),
        ("the same set as map", vec![add_set("ips", Declaration::map(&[Type::Ipv4], &[Type::Mark]))]),
        ("a new set", vec![add_set("new", Declaration::set(&[Type::Ipv4]))]),
        ("set in a missing table", vec![Op::AddSet { table: other.clone(), set: "x".to_owned(), declaration: Declaration::set(&[Type::Ipv4]) }]),
        ("delete a missing set", vec![delete_set("missing")]),
        ("delete a set", vec![delete_set("ips")]),
        ("delete a set in use", vec![delete_set("used")]),
        ("delete a set after its use", vec![flush("user"), delete_set("used")]),
        ("delete a set and its chain", vec![delete_chain("user"), delete_set("used")]),
        ("delete a map and where it leads", vec![delete("verdicts", false, vec![Key::from([Value::mark(1)])]), delete_set("verdicts"), delete_chain("aimed")]),
        ("element of a missing set", vec![add("missing", false, vec![(ip("1.1.1.1"), None)])]),
        ("element with another width", vec![add("ips", false, vec![(Key::from([Value::port(1)]), None)])]),
        ("element twice", vec![add("ips", false, vec![(ip("1.1.1.1"), None)])]),
        ("element twice in a batch", vec![add("ips", false, vec![(ip("1.1.1.2"), None)]), add("ips", false, vec![(ip("1.1.1.2"), None)])]),
        ("element with data in a set", vec![add("ips", false, vec![(ip("1.1.1.2"), mark(1))])]),
        ("element without data in a map", vec![add("marks", false, vec![(ip("1.1.1.2"), None)])]),
        ("element with the same data", vec![add("marks", false, vec![(ip("1.1.1.1"), mark(1))])]),
        ("element with other data", vec![add("marks", false, vec![(ip("1.1.1.1"), mark(2))])]),
        ("element replaced", vec![delete("marks", false, vec![ip("1.1.1.1")]), add("marks", false, vec![(ip("1.1.1.1"), mark(2))])]),
        ("element with wide data", vec![add("marks", false, vec![(ip("1.1.1.2"), Some(Datum::from([v4("1.1.1.1"), Value::mark(1)])))])]),
        ("element with a verdict in a map of marks", vec![add("marks", false, vec![(ip("1.1.1.2"), to("alone"))])]),
        ("element that leads to a chain", vec![add("verdicts", false, vec![(Key::from([Value::mark(2)]), to("alone"))])]),
        ("element that leads nowhere", vec![add("verdicts", false, vec![(Key::from([Value::mark(2)]), to("missing"))])]),
        ("element that leads to a base chain", vec![add("verdicts", false, vec![(Key::from([Value::mark(2)]), to("base"))])]),
        ("element with a mark as verdict", vec![add("verdicts", false, vec![(Key::from([Value::mark(2)]), mark(1))])]),
        ("one element too many", vec![add("small", false, vec![(ip("1.1.1.2"), None)])]),
        ("one instead of the other", vec![delete("small", false, vec![ip("1.1.1.1")]), add("small", false, vec![(ip("1.1.1.2"), None)])]),
        ("delete an element", vec![delete("ips", false, vec![ip("1.1.1.1")])]),
        ("delete a missing element", vec![delete("ips", false, vec![ip("1.1.1.2")])]),
        ("delete an element twice", vec![delete("ips", false, vec![ip("1.1.1.1")]), delete("ips", false, vec![ip("1.1.1.1")])]),
        ("delete from a missing set", vec![delete("missing", false, vec![ip("1.1.1.1")])]),
        ("range twice", vec![add("nets", true, vec![(range("10.0.0.0", "10.0.0.255"), None)])]),
        ("range beside", vec![add("nets", true, vec![(range("10.0.1.0", "10.0.1.255"), None), (range("9.255.255.0", "9.255.255.255"), None)])]),
        ("range inside", vec![add("nets", true, vec![(range("10.0.0.4", "10.0.0.7"), None)])]),
        ("range around", vec![add("nets", true, vec![(range("10.0.0.0", "10.0.1.255"), None)])]),
        ("range across", vec![add("nets", true, vec![(range("10.0.0.128", "10.0.1.255"), None)])]),
        ("delete a range", vec![delete("nets", true, vec![range("10.0.0.0", "10.0.0.255")])]),
        ("delete a part of a range", vec![delete("nets", true, vec![range("10.0.0.4", "10.0.0.7")])]),
        ("delete a missing range", vec![delete("nets", true, vec![range("11.0.0.0", "11.0.0.255")])]),
        ("range replaced by a part", vec![delete("nets", true, vec![range("10.0.0.0", "10.0.0.255")]), add("nets", true, vec![(range("10.0.0.4", "10.0.0.7"), None)])]),
        ("range with the same data", vec![add("netmarks", true, vec![(range("10.0.0.0", "10.0.0.255"), mark(1))])]),
        ("range with other data", vec![add("netmarks", true, vec![(range("10.0.0.0", "10.0.0.255"), mark(2))])]),
        ("area twice", vec![add("areas", true, vec![(Key(vec![Item::range(v4("10.0.0.0"), v4("10.0.0.255")), Value::port(80).into()]), None)])]),
        ("area inside", vec![add("areas", true, vec![(Key(vec![v4("10.0.0.1").into(), Value::port(80).into()]), None)])]),
        ("area beside", vec![add("areas", true, vec![(Key(vec![v4("10.0.0.1").into(), Value::port(81).into()]), None)])]),
        ("area missing", vec![delete("areas", true, vec![Key(vec![v4("10.0.0.1").into(), Value::port(80).into()])])]),
        ("second of two fails", vec![add("ips", false, vec![(ip("2.2.2.2"), None)]), delete_set("missing")]),
        ("first of two fails", vec![delete_set("missing"), add("ips", false, vec![(ip("2.2.2.2"), None)])]),
        ("update of a plain set", vec![add_rule("alone", &[Expr::Update { key: vec![Field::IpSaddr.into()], data: vec![], set: SetRef::hash("ips"), timeout: None }])]),
    ]
}

#[test]
fn the_interpreter_refuses_what_linux_refuses() {
    let mut differences = Vec::new();
    for (case, ops) in cases() {
        let mut fake = ground();
        let said = fake::apply(&mut fake, &ops).err();
        let (kernel_said, kernel) = in_netns(|socket, _| {
            applied(socket, &install(&ground()));
            let said = match apply(socket, &ops) {
                Ok(()) => None,
                Err(Error::Refused { index, source, .. }) => Some((index, source.errno)),
                Err(error) => panic!("{case}: {}", explain(&error)),
            };
            (said, read(socket, &[t()]).unwrap())
        });
        if said != kernel_said {
            differences.push(format!("{case}: the interpreter {said:?}, Linux {kernel_said:?}"));
        }
        if fake != samples::as_read(&kernel) {
            differences.push(format!("{case}: the results differ"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn a_batch_with_a_step_that_fails_changes_nothing() {
    let full = Tables::from([(t(), samples::rich(Family::Inet))]);
    in_netns(|socket, netns| {
        applied(socket, &install(&ground()));
        let before = (oracle::listing(netns), read(socket, &[t()]).unwrap());
        let mut ops = vec![Op::AddTable(t()), Op::DeleteTable(t())];
        ops.extend(install(&full));
        ops.insert(ops.len() / 2, delete_set("missing"));
        let error = apply(socket, &ops).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert_eq!(error.to_string(), "the kernel refused `nft delete set inet weft missing`");
        assert_eq!((oracle::listing(netns), read(socket, &[t()]).unwrap()), before);
        // The socket is as good as before.
        applied(socket, &[add("ips", false, vec![(ip("3.3.3.3"), None)])]);
    });
}

#[test]
fn the_first_of_many_refusals_is_told() {
    in_netns(|socket, _| {
        applied(socket, &install(&ground()));
        // More refusals than a socket's buffer holds.
        let ops: Vec<Op> = (0..5000).map(|n| delete_set(&format!("missing{n}"))).collect();
        let started = std::time::Instant::now();
        match apply(socket, &ops).unwrap_err() {
            Error::Refused { index: 0, op, source } => {
                assert_eq!((op.as_str(), source.errno), ("nft delete set inet weft missing0", libc::ENOENT));
            }
            other => panic!("{}", explain(&other)),
        }
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
        assert_eq!(read(socket, &[t()]).unwrap(), samples::as_read(&ground()));
        applied(socket, &[add("ips", false, vec![(ip("3.3.3.3"), None)])]);
    });
}

#[test]
fn without_permission_the_batch_is_refused_as_a_whole() {
    // A socket opened without CAP_NET_ADMIN over its namespace is refused at once (EPERM).
    let netns = Netns::anonymous().unwrap();
    let result = std::thread::spawn(move || {
        netns
            .run(|| {
                rustix::thread::set_capabilities(
                    None,
                    rustix::thread::CapabilitySets {
                        effective: rustix::thread::CapabilitySet::SYS_ADMIN,
                        permitted: rustix::thread::CapabilitySet::SYS_ADMIN,
                        inheritable: rustix::thread::CapabilitySet::empty(),
                    },
                )
                .unwrap();
                let mut socket = Socket::open(Protocol::Netfilter).unwrap();
                apply(&mut socket, &[Op::AddTable(t()), Op::AddTable(t())])
            })
            .unwrap()
    })
    .join()
    .unwrap();
    match result.unwrap_err() {
        Error::Batch { steps: 2, source } => assert_eq!(source.errno, libc::EPERM),
        other => panic!("{}", explain(&other)),
    }
}

#[test]
fn names_and_texts_cannot_inject() {
    let bad = ["", "a b", "a;b", "a\"", "-x", "1x", "__set0", "a\n", "x'y", "a{", &"x".repeat(200)];
    in_netns(|socket, _| {
        for name in bad {
            let ops = [Op::AddTable(TableName::new(Family::Inet, name))];
            assert!(matches!(apply(socket, &ops), Err(Error::Invalid { source: Invalid::Name(_), .. })), "{name:?}");
            assert_eq!(fake::apply(&mut Tables::new(), &ops), Err((0, libc::EINVAL)));
        }
        for comment in ["\" drop comment \"", "a\nb", &"x".repeat(128)] {
            let rule = Rule::new([Expr::accept()]).comment(comment);
            let op = Op::AddRule { table: t(), chain: "c".to_owned(), rule };
            assert!(matches!(apply(socket, &[op]), Err(Error::Invalid { source: Invalid::Text(_), .. })));
        }
    });
    let rule = Rule::new([Expr::accept()]).comment("a\" ; drop 'x' \n");
    let op = Op::AddRule { table: t(), chain: "c".to_owned(), rule };
    assert_eq!(op.to_string(), r#"nft 'add rule inet weft c accept comment "a? ; drop '\''x'\'' ?"'"#);
    assert_eq!(IfName::new("a\"b"), None);
    assert_eq!(IfName::new("a*"), None);
    assert_eq!(IfName::new("sixteen-letters!"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    /// Any order of any of the cases' steps.
    #[test]
    fn random_batches_are_refused_alike(picks in prop::collection::vec((0..90_usize, any::<bool>()), 1..5)) {
        let cases = cases();
        let skip = |case: &str| case.contains("circle") || case.contains("itself") || case.contains("update");
        let mut fake = ground();
        let mut batches = Vec::new();
        for (pick, joined) in picks {
            let (case, ops) = cases[pick % cases.len()].clone();
            prop_assume!(!skip(case));
            match batches.last_mut() {
                Some(last) if joined => { let last: &mut Vec<Op> = last; last.extend(ops); }
                _ => batches.push(ops),
            }
        }
        let said: Vec<_> = batches.iter().map(|ops| fake::apply(&mut fake, ops).err()).collect();
        let (kernel_said, kernel) = in_netns(|socket, _| {
            applied(socket, &install(&ground()));
            let said: Vec<_> = batches.iter().map(|ops| match apply(socket, ops) {
                Ok(()) => None,
                Err(Error::Refused { index, source, .. }) => Some((index, source.errno)),
                Err(error) => panic!("{}", explain(&error)),
            }).collect();
            (said, read(socket, &[t()]).unwrap())
        });
        prop_assert_eq!(said, kernel_said, "{:#?}", batches.iter().map(|b| b.iter().map(ToString::to_string).collect::<Vec<_>>()).collect::<Vec<_>>());
        prop_assert_eq!(fake, kernel);
    }
}
