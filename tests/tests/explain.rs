//! What `--explain` prints is true: executed by `sh -e` on a fresh host it makes the same network as weft.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_model::Mode;
use weft_model::api::{Attach, NetworkSpec, Reply, Request};
use weft_tests::Host;
use weft_tests::host::difference;

/// What differs by nature: numbers of interfaces and namespaces, and what the bridge's clocks say.
const BY_CHANCE: [&str; 12] = [
    "ifindex",
    "link_index",
    "link_netnsid",
    "link_netns",
    "link",
    "operstate",
    "flags",
    "gc_timer",
    "hello_timer",
    "tcn_timer",
    "topology_change_timer",
    "state",
];

/// Takes out what differs by nature, at any depth.
fn settle(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in BY_CHANCE {
                map.remove(key);
            }
            map.retain(|key, _| !key.ends_with("_timer"));
            map.values_mut().for_each(settle);
        }
        Value::Array(all) => all.iter_mut().for_each(settle),
        Value::String(text) if text.starts_with("weft1 ") => {
            // A wire's alias ends with the inode of the namespace.
            let words: Vec<&str> = text.split(' ').collect();
            *text = words[..words.len() - 1].join(" ");
        }
        _ => {}
    }
}

/// All that `ip -j -d` tells of one namespace, a line for each object.
fn told(host: &Host, namespace: Option<&str>) -> Result<String> {
    let inside = namespace.map(|n| format!("-n {n} ")).unwrap_or_default();
    let mut lines = Vec::new();
    for what in
        ["link", "addr", "-4 route show table all", "-6 route show table all", "neigh show nud permanent"]
    {
        let text = host.sh(&format!("ip {inside}-d -j {what}"))?;
        let text = if text.trim().is_empty() { "[]" } else { &text };
        let mut all: Vec<Value> = serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))?;
        all.iter_mut().for_each(settle);
        lines.extend(all.iter().map(|object| format!("{what}: {object}")));
    }
    lines.sort();
    Ok(lines.join("\n"))
}

/// The whole host and the container inside, without the inode in the alias.
fn everything(host: &Host) -> Result<String> {
    let alias = |line: &str| match line.split_once("alias weft1 ") {
        Some((before, words)) => {
            format!("{before}alias {}", words.rsplit_once(' ').map_or(words, |(w, _)| w))
        }
        None => line.to_owned(),
    };
    let dump: Vec<String> = host.dump()?.lines().map(alias).collect();
    let inside = format!("inside\n{}\n{}", host.dump_inside("c1")?, told(host, Some("c1"))?);
    Ok([dump.join("\n"), told(host, None)?, inside].join("\n"))
}

fn spec(mode: Mode, subnets: &[&str], explain: bool) -> Result<NetworkSpec> {
    let subnets = subnets.iter().map(|s| s.parse()).collect::<Result<_, _>>()?;
    Ok(NetworkSpec {
        name: "net".parse()?,
        subnets,
        mode,
        mtu: None,
        masquerade: true,
        encapsulation: weft_model::Encapsulation::Auto,
        explain,
    })
}

fn wish(explain: bool) -> Result<Attach> {
    // What weft would roll dice for is fixed, so that the script and the deed agree on it.
    let (mac, host_ifname) = (Some("02:00:00:00:12:34".parse()?), Some("weft0000000001".parse()?));
    Ok(Attach { mac, host_ifname, explain, ..Host::wish("net", "c1")? })
}

fn network(host: &Host, spec: NetworkSpec) -> Result<Vec<String>> {
    match host.ask(&Request::NetworkCreate(spec))? {
        Reply::Network(status) => Ok(status.commands),
        other => bail!("network create was answered with {other:?}"),
    }
}

fn the_script_does_what_weft_does(mode: Mode, subnets: &[&str]) -> Result<()> {
    let (done, _agent) = Host::with_networks(&[])?;
    let names = ["c1".to_owned()];
    done.namespaces(&names)?;
    let untouched = everything(&done)?;
    let mut script = network(&done, spec(mode, subnets, true)?)?;
    let now = everything(&done)?;
    ensure!(now == untouched, "--explain changed something:\n{}", difference(&untouched, &now));
    network(&done, spec(mode, subnets, false)?)?;
    let before = everything(&done)?;
    script.extend(done.attach_as(wish(true)?)?.commands);
    let now = everything(&done)?;
    ensure!(now == before, "--explain changed something:\n{}", difference(&before, &now));
    done.attach_as(wish(false)?)?;

    // The script begins where the agent's own preparations end.
    let (fresh, agent) = Host::with_networks(&[])?;
    fresh.namespaces(&names)?;
    agent.kill();
    let script = script.join("\n");
    fresh.sandbox().run(&["sh", "-ec", &script]).with_context(|| format!("the script failed:\n{script}"))?;
    weft_tests::wait::until("both hosts to be alike", weft_tests::host::REPAIR, || {
        let (by_weft, by_hand) = (everything(&done)?, everything(&fresh)?);
        ensure!(by_weft == by_hand, "+ is by hand:\n{}\n{script}", difference(&by_weft, &by_hand));
        Ok(())
    })
}

#[test]
fn routed_v4() -> Result<()> {
    the_script_does_what_weft_does(Mode::Routed, &["10.77.0.0/24"])
}

#[test]
fn routed_v6() -> Result<()> {
    the_script_does_what_weft_does(Mode::Routed, &["fd77::/64"])
}

#[test]
fn routed_dual() -> Result<()> {
    the_script_does_what_weft_does(Mode::Routed, &["10.77.0.0/24", "fd77::/64"])
}

#[test]
fn bridge_v4() -> Result<()> {
    the_script_does_what_weft_does(Mode::Bridge, &["10.78.0.0/24"])
}

#[test]
fn bridge_dual() -> Result<()> {
    the_script_does_what_weft_does(Mode::Bridge, &["10.78.0.0/24", "fd78::/64"])
}
