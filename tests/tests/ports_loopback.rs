//! Published ports at 127.0.0.1 and ::1 of the host itself (docs/ports.md): real processes in a control group of the
//! test's own, with programs that outlive the agent.

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use weft_kernel::loopback::Place;
use weft_kernel::netns::Netns;
use weft_kernel::state::Sysctl;
use weft_kernel::sysctl;
use weft_lab::traffic::{UdpEcho, WebServer};
use weft_lab::{Group, Host, Namespace, Underlay};
use weft_model::api::ErrorKind;
use weft_model::{Mode, NetworkName};
use weft_tests::host::REPAIR;
use weft_tests::matrix;
use weft_tests::scene::{Case, Families, MTU, Scene, Workload, anywhere, program};
use weft_tests::{programs, wait};

matrix!(own_processes_reach_them);

const PORTS: [&str; 2] = ["8080:80", "5353:53/udp"];

/// A scene whose agent may attach programs, to a group of its own.
struct Ground {
    scene: Scene,
    network: NetworkName,
    group: Group,
}

impl Ground {
    fn new(case: Case) -> Result<Ground> {
        let group = Group::new()?;
        let lines = group.lines();
        let scene = Scene::with_config(&lines.each_ref().map(String::as_str))?;
        let network = scene.network(1, case)?;
        Ok(Ground { scene, network, group })
    }

    /// Peer by getpeername, source of the answer, and the answer, as a process in the group sees them.
    fn talk(&self, netns: &Netns, how: &str, to: &str) -> Result<[String; 3]> {
        talk(&self.group, netns, how, to)
    }

    fn place(&self) -> Place {
        Place { cgroup: self.group.cgroup().to_owned(), pins: self.group.pins() }
    }
}

fn talk(group: &Group, netns: &Netns, how: &str, to: &str) -> Result<[String; 3]> {
    let output = group.command(netns, Path::new(env!("CARGO_BIN_EXE_sock"))).args([how, to]).output()?;
    let (said, complaint) = (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!("{how} {to}: {complaint}");
    }
    let words: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
    words.try_into().map_err(|words| anyhow::anyhow!("{how} {to}: {words:?}"))
}

/// Where the host's processes may call, and as what they believe to have called.
fn calls(case: Case) -> Vec<(&'static str, &'static str)> {
    let v4 =
        [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::ffff:127.0.0.1]", "[::ffff:127.0.0.1]")];
    let v6 = [("[::1]", "[::1]"), ("[::]", "[::1]")];
    let mut calls = Vec::new();
    calls.extend(v4.iter().filter(|_| case.families != Families::V6));
    calls.extend(v6.iter().filter(|_| case.families != Families::V4));
    calls
}

fn own_processes_reach_them(case: Case) -> Result<()> {
    let ground = Ground::new(case)?;
    let host = ground.scene.host.netns();
    let workload = ground.scene.publish(&ground.network, &PORTS)?;
    let _web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let echo = UdpEcho::start(workload.namespace.netns(), anywhere(53))?;
    for (to, called) in calls(case) {
        let [peer, _, seen] = ground.talk(host, "tcp", &format!("{to}:8080"))?;
        ensure!(peer == format!("{called}:8080"), "{to}: getpeername says {peer}");
        let seen: IpAddr = seen.parse()?;
        // The client's address is not kept: it is that of the host in the workload's network.
        let gateways: Vec<IpAddr> =
            ground.scene.host.status()?.networks[0].network.gateways().map(|g| g.addr()).collect();
        ensure!(gateways.contains(&seen), "{to}: seen as {seen}");
        for how in ["udp", "connected"] {
            let [peer, from, answer] = ground.talk(host, how, &format!("{to}:5353"))?;
            ensure!(answer == "hello", "{answer}");
            let expected = format!("{called}:5353");
            ensure!(from == expected || how == "connected", "{how} {to}: recvfrom says {from}");
            ensure!(peer == expected || how == "udp", "{how} {to}: getpeername says {peer}");
        }
    }
    ensure!(!echo.peers().is_empty(), "nobody came");
    // Nobody has opened the loopback to the neighbours for it.
    for link in ["all", "lo", "eth0"] {
        let key = Sysctl::from_record(&format!("net/ipv4/conf/{link}/route_localnet")).context("a path")?;
        ensure!(host.run(|| sysctl::read(&key))??.as_deref() == Some("0"), "route_localnet of {link}");
    }
    // What is not published is as it was.
    let own = WebServer::start(host, "127.0.0.1:9090".parse()?)?;
    let [peer, ..] = ground.talk(host, "tcp", "127.0.0.1:9090")?;
    ensure!(peer == "127.0.0.1:9090" && own.peers() == ["127.0.0.1".parse::<IpAddr>()?], "{peer}");
    ensure!(ground.talk(host, "tcp", "127.0.0.1:8081").is_err(), "an unpublished port answers");
    Ok(())
}

/// A process of the same group in another namespace has a loopback of its own.
#[test]
fn other_namespaces_are_left_alone() -> Result<()> {
    let ground = Ground::new(Case { mode: Mode::Routed, families: Families::Dual })?;
    let workload = ground.scene.publish(&ground.network, &PORTS)?;
    let web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let other = Namespace::new()?;
    other.links()?.set_up("lo", true)?;
    let _theirs = WebServer::start(other.netns(), "127.0.0.1:8080".parse()?)?;
    let [peer, _, seen] = ground.talk(other.netns(), "tcp", "127.0.0.1:8080")?;
    ensure!((peer.as_str(), seen.as_str()) == ("127.0.0.1:8080", "127.0.0.1"), "{peer} {seen}");
    ensure!(web.peers().is_empty(), "{:?}", web.peers());
    // Nor do two agents whose programs stand at one group meet.
    let underlay = Underlay::new(MTU)?;
    let mut second = Host::new(&underlay, program()?)?;
    second.configure(&ground.group.lines().each_ref().map(String::as_str))?;
    second.start_agent()?;
    let scene = Scene { host: second, underlay };
    let network = scene.network(1, Case { mode: Mode::Bridge, families: Families::V4 })?;
    let there = scene.publish(&network, &["8080:81"])?;
    let _there = WebServer::start(there.namespace.netns(), anywhere(81))?;
    for (host, gateway) in [(&ground.scene.host, "10.101.1.1"), (&scene.host, "10.101.1.1")] {
        let [_, _, seen] = ground.talk(host.netns(), "tcp", "127.0.0.1:8080")?;
        ensure!(seen == gateway, "{seen}");
    }
    ensure!(web.peers().len() == 1, "{:?}", web.peers());
    Ok(())
}

/// They need no agent, a new one finds them as they are, and the last detach takes them away.
#[test]
fn they_outlive_the_agent_and_end_with_the_port() -> Result<()> {
    let Ground { mut scene, network, group } =
        Ground::new(Case { mode: Mode::Routed, families: Families::Dual })?;
    let place = Place { cgroup: group.cgroup().to_owned(), pins: group.pins() };
    let inside = |host: &Host| host.netns().run(|| place.read());
    ensure!(inside(&scene.host)??.is_none(), "programs before there is a port");
    let workload = scene.publish(&network, &PORTS)?;
    let _web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let works =
        |host: &Host, when: &str| talk(&group, host.netns(), "tcp", "[::1]:8080").context(when.to_owned());
    works(&scene.host, "at first")?;
    scene.host.kill()?;
    works(&scene.host, "without an agent")?;
    let before = inside(&scene.host)??.context("nothing is left")?;
    scene.host.start_agent()?;
    ensure!(inside(&scene.host)??.as_ref() == Some(&before), "the new agent changed something");
    ensure!(diff(&scene.host)?.is_empty(), "{:?}", diff(&scene.host)?);
    works(&scene.host, "with a new agent")?;

    workload.namespace.detach(&scene.host, &network)?;
    ensure!(works(&scene.host, "").is_err(), "the port answers after the detach");
    ensure!(inside(&scene.host)??.is_none_or(|l| l.ports.is_empty()), "ports are left");
    scene.host.restart()?;
    ensure!(inside(&scene.host)??.is_none(), "programs are left");
    ensure!(!place.pins.exists(), "{} is left", place.pins.display());
    Ok(())
}

/// R4: the kernel tells nobody when somebody removes a name, cuts a program off or changes a map; it is seen all the same.
#[test]
fn what_another_hand_takes_away_is_mended() -> Result<()> {
    programs::require(&["bpftool"])?;
    let ground = Ground::new(Case { mode: Mode::Routed, families: Families::Dual })?;
    let host = ground.scene.host.netns();
    let workload = ground.scene.publish(&ground.network, &PORTS)?;
    let _web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let _echo = UdpEcho::start(workload.namespace.netns(), anywhere(53))?;
    let place = ground.place();
    let folder = std::fs::read_dir(&place.pins)?.next().context("no folder")??.path();
    let read = || host.run(|| place.read());
    let before = read()??.context("no programs")?;
    ensure!(before.whole && before.ports.len() == 4, "{before:?}");
    let bpftool = |words: &[&str]| -> Result<()> {
        let mut command = std::process::Command::new("bpftool");
        let output = command.env("PATH", programs::PATH).args(words).output()?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
        Ok(())
    };
    let pin = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let port = weft_kernel::state::LocalPort { protocol: 6, at: "127.0.0.1:8080".parse()? };
    let tampers: [(&str, &dyn Fn() -> Result<()>); 6] = [
        ("a program's name is removed", &|| Ok(std::fs::remove_file(pin("connect4"))?)),
        ("a program is cut off", &|| bpftool(&["link", "detach", "pinned", &pin("connect4")])),
        ("the name of the ports is removed", &|| Ok(std::fs::remove_file(pin("ports"))?)),
        ("a port is removed", &|| Ok(host.run(|| place.unset([&port]))??)),
        (
            "a port is led astray",
            &|| Ok(host.run(|| place.set([(&port, &"192.0.2.1:1".parse().unwrap())]))??),
        ),
        ("all of it is removed", &|| Ok(std::fs::remove_dir_all(&folder)?)),
    ];
    for (what, tamper) in tampers {
        tamper().context(what)?;
        ensure!(read()??.as_ref() != Some(&before), "{what}: it made no difference");
        let begin = std::time::Instant::now();
        wait::until(what, REPAIR, || {
            ensure!(read()??.as_ref() == Some(&before), "not mended");
            Ok(())
        })?;
        println!("{what}: mended after at most {} ms", begin.elapsed().as_millis());
        ground.talk(host, "tcp", "127.0.0.1:8080").context(what)?;
        ground.talk(host, "udp", "[::1]:5353").context(what)?;
    }
    Ok(())
}

fn diff(host: &Host) -> Result<Vec<String>> {
    match host.request(&weft_model::api::Request::Diff)? {
        weft_model::api::Reply::Diff(commands) => Ok(commands),
        other => bail!("{other:?}"),
    }
}

/// At the loopback only: nowhere else, and refused where it cannot be had.
#[test]
fn what_is_for_the_loopback_only() -> Result<()> {
    let ground = Ground::new(Case { mode: Mode::Bridge, families: Families::Dual })?;
    let scene = &ground.scene;
    let workload =
        scene.publish(&ground.network, &["127.0.0.1:8080:80", "127.0.0.53:8081:80", "[::1]:8082:80"])?;
    let web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    for to in ["127.0.0.1:8080", "127.0.0.53:8081", "[::1]:8082"] {
        ground.talk(scene.host.netns(), "tcp", to)?;
    }
    let before = web.peers().len();
    for port in [8080, 8081, 8082] {
        for at in scene.host.addresses().map(|a| SocketAddr::new(a.addr(), port).to_string()) {
            ensure!(ground.talk(scene.host.netns(), "tcp", &at).is_err(), "{at} answers");
            ensure!(ground.talk(scene.underlay.netns(), "tcp", &at).is_err(), "{at} answers outside");
        }
    }
    ensure!(web.peers().len() == before, "{:?}", web.peers());

    let refused = |scene: &Scene, network: &NetworkName, port: &str| -> Result<String> {
        let namespace = Namespace::new()?;
        let mut wish = namespace.wish(network, "eth0")?;
        wish.profile.ports = vec![port.parse()?];
        let error =
            Namespace::attach_as(&scene.host, wish).err().with_context(|| format!("{port} was granted"))?;
        let refusal = error.refusal().with_context(|| format!("{error}"))?;
        ensure!(refusal.kind == ErrorKind::Kernel, "{refusal:?}");
        Ok(refusal.message.clone())
    };
    let why = refused(scene, &ground.network, "127.0.0.1:99:99/sctp")?;
    ensure!(why.contains("SCTP"), "{why}");
    let off = Scene::new()?;
    let network = off.network(1, Case { mode: Mode::Routed, families: Families::V4 })?;
    let why = refused(&off, &network, "127.0.0.1:8080:80")?;
    ensure!(why.contains("publish_on_loopback is off"), "{why}");
    let none =
        Scene::with_config(&["publish_on_loopback = true", "cgroup = \"/\"", "bpf_dir = \"/nowhere\""])?;
    let network = none.network(1, Case { mode: Mode::Routed, families: Families::V4 })?;
    let why = refused(&none, &network, "127.0.0.1:8080:80")?;
    ensure!(why.contains("/ is no cgroup of version 2"), "{why}");
    // Elsewhere the port answers, and the state of health tells of the rest.
    let workload: Workload = none.publish(&network, &["8080:80"])?;
    let _web = WebServer::start(workload.namespace.netns(), anywhere(80))?;
    let at = SocketAddr::new(none.host.ipv4(), 8080).to_string();
    ground.talk(none.host.netns(), "tcp", &at)?;
    let health = none.host.status()?.health;
    ensure!(health.iter().any(|h| h.contains("do not answer at 127.0.0.1 and ::1")), "{health:?}");
    ensure!(ground.place().check().is_ok(), "the place of the others is good");
    Ok(())
}
