//! What policy promises beyond verdicts: from a workload's first moment, while it changes, without an agent, at a namespace's end
//! (BAR.md, security rows 11, 15, 16; reliability R3), and that it says why.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use weft_lab::Namespace;
use weft_lab::traffic::{connect, udp};
use weft_model::api::{Apply, Flows, Judge, Reply, Request};
use weft_model::{Kind, Mode, NetworkName, Object, ObjectId, Profile};
use weft_tests::scene::{Case, Families, SOON, Scene, Workload, anywhere};
use weft_tests::wait;

const CASE: Case = Case { mode: Mode::Routed, families: Families::Dual };

fn apply(scene: &Scene, json: &str) -> Result<()> {
    let object: Object = serde_json::from_str(json)?;
    match scene.host.request(&Request::Apply(Apply { objects: vec![object], dry_run: false }))? {
        Reply::Applied(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}

fn delete(scene: &Scene, kind: Kind, namespace: Option<&str>, name: &str) -> Result<Reply> {
    let namespace = namespace.map(str::parse).transpose()?;
    Ok(scene.host.request(&Request::Delete(vec![ObjectId { kind, namespace, name: name.parse()? }]))?)
}

/// A policy of namespace `default`: `locked` lets in only those labelled so, at all ports.
fn lock(more: &str) -> String {
    format!(
        r#"{{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{{"name":"lock"}},
            "spec":{{"podSelector":{{"matchLabels":{{"app":"locked"}}}},"policyTypes":["Ingress"],
            "ingress":[{{"from":[{{"podSelector":{{"matchLabels":{{"app":"friend"}}}}}}{more}]}}]}}}}"#
    )
}

fn labelled(scene: &Scene, network: &NetworkName, app: &str) -> Result<Workload> {
    attach_as(scene, network, Namespace::new()?, app, None)
}

fn attach_as(
    scene: &Scene,
    network: &NetworkName,
    namespace: Namespace,
    app: &str,
    ip: Option<IpAddr>,
) -> Result<Workload> {
    let mut wish = namespace.wish(network, "eth0")?;
    wish.profile = Profile { labels: [("app".parse()?, app.parse()?)].into(), ..Profile::default() };
    wish.ips = ip.into_iter().collect();
    let attached = Namespace::attach_as(&scene.host, wish)?;
    Ok(Workload { namespace, attached })
}

/// Sends datagrams until told to stop; returns how many.
fn flood(socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        sent += u64::from(socket.send_to(b"flood", to).is_ok());
    }
    sent
}

/// Counts what arrives until told to stop.
fn count(socket: &UdpSocket, stop: &AtomicBool, counted: &AtomicU64) -> Result<()> {
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut buffer = [0; 64];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok(_) => drop(counted.fetch_add(1, Ordering::Relaxed)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn ipv4(workload: &Workload) -> Result<IpAddr> {
    workload.addresses().find(IpAddr::is_ipv4).context("it has IPv4")
}

/// Policies are in force before a workload's wire is: not one packet gets in, however early.
#[test]
fn a_new_workload_is_never_open() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    apply(&scene, &lock(""))?;
    let enemy = labelled(&scene, &network, "enemy")?;
    let socket = udp(enemy.namespace.netns(), anywhere(0))?;
    let target: IpAddr = "10.101.1.77".parse()?;
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| -> Result<()> {
        let flooding =
            scope.spawn(|| sent.store(flood(&socket, SocketAddr::new(target, 7), &stop), Ordering::Relaxed));
        let attacked = (|| -> Result<()> {
            for _ in 0..20 {
                let namespace = Namespace::new()?;
                let victim = udp(namespace.netns(), anywhere(7))?;
                let workload = attach_as(&scene, &network, namespace, "locked", Some(target))?;
                victim.set_read_timeout(Some(Duration::from_millis(20)))?;
                if let Ok((_, from)) = victim.recv_from(&mut [0; 64]) {
                    bail!("a packet of {from} got in");
                }
                workload.namespace.detach(&scene.host, &network)?;
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        flooding.join().ok();
        attacked
    })?;
    ensure!(sent.load(Ordering::Relaxed) > 1000, "only {sent:?} packets were sent");
    Ok(())
}

/// Policies change and the agent is killed, while a flood of what is denied before and after, and a stream of what is permitted before and after,
/// go on: nothing of the one gets through, all of the other does.
#[test]
fn changes_and_kills_let_nothing_through_and_drop_nothing() -> Result<()> {
    let mut scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    apply(&scene, &lock(""))?;
    let locked = labelled(&scene, &network, "locked")?;
    let (friend, enemy) = (labelled(&scene, &network, "friend")?, labelled(&scene, &network, "enemy")?);
    let to = ipv4(&locked)?;
    let (bad, good) = (SocketAddr::new(to, 7), SocketAddr::new(to, 8));
    let victim = udp(locked.namespace.netns(), anywhere(7))?;
    let server = udp(locked.namespace.netns(), anywhere(8))?;
    server.set_read_timeout(Some(SOON))?;
    let enemy_socket = udp(enemy.namespace.netns(), anywhere(0))?;
    let (stop, leaked) = (AtomicBool::new(false), AtomicU64::new(0));
    let variants = [
        lock(""),
        lock(r#",{"ipBlock":{"cidr":"10.200.0.0/16"}}"#),
        lock(r#",{"namespaceSelector":{"matchLabels":{"team":"none"}}}"#),
        lock(r#",{"podSelector":{"matchLabels":{"app":"other"}}}"#),
    ];
    std::thread::scope(|scope| -> Result<()> {
        let counting = scope.spawn(|| count(&victim, &stop, &leaked));
        let flooding = scope.spawn(|| flood(&enemy_socket, bad, &stop));
        let work = (|| -> Result<()> {
            for round in 0..60 {
                apply(&scene, &variants[round % variants.len()])?;
                // New connections all the time: each is judged anew.
                for _ in 0..10 {
                    let fresh = udp(friend.namespace.netns(), anywhere(0))?;
                    fresh.send_to(b"good", good)?;
                    server
                        .recv_from(&mut [0; 64])
                        .with_context(|| format!("round {round}: a friend's packet is lost"))?;
                }
                if round % 20 == 10 {
                    scene.host.kill()?;
                    scene.host.start_agent()?;
                }
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        let sent = flooding.join().unwrap_or(0);
        counting.join().ok();
        work?;
        ensure!(sent > 10_000, "only {sent} packets were sent");
        Ok(())
    })?;
    ensure!(leaked.load(Ordering::Relaxed) == 0, "{leaked:?} denied packets got through");
    Ok(())
}

/// A connection that is denied from now on ends; one that is not goes on.
#[test]
fn connections_are_judged_again_when_policy_changes() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    let locked = labelled(&scene, &network, "locked")?;
    let (friend, enemy) = (labelled(&scene, &network, "friend")?, labelled(&scene, &network, "enemy")?);
    for address in locked.addresses() {
        let listener = locked.namespace.run(|| TcpListener::bind(SocketAddr::new(address, 0)))??;
        let to = listener.local_addr()?;
        let open = |from: &Workload| -> Result<(TcpStream, TcpStream)> {
            let client = connect(from.namespace.netns(), to, SOON)?;
            let (server, _) = listener.accept()?;
            client.set_read_timeout(Some(Duration::from_secs(1)))?;
            server.set_read_timeout(Some(Duration::from_secs(1)))?;
            Ok((client, server))
        };
        let echo = |pair: &mut (TcpStream, TcpStream)| -> std::io::Result<()> {
            pair.0.write_all(b"x")?;
            pair.1.read_exact(&mut [0])?;
            pair.1.write_all(b"y")?;
            pair.0.read_exact(&mut [0])
        };
        let (mut good, mut bad) = (open(&friend)?, open(&enemy)?);
        echo(&mut good)?;
        echo(&mut bad)?;
        apply(&scene, &lock(""))?;
        echo(&mut good).context("a permitted connection")?;
        // From either end, or the answer would open the way again.
        bad.1.write_all(b"z")?;
        ensure!(
            bad.0.read_exact(&mut [0]).is_err(),
            "{address}: the server's end of a denied connection goes on"
        );
        ensure!(echo(&mut bad).is_err(), "{address}: a denied connection goes on");
        delete(&scene, Kind::NetworkPolicy, Some("default"), "lock")?;
    }
    Ok(())
}

/// CVE-2024-7598: a namespace's policies outlive neither less nor more than its workloads.
#[test]
fn a_terminating_namespace_keeps_its_policies() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    apply(&scene, r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"default"}}"#)?;
    apply(&scene, &lock(""))?;
    let locked = labelled(&scene, &network, "locked")?;
    let enemy = labelled(&scene, &network, "enemy")?;
    let to = SocketAddr::new(ipv4(&locked)?, 7);
    let victim = udp(locked.namespace.netns(), anywhere(7))?;
    victim.set_read_timeout(Some(Duration::from_millis(200)))?;
    let socket = udp(enemy.namespace.netns(), anywhere(0))?;
    for _ in 0..2 {
        delete(&scene, Kind::Namespace, None, "default")?;
        delete(&scene, Kind::NetworkPolicy, Some("default"), "lock")?;
        socket.send_to(b"late", to)?;
        ensure!(victim.recv_from(&mut [0; 64]).is_err(), "a terminating namespace is open");
    }
    ensure!(apply(&scene, &lock("")).is_err(), "a terminating namespace took an object");
    locked.namespace.detach(&scene.host, &network)?;
    enemy.namespace.detach(&scene.host, &network)?;
    apply(&scene, &lock("")).context("the namespace has ended, and can begin anew")
}

/// A denial is counted and logged with names, explained, and mended by what the explanation suggests.
#[test]
fn a_denial_names_its_cause_and_its_cure() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    apply(&scene, &lock(""))?;
    let (locked, enemy) = (labelled(&scene, &network, "locked")?, labelled(&scene, &network, "enemy")?);
    let name = |workload: &Workload| format!("default/{}", workload.namespace.container());
    let to = SocketAddr::new(ipv4(&locked)?, 80);
    let server = locked.namespace.run(|| TcpListener::bind(anywhere(80)))??;
    ensure!(connect(enemy.namespace.netns(), to, Duration::from_millis(300)).is_err(), "it is denied");
    wait::until("the denial among the flows", SOON, || {
        let Reply::Flows(flows) = scene.host.request(&Request::Flows(Flows { after: 0 }))? else {
            bail!("no flows");
        };
        let denial = flows.first().context("nothing yet")?;
        ensure!(denial.source_name.as_deref() == Some(&name(&enemy)), "{denial:?}");
        ensure!(denial.workload == name(&locked) && denial.port == Some(80), "{denial:?}");
        ensure!(denial.by.contains("NetworkPolicy/default/lock"), "{denial:?}");
        Ok(())
    })?;
    let counted = scene
        .host
        .refused(&format!("policy denied ingress of {}: NetworkPolicy/default/lock", name(&locked)))?;
    ensure!(counted > 0, "{:?}", scene.host.status()?.refused);
    let judged = || -> Result<serde_json::Value> {
        let (from, to) = (name(&enemy), name(&locked));
        match scene.host.request(&Request::Judge(Judge { from, to, protocol: 6, port: 80 }))? {
            Reply::Judged(text) => Ok(serde_json::from_str(&text)?),
            other => bail!("{other:?}"),
        }
    };
    let said = judged()?;
    ensure!(said["allowed"] == false, "{said}");
    apply(&scene, &said["packets"][0]["fixes"][0]["object"].to_string())?;
    ensure!(judged()?["allowed"] == true, "{}", judged()?);
    connect(enemy.namespace.netns(), to, SOON).context("after the fix")?;
    drop(server);
    Ok(())
}
