//! BAR.md R4, invariant 8: whatever another hand does to weft's objects is mended within a second; the
//! tests wait ten times as long and print what it took.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use anyhow::{Context, Result, ensure};
use weft_model::Mode;
use weft_tests::host::{Net, REPAIR, difference};
use weft_tests::{Agent, Host, wait};

const NETWORKS: [Net<'static>; 2] = [
    ("routed", Mode::Routed, &["10.77.0.0/24", "fd77::/64"]),
    ("bridge", Mode::Bridge, &["10.78.0.0/24", "fd78::/64"]),
];
/// Names in the scripts: $R and $B are the host ends of r1 and b1; their first addresses are $R4, $R6, $B4, $B6.
const CONTAINERS: [(&str, &str); 4] =
    [("routed", "r1"), ("routed", "r2"), ("bridge", "b1"), ("bridge", "b2")];

struct Scene {
    host: Host,
    _agent: Agent,
    names: String,
    before: String,
    inside: Vec<String>,
}

fn scene() -> Result<Scene> {
    let (host, agent) = Host::with_networks(&NETWORKS)?;
    host.namespaces(&CONTAINERS.map(|(_, c)| c.to_owned()))?;
    let mut names = String::new();
    for (network, container) in CONTAINERS {
        let attached = host.attach(network, container)?;
        if let Some(prefix) = container.strip_suffix('1') {
            let at = prefix.to_uppercase();
            names += &format!("{at}={} {at}MAC={} ", attached.host_ifname, attached.mac);
            for a in &attached.addresses {
                let family = if a.address.addr().is_ipv4() { 4 } else { 6 };
                names += &format!("{at}{family}={} ", a.address.addr());
            }
        }
    }
    let before = host.dump()?;
    let inside = CONTAINERS.iter().map(|(_, c)| host.dump_inside(c)).collect::<Result<_>>()?;
    Ok(Scene { host, _agent: agent, names, before, inside })
}

impl Scene {
    /// Does it, sees that it made a difference, and waits until nothing of it is left.
    fn mended(&self, what: &str, script: &str) -> Result<()> {
        let start = std::time::Instant::now();
        let seen = self.host.sh(&format!("{}\n{script}", self.names)).with_context(|| what.to_owned())?;
        self.host.await_dump(what, &self.before, REPAIR)?;
        wait::until(what, REPAIR, || {
            for ((network, container), before) in CONTAINERS.iter().zip(&self.inside) {
                let now = self.host.dump_inside(container)?;
                ensure!(now == *before, "inside {container}:\n{}", difference(before, &now));
                let wrong = self.host.check(network, container)?;
                ensure!(wrong.is_empty(), "{wrong:?}");
            }
            Ok(())
        })?;
        let took = start.elapsed().as_millis();
        println!("{what}: mended after at most {took} ms{seen}");
        self.host.ping("r1", "10.77.0.1".parse()?).with_context(|| what.to_owned())?;
        self.host.ping("b1", "10.78.0.1".parse()?).with_context(|| what.to_owned())
    }

    /// All of them; says which were not mended.
    fn all(&self, tampers: &[(&str, &str)]) -> Result<()> {
        let failures: Vec<String> = tampers
            .iter()
            .filter_map(|(what, script)| self.mended(what, script).err().map(|e| format!("{what}: {e:#}")))
            .collect();
        ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
        Ok(())
    }
}

#[test]
fn rules() -> Result<()> {
    scene()?.all(&[
        ("a rule is deleted", "nft delete rule inet weft from_wire handle $(nft -a list chain inet weft from_wire | sed -n 's/.*# handle //p' | tail -1)"),
        ("a rule is put first", "nft insert rule inet weft raw accept"),
        ("an element is deleted", "nft delete element inet weft guard4 \"{ \\\"$R\\\" . $RMAC . $R4 }\""),
        ("an element of a port is deleted", "nft delete element bridge weft guard4 \"{ \\\"$B\\\" . $BMAC . $B4 }\""),
        ("an element is added", "nft add element inet weft guard4 \"{ \\\"$R\\\" . $RMAC . 192.0.2.66 }\""),
        ("a chain is flushed", "nft flush chain inet weft forward"),
        ("a chain is added", "nft add chain inet weft theirs '{ type filter hook forward priority -500; policy drop; }'"),
        ("a policy is changed", "nft add chain inet weft forward '{ policy drop; }'"),
        ("a set is added", "nft add set inet weft theirs '{ type ipv4_addr; }'"),
        ("a table is deleted", "nft delete table inet weft"),
        ("the ARP table is deleted", "nft delete table arp weft"),
        ("the bridge table is deleted", "nft delete table bridge weft"),
        ("a table is made dormant", "nft add table inet weft '{ flags dormant; }'"),
        ("the ruleset is flushed", "nft flush ruleset"),
    ])
}

#[test]
fn routes_neighbours_and_addresses() -> Result<()> {
    scene()?.all(&[
        ("a route is deleted", "ip route del $R4"),
        ("an IPv6 route is deleted", "ip -6 route del $R6"),
        ("a route is turned away", "ip route replace $R4 dev lo proto 119"),
        ("a route loses its source", "ip route replace $R4 dev $R proto 119"),
        ("a neighbour is deleted", "ip neigh del $R4 dev $R"),
        ("an IPv6 neighbour is deleted", "ip neigh del $R6 dev $R"),
        ("a neighbour is changed", "ip neigh replace $R4 lladdr 02:00:00:00:00:99 dev $R nud permanent"),
        ("a neighbour is added", "ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:99 dev $R nud permanent"),
        ("a bridge's neighbour is deleted", "ip neigh del $B4 dev weft-bridge"),
        ("a bridge's IPv6 neighbour is deleted", "ip neigh del $B6 dev weft-bridge"),
        (
            "a bridge's neighbour is changed",
            "ip neigh replace $B4 lladdr 02:00:00:00:00:99 dev weft-bridge nud permanent",
        ),
        (
            "a bridge's neighbour is forgotten",
            "ip neigh replace $B6 lladdr 02:00:00:00:00:99 dev weft-bridge nud stale",
        ),
        (
            "a bridge's neighbour is added",
            "ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:99 dev weft-bridge nud permanent",
        ),
        ("a gateway's address is deleted", "ip addr del 10.77.0.1/32 dev weft-routed"),
        ("a bridge's address is deleted", "ip addr del 10.78.0.1/24 dev weft-bridge"),
        ("a bridge's IPv6 address is deleted", "ip addr del fd78::1/64 dev weft-bridge"),
        ("an address is added", "ip addr add 192.0.2.1/24 dev weft-bridge"),
        ("forwarding is switched off", "sysctl -qw net.ipv4.ip_forward=0"),
        ("IPv6 forwarding is switched off", "sysctl -qw net.ipv6.conf.all.forwarding=0"),
    ])
}

/// The kernel tells nobody of these: they are looked at.
#[test]
fn settings_of_interfaces() -> Result<()> {
    scene()?.all(&[
        ("a wire believes routers", "sysctl -qw net.ipv6.conf.$R.accept_ra=1"),
        ("a wire believes redirects", "sysctl -qw net.ipv6.conf.$R.accept_redirects=1"),
        ("a wire gives itself addresses", "sysctl -qw net.ipv6.conf.$R.autoconf=1"),
        ("a bridge believes routers", "sysctl -qw net.ipv6.conf.weft-bridge.accept_ra=2"),
        ("a device believes redirects", "sysctl -qw net.ipv6.conf.weft-routed.accept_redirects=1"),
        ("a port speaks IPv6", "sysctl -qw net.ipv6.conf.$B.disable_ipv6=0"),
        (
            "all of them",
            "for l in $R weft-bridge weft-routed; do sysctl -qw net.ipv6.conf.$l.accept_ra=1; done",
        ),
    ])
}

#[test]
fn links() -> Result<()> {
    scene()?.all(&[
        ("a wire is deleted", "ip link del $R"),
        ("a port is deleted", "ip link del $B"),
        ("a wire is deleted from inside", "ip -n r1 link del eth0"),
        ("a wire is set down", "ip link set $R down"),
        ("a port is set down", "ip link set $B down"),
        ("a wire's MTU is changed", "ip link set $R mtu 1400"),
        ("a bridge's MTU is changed", "ip link set weft-bridge mtu 1300"),
        ("a wire's Ethernet address is changed", "ip link set $R address 02:00:00:00:00:98"),
        ("a bridge's Ethernet address is changed", "ip link set weft-bridge address 02:00:00:00:00:97"),
        ("a port leaves its bridge", "ip link set $B nomaster"),
        ("a wire is put into a bridge", "ip link set $R master weft-bridge"),
        ("a wire's alias is changed", "ip link set $R alias theirs"),
        ("a wire's alias is taken away", "ip link set $R alias ''"),
        ("a bridge's alias is changed", "ip link set weft-bridge alias theirs"),
        ("a device is set down", "ip link set weft-routed down"),
        ("a bridge is set down", "ip link set weft-bridge down"),
        ("a device is deleted", "ip link del weft-routed"),
        ("a bridge is deleted", "ip link del weft-bridge"),
        ("all of it at once", "nft flush ruleset; ip link del weft-routed; ip link del weft-bridge; ip link del $R; ip link del $B"),
    ])
}

/// Below 1280 bytes the kernel takes IPv6 off a link, and its settings with it; they come back as the
/// kernel's. What remains is the link-local address that the link gave itself meanwhile, which harms nobody.
#[test]
fn a_wire_that_lost_ipv6_gets_its_settings_back() -> Result<()> {
    let scene = scene()?;
    scene.host.sh(&format!("{}\nip link set $R mtu 1000", scene.names))?;
    let settled = |dump: &str| -> String {
        dump.lines().filter(|l| !l.contains("fe80::")).map(|l| format!("{l}\n")).collect()
    };
    let before = settled(&scene.before);
    wait::until("IPv6 on the wire", REPAIR, || {
        let now = settled(&scene.host.dump()?);
        ensure!(now == before, "{}", difference(&before, &now));
        Ok(())
    })?;
    ensure!(scene.host.diff()?.is_empty());
    scene.host.ping("r1", "fd77::1".parse()?)
}
