//! Several hosts, one network: who reaches whom, by which way, in which size of packet, and what a capture
//! between them shows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use weft_lab::traffic::{Capture, WebServer, get, ping};
use weft_lab::{Cluster, Links, Namespace, OUTSIDE4, OUTSIDE6, shared_network};
use weft_model::{Encapsulation, Mode, Network};
use weft_tests::scene::{SOON, Workload, anywhere, program};
use weft_tests::wait;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// What an Ethernet carries, so that what is left in a tunnel is what people know: 1450.
const MTU: u32 = 1500;

/// Three hosts: two on one segment, the third behind a router; one workload on each.
fn three(mode: Mode, encapsulation: Encapsulation) -> Result<(Cluster, Vec<Workload>)> {
    let mut cluster = Cluster::new(program()?, MTU, vec![shared_network(1, mode, encapsulation)?])?;
    cluster.join(&[0, 0, 1])?;
    let workloads = workloads(&cluster, 1)?;
    Ok((cluster, workloads))
}

fn workloads(cluster: &Cluster, network: u8) -> Result<Vec<Workload>> {
    let network = cluster.network(network)?;
    cluster.hosts.iter().map(|h| Workload::attach(Namespace::new()?, h, &network)).collect()
}

/// Everybody reaches everybody with packets of `size` bytes, and sees them under their own address.
fn everybody(workloads: &[Workload], sizes: &[usize]) -> Result<()> {
    for like in [V4, V6] {
        for (number, to) in workloads.iter().enumerate() {
            let server = WebServer::start(to.namespace.netns(), anywhere(0))?;
            for from in workloads {
                let address = to.address(like)?;
                let seen = get(from.namespace.netns(), (address, server.port()).into(), SOON)?;
                ensure!(seen == from.address(like)?, "workload {number} saw {seen}");
                for size in sizes {
                    ping(from.namespace.netns(), address, *size, SOON)?;
                }
            }
        }
    }
    Ok(())
}

fn device(cluster: &Cluster, from: usize, to: &Workload, like: IpAddr) -> Result<(String, Option<u32>)> {
    let mut links = cluster.hosts[from].links()?;
    let address = to.address(like)?;
    let routes = links.routes()?;
    let best =
        routes.iter().filter(|r| r.destination.contains(&address)).max_by_key(|r| r.destination.prefix_len());
    let Some(route) = best else { bail!("host {from} has no route to {address}") };
    let name = links.links()?.into_iter().find(|l| l.index == route.index).and_then(|l| l.name);
    Ok((name.map(|n| n.to_string()).unwrap_or_default(), route.mtu))
}

#[test]
fn auto_goes_straight_on_a_segment_and_encapsulates_behind_a_router() -> Result<()> {
    let (cluster, workloads) = three(Mode::Routed, Encapsulation::Auto)?;
    everybody(&workloads, &[56, 1450 - 28])?;
    for like in [V4, V6] {
        ensure!(device(&cluster, 0, &workloads[1], like)? == ("eth0".into(), Some(1500)));
        ensure!(device(&cluster, 0, &workloads[2], like)? == ("weft4_101".into(), Some(1450)));
        ensure!(device(&cluster, 2, &workloads[0], like)? == ("weft4_101".into(), Some(1450)));
    }
    Ok(())
}

#[test]
fn vxlan_everywhere() -> Result<()> {
    let (cluster, workloads) = three(Mode::Routed, Encapsulation::Vxlan)?;
    everybody(&workloads, &[56, 1450 - 28])?;
    ensure!(device(&cluster, 0, &workloads[1], V4)?.0 == "weft4_101");
    Ok(())
}

#[test]
fn segments_of_several_hosts_are_routed_between() -> Result<()> {
    let (_cluster, workloads) = three(Mode::Bridge, Encapsulation::Auto)?;
    everybody(&workloads, &[56])
}

/// Where routers know the blocks, nothing is set on the hosts and packets go as they are.
#[test]
fn direct_trusts_the_routers() -> Result<()> {
    let (cluster, workloads) = three(Mode::Routed, Encapsulation::Direct)?;
    for (host, workload) in cluster.hosts.iter().zip(&workloads) {
        for address in workload.addresses() {
            let (length, via) = if address.is_ipv4() { (24, host.ipv4()) } else { (64, host.ipv6()) };
            let block = ipnet::IpNet::new(address, length)?.trunc();
            let lan = if host.number() == 3 { "lan2" } else { "lan" };
            Links::of(cluster.underlay.netns())?.set_route(block, lan, Some(via))?;
        }
    }
    everybody(&workloads, &[56, 1500 - 48])?;
    ensure!(device(&cluster, 0, &workloads[2], V4)?.0 == "eth0");
    Ok(())
}

#[test]
fn an_underlay_of_ipv6() -> Result<()> {
    let mut cluster =
        Cluster::new(program()?, MTU, vec![shared_network(1, Mode::Routed, Encapsulation::Vxlan)?])?;
    cluster.join(&[0, 1])?;
    for host in 0..2 {
        cluster.record(host)?.addresses.retain(|a| a.addr().is_ipv6());
    }
    cluster.publish()?;
    let of = |host: usize| cluster.hosts[host].links()?.link("weft6_101");
    wait::until("the tunnels", wait::LONG, || Ok([of(0)?.mtu, of(1)?.mtu]))?;
    let workloads = workloads(&cluster, 1)?;
    everybody(&workloads, &[56, 1430 - 48])?;
    ensure!(device(&cluster, 0, &workloads[1], V4)? == ("weft6_101".into(), Some(1430)));
    Ok(())
}

/// One host with IPv6 only among hosts with both: each pair takes what it has in common.
#[test]
fn a_mixed_underlay() -> Result<()> {
    let (mut cluster, workloads) = three(Mode::Routed, Encapsulation::Auto)?;
    cluster.record(2)?.addresses.retain(|a| a.addr().is_ipv6());
    cluster.publish()?;
    wait::until("the way over IPv6", wait::LONG, || {
        let way = device(&cluster, 0, &workloads[2], V4)?;
        ensure!(way == ("weft6_101".into(), Some(1430)), "{way:?}");
        ensure!(device(&cluster, 2, &workloads[0], V4)?.0 == "weft6_101");
        Ok(())
    })?;
    everybody(&workloads, &[56])
}

/// BAR.md row 30: what is too large gets an answer that says how large it may be, and what may be cut arrives.
#[test]
fn large_packets() -> Result<()> {
    let (_cluster, workloads) = three(Mode::Routed, Encapsulation::Auto)?;
    let [one, _, three] = &workloads[..] else { bail!("three workloads") };
    for like in [V4, V6] {
        let to = three.address(like)?;
        let echo = weft_lab::traffic::UdpEcho::start(three.namespace.netns(), anywhere(0))?;
        let socket = weft_lab::traffic::udp(one.namespace.netns(), (like, 0).into())?;
        let answer = weft_lab::traffic::exchange(&socket, (to, echo.port()).into(), &[7; 8000], SOON)?;
        ensure!(answer == [7; 8000], "8000 bytes came back as {}", answer.len());
    }
    // The interface itself knows the size: there is nobody on the way who has to say so.
    let too_large = ping(one.namespace.netns(), three.address(V4)?, 1451 - 28, SOON);
    ensure!(too_large.is_err_and(|e| e.raw_os_error() == Some(90)), "EMSGSIZE was expected");
    Ok(())
}

/// BAR.md, security row 30: a network that was declared with a larger packet than fits into its tunnels. Whoever wants to
/// send one is told what fits, in both families.
#[test]
fn too_large_for_the_tunnel_is_told() -> Result<()> {
    weft_tests::programs::require(&["ping"])?;
    let network = Network { mtu: Some(MTU), ..shared_network(1, Mode::Routed, Encapsulation::Auto)? };
    let mut cluster = Cluster::new(program()?, MTU, vec![network])?;
    cluster.join(&[0, 1])?;
    let one = Workload::attach(Namespace::new()?, &cluster.hosts[0], &cluster.network(1)?)?;
    let other = Workload::attach(Namespace::new()?, &cluster.hosts[1], &cluster.network(1)?)?;
    for (like, headers) in [(V4, 28), (V6, 48)] {
        let to = other.address(like)?;
        let mut command = one.namespace.netns().command("ping");
        let size = (MTU - headers).to_string();
        let output = command.args(["-n", "-c2", "-W1", "-M", "do", "-s", &size, &to.to_string()]).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(
            ["mtu = 1450", "mtu=1450", "mtu: 1450"].iter().any(|words| said.contains(words)),
            "{to}: {said}"
        );
        ping(one.namespace.netns(), to, 1450 - headers as usize, SOON)?;
    }
    Ok(())
}

/// Between two hosts behind a router nothing but their own addresses shows; to the outside, nothing but the
/// host's.
#[test]
fn the_router_sees_hosts_only() -> Result<()> {
    let (cluster, workloads) = three(Mode::Routed, Encapsulation::Auto)?;
    let capture = Capture::open(cluster.underlay.netns(), "host1")?;
    for like in [V4, V6] {
        ping(workloads[0].namespace.netns(), workloads[2].address(like)?, 56, SOON)?;
        ping(workloads[2].namespace.netns(), workloads[0].address(like)?, 56, SOON)?;
    }
    for outside in [IpAddr::V4(OUTSIDE4), IpAddr::V6(OUTSIDE6)] {
        ping(workloads[0].namespace.netns(), outside, 56, SOON)?;
    }
    // What is asked of the host itself goes as it is: its own address.
    ping(workloads[0].namespace.netns(), cluster.hosts[2].ipv4(), 56, SOON)?;
    let own = cluster.hosts[0].addresses().map(|a| a.addr());
    let seen = capture.drain()?;
    ensure!(seen.iter().any(|f| f.protocol == Some(17) && f.source == Some(own[0])), "no tunnel was seen");
    for frame in seen.iter().filter(|f| !f.is_arp()) {
        let source = frame.source;
        let link_local =
            matches!(source, Some(IpAddr::V6(a)) if a.is_unicast_link_local() || a.is_unspecified());
        ensure!(link_local || own.iter().any(|a| source == Some(*a)), "the router saw {frame:?}");
    }
    Ok(())
}

/// The host itself reaches workloads on other hosts, and they it, by either way.
#[test]
fn hosts_reach_workloads() -> Result<()> {
    let (cluster, workloads) = three(Mode::Routed, Encapsulation::Auto)?;
    for host in &cluster.hosts {
        for workload in &workloads {
            for address in workload.addresses() {
                ping(host.netns(), address, 56, SOON)?;
            }
            for address in host.addresses() {
                ping(workload.namespace.netns(), address.addr(), 56, SOON)?;
            }
        }
    }
    Ok(())
}

/// Two networks on the same hosts do not meet: not by a tunnel, not on a segment, not on one host.
#[test]
fn networks_are_isolated_across_hosts() -> Result<()> {
    let networks = vec![
        shared_network(1, Mode::Routed, Encapsulation::Auto)?,
        shared_network(2, Mode::Bridge, Encapsulation::Vxlan)?,
        shared_network(3, Mode::Routed, Encapsulation::Auto)?,
    ];
    let mut cluster = Cluster::new(program()?, MTU, networks)?;
    cluster.join(&[0, 0, 1])?;
    let all: Vec<Vec<Workload>> =
        [1, 2, 3].into_iter().map(|n| workloads(&cluster, n)).collect::<Result<_>>()?;
    for own in &all {
        everybody(own, &[56])?;
    }
    for (a, from) in all.iter().enumerate() {
        for (b, to) in all.iter().enumerate().filter(|(b, _)| *b != a) {
            for from in from {
                for address in to.iter().flat_map(Workload::addresses) {
                    let answer = ping(from.namespace.netns(), address, 56, Duration::from_millis(100));
                    ensure!(answer.is_err(), "network {} reaches {address} of network {}", a + 1, b + 1);
                }
            }
        }
    }
    Ok(())
}

/// DESIGN.md §15: the outer route is looked up with the inner packet's mark. None of weft's bits gets that far, and
/// those of others are theirs.
#[test]
fn no_mark_of_ours_goes_into_a_tunnel() -> Result<()> {
    let (cluster, workloads) = three(Mode::Routed, Encapsulation::Vxlan)?;
    let host = cluster.hosts[0].netns();
    let run = |script: &str| -> Result<()> {
        let output = host.command("sh").args(["-ec", script]).output()?;
        ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let to = workloads[2].address(V4)?;
    let mark = |mark: &str| {
        format!(
            "echo 'table inet t {{ chain c {{ type filter hook forward priority -200; meta mark set {mark}; }}; }}' | nft -f -"
        )
    };
    // A policy route by mark that leads into nowhere: what a host may have for reasons of its own.
    run("ip rule add fwmark 0x40000000/0x40000000 table 99; ip route add blackhole 203.0.113.0/24 table 99")?;
    run("ip rule add fwmark 0x1/0x1 table 99")?;
    run(&mark("0x40000000"))?;
    ping(workloads[0].namespace.netns(), to, 56, SOON)?;
    run(&format!("nft delete table inet t; {}", mark("0x1")))?;
    ensure!(
        ping(workloads[0].namespace.netns(), to, 56, Duration::from_millis(200)).is_err(),
        "the control failed"
    );
    Ok(())
}
