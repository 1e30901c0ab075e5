//! Golden text: steps as commands.

use super::samples::{name, v4, v6};
use super::*;

fn t() -> TableName {
    TableName::new(Family::Inet, "weft")
}

#[test]
fn steps_print_as_commands() {
    let guard = Key::from([
        Value::from(name("weft1")),
        Value::Mac("02:42:ac:11:00:02".parse().unwrap()),
        v4("10.0.0.2"),
    ]);
    let rule = |rule: Rule| Op::AddRule { table: t(), chain: "forward".to_owned(), rule };
    let cases: Vec<(Op, &str)> = vec![
        (Op::AddTable(t()), "nft add table inet weft"),
        (Op::DeleteTable(TableName::new(Family::Bridge, "weft")), "nft delete table bridge weft"),
        (
            Op::AddChain {
                table: t(),
                chain: "forward".to_owned(),
                base: Some(Base::new(Kind::Filter, Hook::Forward, -10)),
            },
            "nft 'add chain inet weft forward { type filter hook forward priority -10; policy accept; }'",
        ),
        (
            Op::AddSet {
                table: t(),
                set: "guard4".to_owned(),
                declaration: Declaration::set(&[Type::IfName, Type::Mac, Type::Ipv4]),
            },
            "nft 'add set inet weft guard4 { type ifname . ether_addr . ipv4_addr; }'",
        ),
        (
            Op::AddElements {
                table: t(),
                set: "guard4".to_owned(),
                interval: false,
                elements: vec![(guard.clone(), None)],
            },
            "nft 'add element inet weft guard4 { \"weft1\" . 02:42:ac:11:00:02 . 10.0.0.2 }'",
        ),
        (
            Op::DeleteElements { table: t(), set: "guard4".to_owned(), interval: false, keys: vec![guard] },
            "nft 'delete element inet weft guard4 { \"weft1\" . 02:42:ac:11:00:02 . 10.0.0.2 }'",
        ),
        (
            Op::AddElements {
                table: t(),
                set: "backends".to_owned(),
                interval: false,
                elements: vec![(
                    Key::from([Value::mark(0x102), Value::integer(1)]),
                    Some(Datum::from([v4("10.0.0.3"), Value::port(6443)])),
                )],
            },
            "nft add element inet weft backends { 0x00000102 . 1 : 10.0.0.3 . 6443 }",
        ),
        (
            Op::AddElements {
                table: t(),
                set: "nets".to_owned(),
                interval: true,
                elements: vec![
                    (Key(vec![Item::net("10.0.0.0/8".parse().unwrap())]), None),
                    (Key(vec![Item::range(v4("11.0.0.1"), v4("11.0.0.2"))]), None),
                ],
            },
            "nft add element inet weft nets { 10.0.0.0/8, 11.0.0.1-11.0.0.2 }",
        ),
        (
            rule(
                Rule::new([Expr::any_bit(Field::CtState, 6), Expr::Counter, Expr::accept()]).comment("a; b"),
            ),
            "nft 'add rule inet weft forward ct state established,related counter accept comment \"a; b\"'",
        ),
        (
            rule(Rule::new([
                Expr::bits(Field::IifGroup, 0xffff_8000, 0x7765_0000),
                Expr::Reject(Reject::ADMIN_PROHIBITED),
            ])),
            "nft 'add rule inet weft forward iifgroup & 0xffff8000 == 0x77650000 reject with icmpx 3'",
        ),
        (
            rule(Rule::new([
                Expr::absent(&[Field::IifName, Field::EtherSaddr, Field::Ip6Saddr], SetRef::hash("guard6")),
                Expr::drop(),
            ])),
            "nft 'add rule inet weft forward iifname . ether saddr . ip6 saddr != @guard6 drop'",
        ),
        (
            rule(Rule::new([
                Expr::one_of(Field::L4Proto, &[6, 17]),
                Expr::dnat_map(false, &[Field::Mark, Field::Random(2)], SetRef::hash("backends")),
            ])),
            "nft add rule inet weft forward meta l4proto { tcp, udp } dnat ip to meta mark . numgen random mod 2 map @backends",
        ),
        (
            rule(Rule::new([
                Expr::eq(Field::Ip6Daddr, v6("::ffff:1.2.3.4")),
                Expr::Masquerade { fully_random: true },
            ])),
            "nft add rule inet weft forward ip6 daddr ::ffff:102:304 masquerade fully-random",
        ),
        (Op::FlushChain { table: t(), chain: "forward".to_owned() }, "nft flush chain inet weft forward"),
        (Op::DeleteChain { table: t(), chain: "forward".to_owned() }, "nft delete chain inet weft forward"),
        (Op::DeleteSet { table: t(), set: "guard4".to_owned() }, "nft delete set inet weft guard4"),
    ];
    for (op, text) in cases {
        assert_eq!(op.to_string(), text);
    }
}

#[test]
fn a_table_prints_as_a_file() {
    let mut table = Table::default();
    table.sets.insert(
        "pods".to_owned(),
        samples::filled(Declaration::set(&[Type::Ipv4]), vec![(Key::from([v4("10.0.0.2")]), None)]),
    );
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
    assert_eq!(
        script(&t(), &table),
        "add table inet weft\n\
         add chain inet weft post { type nat hook postrouting priority 100; policy accept; }\n\
         add set inet weft pods { type ipv4_addr; }\n\
         add element inet weft pods { 10.0.0.2 }\n\
         add rule inet weft post ip saddr @pods masquerade fully-random\n"
    );
}

#[test]
fn implied_matches_are_left_out() {
    let spelled = Rule::new([
        Expr::number(Field::NfProto, 2),
        Expr::number(Field::L4Proto, 1),
        Expr::number(Field::IcmpType, 8),
    ]);
    let short = Rule::new([Expr::number(Field::IcmpType, 8)]);
    assert_eq!(canonical(Family::Inet, &spelled), short);
    assert_eq!(canonical(Family::Inet, &short), short);
    // A match that narrows stays.
    let narrow = Rule::new([Expr::number(Field::NfProto, 2), Expr::accept()]);
    assert_eq!(canonical(Family::Inet, &narrow), narrow);
}

#[test]
fn no_packet_is_of_two_protocols() {
    let refused = |family, expressions: Vec<Expr>| {
        let table = TableName::new(family, "weft");
        let ops = [
            Op::AddTable(table.clone()),
            Op::AddChain { table: table.clone(), chain: "c".to_owned(), base: None },
        ];
        let rule = Op::AddRule { table, chain: "c".to_owned(), rule: Rule::new(expressions) };
        let mut tables = Tables::new();
        fake::apply(&mut tables, &ops).unwrap();
        fake::apply_op(&mut tables, &rule).is_err()
    };
    let (four, six) = (Expr::eq(Field::IpSaddr, v4("10.0.0.2")), Expr::eq(Field::Ip6Saddr, v6("fd00::1")));
    assert!(refused(Family::Inet, vec![four.clone(), six.clone()]));
    assert!(refused(Family::Ip, vec![six.clone()]));
    assert!(refused(Family::Bridge, vec![Expr::number(Field::ArpOperation, 1), four.clone()]));
    assert!(!refused(Family::Inet, vec![four]));
    assert!(!refused(Family::Ip6, vec![six, Expr::number(Field::Icmpv6Type, 134)]));
}
