//! `weft trace`: what a live packet meets, by name; and nothing of it is left, however it ends.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_kernel::netlink::{Family, Socket};
use weft_lab::traffic::WebServer;
use weft_model::api::{Apply, Reply, Request};
use weft_model::{Mode, Object, Profile};
use weft_tests::scene::{Case, Families, SOON, Scene, anywhere, program};
use weft_tests::wait;

const DUAL: Families = Families::Dual;

/// Runs `weft trace` beside the host; its exit code, and what it says.
fn trace(scene: &Scene, words: &[&str]) -> Result<(bool, Value)> {
    let mut command = Command::new(program()?);
    command.args(["--json", "--socket"]).arg(scene.host.socket()).arg("trace").args(words);
    let output = command.output()?;
    let said = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output.status.success(), said))
}

fn hops(said: &Value) -> Vec<String> {
    let all = said["hops"].as_array().into_iter().flatten();
    all.filter_map(|hop| hop["what"].as_str()).map(str::to_owned).collect()
}

fn has(said: &Value, words: &str) -> Result<()> {
    ensure!(hops(said).iter().any(|hop| hop.contains(words)), "nothing of '{words}' in {:#?}", hops(said));
    Ok(())
}

/// The tables that are there for a trace.
fn left(scene: &Scene) -> Result<Vec<String>> {
    let found = scene.host.netns().run(|| -> Result<_> {
        let mut socket = Socket::open(Family::Netfilter)?;
        Ok(weft_kernel::nft::foreign(&mut socket, &weft_kernel::ours::tables())?)
    })??;
    Ok(found.into_keys().map(|table| table.name).filter(|name| name.starts_with("weft_trace")).collect())
}

#[test]
fn a_packet_is_followed_to_its_end_and_to_whom_denies_it_routed() -> Result<()> {
    followed(Mode::Routed)
}

#[test]
fn a_packet_is_followed_to_its_end_and_to_whom_denies_it_on_a_bridge() -> Result<()> {
    followed(Mode::Bridge)
}

fn followed(mode: Mode) -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, Case { mode, families: DUAL })?;
    let one = scene.workload(&network)?;
    let namespace = weft_lab::Namespace::new()?;
    let mut wish = namespace.wish(&network, "eth0")?;
    wish.profile = Profile { labels: [("app".parse()?, "locked".parse()?)].into(), ..Profile::default() };
    weft_lab::Namespace::attach_as(&scene.host, wish)?;
    let _server = WebServer::start(namespace.netns(), anywhere(80))?;
    let (from, to) = (one.namespace.container().to_string(), namespace.container().to_string());

    let (well, said) = trace(&scene, &[&from, &format!("{to}:80")])?;
    ensure!(well && said["arrived"] == true && said["answer"] == "accepted", "{said:#}");
    has(&said, "sends it by eth0")?;
    has(&said, &format!("the wire of {from}"))?;
    has(&said, if mode == Mode::Routed { "weft raw: " } else { "bridge weft " })?;
    has(&said, "takes it")?;
    let (well, said) = trace(&scene, &[&from, &format!("{to}:81")])?;
    ensure!(well && said["answer"] == "refused", "{said:#}");
    let (well, said) = trace(&scene, &[&from, &to])?;
    ensure!(well && said["answer"] == "accepted", "an echo request: {said:#}");

    let lock: Object = serde_json::from_str(
        r#"{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{"name":"lock"},
            "spec":{"podSelector":{"matchLabels":{"app":"locked"}}}}"#,
    )?;
    match scene.host.request(&Request::Apply(Apply { objects: vec![lock], dry_run: false }))? {
        Reply::Applied(_) => {}
        other => bail!("{other:?}"),
    }
    let (well, said) = trace(&scene, &["--wait", "1", &from, &format!("{to}:80/UDP")])?;
    ensure!(!well && said["arrived"] == false && said["lost"] == true, "{said:#}");
    has(
        &said,
        &format!("policy denied ingress of {to}: isolated by NetworkPolicy/default/lock; no rule matches"),
    )?;
    ensure!(
        said["fixes"][0].as_str().is_some_and(|fix| fix.contains("NetworkPolicy/default/lock")),
        "{said:#}"
    );
    // The host reaches its own workloads whatever policies say.
    let (well, said) = trace(&scene, &["host", &format!("{to}:80")])?;
    ensure!(well && said["answer"] == "accepted", "{said:#}");
    ensure!(left(&scene)?.is_empty(), "{:?} is left", left(&scene)?);
    Ok(())
}

#[test]
fn a_trace_that_is_killed_leaves_nothing() -> Result<()> {
    let scene = Scene::new()?;
    let network = scene.network(1, Case { mode: Mode::Routed, families: DUAL })?;
    let one = scene.workload(&network)?;
    let mut command = Command::new(program()?);
    command.arg("--socket").arg(scene.host.socket());
    // Nobody answers there.
    command.args(["trace", "--wait", "60", &one.namespace.container().to_string(), "198.51.100.9:9/UDP"]);
    let mut child = command.stdout(Stdio::null()).spawn()?;
    wait::until("the rules of the trace", SOON, || {
        ensure!(!left(&scene)?.is_empty(), "not yet");
        Ok(())
    })?;
    child.kill()?;
    child.wait()?;
    wait::until("the end of the rules", SOON, || {
        ensure!(left(&scene)?.is_empty(), "{:?}", left(&scene)?);
        Ok(())
    })
}
