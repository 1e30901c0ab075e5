//! Sets and maps of every shape.

use std::collections::BTreeMap;
use std::time::Duration;

use super::samples::{filled, mac, name, v4, v6};
use super::*;

fn net(text: &str) -> Item {
    Item::net(text.parse().unwrap())
}

fn plain(declaration: Declaration, keys: Vec<Key>) -> Set {
    filled(declaration, keys.into_iter().map(|key| (key, None)).collect())
}

pub(super) fn sets(family: Family) -> BTreeMap<String, Set> {
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
        (
            "marks",
            plain(
                Declaration::set(&[Mark]).intervals(),
                vec![Key(vec![Item::range(Value::mark(5), Value::mark(0x1234_5678))])],
            ),
        ),
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
