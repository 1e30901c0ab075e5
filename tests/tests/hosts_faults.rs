//! Hosts fail, move and leave while others talk: what was not touched loses nothing, and what was is right again
//! soon. `--nocapture` prints the figures.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use weft_lab::traffic::{Pulse, ping};
use weft_lab::{Cluster, Links, Namespace, shared_network};
use weft_model::api::{Reply, Request};
use weft_model::{Encapsulation, Mode};
use weft_tests::scene::{SOON, Workload, program};
use weft_tests::wait;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
const MTU: u32 = 1500;
/// Nobody answers within this time who is not there.
const SHORT: Duration = Duration::from_millis(100);

fn cluster(segments: &[usize]) -> Result<Cluster> {
    let mut cluster =
        Cluster::new(program()?, MTU, vec![shared_network(1, Mode::Routed, Encapsulation::Auto)?])?;
    cluster.join(segments)?;
    Ok(cluster)
}

fn workload(cluster: &Cluster, host: usize) -> Result<Workload> {
    Workload::attach(Namespace::new()?, &cluster.hosts[host], &cluster.network(1)?)
}

/// What a host's kernel holds of weft's that mentions this text.
fn mentions(cluster: &Cluster, host: usize, text: &str) -> Result<Vec<String>> {
    let script = "ip route; ip -6 route; ip neigh show nud permanent; bridge fdb; nft list table inet weft";
    let output = cluster.hosts[host].netns().command("sh").args(["-c", script]).output()?;
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(all.lines().filter(|l| l.contains(text)).map(str::to_owned).collect())
}

/// How long until `probe` succeeds.
fn within(what: &str, probe: impl FnMut() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    wait::until(what, wait::LONG, probe)?;
    println!("{what}: {} ms", begin.elapsed().as_millis());
    Ok(begin.elapsed())
}

#[test]
fn what_is_not_touched_loses_nothing() -> Result<()> {
    let mut cluster = cluster(&[0, 0, 1])?;
    let talkers: Vec<Workload> = (0..3).map(|h| workload(&cluster, h)).collect::<Result<_>>()?;
    let mut streams = Vec::new();
    for (from, to) in [(0, 1), (0, 2), (2, 1)] {
        let (a, b) = (talkers[from].namespace.netns(), talkers[to].namespace.netns());
        for like in [V4, V6] {
            let address = talkers[to].address(like)?;
            streams.push((format!("datagrams {from} to {address}"), Pulse::datagrams(a, b, address)?));
        }
        let address = talkers[to].address(V4)?;
        streams.push((format!("connection {from} to {address}"), Pulse::connection(a, b, address)?));
    }

    // Agents are killed, and start again with what they find.
    for _ in 0..2 {
        for host in 0..3 {
            cluster.hosts[host].kill()?;
            cluster.hosts[host].start_agent()?;
        }
    }
    // A host joins.
    cluster.join(&[1])?;
    let fourth = workload(&cluster, 3)?;
    let (there, there6) = (fourth.address(V4)?, fourth.address(V6)?);
    within("a new host is reached", || {
        talkers.iter().try_for_each(|t| Ok(ping(t.namespace.netns(), there, 56, SHORT)?))
    })?;
    // It is cut off, and comes back.
    cluster.underlay.connect(&cluster.hosts[3], false)?;
    ensure!(ping(talkers[0].namespace.netns(), there, 56, SHORT).is_err(), "a host without a wire answers");
    cluster.underlay.connect(&cluster.hosts[3], true)?;
    within("a host that was cut off is reached again", || {
        Ok(ping(talkers[0].namespace.netns(), there, 56, SHORT)?)
    })?;
    // It gets another address.
    let (old, new): (IpNet, IpNet) = (cluster.hosts[3].addresses()[0], "203.0.113.99/24".parse()?);
    Links::of(cluster.hosts[3].netns())?.add_address("eth0", new)?;
    for address in &mut cluster.record(3)?.addresses {
        if *address == old {
            *address = new;
        }
    }
    cluster.publish()?;
    within("a host is reached at its new address", || {
        let old = old.addr().to_string();
        for host in 0..3 {
            ensure!(mentions(&cluster, host, &old)?.is_empty(), "host {host} knows the old address");
        }
        ping(talkers[1].namespace.netns(), there, 56, SHORT)?;
        Ok(ping(talkers[2].namespace.netns(), there6, 56, SHORT)?)
    })?;
    // Workloads come and go everywhere.
    for _ in 0..5 {
        let moved: Vec<Workload> = (0..20)
            .map(|n| workload(&cluster, n % 4))
            .collect::<Result<_>>()
            .context("workloads that move")?;
        for (n, w) in moved.iter().enumerate() {
            w.namespace.detach(&cluster.hosts[n % 4], &cluster.network(1)?)?;
        }
    }
    // It leaves for ever: nothing of it stays.
    let record = cluster.record(3)?.clone();
    let name = cluster.hosts[3].name().parse()?;
    cluster.told.nodes.remove(&name);
    cluster.publish()?;
    within("nothing is left of a host that is gone", || {
        for host in 0..3 {
            let blocks = record.blocks.values().flatten().map(|b| b.network().to_string());
            let texts = blocks.chain([record.mac.to_string(), new.addr().to_string()]);
            for text in texts {
                let left = mentions(&cluster, host, &text)?;
                ensure!(left.is_empty(), "host {host} still has {left:?}");
            }
        }
        Ok(())
    })?;

    for (what, stream) in streams {
        let figures = stream.finish().with_context(|| what.clone())?;
        println!(
            "{what}: {} sent, {} lost, longest gap {} ms",
            figures.sent,
            figures.lost(),
            figures.gap.as_millis()
        );
        ensure!(figures.sent > 50, "{what}: too little traffic to prove anything");
        ensure!(figures.lost() == 0, "{what}: {figures:?}");
    }
    Ok(())
}

/// Nobody says what the cluster is while an agent starts: it goes on with what it last heard (DESIGN.md,
/// invariant 2), and follows when somebody speaks again.
#[test]
fn an_agent_that_hears_nobody_keeps_what_it_knew() -> Result<()> {
    let mut cluster = cluster(&[0, 1])?;
    let talkers = [workload(&cluster, 0)?, workload(&cluster, 1)?];
    let to = talkers[1].address(V4)?;
    ping(talkers[0].namespace.netns(), to, 56, SOON)?;
    let stream = Pulse::datagrams(talkers[0].namespace.netns(), talkers[1].namespace.netns(), to)?;
    cluster.hosts[0].stop()?; // it writes down what it knows at the latest now
    cluster.silence()?;
    cluster.hosts[0].start_agent()?;
    let late = workload(&cluster, 0)?;
    ping(late.namespace.netns(), to, 56, SOON)?;
    cluster.publish()?;
    ping(talkers[0].namespace.netns(), to, 56, SOON)?;
    let figures = stream.finish()?;
    ensure!(figures.lost() == 0, "{figures:?}");
    Ok(())
}

/// Other hands on what leads to other hosts: mended within a second (invariant 8; the bound is ten times that).
#[test]
fn what_others_take_away_is_mended() -> Result<()> {
    let cluster = cluster(&[0, 0, 1])?;
    let talkers: Vec<Workload> = (0..3).map(|h| workload(&cluster, h)).collect::<Result<_>>()?;
    let (near, far) = (talkers[1].address(V4)?, talkers[2].address(V4)?);
    let far6 = talkers[2].address(V6)?;
    for hand in [
        "ip route del 10.101.2.0/24",
        "ip route del 10.101.3.0/24",
        "ip route replace 10.101.3.0/24 dev lo",
        "ip neigh del 10.101.3.1 dev weft4_101",
        "ip neigh replace 10.101.3.1 lladdr 02:00:00:00:00:01 dev weft4_101 nud permanent",
        "bridge fdb del 02:77:76:00:00:03 dev weft4_101 self",
        "bridge fdb replace 02:77:76:00:00:03 dev weft4_101 dst 192.0.2.77 self permanent",
        "ip link set weft4_101 down",
        "ip link set weft4_101 mtu 1300",
        "ip link del weft4_101",
        "nft delete table inet weft",
        "nft flush set inet weft senders44",
    ] {
        let output = cluster.hosts[0].netns().command("sh").args(["-ec", hand]).output()?;
        ensure!(output.status.success(), "{hand}: {}", String::from_utf8_lossy(&output.stderr));
        within(&format!("mended after `{hand}`"), || {
            ping(talkers[0].namespace.netns(), near, 56, SHORT)?;
            ping(talkers[0].namespace.netns(), far, 1450 - 28, SHORT)?;
            ping(talkers[0].namespace.netns(), far6, 56, SHORT)?;
            ping(talkers[2].namespace.netns(), talkers[0].address(V4)?, 56, SHORT)?;
            // That packets get through does not show that everything is back.
            let Reply::Diff(outstanding) = cluster.hosts[0].request(&Request::Diff)? else {
                bail!("no diff")
            };
            ensure!(outstanding.is_empty(), "{outstanding:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// PAINS.md 5: the underlay carries less from now on; running workloads follow, on both sides of their wires.
#[test]
fn a_smaller_underlay_reaches_running_workloads() -> Result<()> {
    let mut cluster = cluster(&[0, 1])?;
    let talkers = [workload(&cluster, 0)?, workload(&cluster, 1)?];
    let mtu = |of: &Workload| Ok::<u32, anyhow::Error>(of.namespace.links()?.link("eth0")?.mtu);
    ensure!(mtu(&talkers[0])? == 1450);
    for underlay in [1400, 1500] {
        for host in 0..2 {
            cluster.record(host)?.mtu = underlay;
            let netns = cluster.hosts[host].netns();
            let set = format!("ip link set eth0 mtu {underlay}");
            ensure!(netns.command("sh").args(["-c", &set]).status()?.success());
        }
        cluster.publish()?;
        within(&format!("an underlay of {underlay} bytes"), || {
            for talker in &talkers {
                let now = mtu(talker)?;
                ensure!(now == underlay - 50, "a workload's MTU is {now}");
            }
            // The routes, too: else the first packet learns of the old size, and keeps it for minutes.
            for host in &cluster.hosts {
                let status = host.status()?;
                let ways: Vec<u32> = status.peers.iter().flat_map(|p| &p.reaches).map(|r| r.mtu).collect();
                ensure!(!ways.is_empty() && ways.iter().all(|m| *m == underlay - 50), "{ways:?}");
                let Reply::Diff(outstanding) = host.request(&Request::Diff)? else { bail!("no diff") };
                ensure!(outstanding.is_empty(), "{outstanding:?}");
            }
            Ok(())
        })?;
        ping(talkers[0].namespace.netns(), talkers[1].address(V4)?, underlay as usize - 78, SOON)?;
    }
    Ok(())
}
