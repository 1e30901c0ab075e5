//! The commands of every change, word for word. `WEFT_BLESS=1 cargo test` writes them anew; read the diff.

use crate::change::Service;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use weft_model::{IfName, Netns};

use crate::Change;
use crate::change::Stale;
use crate::nft::{Declaration, Expr, Family, Field, Item, Key, Op, Rule, TableName, Type, Value};
use crate::state::{Inside, InsideRoute, Kind, Link, LocalPort, Route, Shape, Sysctl};

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn link(kind: Kind) -> Link {
    Link {
        kind,
        mac: "02:77:65:66:00:01".parse().unwrap(),
        mtu: 1400,
        group: 0x7765_0001,
        up: true,
        master: None,
        hairpin: false,
        alias: Some("weft1 net c1 eth0 weft 4026531840".to_owned()),
    }
}

fn inside(path: &str) -> Box<Inside> {
    let eth0 = name("eth0");
    Box::new(Inside {
        netns: Netns { path: path.into(), inode: 4_026_531_840 },
        ifname: eth0.clone(),
        mac: "02:00:00:00:00:02".parse().unwrap(),
        addresses: ["10.77.0.2/32", "10.78.0.2/24", "fd77::2/128"].map(|a| a.parse().unwrap()).into(),
        neighbours: vec![
            ("169.254.1.1".parse().unwrap(), "02:77:65:66:00:01".parse().unwrap()),
            ("fe80::1".parse().unwrap(), "02:77:65:66:00:01".parse().unwrap()),
        ],
        routes: [("0.0.0.0/0", "169.254.1.1"), ("::/0", "fe80::1"), ("10.79.0.0/16", "169.254.1.1")]
            .map(|(to, via)| InsideRoute { destination: to.parse().unwrap(), gateway: via.parse().unwrap() })
            .into(),
        sysctls: vec![(Sysctl::of_link("ipv6", &eth0, "accept_ra"), "0".to_owned())],
    })
}

/// One of each kind at least, and of each wording.
fn all() -> Vec<Change> {
    let service = Service { ipv4: true, at: "10.96.0.7".parse().ok(), protocol: 17, port: 53 };
    let (wire, bridge) = (name("weft0123456789"), name("weft-net"));
    let table = || TableName::new(Family::Inet, "weft");
    let set = || "guard4".to_owned();
    let element = || {
        let port = crate::nft::IfName::new("weft0123456789").unwrap();
        let mac: weft_model::Mac = "02:00:00:00:00:02".parse().unwrap();
        let address: std::net::Ipv4Addr = "10.77.0.2".parse().unwrap();
        Key::from([Value::from(port), mac.into(), address.into()].map(Item::from))
    };
    let rule = Rule::new([Expr::number(Field::L4Proto, 17), Expr::Counter, Expr::drop()]).comment("a reason");
    let routed =
        |source: Option<&str>| Route::on_link(name("weft0123456789"), source.map(|s| s.parse().unwrap()));
    let away = Route {
        gateway: Some("192.0.2.12".parse().unwrap()),
        mtu: Some(1350),
        ..Route::on_link(name("uplink"), Some("10.77.0.1".parse().unwrap()))
    };
    let local = LocalPort { protocol: 6, at: "127.0.0.1:8080".parse().unwrap() };
    let (tunnel, ifb) = (name("weftx1"), name("wefti0123456789"));
    let shape = Shape::new(125_000, 16_384, 65_536);
    let end = link(Kind::Tunnel { vni: 4097, local: "192.0.2.11".parse().unwrap() });
    let there = "02:77:65:66:00:02".parse().unwrap();
    let down = Link { up: false, ..link(Kind::Wire) };
    let port = Link { master: Some(bridge.clone()), ..link(Kind::Wire) };
    vec![
        Change::SetSysctl(Sysctl::global("net/ipv4/ip_forward"), "1".to_owned()),
        Change::InstallRules(vec![
            Op::AddTable(table()),
            Op::AddSet {
                table: table(),
                set: set(),
                declaration: Declaration::set(&[Type::IfName, Type::Mac, Type::Ipv4]),
            },
            Op::AddChain { table: table(), chain: "from_wire".to_owned(), base: None },
            Op::AddRule { table: table(), chain: "from_wire".to_owned(), rule },
            Op::AddElements {
                table: table(),
                set: set(),
                interval: false,
                elements: vec![(element(), None)],
            },
        ]),
        Change::CreateBridge(bridge.clone(), link(Kind::Bridge)),
        Change::CreateIfb(ifb.clone(), link(Kind::Ifb)),
        Change::CreateTunnel(tunnel.clone(), end),
        Change::CreateWire(wire.clone(), link(Kind::Wire), inside("/run/netns/c1")),
        Change::CreateWire(wire.clone(), port.clone(), inside("/var/run/netns/it's one")),
        Change::SetLinkSysctl(Sysctl::of_link("ipv6", &wire, "accept_ra"), "0".to_owned()),
        Change::Release(wire.clone()),
        Change::Refit(wire.clone(), inside("/run/netns/c1"), 1350),
        Change::SetLink(wire.clone(), down),
        Change::SetLink(wire.clone(), port),
        Change::SetLink(bridge.clone(), link(Kind::Bridge)),
        Change::SetHairpin(wire.clone(), true),
        Change::AddAddress(bridge.clone(), "10.77.0.1/32".parse().unwrap()),
        Change::AddAddress(bridge.clone(), "10.78.0.1/24".parse().unwrap()),
        Change::AddAddress(bridge.clone(), "fd77::1/64".parse().unwrap()),
        Change::SetNeighbour(
            wire.clone(),
            "10.77.0.2".parse().unwrap(),
            "02:00:00:00:00:02".parse().unwrap(),
        ),
        Change::SetRoute("10.77.0.2/32".parse().unwrap(), routed(Some("10.77.0.1"))),
        Change::SetForwarding(tunnel.clone(), there, "192.0.2.12".parse().unwrap()),
        Change::SetRoute("fd77::2/128".parse().unwrap(), routed(None)),
        Change::SetRoute("10.77.1.0/24".parse().unwrap(), away.clone()),
        Change::SetShape(wire.clone(), shape),
        Change::SetDetour(wire.clone(), ifb.clone()),
        Change::Configure(wire.clone(), inside("/run/netns/c1")),
        Change::Configure(wire.clone(), inside("/proc/42/ns/net")),
        Change::InstallLoopback,
        Change::SetLocalPorts([(local, "10.77.0.2:80".parse().unwrap())].into()),
        Change::Finish(wire.clone(), "weft1 net c1 eth0 weft 4026531840".to_owned()),
        Change::UnsetLocalPorts([local].into()),
        Change::DeleteRoute("10.77.0.2/32".parse().unwrap(), routed(None)),
        Change::DeleteRoute("10.77.1.0/24".parse().unwrap(), away),
        Change::DeleteForwarding(tunnel, there),
        Change::DeleteNeighbour(wire.clone(), "10.77.0.2".parse().unwrap()),
        Change::DeleteAddress(bridge.clone(), "10.78.0.1/24".parse().unwrap()),
        Change::DeleteDetour(wire.clone(), ifb),
        Change::DeleteShape(wire.clone(), shape),
        Change::Retire(wire.clone()),
        Change::DeleteLink(bridge),
        Change::RemoveRules(vec![
            Op::DeleteElements { table: table(), set: set(), interval: false, keys: vec![element()] },
            Op::DeleteTable(table()),
        ]),
        Change::RemoveLoopback,
        Change::ForgetFlows(vec![
            Stale::Of("10.77.0.2".parse().unwrap()),
            Stale::Unled { ipv4: true, protocol: 17, at: None, ports: [53].into() },
            Stale::Astray([(service, ["10.77.0.2:80".parse().unwrap()].into())].into()),
        ]),
    ]
}

#[test]
fn every_change_has_these_commands() {
    let all = all();
    let ranks: BTreeSet<u8> = all.iter().map(Change::rank).collect();
    let last = Change::ForgetFlows(Vec::new()).rank();
    assert_eq!(ranks, (0..=last).collect(), "a kind of change has no example here");
    let mut text = String::new();
    for change in &all {
        let kind = format!("{change:?}");
        let kind = kind.split('(').next().unwrap();
        writeln!(text, "# {kind}\n{change}").unwrap();
        for (at, command) in change.commands().iter().enumerate().filter(|(_, c)| !c.ends_with("|| true")) {
            assert_eq!(change.command(at), *command);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/change/text/golden.txt");
    if std::env::var_os("WEFT_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{}", path.display());
}
