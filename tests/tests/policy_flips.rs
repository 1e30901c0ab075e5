//! Policy that is switched to and fro under a flood: nothing gets through that is denied before and after, nothing is dropped that
//! is permitted before and after, among millions of packets (DESIGN.md §15).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use weft_lab::Namespace;
use weft_lab::traffic::{Capture, udp};
use weft_model::api::{Apply, Reply, Request};
use weft_model::{Mode, NetworkName, Object, Profile};
use weft_tests::scene::{Case, Families, Scene, Workload, anywhere};

fn long() -> bool {
    std::env::var_os("WEFT_FULL").is_some()
}

fn labelled(scene: &Scene, network: &NetworkName, app: &str) -> Result<Workload> {
    let namespace = Namespace::new()?;
    let mut wish = namespace.wish(network, "eth0")?;
    wish.profile = Profile { labels: [("app".parse()?, app.parse()?)].into(), ..Profile::default() };
    let attached = Namespace::attach_as(&scene.host, wish)?;
    Ok(Workload { namespace, attached })
}

/// The flood's packets are never answered, so that each is judged as the first one was.
fn flood(socket: &UdpSocket, to: SocketAddr, stop: &AtomicBool, sent: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..64 {
            sent.fetch_add(u64::from(socket.send_to(b"flood", to).is_ok()), Ordering::Relaxed);
        }
    }
}

fn apply(scene: &Scene, rules: &str) -> Result<()> {
    let json = format!(
        r#"{{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{{"name":"lock"}},
            "spec":{{"podSelector":{{"matchExpressions":[{{"key":"app","operator":"In","values":["open","shut"]}}]}},
            "policyTypes":["Ingress"],"ingress":[{rules}]}}}}"#
    );
    let object: Object = serde_json::from_str(&json)?;
    match scene.host.request(&Request::Apply(Apply { objects: vec![object], dry_run: false }))? {
        Reply::Applied(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}

#[test]
fn millions_of_packets_see_no_change_that_is_not_meant_for_them() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, Case { mode: Mode::Routed, families: Families::V4 })?;
    let (open, shut) = (labelled(&scene, &network, "open")?, labelled(&scene, &network, "shut")?);
    let (friend, enemy) = (labelled(&scene, &network, "friend")?, labelled(&scene, &network, "enemy")?);
    let address = |of: &Workload| of.addresses().find(IpAddr::is_ipv4).context("it has IPv4");
    let (to_open, to_shut) = (address(&open)?, address(&shut)?);
    let _deaf = [udp(open.namespace.netns(), anywhere(7))?, udp(shut.namespace.netns(), anywhere(7))?];
    let ear = Capture::open(shut.namespace.netns(), "eth0")?;
    // The enemy is denied and the friend permitted by all of these, each time by other sets: among the rest, by a class of its own, by a
    // number, by a range, by a hole.
    let hole =
        format!(r#"{{"from":[{{"ipBlock":{{"cidr":"0.0.0.0/0","except":["{}/32"]}}}}]}}"#, address(&enemy)?);
    let labels = |ports: &str| {
        format!(r#"{{"from":[{{"podSelector":{{"matchLabels":{{"app":"friend"}}}}}}],"ports":[{ports}]}}"#)
    };
    let variants = [
        labels(r#"{"protocol":"UDP","port":7}"#),
        hole.clone(),
        labels(r#"{"protocol":"UDP","port":6,"endPort":9}"#),
        format!("{hole},{}", labels("")),
        format!(r#"{{"from":[{{"ipBlock":{{"cidr":"{}/32"}}}}]}}"#, address(&friend)?),
    ];
    apply(&scene, &variants[0])?;
    let sockets = [udp(friend.namespace.netns(), anywhere(0))?, udp(enemy.namespace.netns(), anywhere(0))?];
    let (stop, sent) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    let time = Duration::from_secs(if long() { 300 } else { 5 });
    let mut flips = 0_usize;
    std::thread::scope(|scope| -> Result<()> {
        for (socket, (to, sent)) in sockets.iter().zip([to_open, to_shut].into_iter().zip(&sent)) {
            let stop = &stop;
            scope.spawn(move || flood(socket, SocketAddr::new(to, 7), stop, sent));
        }
        let begin = Instant::now();
        let work = (|| -> Result<()> {
            while begin.elapsed() < time {
                flips += 1;
                apply(&scene, &variants[flips % variants.len()])?;
                let leaked = ear.drain()?.into_iter().find(|frame| frame.contains(b"flood"));
                ensure!(leaked.is_none(), "flip {flips}: a packet got through: {leaked:?}");
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        work
    })?;
    let leaked = ear.drain()?.into_iter().find(|frame| frame.contains(b"flood"));
    ensure!(leaked.is_none(), "a packet got through: {leaked:?}");
    let denied = |of: &Workload| {
        let name = of.namespace.container();
        scene.host.refused(&format!("policy denied ingress of default/{name}: NetworkPolicy/default/lock"))
    };
    ensure!(denied(&open)? == 0, "{} packets of the friend's were denied in {flips} flips", denied(&open)?);
    let [friends, enemies] = sent.map(|sent| sent.into_inner());
    // All that was denied was counted as such; under load veth drops some before they come to a rule.
    ensure!(denied(&shut)? > enemies / 4, "{} of {enemies} were denied", denied(&shut)?);
    ensure!(
        friends + enemies > 200_000 && flips > 10,
        "only {friends} + {enemies} packets and {flips} flips"
    );
    println!("{} packets, {flips} flips", friends + enemies);
    Ok(())
}
