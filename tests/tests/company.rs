//! What others have set up on a host is not weft's to touch (DESIGN.md, invariant 3): foreign rules,
//! links, addresses and routes survive attach, detach, restart and the removal of a network.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use weft_kernel::netlink::Messages;
use weft_kernel::netns::Netns;
use weft_kernel::ours::{REAPED, ROUTE_PROTOCOL, device_group, wire_group};
use weft_kernel::rtnl::{link, route};
use weft_lab::{Host, Links, Underlay};
use weft_model::api::Request;
use weft_model::{IfName, Mac, Mode, NetworkId};
use weft_tests::matrix;
use weft_tests::programs;
use weft_tests::scene::{Case, Families, MTU, Scene, program};

matrix!(foreign_rules_and_routes_survive);

fn nft(host: &Host, script: &str) -> Result<String> {
    let output = host.netns().command("nft").env("PATH", programs::PATH).arg(script).output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft {script}: {words}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Everything that is not weft's, as text.
fn foreign(host: &Host) -> Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let tables = nft(host, "list tables")?;
    for table in tables.lines().filter(|t| !weft(t)) {
        all.insert(nft(host, &format!("-s list {table}")).or_else(|_| nft(host, &format!("list {table}")))?);
    }
    let mut links = host.links()?;
    let own = |name: &str| name.starts_with("weft");
    for found in links.links()? {
        let name = found.name.as_ref().context("a link without a name")?.to_string();
        if !own(&name) {
            all.insert(format!("{name} {} {} {:?} {:?}", found.group, found.up, found.alias, found.mac));
            all.extend(links.addresses(&name)?.into_iter().map(|a| format!("{name} {a}")));
        }
    }
    let routes = links.routes()?.into_iter().filter(|r| r.protocol != ROUTE_PROTOCOL && r.protocol != 2);
    all.extend(routes.map(|r| format!("{r:?}")));
    Ok(all)
}

/// Whether a line of `nft list tables` names one of weft's.
fn weft(line: &str) -> bool {
    ["table inet weft", "table arp weft", "table bridge weft"].contains(&line)
}

/// A veth pair of somebody else's, the other end in `peer`.
fn foreign_pair(host: &Host, peer: &Netns, name: &str, group: u32, up: bool) -> Result<()> {
    let (name, inner): (IfName, IfName) = (name.parse()?, "eth0".parse()?);
    let pair = link::Pair {
        host: &name,
        host_mac: Mac([2, 0, 0, 0, 1, 1]),
        master: None,
        inner: &inner,
        inner_mac: Mac([2, 0, 0, 0, 1, 2]),
        group,
        mtu: MTU,
    };
    let mut messages = Messages::default();
    link::create_pair(&mut messages, &pair, peer.as_fd());
    let mut links = host.links()?;
    links.send("make a foreign pair", &messages)?;
    Links::of(peer)?.set_up("eth0", true)?;
    Ok(links.set_up(name.as_str(), up)?)
}

fn foreign_rules_and_routes_survive(case: Case) -> Result<()> {
    programs::require(&["nft"])?;
    let underlay = Underlay::new(MTU)?;
    let mut host = Host::new(&underlay, program()?)?;
    let peer = Netns::anonymous()?;
    // Also tables that bear weft's name in families that weft does not use.
    for script in [
        "add table inet other",
        "add chain inet other input { type filter hook input priority 5; }",
        "add rule inet other input ip saddr 192.0.2.99 counter drop comment \"not weft's\"",
        "add set inet other addresses { type ipv4_addr; elements = { 192.0.2.98 } }",
        "add table inet weft2",
        "add table ip weft",
        "add chain ip weft forward { type filter hook forward priority 0; }",
        "add table ip6 weft",
        "add table netdev weft",
        "add table bridge other",
        "add table arp other",
    ] {
        nft(&host, script)?;
    }
    foreign_pair(&host, &peer, "veth7", 0, true)?;
    let mut links = host.links()?;
    links.add_address("veth7", "10.55.0.1/24".parse()?)?;
    links.add_address("veth7", "fd55::1/64".parse()?)?;
    links.set_route("10.56.0.0/24".parse()?, "veth7", Some("10.55.0.2".parse()?))?;
    links.set_route("fd56::/64".parse()?, "veth7", Some("fd55::2".parse()?))?;
    let index = links.link("veth7")?.index;
    let mut messages = Messages::default();
    for (destination, protocol) in [("10.57.0.0/24", 186), ("10.58.0.0/24", 118), ("fd57::/64", 120)] {
        let (gateway, source, mtu, metric) = (None, None, None, Some(77));
        let destination = destination.parse()?;
        route::add(
            &mut messages,
            &route::Described { destination, index, gateway, source, protocol, mtu, metric },
        );
    }
    links.send("add foreign routes", &messages)?;

    let before = foreign(&host)?;
    ensure!(before.len() > 15, "{before:?}");
    let same = |host: &Host, when: &str| -> Result<()> {
        let now = foreign(host)?;
        let (gone, come) = (before.difference(&now), now.difference(&before));
        ensure!(
            now == before,
            "{when}: gone {:?}, come {:?}",
            gone.collect::<Vec<_>>(),
            come.collect::<Vec<_>>()
        );
        Ok(())
    };
    host.start_agent()?;
    let scene = Scene { host, underlay };
    let network = scene.network(1, case)?;
    let (one, two) = (scene.workload(&network)?, scene.workload(&network)?);
    same(&scene.host, "after attach")?;
    one.namespace.detach(&scene.host, &network)?;
    wait_until_gone(&scene, one.attached.host_ifname.as_str())?;
    same(&scene.host, "after detach")?;
    let Scene { mut host, underlay } = scene;
    host.restart()?;
    host.kill()?;
    host.start_agent()?;
    same(&host, "after restarts")?;
    two.namespace.detach(&host, &network)?;
    host.request(&Request::NetworkRemove { name: network, explain: false })?;
    let scene = Scene { host, underlay };
    wait_until_gone(&scene, two.attached.host_ifname.as_str())?;
    same(&scene.host, "after the network's removal")
}

fn wait_until_gone(scene: &Scene, link: &str) -> Result<()> {
    weft_tests::wait::until("the reaper", weft_tests::scene::SOON, || {
        ensure!(scene.host.links()?.link(link).is_err(), "{link} is still there");
        Ok(())
    })
}

/// Whoever made it, a link that bears one of weft's group numbers and nothing else of weft's is foreign.
fn foreign_link_in_group(group: u32, up: bool) -> Result<()> {
    let underlay = Underlay::new(MTU)?;
    let mut host = Host::new(&underlay, program()?)?;
    let peer = Netns::anonymous()?;
    foreign_pair(&host, &peer, "veth7", group, up)?;
    if up {
        host.links()?.wait_operational("veth7")?;
    }
    let mut messages = Messages::default();
    link::create_bridge(&mut messages, &"br7".parse()?, Mac([2, 0, 0, 0, 7, 7]), MTU, group);
    host.links()?.send("make a foreign bridge", &messages)?;
    let before = host.links()?.link("veth7")?;
    host.start_agent()?;
    let mut scene = Scene { host, underlay };
    let same = |scene: &Scene, when: &str| -> Result<()> {
        let now = scene.host.links()?.link("veth7").with_context(|| format!("deleted {when}"))?;
        scene.host.links()?.link("br7").with_context(|| format!("deleted {when}"))?;
        ensure!(now == before, "{when}: {before:?} became {now:?}");
        Ok(())
    };
    same(&scene, "at start")?;
    let network = scene.network(1, Case { mode: Mode::Routed, families: Families::Dual })?;
    let workload = scene.workload(&network)?;
    same(&scene, "after attach")?;
    workload.namespace.detach(&scene.host, &network)?;
    wait_until_gone(&scene, workload.attached.host_ifname.as_str())?;
    same(&scene, "after detach")?;
    scene.host.restart()?;
    std::thread::sleep(std::time::Duration::from_millis(500)); // longer than the reaper gathers
    same(&scene, "after a restart")
}

#[test]
fn a_foreign_veth_in_a_networks_group_survives() -> Result<()> {
    foreign_link_in_group(wire_group(NetworkId(1)), true)
}

#[test]
fn a_foreign_veth_in_a_devices_group_survives() -> Result<()> {
    foreign_link_in_group(device_group(NetworkId(1)), true)
}

#[test]
fn a_foreign_veth_in_the_reapers_group_survives() -> Result<()> {
    foreign_link_in_group(REAPED, true)?;
    foreign_link_in_group(REAPED, false)
}
