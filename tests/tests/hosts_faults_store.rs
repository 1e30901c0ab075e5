//! Hosts that share a real etcd: agents die and are upgraded, the store fails in each of its ways, hosts come and go
//! for ever, while others talk. What was not touched loses nothing (BAR.md R2, R3, R8, R9). `--nocapture` prints the
//! figures.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weft_lab::traffic::frame::{packet, tcp};
use weft_lab::traffic::{Capture, Tap, ping};
use weft_lab::{Folder, LEASE, Links, Namespace, OUTSIDE4, Shared};
use weft_model::Mode;
use weft_model::api::{ErrorKind, NetworkSpec, Reply, Request};
use weft_store::cluster::{self, Credentials};
use weft_tests::scene::{SOON, Workload, program};
use weft_tests::streams::Streams;
use weft_tests::{programs, wait};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
/// Nobody answers within this time who is not there.
const SHORT: Duration = Duration::from_millis(100);
/// Two on one segment, and the third behind a router.
const PLACES: [usize; 3] = [0, 0, 1];
/// Both kinds of ways.
const PAIRS: [(usize, usize); 2] = [(0, 1), (2, 0)];

/// Hosts on these segments with a store of so many servers, and a talker on each.
fn scene(segments: &[usize], servers: u16) -> Result<(Shared, Vec<Workload>)> {
    programs::require(&["etcd", "ip", "bridge", "nft"])?;
    let mut shared = Shared::new(program()?, servers)?;
    shared.join(segments)?;
    let talkers = (0..segments.len()).map(|host| workload(&shared, host)).collect::<Result<Vec<_>>>()?;
    for talker in &talkers {
        let to = talker.address(V4)?;
        within("a first packet", || reach(&talkers[0], to))?;
    }
    Ok((shared, talkers))
}

fn workload(shared: &Shared, host: usize) -> Result<Workload> {
    Workload::attach(Namespace::new()?, &shared.hosts[host], &shared.network()?)
}

fn reach(from: &Workload, to: IpAddr) -> Result<()> {
    Ok(ping(from.namespace.netns(), to, 56, SHORT)?)
}

/// How long until `probe` succeeds.
fn within(what: &str, probe: impl FnMut() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    wait::until(what, wait::LONG, probe)?;
    println!("{what}: {} ms", begin.elapsed().as_millis());
    Ok(begin.elapsed())
}

/// Declares a network on a host, and waits until another one has it: the store works again, for all.
fn declare(shared: &Shared, from: usize, to: usize, number: u8) -> Result<()> {
    let name = format!("more{number}").parse()?;
    let spec = NetworkSpec {
        name,
        subnets: vec![format!("10.{}.0.0/16", 150 + number).parse()?],
        mode: Mode::Routed,
        mtu: None,
        masquerade: true,
        encapsulation: weft_model::Encapsulation::Auto,
        explain: false,
    };
    within(&format!("network {} on the other host", spec.name), || {
        match shared.hosts[from].request(&Request::NetworkCreate(spec.clone())) {
            Ok(_) => {}
            Err(error) if error.refusal().is_some_and(|r| r.kind == ErrorKind::Exists) => {}
            Err(error) => return Err(error.into()),
        }
        let there = shared.hosts[to].status()?.networks.iter().any(|n| n.network.name == spec.name);
        ensure!(there, "{} is not there yet", spec.name);
        Ok(())
    })
    .map(drop)
}

/// What a host's kernel holds of weft's that mentions one of these texts.
fn mentions(shared: &Shared, host: usize, texts: &[String]) -> Result<Vec<String>> {
    let script = "ip route; ip -6 route; ip neigh show nud permanent; bridge fdb; nft list table inet weft";
    let output = shared.hosts[host].netns().command("sh").args(["-c", script]).output()?;
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(all.lines().filter(|l| texts.iter().any(|t| l.contains(t))).map(str::to_owned).collect())
}

/// A copy of the program that is another build: every `0.1.0` in it is another number of the same length.
fn another_build(folder: &Folder) -> Result<PathBuf> {
    let (own, other) = (env!("CARGO_PKG_VERSION").as_bytes(), b"0.1.9");
    ensure!(own.len() == other.len() && own != other, "a version of another length");
    let mut bytes = std::fs::read(program()?)?;
    let places: Vec<usize> =
        bytes.windows(own.len()).enumerate().filter(|(_, w)| w == &own).map(|(at, _)| at).collect();
    ensure!(!places.is_empty(), "the program does not name its version");
    for at in places {
        bytes[at..at + other.len()].copy_from_slice(other);
    }
    let path = folder.path().join("weft");
    std::fs::write(&path, bytes)?;
    std::fs::set_permissions(&path, std::fs::metadata(program()?)?.permissions())?;
    Ok(path)
}

/// R2 and R3: agents are killed twenty times, upgraded five times, and put back twice, while a flood of connections
/// that are denied looks for a gap.
#[test]
fn agents_die_and_are_upgraded() -> Result<()> {
    let (mut shared, talkers) = scene(&PLACES, 1)?;
    let (folder, old) = (Folder::new()?, program()?.to_owned());
    let new = another_build(&folder)?;
    let victim = talkers[0].address(V4)?;
    let seen = Capture::open(talkers[0].namespace.netns(), "eth0")?;
    let router =
        Links::of(shared.underlay.netns())?.link(shared.underlay.link())?.mac.context("no address")?;
    // From outside, and as if from a workload elsewhere but in no tunnel: neither may knock.
    let knocks = [IpAddr::V4(OUTSIDE4), talkers[2].address(V4)?]
        .map(|liar| packet(router, shared.hosts[0].mac(), &tcp((liar, 4000), (victim, 4001), 2, 1, 0)));
    let tap = Tap::open(shared.underlay.netns(), shared.underlay.link())?;
    let (end, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    // A hundred connections, and twice as many streams of datagrams, in the long run.
    let many = if std::env::var_os("WEFT_FULL").is_some() { 50 } else { 1 };
    let streams = Streams::between(&talkers, &PAIRS.repeat(many))?;
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                for knock in knocks.iter().cycle().take(100) {
                    sent.fetch_add(u64::from(tap.send(knock).is_ok()), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(10)); // 10,000 a second
            }
        });
        let done = (|| {
            for kill in 0..20 {
                shared.hosts[kill % 3].kill()?;
                shared.hosts[kill % 3].start_agent()?;
            }
            for (change, program) in [&new, &old, &new, &new, &old, &new, &new].into_iter().enumerate() {
                let host = &mut shared.hosts[change % 3];
                host.upgrade(program)?;
                let pid = host.pid().context("no agent")?;
                let runs = std::fs::read_link(format!("/proc/{pid}/exe"))?;
                ensure!(runs == **program, "{} runs", runs.display());
            }
            (0..3).try_for_each(|host| Ok(shared.ready(host)?))
        })();
        end.store(true, Ordering::Relaxed);
        done
    })?;
    streams.lost_nothing("20 kills, 5 upgrades, 2 downgrades")?;
    let through = seen
        .drain()?
        .iter()
        .filter(|f| f.protocol == Some(6) && f.payload.get(2..4) == Some(&4001_u16.to_be_bytes()))
        .count();
    println!("{} connections that are denied, {through} delivered", sent.load(Ordering::Relaxed));
    ensure!(sent.load(Ordering::Relaxed) > 1000 && through == 0, "{through} denied connections came through");
    Ok(())
}

/// R9: the store is gone for the time of the test. Attaching goes on, also after an agent's death, and nothing is
/// taken from the kernel.
#[test]
fn the_store_is_away() -> Result<()> {
    let (mut shared, talkers) = scene(&PLACES, 1)?;
    let streams = Streams::between(&talkers, &PAIRS)?;
    shared.servers[0].kill()?;
    within("the loss is said", || {
        let status = shared.hosts[0].status()?;
        ensure!(status.store.is_some_and(|s| !s.in_sync), "still in sync");
        Ok(())
    })?;
    // Longer than a lease: nobody counts as gone for it.
    let until = Instant::now() + Duration::from_secs(LEASE + 1);
    shared.hosts[0].kill()?;
    shared.hosts[0].start_agent()?;
    let mut attached = 0;
    while Instant::now() < until {
        let fresh = workload(&shared, attached % 3)?;
        ping(talkers[(attached + 1) % 3].namespace.netns(), fresh.address(V4)?, 56, SOON)?;
        fresh.namespace.detach(&shared.hosts[attached % 3], &shared.network()?)?;
        attached += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    shared.servers[0].start()?;
    let begin = Instant::now();
    (0..3).try_for_each(|host| shared.ready(host))?;
    println!("{attached} attached without a store; in sync again: {} ms", begin.elapsed().as_millis());
    declare(&shared, 1, 2, 1)?;
    streams.lost_nothing("the store away")
}

/// The store answers late, then not at all and keeps its connections, then is well.
#[test]
fn the_store_is_slow_and_hangs() -> Result<()> {
    let (shared, talkers) = scene(&PLACES, 1)?;
    let streams = Streams::between(&talkers, &PAIRS)?;
    let server = &shared.servers[0];
    let slow = AtomicBool::new(true);
    std::thread::scope(|scope| -> Result<()> {
        let braked = scope.spawn(|| -> Result<()> {
            // A tenth of the time is its own.
            while slow.load(Ordering::Relaxed) {
                server.freeze()?;
                std::thread::sleep(Duration::from_millis(90));
                server.thaw()?;
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        });
        let done = declare(&shared, 0, 2, 1).and_then(|()| {
            let fresh = workload(&shared, 1)?;
            within("a fresh workload with a slow store", || reach(&talkers[2], fresh.address(V4)?)).map(drop)
        });
        slow.store(false, Ordering::Relaxed);
        braked.join().map_err(|_| anyhow::anyhow!("the brake panicked"))?.and(done)
    })?;
    server.freeze()?;
    let fresh = workload(&shared, 0)?;
    within("a fresh workload with a store that hangs", || reach(&talkers[2], fresh.address(V4)?))?;
    std::thread::sleep(Duration::from_secs(LEASE + 1));
    server.thaw()?;
    declare(&shared, 2, 0, 2)?;
    streams.lost_nothing("the store slow and hanging")
}

/// Of three servers each is killed once, the leader among them: what is declared meanwhile is heard.
#[test]
fn the_store_loses_its_leader() -> Result<()> {
    let (mut shared, talkers) = scene(&[0, 1], 3)?;
    let streams = Streams::between(&talkers, &[(0, 1)])?;
    for lost in 0..3_u8 {
        shared.servers[usize::from(lost)].kill()?;
        declare(&shared, usize::from(lost % 2), usize::from((lost + 1) % 2), lost)?;
        shared.servers[usize::from(lost)].start()?;
    }
    streams.lost_nothing("each server of the store lost once")
}

/// A host is cut off while the others change and the store forgets its history; when it is back it has all of it.
#[test]
fn compacted_while_a_host_is_cut_off() -> Result<()> {
    let (mut shared, talkers) = scene(&PLACES, 1)?;
    let streams = Streams::between(&talkers, &[(0, 2)])?;
    shared.underlay.connect(&shared.hosts[1], false)?;
    shared.join(&[1])?;
    let late = workload(&shared, 3)?;
    declare(&shared, 0, 2, 1)?;
    let address = format!("etcd://{}", shared.servers[0].endpoint());
    let open = || cluster::Etcd::new(&address, &Credentials { plaintext: true, ..Credentials::default() });
    shared.servers[0].netns().run(open)??.compact()?;
    shared.underlay.connect(&shared.hosts[1], true)?;
    within("a host that was cut off reaches one that came meanwhile", || {
        reach(&talkers[1], late.address(V4)?)
    })?;
    within("and has the network that was declared meanwhile", || {
        let status = shared.hosts[1].status()?;
        ensure!(status.networks.iter().any(|n| n.network.name.as_str() == "more1"), "{:?}", status.health);
        Ok(())
    })?;
    // The same for an agent that was not there at all.
    shared.hosts[1].stop()?;
    declare(&shared, 0, 2, 2)?;
    shared.servers[0].netns().run(open)??.compact()?;
    shared.hosts[1].start_agent()?;
    shared.ready(1)?;
    let status = shared.hosts[1].status()?;
    ensure!(status.networks.iter().any(|n| n.network.name.as_str() == "more2"), "{:?}", status.health);
    streams.lost_nothing("a host cut off, the store compacted")
}

/// R8: a host is lost: its ways go soon after its lease, and come back with it at once. Then it is gone for ever, and
/// nothing of it stays: ways, forwarding entries, guards, blocks.
#[test]
fn a_host_is_lost_comes_back_and_leaves_for_ever() -> Result<()> {
    let (mut shared, talkers) = scene(&[0, 0, 1, 1], 1)?;
    let streams = Streams::between(&talkers[..3], &PAIRS)?;
    let status = shared.hosts[0].status()?;
    let lost = shared.hosts[3].name().to_owned();
    let peer = status.peers.iter().find(|p| p.node.as_str() == lost).context("no such peer")?;
    let blocks: Vec<String> =
        peer.reaches.iter().flat_map(|r| &r.blocks).map(|b| b.network().to_string()).collect();
    ensure!(blocks.len() == 2, "{blocks:?}");
    let texts: Vec<String> = blocks.iter().cloned().chain([shared.hosts[3].ipv4().to_string()]).collect();
    let gone = |shared: &Shared| -> Result<()> {
        for host in 0..3 {
            let left = mentions(shared, host, &texts)?;
            ensure!(left.is_empty(), "host {host} still has {left:?}");
        }
        Ok(())
    };
    shared.underlay.connect(&shared.hosts[3], false)?;
    shared.hosts[3].kill()?;
    // Its lease was renewed at most a third of it ago.
    let took = within("the ways to a lost host are gone", || gone(&shared))?;
    println!(
        "that is at most {} ms after the end of its lease",
        took.saturating_sub(Duration::from_secs(LEASE) * 2 / 3).as_millis()
    );
    shared.underlay.connect(&shared.hosts[3], true)?;
    shared.hosts[3].start_agent()?;
    let there = talkers[3].address(V4)?;
    within("a host that came back is reached", || reach(&talkers[0], there))?;
    within("by IPv6, too", || reach(&talkers[1], talkers[3].address(V6)?))?;

    shared.hosts[3].stop()?;
    let name: weft_model::NodeName = lost.parse()?;
    let early = shared.hosts[0].request(&Request::NodeRemove { name: name.clone() });
    ensure!(early.is_err(), "a host that ran a moment ago was removed");
    within("a host that stopped is removed", || {
        Ok(shared.hosts[0].request(&Request::NodeRemove { name: name.clone() }).map(drop)?)
    })?;
    within("nothing is left of it", || gone(&shared))?;
    match shared.hosts[2].request(&Request::NodeList)? {
        Reply::Nodes(nodes) => {
            ensure!(nodes.iter().all(|n| n.name != name), "{nodes:?}");
            let held =
                nodes.iter().flat_map(|n| &n.blocks).any(|b| blocks.contains(&b.network().to_string()));
            ensure!(!held, "its blocks are another's at once: {nodes:?}");
        }
        other => bail!("{other:?}"),
    }
    streams.lost_nothing("a host lost, back, and gone for ever")
}

/// A hundred workloads a second move from host to host, as far as the machine can: from each host to the next.
#[test]
fn workloads_move() -> Result<()> {
    const EACH: u32 = 100;
    let (shared, talkers) = scene(&PLACES, 1)?;
    let streams = Streams::between(&talkers, &PAIRS)?;
    let network = shared.network()?;
    let begin = Instant::now();
    let mover = |from: usize| -> Result<Workload> {
        let to = (from + 1) % 3;
        let at = |n: u32| if n.is_multiple_of(2) { from } else { to };
        let mut last = workload(&shared, at(0))?;
        for n in 1..=EACH {
            // As a scheduler moves it: there it is a new container, and here it ends.
            let next = workload(&shared, at(n))?;
            last.namespace.detach(&shared.hosts[at(n - 1)], &network)?;
            last = next;
            std::thread::sleep((Duration::from_millis(30) * n).saturating_sub(begin.elapsed()));
        }
        Ok(last)
    };
    let last = std::thread::scope(|scope| -> Result<Vec<Workload>> {
        let movers: Vec<_> = (0..3).map(|from| scope.spawn(move || mover(from))).collect();
        let join = |m: std::thread::ScopedJoinHandle<'_, Result<Workload>>| {
            m.join().map_err(|_| anyhow::anyhow!("a mover panicked"))?
        };
        movers.into_iter().map(join).collect()
    })?;
    println!("{} moves, {:.0} a second", 3 * EACH, f64::from(3 * EACH) / begin.elapsed().as_secs_f64());
    for talker in &talkers {
        within("those that moved last are reached", || {
            last.iter().try_for_each(|w| reach(talker, w.address(V4)?))
        })?;
    }
    within("the store knows where it is", || match shared.hosts[1].request(&Request::NodeList)? {
        Reply::Nodes(nodes) => {
            let all: usize = nodes.iter().map(|n| n.workloads).sum();
            ensure!(all == 6, "{nodes:?}");
            Ok(())
        }
        other => bail!("{other:?}"),
    })?;
    streams.lost_nothing("a hundred workloads a second that move")
}
