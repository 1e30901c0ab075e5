//! Policy for the host itself: real packets meet what the oracle says, and nobody locks himself out.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use weft_kernel::netns::Netns;
use weft_lab::traffic::{WebServer, connect, get, ping};
use weft_lab::{OUTSIDE4, OUTSIDE6};
use weft_model::api::{Apply, Flows, Judge, Reply, Request};
use weft_model::{Kind, Mode, Object, ObjectId};
use weft_plan::policy::cases::host::{case, packets};
use weft_plan::policy::cases::{Dice, here};
use weft_plan::policy::{Packet, verdict};
use weft_tests::cases::host::HostCases;
use weft_tests::scene::{Case, Families, SOON, Scene, anywhere};
use weft_tests::wait;

const CASE: Case = Case { mode: Mode::Routed, families: Families::Dual };
/// Whoever is denied gets no answer at all.
const SILENT: Duration = Duration::from_millis(300);

#[test]
fn real_packets_meet_what_the_oracle_says_of_the_host_routed() -> Result<()> {
    real_packets(Mode::Routed)
}

#[test]
fn real_packets_meet_what_the_oracle_says_of_the_host_on_a_bridge() -> Result<()> {
    real_packets(Mode::Bridge)
}

fn real_packets(mode: Mode) -> Result<()> {
    let mut real = HostCases::new(mode)?;
    let (mut passed, mut denied) = (0, 0);
    for seed in 0..40 {
        let mut world = case(seed, mode);
        // The host's name is a selector's business: what is called `here` in the cases has the lab's name there.
        let text = serde_json::to_string(&world.declared.objects().collect::<Vec<_>>())?;
        let name = real.cases.scene.host.name().to_owned();
        let objects: Vec<Object> =
            serde_json::from_str(&text.replace(&format!("\"{}\"", here().name), &format!("\"{name}\"")))?;
        let node = world.nodes.remove(&here().name).context("the host is in the case")?;
        world.nodes.insert(name.parse()?, node);
        world.declared = weft_model::Declared::default();
        objects.into_iter().for_each(|object| drop(world.declared.insert(object)));
        real.cases.declare(&world.declared)?;
        let all: Vec<Packet> = packets(&world).into_iter().filter(|p| real.can_send(p)).collect();
        let mut dice = Dice::new(seed);
        let mut portless = BTreeSet::new();
        // Of one protocol without ports there is one flow between two ends.
        let mut alone = |p: &Packet| {
            p.port != 0
                || portless.insert((p.protocol, p.source.min(p.destination), p.source.max(p.destination)))
        };
        let drawn = (0..60).map(|_| all[usize::try_from(dice.roll(all.len() as u64)).unwrap_or(0)]);
        let some: Vec<Packet> = drawn.filter(|p| alone(p)).collect();
        let verdicts: Vec<_> = some.iter().map(|packet| verdict(&world, packet)).collect();
        let expected: Vec<bool> = verdicts.iter().map(|v| v.allowed).collect();
        let arrived = real.arrived(&some, &expected)?;
        passed += arrived.iter().filter(|a| **a).count();
        denied += arrived.iter().filter(|a| !**a).count();
        let wrong: Vec<String> = some
            .iter()
            .zip(&verdicts)
            .zip(&arrived)
            .filter(|((_, verdict), arrived)| verdict.allowed != **arrived)
            .map(|((packet, verdict), arrived)| format!("arrived {arrived}: {packet:?}: {:?}", verdict.sides))
            .collect();
        ensure!(wrong.is_empty(), "world {seed}, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
    ensure!(
        passed > 400 && denied > 50,
        "{passed} packets passed and {denied} did not: the cases are worth nothing"
    );
    Ok(())
}

fn apply(scene: &Scene, spec: &str, audit: bool) -> Result<()> {
    let annotations = if audit { r#","annotations":{"weft.network/enforcement":"audit"}"# } else { "" };
    let json = format!(
        r#"{{"kind":"ClusterNetworkPolicy","apiVersion":"weft.network/v1alpha1","metadata":{{"name":"hosts"{annotations}}},
            "spec":{{"tier":"Admin","priority":10,"subject":{{"nodes":{{}}}},{spec}}}}}"#
    );
    let object: Object = serde_json::from_str(&json)?;
    match scene.host.request(&Request::Apply(Apply { objects: vec![object], dry_run: false }))? {
        Reply::Applied(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}

fn remove(scene: &Scene) -> Result<Reply> {
    let id = ObjectId { kind: Kind::ClusterNetworkPolicy, namespace: None, name: "hosts".parse()? };
    Ok(scene.host.request(&Request::Delete(vec![id]))?)
}

/// Everything, both ways: what somebody writes who has not thought of himself.
const NOTHING: &str = r#""ingress":[{"action":"Deny","from":[{"networks":["0.0.0.0/0","::/0"]},{"namespaces":{}}]}],
    "egress":[{"action":"Deny","to":[{"networks":["0.0.0.0/0","::/0"]},{"namespaces":{}}]}]"#;

#[test]
fn a_policy_that_denies_all_locks_nobody_out_and_touches_nobody_else() -> Result<()> {
    let mut scene = Scene::new()?;
    let network = scene.network(1, CASE)?;
    let (one, two) = (scene.workload(&network)?, scene.workload(&network)?);
    let again =
        |netns: &Netns| Netns::open(Path::new(&format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd())));
    let (host, outside) = (again(scene.host.netns())?, again(scene.underlay.netns())?);
    let listen = |netns: &Netns, port| WebServer::start(netns, anywhere(port));
    let _of_host = [listen(&host, 22)?, listen(&host, 2379)?, listen(&host, 80)?];
    let _outside = [listen(&outside, 2379)?, listen(&outside, 80)?];
    let _of_two = listen(two.namespace.netns(), 80)?;
    let reaches = |from: &Netns, to: IpAddr, port| get(from, SocketAddr::new(to, port), SILENT).is_ok();
    for own in [scene.host.ipv4(), scene.host.ipv6()] {
        let far: IpAddr = if own.is_ipv4() { OUTSIDE4.into() } else { OUTSIDE6.into() };
        ensure!(reaches(&outside, own, 80) && reaches(&host, far, 80), "{own}: without policy all is open");
        let session = TcpSession::open(&outside, &host, own)?;
        apply(&scene, NOTHING, false)?;
        session.lives().context("the ssh session that was there before")?;
        ensure!(reaches(&outside, own, 22), "{own}: ssh is shut");
        ensure!(reaches(&outside, own, 2379) && reaches(&host, far, 2379), "{own}: the store is shut");
        ensure!(!reaches(&outside, own, 80), "{own}: the host is open");
        ensure!(!reaches(&host, far, 80), "{own}: the host gets out");
        ensure!(ping(&host, far, 8, SILENT).is_err(), "{own}: the host's ping gets out");
        ensure!(reaches(&host, own, 80), "{own}: the host does not reach itself");
        // Workloads: the host reaches its own, they do not reach it, and their traffic is not the host's.
        let (there, gateway) = (two.address(own)?, two.gateway(own)?);
        ensure!(reaches(&host, there, 80), "{own}: a health check fails");
        ensure!(reaches(one.namespace.netns(), there, 80), "{own}: workloads are cut off from each other");
        ensure!(reaches(one.namespace.netns(), far, 80), "{own}: workloads are cut off from outside");
        if gateway.is_ipv4() {
            ensure!(!reaches(one.namespace.netns(), own, 80), "{own}: a workload reaches the host");
        }
        // An agent that starts anew, and one that is told to hold nothing open.
        scene.host.restart()?;
        ensure!(reaches(&outside, own, 22) && !reaches(&outside, own, 80), "{own}: after a restart");
        remove(&scene)?;
        ensure!(reaches(&outside, own, 80) && reaches(&host, far, 80), "{own}: the policy is gone");
    }
    scene.host.configure(&["failsafe_ingress = []", "failsafe_egress = []"])?;
    scene.host.restart()?;
    apply(&scene, NOTHING, false)?;
    ensure!(!reaches(&outside, scene.host.ipv4(), 22), "nothing is held open, and ssh is open");
    remove(&scene)?;
    ensure!(reaches(&outside, scene.host.ipv4(), 22), "the policy is gone");
    Ok(())
}

/// A connection to port 22 that stands.
struct TcpSession {
    ends: std::cell::RefCell<[std::net::TcpStream; 2]>,
}

impl TcpSession {
    /// The host's port 22 has a server already, so this one has another address: any of the host's is held open.
    fn open(outside: &Netns, host: &Netns, own: IpAddr) -> Result<TcpSession> {
        let port = 2380;
        let listener = host.run(|| TcpListener::bind(SocketAddr::new(own, port)))??;
        let client = connect(outside, listener.local_addr()?, SOON)?;
        let (server, _) = listener.accept()?;
        for end in [&client, &server] {
            end.set_read_timeout(Some(SOON))?;
        }
        Ok(TcpSession { ends: [client, server].into() })
    }

    fn lives(&self) -> Result<()> {
        let [client, server] = &mut *self.ends.borrow_mut();
        for (from, to) in [(&*server, &*client), (&*client, &*server)] {
            let (mut from, mut to) = (from, to);
            from.write_all(b"x")?;
            to.read_exact(&mut [0])?;
        }
        Ok(())
    }
}

/// Counted, logged with names, explained, mended; only counted under audit; and what was open before is shut.
#[test]
fn a_denial_of_the_host_names_its_cause_and_its_cure() -> Result<()> {
    let scene = Scene::new()?;
    let outside = scene.underlay.netns();
    let own = scene.host.ipv4();
    let _server = WebServer::start(scene.host.netns(), anywhere(80))?;
    let some = r#""ingress":[{"action":"Deny","name":"no web","from":[{"networks":["192.0.2.0/24"]}],"protocols":[{"tcp":{"destinationPort":{"number":80}}}]}]"#;
    let web = || get(outside, SocketAddr::new(own, 80), SILENT).is_ok();
    let (node, by) = (format!("node/{}", scene.host.name()), "ClusterNetworkPolicy/hosts");
    apply(&scene, some, true)?;
    ensure!(web(), "audit denies nothing");
    let audited = format!("policy under audit would deny ingress of {node}: {by}");
    ensure!(scene.host.refused(&audited)? > 0, "{:?}", scene.host.status()?.refused);
    let standing = connect(outside, SocketAddr::new(own, 80), SOON)?;
    apply(&scene, some, false)?;
    ensure!(!web(), "it is in force");
    ensure!(scene.host.refused(&format!("policy denied ingress of {node}: {by}"))? > 0, "it is counted");
    standing.set_read_timeout(Some(SILENT))?;
    (&standing).write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    ensure!((&standing).read_exact(&mut [0]).is_err(), "a connection that stood goes on");
    wait::until("the denial among the flows", SOON, || {
        let Reply::Flows(flows) = scene.host.request(&Request::Flows(Flows { after: 0 }))? else {
            bail!("no flows")
        };
        let denial = flows.iter().find(|denial| !denial.audit).context("nothing yet")?;
        ensure!(denial.workload == node && denial.by == format!("{by} ingress[0] 'no web'"), "{denial:?}");
        Ok(())
    })?;
    let from = "192.0.2.1".to_owned();
    let judged = |port| -> Result<serde_json::Value> {
        let asked = Judge { from: from.clone(), to: "host".into(), protocol: 6, port };
        match scene.host.request(&Request::Judge(asked))? {
            Reply::Judged(text) => Ok(serde_json::from_str(&text)?),
            other => bail!("{other:?}"),
        }
    };
    ensure!(judged(81)?["allowed"] == true, "{}", judged(81)?);
    let said = judged(80)?;
    ensure!(said["allowed"] == false, "{said}");
    let fix = said["packets"][0]["fixes"][0]["object"].clone();
    let object: Object = serde_json::from_value(fix).with_context(|| said.to_string())?;
    scene.host.request(&Request::Apply(Apply { objects: vec![object], dry_run: false }))?;
    ensure!(web(), "what was suggested does not help");
    Ok(())
}
