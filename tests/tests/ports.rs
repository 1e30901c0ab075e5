//! Published ports: the table of docs/ports.md, cell by cell, with real sockets; and what must not be led astray
//! by them (BAR.md, security rows 3 and 4).

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use weft_kernel::netns::Netns;
use weft_kernel::state::Sysctl;
use weft_kernel::sysctl;
use weft_lab::traffic::frame::{packet, tcp};
use weft_lab::traffic::{Capture, Tap, UdpEcho, WebServer, connect, get, udp};
use weft_lab::{OUTSIDE4, OUTSIDE6, ROUTER4, ROUTER6};
use weft_model::{Mode, NetworkName};
use weft_tests::matrix;
use weft_tests::scene::{Case, Families, SOON, Scene, Workload, anywhere};

matrix!(
    from_outside,
    from_other_workloads,
    from_the_host,
    from_the_workload_itself,
    ranges_and_single_addresses,
);

const PORTS: [&str; 2] = ["8080:80", "5353:53/udp"];

/// A workload with published ports, and what listens behind them.
struct Published {
    scene: Scene,
    network: NetworkName,
    workload: Workload,
    web: WebServer,
    echo: UdpEcho,
}

impl Published {
    fn new(case: Case) -> Result<Published> {
        let scene = Scene::new()?;
        let network = scene.network(1, case)?;
        let workload = scene.publish(&network, &PORTS)?;
        let web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
        let echo = UdpEcho::start(workload.namespace.netns(), anywhere(53))?;
        Ok(Published { scene, network, workload, web, echo })
    }

    /// The families that the workload has, each with an address of the host's.
    fn families(&self) -> impl Iterator<Item = IpAddr> {
        self.workload.addresses().map(|own| self.scene.host.address(own))
    }

    /// As whom the workload sees somebody who comes by a published port, with TCP and with UDP.
    fn seen_from(&self, netns: &Netns, at: IpAddr) -> Result<[IpAddr; 2]> {
        let by_tcp = get(netns, SocketAddr::new(at, 8080), SOON).with_context(|| format!("TCP to {at}"))?;
        let socket = udp(netns, anywhere(0))?;
        // With a peer, so that an answer from anybody else would not be taken.
        socket.connect(SocketAddr::new(at, 5353))?;
        socket.set_read_timeout(Some(SOON))?;
        socket.send(b"x")?;
        socket.recv(&mut [0; 9]).with_context(|| format!("UDP to {at}"))?;
        let by_udp = self.echo.peers().pop().context("the echo saw nobody")?;
        ensure!(self.web.peers().last() == Some(&by_tcp), "{:?}", self.web.peers());
        Ok([by_tcp, by_udp])
    }
}

fn of_family(v4: impl Into<IpAddr>, v6: impl Into<IpAddr>, like: IpAddr) -> IpAddr {
    if like.is_ipv4() { v4.into() } else { v6.into() }
}

fn from_outside(case: Case) -> Result<()> {
    let published = Published::new(case)?;
    let outside = published.scene.underlay.netns();
    for at in published.families() {
        let neighbour = of_family(ROUTER4, ROUTER6, at);
        ensure!(published.seen_from(outside, at)? == [neighbour; 2], "the client's address is lost");
        // The port of the container is not one of the host's.
        let error = connect(outside, SocketAddr::new(at, 80), SOON).err().context("port 80 answers, too")?;
        ensure!(error.kind() == std::io::ErrorKind::ConnectionRefused, "{error}");
    }
    Ok(())
}

fn from_other_workloads(case: Case) -> Result<()> {
    let published = Published::new(case)?;
    let scene = &published.scene;
    let other_mode = if case.mode == Mode::Routed { Mode::Bridge } else { Mode::Routed };
    let mut others = vec![("a neighbour", scene.workload(&published.network)?)];
    for (number, mode) in [(2, case.mode), (3, other_mode)] {
        let network = scene.network(number, Case { mode, ..case })?;
        others.push(("one of another network", scene.workload(&network)?));
    }
    for (who, other) in others {
        for at in published.families() {
            let own = other.address(at)?;
            let networks = scene.host.status()?.networks;
            let gateway = networks[0].network.gateways().map(|g| g.addr());
            let gateways: Vec<IpAddr> = gateway.filter(|g| g.is_ipv4() == at.is_ipv4()).collect();
            for at in std::iter::once(at).chain(gateways) {
                let seen =
                    published.seen_from(other.namespace.netns(), at).with_context(|| who.to_owned())?;
                ensure!(seen == [own; 2], "{who} comes to {at} as {seen:?}, not as {own}");
            }
        }
    }
    Ok(())
}

fn from_the_host(case: Case) -> Result<()> {
    let published = Published::new(case)?;
    let scene = &published.scene;
    for at in published.families() {
        let seen = published.seen_from(scene.host.netns(), at)?;
        ensure!(seen == [at; 2], "the host comes as {seen:?}");
    }
    Ok(())
}

fn from_the_workload_itself(case: Case) -> Result<()> {
    let published = Published::new(case)?;
    let netns = published.workload.namespace.netns();
    let mut links = published.scene.host.links()?;
    let mut own = Vec::new();
    for link in links.links()? {
        let name = link.name.context("a link without a name")?;
        own.extend(links.addresses(name.as_str())?.into_iter().map(|a| a.addr()));
    }
    for at in published.families() {
        for seen in published.seen_from(netns, at)? {
            ensure!(own.contains(&seen), "it comes to itself as {seen}, which is not the host");
        }
    }
    Ok(())
}

fn ranges_and_single_addresses(case: Case) -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let hosts: Vec<IpAddr> =
        scene.host.addresses().map(|a| a.addr()).into_iter().filter(|a| case.families.has(*a)).collect();
    let shown = |a: &IpAddr| if a.is_ipv4() { a.to_string() } else { format!("[{a}]") };
    let mut wanted = vec!["7000-7009:80-89".to_owned()];
    wanted.extend(hosts.iter().map(|a| format!("{}:8080:80", shown(a))));
    let workload = scene.publish(&network, &wanted.iter().map(String::as_str).collect::<Vec<_>>())?;
    let _first = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let _last = WebServer::start(workload.namespace.netns(), anywhere(89))?;
    let outside = scene.underlay.netns();
    for host in hosts {
        let client = of_family(ROUTER4, ROUTER6, host);
        for port in [7000, 7009, 8080] {
            ensure!(get(outside, SocketAddr::new(host, port), SOON)? == client, "{host}:{port}");
        }
        for port in [6999, 7010, 80] {
            ensure!(connect(outside, SocketAddr::new(host, port), SOON).is_err(), "{host}:{port} answers");
        }
        // Another address of the host's has only what is published at all of them.
        let other = workload.gateway(host)?;
        if scene.host.status()?.networks[0].network.gateways().any(|g| g.addr() == other) {
            let neighbour = scene.workload(&network)?;
            get(neighbour.namespace.netns(), SocketAddr::new(other, 7000), SOON)?;
            ensure!(
                connect(neighbour.namespace.netns(), SocketAddr::new(other, 8080), SOON).is_err(),
                "{other}"
            );
        }
    }
    Ok(())
}

/// Row 4: the same port of somebody else's address stays somebody else's, whether he is outside or a service that
/// another table leads to its servers.
#[test]
fn a_published_port_shadows_no_other_address() -> Result<()> {
    for mode in [Mode::Routed, Mode::Bridge] {
        let published = Published::new(Case { mode, families: Families::Dual })?;
        let scene = &published.scene;
        let client = scene.workload(&published.network)?;
        let server = scene.workload(&published.network)?;
        let _outside = WebServer::start(scene.underlay.netns(), anywhere(8080))?;
        let service = WebServer::start(server.namespace.netns(), anywhere(8080))?;
        let addresses: Vec<String> = server.addresses().map(|a| a.to_string()).collect();
        for script in [
            "add table inet services".to_owned(),
            "add chain inet services pre { type nat hook prerouting priority -90; }".to_owned(),
            "add chain inet services out { type nat hook output priority -90; }".to_owned(),
            format!(
                "add rule inet services pre ip daddr 10.96.0.1 tcp dport 8080 dnat ip to {}",
                addresses[0]
            ),
            format!(
                "add rule inet services out ip daddr 10.96.0.1 tcp dport 8080 dnat ip to {}",
                addresses[0]
            ),
            format!(
                "add rule inet services pre ip6 daddr fd96::1 tcp dport 8080 dnat ip6 to {}",
                addresses[1]
            ),
        ] {
            let output = scene
                .host
                .netns()
                .command("nft")
                .env("PATH", weft_tests::programs::PATH)
                .arg(&script)
                .output()?;
            ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let netns = client.namespace.netns();
        for virtual_address in ["10.96.0.1", "fd96::1"] {
            let to: IpAddr = virtual_address.parse()?;
            let before = service.peers().len();
            get(netns, SocketAddr::new(to, 8080), SOON).with_context(|| format!("the service at {to}"))?;
            ensure!(service.peers().len() == before + 1, "{to} leads to the published port");
        }
        for to in [IpAddr::from(OUTSIDE4), OUTSIDE6.into()] {
            let seen = get(netns, SocketAddr::new(to, 8080), SOON)?;
            ensure!(seen == scene.host.address(to), "{to} leads to the published port");
        }
        ensure!(published.web.peers().is_empty(), "{:?}", published.web.peers());
    }
    Ok(())
}

/// Row 3, as far as published ports go: what is published for the host's own processes is not there for its
/// neighbours, even if somebody has opened the loopback to them.
#[test]
fn neighbours_reach_no_port_of_the_loopback() -> Result<()> {
    let published = Published::new(Case { mode: Mode::Routed, families: Families::Dual })?;
    let scene = &published.scene;
    let tap = Tap::open(scene.underlay.netns(), scene.underlay.link())?;
    let router =
        weft_lab::Links::of(scene.underlay.netns())?.link(scene.underlay.link())?.mac.context("no MAC")?;
    let capture = Capture::open(published.workload.namespace.netns(), "eth0")?;
    let open = Sysctl::global("net/ipv4/conf/all/route_localnet");
    for state in ["0", "1"] {
        scene.host.netns().run(|| sysctl::Writer::default().write(&open, state))??;
        let syn = |to: &str, from: IpAddr| -> Result<Vec<u8>> {
            Ok(packet(router, scene.host.mac(), &tcp((from, 4000), (to.parse()?, 8080), 2, 1, 0)))
        };
        scene.refuses("loopback address from outside", 1, || {
            tap.send(&syn("127.0.0.1", ROUTER4.into())?)?;
            Ok(tap.send(&syn("::1", ROUTER6.into())?)?)
        })?;
    }
    // What comes by the front door arrives; nothing has come before it.
    get(scene.underlay.netns(), SocketAddr::new(scene.host.ipv4(), 8080), SOON)?;
    let seen = capture.until(SOON, |f| f.source == Some(ROUTER4.into()))?;
    let to_loopback = seen.iter().filter(|f| f.payload.get(..2) == Some(&4000_u16.to_be_bytes()[..]));
    ensure!(to_loopback.count() == 0, "{seen:?}");
    Ok(())
}
