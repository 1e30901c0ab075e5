//! The laws of the diff, in the interpreter and in the real kernel.

use proptest::prelude::*;

use super::samples::{as_read, filled, v4};
use super::*;

fn t() -> TableName {
    TableName::new(Family::Inet, "weft")
}

fn one(table: Table) -> Tables {
    Tables::from([(t(), table)])
}

fn keys(addresses: &[&str]) -> Vec<(Key, Option<Datum>)> {
    addresses.iter().map(|address| (Key::from([v4(address)]), None)).collect()
}

fn pods(addresses: &[&str]) -> Table {
    let mut table = Table::default();
    table.sets.insert("pods".to_owned(), filled(Declaration::set(&[Type::Ipv4]), keys(addresses)));
    table.chains.insert(
        "post".to_owned(),
        Chain {
            base: Some(Base::new(Kind::Nat, Hook::Postrouting, 100)),
            rules: vec![Rule::new([
                Expr::lookup(&[Field::IpSaddr], SetRef::hash("pods")),
                Expr::Masquerade { fully_random: true },
            ])],
        },
    );
    table
}

fn texts(ops: &[Op]) -> Vec<String> {
    ops.iter().map(Op::statement).collect()
}

#[test]
fn elements_alone_touch_nothing_else() {
    let steps = diff(&one(pods(&["10.0.0.2", "10.0.0.4"])), &one(pods(&["10.0.0.2", "10.0.0.3"])));
    assert_eq!(texts(&steps.install), ["add element inet weft pods { 10.0.0.4 }"]);
    assert_eq!(texts(&steps.remove), ["delete element inet weft pods { 10.0.0.3 }"]);
}

#[test]
fn a_changed_rule_rewrites_its_chain_only() {
    let mut wanted = pods(&["10.0.0.2"]);
    wanted.chains.get_mut("post").unwrap().rules[0].comment = Some("masquerade".to_owned());
    let steps = diff(&one(wanted), &one(pods(&["10.0.0.2"])));
    assert_eq!(
        texts(&steps.install),
        [
            "flush chain inet weft post",
            "add rule inet weft post ip saddr @pods masquerade fully-random comment \"masquerade\"",
        ]
    );
    assert!(steps.remove.is_empty());
}

#[test]
fn spelling_out_what_is_implied_is_no_difference() {
    let mut spelled = pods(&[]);
    spelled.chains.get_mut("post").unwrap().rules[0].expressions.insert(0, Expr::number(Field::NfProto, 2));
    assert!(diff(&one(spelled.clone()), &one(pods(&[]))).is_empty());
    assert!(diff(&one(pods(&[])), &one(spelled)).is_empty());
}

#[test]
fn another_declaration_makes_the_table_anew() {
    let mut wanted = pods(&["10.0.0.2"]);
    wanted.sets.get_mut("pods").unwrap().declaration.interval = true;
    let steps = diff(&one(wanted), &one(pods(&["10.0.0.2"])));
    let texts = texts(&steps.install);
    assert_eq!(texts[..3], ["add table inet weft", "delete table inet weft", "add table inet weft"]);
    assert!(steps.remove.is_empty());
    let mut foreign = pods(&["10.0.0.2"]);
    foreign.foreign.push("table with flags 0x1".to_owned());
    let wanted = one(pods(&["10.0.0.2"]));
    assert_eq!(diff(&wanted, &one(foreign)).install.len(), install(&wanted).len() + 2);
}

#[test]
fn a_policy_is_changed_in_place_and_tables_come_and_go() {
    let mut wanted = pods(&[]);
    wanted.chains.get_mut("post").unwrap().base.as_mut().unwrap().policy = Policy::Drop;
    assert_eq!(
        texts(&diff(&one(wanted), &one(pods(&[]))).install),
        ["add chain inet weft post { type nat hook postrouting priority 100; policy drop; }"]
    );
    let steps = diff(&Tables::new(), &one(pods(&[])));
    assert!(steps.install.is_empty());
    assert_eq!(texts(&steps.remove), ["delete table inet weft"]);
}

#[test]
fn packets_own_the_elements_of_dynamic_sets() {
    let declaration = Declaration { dynamic: true, size: Some(9), ..Declaration::set(&[Type::Ipv4]) };
    let table = |addresses: &[&str]| {
        let mut table = Table::default();
        table.sets.insert("seen".to_owned(), filled(declaration.clone(), keys(addresses)));
        one(table)
    };
    assert!(diff(&table(&[]), &table(&["10.0.0.2"])).is_empty());
}

#[test]
fn everything_can_become_everything() {
    let rich = |family| Tables::from([(TableName::new(family, "weft"), samples::rich(family))]);
    let states =
        [Tables::new(), rich(Family::Inet), samples::all(), one(pods(&["10.0.0.2"])), rich(Family::Bridge)];
    in_netns(|socket, _| {
        for from in &states {
            for to in &states {
                becomes(socket, from, to);
            }
        }
    });
}

/// The diff's batches turn one into the other, in the interpreter and in the kernel.
fn becomes(socket: &mut Socket, from: &Tables, to: &Tables) {
    let all: Vec<TableName> = from.keys().chain(to.keys()).cloned().collect();
    let clean = read(socket, &all).unwrap();
    applied(socket, &diff(&Tables::new(), &clean).remove);
    applied(socket, &install(from));

    let steps = diff(to, from);
    let mut fake = as_read(from);
    fake::apply(&mut fake, &steps.install).unwrap();
    applied(socket, &steps.install);
    assert_eq!(read(socket, &all).unwrap(), fake, "after install");
    fake::apply(&mut fake, &steps.remove).unwrap();
    applied(socket, &steps.remove);
    assert_eq!(fake, as_read(to));
    let found = read(socket, &all).unwrap();
    assert_eq!(found, as_read(to));
    assert!(diff(to, &found).is_empty());
}

/// Two tables that have something in common.
fn related() -> impl Strategy<Value = (Table, Table)> {
    (random::table(), random::table(), prop::collection::vec(any::<bool>(), 8), any::<u64>()).prop_map(
        |(a, other, picks, seed)| {
            let mut b = other.clone();
            for ((name, set), pick) in a.sets.iter().zip(&picks) {
                if !pick {
                    continue;
                }
                // The same set with some of its elements, and some of the other's if they fit.
                let mut elements = set.elements.clone();
                let mut bits = seed;
                elements.retain(|_, _| {
                    bits = bits.rotate_right(1);
                    bits & 1 == 0
                });
                for donor in other.sets.values().filter(|donor| donor.declaration == set.declaration) {
                    elements.extend(donor.elements.clone());
                }
                let set = random::without_overlaps(Set { declaration: set.declaration.clone(), elements });
                b.sets.insert(name.clone(), set);
            }
            for ((name, chain), pick) in a.chains.iter().zip(picks.iter().rev()) {
                if *pick {
                    b.chains.insert(name.clone(), chain.clone());
                }
            }
            (a, b)
        },
    )
}

/// Intervals that move, grow and overlap their former selves.
fn areas() -> impl Strategy<Value = Set> {
    let item = (0..60_u32, 0..12_u32)
        .prop_map(|(first, more)| Item::range(Value::Ipv4(first.into()), Value::Ipv4((first + more).into())));
    let item = item.boxed();
    (any::<bool>(), any::<bool>()).prop_flat_map(move |(two, map)| {
        let mut key = vec![Type::Ipv4];
        let mut items = vec![item.clone()];
        if two {
            key.push(Type::Port);
            let ports =
                (0..6_u16, 0..4_u16).prop_map(|(a, b)| Item::range(Value::port(a), Value::port(a + b)));
            items.push(ports.boxed());
        }
        let declaration =
            if map { Declaration::map(&key, &[Type::Mark]) } else { Declaration::set(&key) }.intervals();
        let datum = (0..2_u32).prop_map(move |n| map.then(|| Datum::from([Value::mark(n)])));
        prop::collection::btree_map(items.prop_map(Key), datum, 0..20).prop_map(move |elements| {
            random::without_overlaps(Set { declaration: declaration.clone(), elements })
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_differs_from_itself(table in random::table()) {
        prop_assert!(diff(&one(table.clone()), &one(table.clone())).is_empty());
        prop_assert!(diff(&one(table.clone()), &as_read(&one(table))).is_empty());
    }

    #[test]
    fn one_becomes_the_other((a, b) in related()) {
        in_netns(|socket, _| {
            becomes(socket, &one(a.clone()), &one(b.clone()));
            becomes(socket, &one(b), &one(a));
        });
    }

    #[test]
    fn intervals_become_others(a in areas(), b in areas()) {
        let table = |set: Set| {
            let mut table = Table::default();
            table.sets.insert("areas".to_owned(), set);
            one(table)
        };
        in_netns(|socket, _| {
            becomes(socket, &table(a.clone()), &table(b.clone()));
            becomes(socket, &table(b.clone()), &table(a));
        });
    }
}
