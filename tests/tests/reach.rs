//! Who reaches whom, in both modes and all families: workloads, host, gateway, outside; and who does not.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use weft_lab::traffic::{UdpEcho, WebServer, connect, exchange, get, ping, udp};
use weft_lab::{Namespace, OUTSIDE4, OUTSIDE6};
use weft_model::{Mode, NetworkName};
use weft_tests::matrix;
use weft_tests::scene::{Case, Families, MTU, SOON, Scene, Workload, anywhere};

const OUTSIDE: [IpAddr; 2] = [IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)];
const METADATA: [&str; 2] = ["169.254.169.254", "fd00:ec2::254"];

matrix!(
    workloads_of_a_network_reach_each_other,
    host_and_workload_reach_each_other,
    outside_is_reached_with_the_hosts_address,
    masqueraded_ports_are_random,
    first_packet_arrives,
    mtu_and_loopback,
    networks_are_isolated,
    other_networks_gateways_are_closed,
    a_namespace_in_two_networks,
    a_neighbours_route_leads_nowhere,
    metadata_is_closed_to_workloads,
);

fn pair(case: Case) -> Result<(Scene, NetworkName, Workload, Workload)> {
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let (one, two) = (scene.workload(&network)?, scene.workload(&network)?);
    Ok((scene, network, one, two))
}

fn workloads_of_a_network_reach_each_other(case: Case) -> Result<()> {
    let (_scene, _, one, two) = pair(case)?;
    for (client, server) in [(&one, &two), (&two, &one)] {
        let web = WebServer::start(server.namespace.netns(), anywhere(0))?;
        for address in server.addresses() {
            let seen = get(client.namespace.netns(), SocketAddr::new(address, web.port()), SOON)?;
            ensure!(seen == client.address(address)?, "the server saw {seen}");
            ping(client.namespace.netns(), address, 56, SOON)?;
        }
    }
    Ok(())
}

fn host_and_workload_reach_each_other(case: Case) -> Result<()> {
    let (scene, _, workload, _) = pair(case)?;
    let netns = workload.namespace.netns();
    let host_web = WebServer::start(scene.host.netns(), anywhere(0))?;
    let web = WebServer::start(netns, anywhere(0))?;
    let device = scene.host.status()?.networks[0].device.to_string();
    let gateways = scene.host.links()?.addresses(&device)?;
    for address in workload.addresses() {
        let same = |n: &&IpNet| n.addr().is_ipv4() == address.is_ipv4();
        let gateway = gateways.iter().find(same).context("the network's device has no address")?.addr();
        for to in [gateway, scene.host.address(address)] {
            let seen = get(netns, SocketAddr::new(to, host_web.port()), SOON)
                .with_context(|| format!("workload to {to}"))?;
            ensure!(seen == address, "the host saw {seen} instead of {address}");
            ping(netns, to, 56, SOON)?;
        }
        let to = SocketAddr::new(address, web.port());
        let seen = get(scene.host.netns(), to, SOON).context("host to workload")?;
        ensure!(seen == gateway, "the workload saw the host as {seen} instead of {gateway}");
    }
    Ok(())
}

fn outside_is_reached_with_the_hosts_address(case: Case) -> Result<()> {
    let (scene, _, workload, _) = pair(case)?;
    let web = WebServer::start(scene.underlay.netns(), anywhere(0))?;
    let netns = workload.namespace.netns();
    for to in OUTSIDE.into_iter().filter(|o| case.families.has(*o)) {
        // Not at any address: it would answer with another of its addresses than it was asked by.
        let echo = UdpEcho::start(scene.underlay.netns(), SocketAddr::new(to, 0))?;
        let seen = get(netns, SocketAddr::new(to, web.port()), SOON)?;
        ensure!(seen == scene.host.address(to), "the outside saw {seen}");
        let socket = udp(netns, anywhere(0))?;
        ensure!(exchange(&socket, SocketAddr::new(to, echo.port()), b"x", SOON)? == b"x");
        ensure!(echo.peers() == [scene.host.address(to)], "the outside saw {:?}", echo.peers());
        ping(netns, to, 56, SOON)?;
    }
    Ok(())
}

/// Two CPUs that each keep a workload's port, or take the next one, choose the same for two workloads that
/// begin at once, and one packet is lost (kubernetes#56903): so ports are rolled.
fn masqueraded_ports_are_random(case: Case) -> Result<()> {
    const TIMES: u16 = 16;
    let (scene, _, workload, _) = pair(case)?;
    for to in OUTSIDE.into_iter().filter(|o| case.families.has(*o)) {
        let outside = udp(scene.underlay.netns(), SocketAddr::new(to, 0))?;
        outside.set_read_timeout(Some(SOON))?;
        let at = SocketAddr::new(to, outside.local_addr()?.port());
        let mut seen = Vec::new();
        for own in 40_000..40_000 + TIMES {
            udp(workload.namespace.netns(), anywhere(own))?.send_to(b"x", at)?;
            let (_, from) = outside.recv_from(&mut [0; 9])?;
            ensure!(from.ip() == scene.host.address(to), "the outside saw {from}");
            seen.push((own, from.port()));
        }
        let kept = seen.iter().filter(|(own, port)| own == port).count();
        let next = seen.windows(2).filter(|pair| pair[1].1 == pair[0].1.wrapping_add(1)).count();
        ensure!(kept < 2 && next < 2, "not rolled: {seen:?}");
    }
    Ok(())
}

/// Sent once, right after ADD has returned: a second try would hide what this is about.
fn first_packet_arrives(case: Case) -> Result<()> {
    const TIMES: usize = 50;
    let scene = Scene::new()?;
    let network = scene.network(1, case)?;
    let peer = scene.workload(&network)?;
    let outside = OUTSIDE.map(|o| UdpEcho::start(scene.underlay.netns(), SocketAddr::new(o, 0)));
    let inside = UdpEcho::start(peer.namespace.netns(), anywhere(0))?;
    let (from_host, from_peer) =
        (udp(scene.host.netns(), anywhere(0))?, udp(peer.namespace.netns(), anywhere(0))?);
    for round in 0..TIMES {
        // By turns, because what goes out first would open the way for what comes in.
        let (outward, to_peer) = (round % 2 == 0, round % 4 < 2);
        let namespace = Namespace::new()?;
        let socket = udp(namespace.netns(), anywhere(0))?;
        let echo = UdpEcho::start(namespace.netns(), anywhere(0))?;
        let workload = Workload::attach(namespace, &scene.host, &network)?;
        let own = workload.addresses().nth(round % workload.addresses().count()).context("no address")?;
        let what = || format!("round {round}, {own}, outward {outward}, peer {to_peer}");
        let answer = match (outward, to_peer) {
            (true, true) => exchange(&socket, SocketAddr::new(peer.address(own)?, inside.port()), b"1", SOON),
            (true, false) => {
                let at = usize::from(own.is_ipv6());
                let port = outside[at].as_ref().map_or(0, UdpEcho::port);
                exchange(&socket, SocketAddr::new(OUTSIDE[at], port), b"1", SOON)
            }
            (false, true) => exchange(&from_peer, SocketAddr::new(own, echo.port()), b"1", SOON),
            (false, false) => exchange(&from_host, SocketAddr::new(own, echo.port()), b"1", SOON),
        };
        ensure!(answer.with_context(|| format!("{}; it saw {:?}", what(), echo.peers()))? == b"1");
        workload.namespace.detach(&scene.host, &network)?;
    }
    Ok(())
}

fn mtu_and_loopback(case: Case) -> Result<()> {
    let (scene, _, one, two) = pair(case)?;
    ensure!(one.attached.mtu == MTU, "the agent reports an MTU of {}", one.attached.mtu);
    let inside = one.namespace.links()?.link("eth0")?;
    let host_end = scene.host.links()?.link(one.attached.host_ifname.as_str())?;
    ensure!((inside.mtu, host_end.mtu) == (MTU, MTU), "{inside:?} {host_end:?}");
    ensure!(one.namespace.links()?.link("lo")?.up, "the loopback is down");
    let netns = one.namespace.netns();
    let web = WebServer::start(netns, anywhere(0))?;
    get(netns, SocketAddr::from(([127, 0, 0, 1], web.port())), SOON)?;
    for address in two.addresses() {
        let headers = if address.is_ipv4() { 28 } else { 48 };
        let full = MTU as usize - headers;
        for to in [address, OUTSIDE[usize::from(address.is_ipv6())]] {
            ping(netns, to, full, SOON).with_context(|| format!("a full packet to {to}"))?;
        }
        if address.is_ipv4() {
            // IPv6 would be sent in fragments instead.
            let error = ping(netns, address, full + 1, SOON).err().context("too large a packet was sent")?;
            ensure!(error.raw_os_error() == Some(90), "{error:?}"); // EMSGSIZE
        }
    }
    Ok(())
}

fn networks_are_isolated(case: Case) -> Result<()> {
    const REASON: &str = "networks are isolated from each other";
    let scene = Scene::new()?;
    let one = scene.workload(&scene.network(1, case)?)?;
    let other_mode = if case.mode == Mode::Routed { Mode::Bridge } else { Mode::Routed };
    for (number, mode) in [(2, case.mode), (3, other_mode)] {
        let two = scene.workload(&scene.network(number, Case { mode, ..case })?)?;
        for (client, server) in [(&one, &two), (&two, &one)] {
            let web = WebServer::start(server.namespace.netns(), anywhere(0))?;
            let echo = UdpEcho::start(server.namespace.netns(), anywhere(0))?;
            for address in server.addresses() {
                let begin = Instant::now();
                let netns = client.namespace.netns();
                let to = SocketAddr::new(address, web.port());
                let answer = scene.refuses(REASON, 1, || Ok(connect(netns, to, SOON * 2)))?;
                let error = answer.err().with_context(|| format!("{address} was reached"))?;
                ensure!(error.kind() != ErrorKind::TimedOut, "no refusal: {error:?}");
                ensure!(begin.elapsed() < SOON, "refused only after {:?}", begin.elapsed());
                let socket = udp(netns, anywhere(0))?;
                socket.connect(SocketAddr::new(address, echo.port()))?;
                socket.set_read_timeout(Some(SOON))?;
                scene.refuses(REASON, 1, || Ok(socket.send(b"x")?))?;
                let error = socket.recv(&mut [0; 9]).err().context("a datagram was answered")?;
                ensure!(error.kind() != ErrorKind::WouldBlock, "no refusal: {error:?}");
            }
            ensure!(web.peers().is_empty() && echo.peers().is_empty(), "{:?}", echo.peers());
        }
    }
    Ok(())
}

/// The gateway of another network is the host as that network sees it: closed to all but its own.
fn other_networks_gateways_are_closed(case: Case) -> Result<()> {
    const REASON: &str = "networks are isolated from each other";
    let scene = Scene::new()?;
    let one = scene.workload(&scene.network(1, case)?)?;
    let other_mode = if case.mode == Mode::Routed { Mode::Bridge } else { Mode::Routed };
    let two = scene.workload(&scene.network(2, Case { mode: other_mode, ..case })?)?;
    let web = WebServer::start(scene.host.netns(), anywhere(0))?;
    let networks = scene.host.status()?.networks;
    for (client, other) in [(&one, &networks[1]), (&two, &networks[0])] {
        let netns = client.namespace.netns();
        let theirs = scene.host.links()?.addresses(other.device.as_str())?;
        for own in client.addresses() {
            let like = |n: &&IpNet| {
                n.addr().is_ipv4() == own.is_ipv4() && other.network.subnets().any(|s| s.contains(&n.addr()))
            };
            let gateway = theirs.iter().find(like).context("the other network has no gateway")?.addr();
            let begin = Instant::now();
            let to = SocketAddr::new(gateway, web.port());
            let error = scene.refuses(REASON, 1, || Ok(connect(netns, to, SOON * 2)))?.err();
            let error = error.with_context(|| format!("{gateway} was reached"))?;
            ensure!(error.kind() != ErrorKind::TimedOut && begin.elapsed() < SOON, "no refusal: {error:?}");
            scene
                .refuses(REASON, 1, || Ok(ping(netns, gateway, 56, SOON / 20)))?
                .err()
                .context("it answers")?;
            // The host's own address is open, and the host may speak as whoever it is.
            get(netns, SocketAddr::new(scene.host.address(own), web.port()), SOON)?;
            let echo = UdpEcho::start(netns, SocketAddr::new(own, 0))?;
            let socket = udp(scene.host.netns(), SocketAddr::new(gateway, 0))?;
            ensure!(exchange(&socket, SocketAddr::new(own, echo.port()), b"x", SOON)? == b"x");
        }
    }
    let welcome = one.addresses().chain(two.addresses()).count();
    ensure!(web.peers().len() == welcome, "{welcome} were welcome, the server saw {:?}", web.peers());
    Ok(())
}

fn a_namespace_in_two_networks(case: Case) -> Result<()> {
    let scene = Scene::new()?;
    let (first, second) = (scene.network(1, case)?, scene.network(2, case)?);
    let (one, two) = (scene.workload(&first)?, scene.workload(&second)?);
    let both = Namespace::new()?;
    both.attach(&scene.host, &first)?;
    let added = Namespace::attach_as(&scene.host, both.wish(&second, "net1")?)?;
    let mut links = both.links()?;
    let net1 = links.link("net1")?.index;
    let routes = links.routes()?;
    let defaults: Vec<_> = routes.iter().filter(|r| r.destination.prefix_len() == 0).collect();
    ensure!(!defaults.is_empty() && defaults.iter().all(|r| r.index != net1), "default routes: {defaults:?}");
    ensure!(added.routes.iter().all(|(to, _)| to.prefix_len() > 0), "reported routes: {:?}", added.routes);
    let outside = WebServer::start(scene.underlay.netns(), anywhere(0))?;
    for neighbour in [&one, &two] {
        let web = WebServer::start(neighbour.namespace.netns(), anywhere(0))?;
        for address in neighbour.addresses() {
            get(both.netns(), SocketAddr::new(address, web.port()), SOON)
                .with_context(|| format!("to {address}"))?;
            let to = OUTSIDE[usize::from(address.is_ipv6())];
            get(both.netns(), SocketAddr::new(to, outside.port()), SOON)?;
        }
    }
    // And from there to it, by the address it has in each.
    let web = WebServer::start(both.netns(), anywhere(0))?;
    for address in added.addresses.iter().map(|a| a.address.addr()) {
        get(two.namespace.netns(), SocketAddr::new(address, web.port()), SOON)?;
        get(scene.host.netns(), SocketAddr::new(address, web.port()), SOON).context("from the host")?;
    }
    Ok(())
}

/// BAR.md, security row 23.
fn a_neighbours_route_leads_nowhere(case: Case) -> Result<()> {
    let (scene, _, workload, _) = pair(case)?;
    let web = WebServer::start(workload.namespace.netns(), anywhere(0))?;
    let echo = UdpEcho::start(workload.namespace.netns(), anywhere(0))?;
    let outside = scene.underlay.netns();
    for address in workload.addresses() {
        scene.underlay.set_route(IpNet::from(address), scene.host.address(address))?;
        let reason = "not published to the outside";
        let short = SOON / 20;
        let answer =
            scene.refuses(reason, 1, || Ok(connect(outside, SocketAddr::new(address, web.port()), short)))?;
        ensure!(answer.is_err(), "{address} was reached from the outside");
        scene
            .refuses(reason, 1, || {
                Ok(exchange(&udp(outside, anywhere(0))?, SocketAddr::new(address, echo.port()), b"x", short))
            })?
            .err()
            .context("a datagram was answered")?;
        ensure!(ping(outside, address, 56, short).is_err(), "{address} answers pings from the outside");
        // The way there is open: answers to what the workload asks for come along it.
        let server = WebServer::start(outside, anywhere(0))?;
        let to = SocketAddr::new(OUTSIDE[usize::from(address.is_ipv6())], server.port());
        get(workload.namespace.netns(), to, SOON)?;
    }
    ensure!(web.peers().is_empty() && echo.peers().is_empty(), "{:?}", echo.peers());
    Ok(())
}

/// BAR.md, security row 10.
fn metadata_is_closed_to_workloads(case: Case) -> Result<()> {
    const REASON: &str = "metadata address is closed to workloads";
    let run = |lines: &[&str], closed: bool| -> Result<()> {
        let scene = Scene::with_config(lines)?;
        let workload = scene.workload(&scene.network(1, case)?)?;
        let web = WebServer::start(scene.underlay.netns(), anywhere(0))?;
        for address in METADATA {
            let address: IpAddr = address.parse()?;
            if !case.families.has(address) {
                continue;
            }
            scene.underlay.add_outside(address)?;
            let to = SocketAddr::new(address, web.port());
            get(scene.host.netns(), to, SOON).context("from the host")?;
            let netns = workload.namespace.netns();
            if closed {
                let answer = scene.refuses(REASON, 1, || Ok(get(netns, to, SOON)))?;
                let error = answer.err().with_context(|| format!("{address} was reached"))?;
                ensure!(error.kind() != ErrorKind::TimedOut, "no refusal: {error:?}");
            } else {
                get(netns, to, SOON).context("from a workload that may")?;
            }
        }
        Ok(())
    };
    run(&[], true)?;
    run(&["block_metadata = false"], false)
}

/// A network of one family has nothing of the other, so the other's outside is not reached.
#[test]
fn a_missing_family_is_missing() -> Result<()> {
    for mode in [Mode::Routed, Mode::Bridge] {
        for (families, missing) in [(Families::V4, OUTSIDE[1]), (Families::V6, OUTSIDE[0])] {
            let scene = Scene::new()?;
            let workload = scene.workload(&scene.network(1, Case { mode, families })?)?;
            let web = WebServer::start(scene.underlay.netns(), anywhere(0))?;
            let answer = get(workload.namespace.netns(), SocketAddr::new(missing, web.port()), SOON);
            let error = answer.err().context("a missing family reached the outside")?;
            ensure!(error.kind() != ErrorKind::TimedOut, "{error:?}");
        }
    }
    Ok(())
}
