//! Other people's objects: there before weft, and there after it, unchanged.

use weft_kernel::nft::{Base, Chain, Expr, Family, Hook, Kind as ChainKind, Rule, Table, TableName};
use weft_kernel::ours::{GROUP_MASK, is_ours};
use weft_kernel::state::{Kind, Link, Shape, Sysctl};
use weft_kernel::{FakeKernel, State};
use weft_model::{IfName, Mac};

/// Links that are nearly ours: the prefix of our wires, our bit pattern in the wrong half, a bridge, group 0.
pub(crate) fn seed(kernel: &mut FakeKernel) {
    let links = [("eth0", 0), ("docker0", 0x7765), ("weft0123456789", 7), ("weft-other", 0x7764_ffff)];
    for (at, (name, group)) in links.into_iter().enumerate() {
        let name: IfName = name.parse().unwrap();
        let mac = Mac::from_seed(1000 + at as u64);
        let kind = if at % 2 == 0 { Kind::Wire } else { Kind::Bridge };
        let link = Link { kind, mac, mtu: 1500, group, up: true, master: None, hairpin: false, alias: None };
        let address = format!("192.0.2.{at}/24").parse().unwrap();
        kernel.host.addresses.insert((name.clone(), address));
        kernel.host.neighbours.insert((name.clone(), format!("192.0.2.10{at}").parse().unwrap()), mac);
        kernel.host.sysctls.insert(Sysctl::of_link("ipv6", &name, "accept_redirects"), "1".to_owned());
        kernel.host.shapes.insert(name.clone(), Shape::new(1_000_000, 10_000, 100_000));
        kernel.host.detours.insert(name.clone(), "eth0".parse().unwrap());
        assert!(!is_ours(group), "group {group:#x} & {GROUP_MASK:#x}");
        kernel.host.links.insert(name, link);
    }
    for (family, name) in [(Family::Inet, "filter"), (Family::Ip, "weft"), (Family::Inet, "weft2")] {
        let base = Some(Base::new(ChainKind::Filter, Hook::Forward, 0));
        let chain = Chain { base, rules: vec![Rule::new([Expr::accept()]).comment("theirs")] };
        let table = Table { chains: [("forward".to_owned(), chain)].into(), ..Table::default() };
        kernel.host.tables.insert(TableName::new(family, name), table);
    }
}

/// What of a host is not weft's. Not its routes: the fake has only those with weft's protocol number.
pub(crate) fn of(kernel: &FakeKernel) -> State {
    let mut state = kernel.host.clone();
    state.links.retain(|_, link| !is_ours(link.group));
    let theirs = &state.links;
    state.addresses.retain(|(name, _)| theirs.contains_key(name));
    state.neighbours.retain(|(name, _), _| theirs.contains_key(name));
    state.shapes.retain(|name, _| theirs.contains_key(name));
    state.detours.retain(|name, _| theirs.contains_key(name));
    let uplinks = |key: &Sysctl| key.link().is_some_and(|l| theirs.keys().any(|name| name.as_str() == l));
    // `accept_ra` of an uplink is the one foreign setting that weft may change; uninstalling puts it back.
    state.sysctls.retain(|key, _| uplinks(key) && !key.path().ends_with("/accept_ra"));
    state.tables.retain(|name, _| !weft_kernel::ours::tables().contains(name));
    state.routes.clear();
    state.loopback = None;
    state
}
