//! In company: Debian's plugins before and after weft in one chain, firewalls that are reloaded and flushed, and
//! what the doctor says of them (BAR.md, security row 22).

#![allow(clippy::print_stdout, reason = "measured figures belong into the test's output")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_lab::traffic::{WebServer, get};
use weft_model::Mode;
use weft_tests::chain::Chains;
use weft_tests::host::{Net, REPAIR};
use weft_tests::scene::anywhere;
use weft_tests::wait;

const NETWORKS: [Net<'static>; 2] = [
    ("default", Mode::Routed, &["10.77.0.0/24", "fd77::/64"]),
    ("lan", Mode::Bridge, &["10.78.0.0/24", "fd78::/64"]),
];

fn scene() -> Result<Chains> {
    Chains::new(&NETWORKS)
}

/// The network of `weft` in the chain: the one thing in which the two modes differ here. It has both families.
fn after_weft(network: &str) -> Result<()> {
    let scene = scene()?;
    let host = &scene.host;
    host.namespaces(&["c1".to_owned()])?;
    let mut chain = vec![
        json!({ "type": "weft", "network": network, "capabilities": { "ips": true } }),
        json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
        json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.eth0.log_martians": "1" } }),
        json!({ "type": "firewall", "backend": "iptables" }),
    ];
    let portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let without = Value::from(chain.clone());
    chain.push(portmap);
    let whole = Value::from(chain);
    scene.chain(&whole)?;
    let wishes = json!({
        "portMappings": [{ "hostPort": 18080, "containerPort": 8080, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 100_000_000, "ingressBurst": 10_000_000, "egressRate": 50_000_000, "egressBurst": 10_000_000 },
    });
    let result: Value = serde_json::from_str(&scene.cni("add", "c1", &wishes)?)?;
    let wire = result["interfaces"][0]["name"].as_str().context("no wire")?.to_owned();
    // Debian's portmap fails its own CHECK: it looks for IPv4's rules in IPv6's tables.
    scene.chain(&without)?;
    scene.cni("check", "c1", &wishes)?;
    scene.chain(&whole)?;
    ensure!(host.sh("ip netns exec c1 sysctl -n net.ipv4.conf.eth0.log_martians")?.trim() == "1");

    // The other plugins' work stands beside weft's, also after weft has compared and mended everything.
    let theirs = || {
        host.sh(&format!(
            "tc qdisc show dev {wire}; tc filter show dev {wire} ingress; iptables-save -t nat | grep -v '^#'"
        ))
    };
    let before = theirs()?;
    ensure!(before.contains("tbf 1:") && before.contains("mirred") && before.contains("18080"), "{before}");
    ensure!(host.diff()?.is_empty(), "{:?}", host.diff()?);
    host.sh("nft delete table inet weft; ip addr flush dev weft-default")?;
    host.settles()?;
    let after = theirs()?;
    // Counters of nat chains do not show in iptables-save without -c.
    ensure!(before == after, "{before}\nbecame\n{after}");

    // The published port answers from outside, through weft's guard and isolation, and nothing else does.
    let _server = WebServer::start(&host.netns("c1")?, anywhere(8080))?;
    let outside = host.netns("outside")?;
    get(&outside, "192.0.2.1:18080".parse()?, REPAIR).context("the published port")?;
    let direct = SocketAddr::new(address(&result)?, 8080);
    ensure!(get(&outside, direct, Duration::from_secs(1)).is_err(), "what is not published can be reached");

    scene.cni("del", "c1", &wishes)?;
    // The reaper takes links first, and then what guarded them.
    wait::until("the wire's end", REPAIR, || {
        let left = host.sh("ip -o link | grep -c -e 'weft[0-9a-f]\\{10\\}' -e bwp || true")?;
        ensure!(left.trim() == "0", "{left} links are left");
        Ok(())
    })?;
    host.settles()?;
    ensure!(host.status()?.workloads.is_empty(), "{:?}", host.status()?.workloads);
    scene.cni("del", "c1", &wishes)?; // again, as runtimes do
    Ok(())
}

fn address(result: &Value) -> Result<IpAddr> {
    let text = result["ips"][0]["address"].as_str().context("no address")?;
    Ok(text.split('/').next().unwrap_or_default().parse()?)
}

#[test]
fn debians_plugins_after_weft_routed() -> Result<()> {
    after_weft("default")
}

#[test]
fn debians_plugins_after_weft_bridge() -> Result<()> {
    after_weft("lan")
}

#[test]
fn weft_after_another_plugin_passes_its_result_on() -> Result<()> {
    let scene = scene()?;
    let host = &scene.host;
    host.namespaces(&["c1".to_owned(), "c2".to_owned()])?;
    scene.chain(&json!([{ "type": "loopback" }, { "type": "weft" }, { "type": "tuning" }]))?;
    let none = json!({});
    let result: Value = serde_json::from_str(&scene.cni("add", "c1", &none)?)?;
    let names: Vec<&str> = result["interfaces"]
        .as_array()
        .context("no list")?
        .iter()
        .filter_map(|i| i["name"].as_str())
        .collect();
    ensure!(names.len() == 3 && names[0] == "lo" && names[2] == "eth0", "{names:?}");
    // Addresses point to the interface that has them, behind those of the plugin before.
    let ips = result["ips"].as_array().context("no list")?;
    let of_eth0 = ips.iter().find(|ip| ip["interface"] == 2).context("no address of eth0")?;
    ensure!(of_eth0["address"].as_str().is_some_and(|a| a.starts_with("10.77.0.")), "{result}");
    scene.cni("check", "c1", &none)?;
    scene.cni("del", "c1", &none)?;

    // Where another plugin has made the interface, weft refuses and leaves it alone.
    scene.chain(&json!([
        { "type": "bridge", "bridge": "theirs0", "ipam": { "type": "host-local", "subnet": "10.99.0.0/24" } },
        { "type": "weft" },
    ]))?;
    let refused = scene.cni("add", "c2", &none).expect_err("two plugins made one interface").to_string();
    ensure!(refused.contains("has an interface eth0 already"), "{refused}");
    let theirs = host.sh("ip -n c2 -o addr show eth0; ip -o link show master theirs0")?;
    ensure!(theirs.contains("10.99.0.") && theirs.contains("veth"), "{theirs}");
    ensure!(host.status()?.workloads.is_empty(), "{:?}", host.status()?.workloads);
    host.settles()?;
    scene.cni("del", "c2", &none)?;
    let left = host.sh("ip -n c2 -o link; ip -o link show master theirs0")?;
    ensure!(!left.contains("eth0") && !left.contains("veth"), "{left}");
    Ok(())
}

/// What administrators and their tools do to a firewall. Each ends with isolation as it was.
const RELOADS: [(&str, &str); 6] = [
    ("iptables -F", "iptables -F; iptables -t nat -F; ip6tables -F"),
    ("nft delete table", "nft delete table inet weft"),
    ("nft flush ruleset", "nft flush ruleset"),
    ("a restart of nftables.service", "nft -f /etc/reload.nft"),
    ("a reload of firewalld", "nft delete table inet firewalld; nft -f /etc/firewalld.nft"),
    ("iptables-restore", "iptables-save | iptables-restore"),
];

#[test]
fn isolation_survives_every_reload() -> Result<()> {
    let scene = scene()?;
    let host = &scene.host;
    host.namespaces(&["a", "b"].map(str::to_owned))?;
    let a = host.attach("default", "a")?.addresses[0].address.addr();
    let b = host.attach("lan", "b")?.addresses[0].address.addr();
    let accepting = "table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; policy accept; accept; }; }";
    host.sandbox().write("/etc/firewalld.nft", accepting)?;
    host.sandbox().write("/etc/reload.nft", format!("flush ruleset\n{accepting}\n"))?;
    host.sh("nft -f /etc/firewalld.nft; iptables -A FORWARD -i docker0 -j ACCEPT")?;

    let reach = |from: &str, to: IpAddr| {
        host.sh(&format!("ip netns exec {from} ping -n -c1 -W0.3 {to} >/dev/null && echo yes || echo no"))
            .map(|t| t.trim() == "yes")
    };
    let isolated = || -> Result<()> {
        ensure!(!reach("a", b)?, "two networks reach each other");
        ensure!(!reach("outside", a)?, "a neighbour reaches what is not published");
        Ok(())
    };
    isolated()?;
    for (what, script) in RELOADS {
        host.sh(script).context(what)?;
        let start = Instant::now();
        wait::until(what, REPAIR, isolated)?;
        println!("{what}: isolated again after at most {} ms", start.elapsed().as_millis());
        for _ in 0..5 {
            isolated().with_context(|| format!("{what}: a leak that lasts"))?;
        }
        ensure!(host.diff()?.is_empty(), "{what}: {:?}", host.diff()?);
        ensure!(reach("a", "192.0.2.2".parse()?)?, "{what}: the way out is lost");
    }
    // The control: it is the rules that isolate, for without an agent to put them back nothing does.
    scene.agent.kill();
    scene.host.sh("nft flush ruleset")?;
    let reach = |from: &str, to: IpAddr| scene.host.sh(&format!("ip netns exec {from} ping -n -c1 -W2 {to}"));
    reach("a", b).context("two networks do not even reach each other where nothing isolates them")?;
    reach("outside", a).context("a neighbour does not even reach a workload where nothing isolates it")?;
    Ok(())
}

#[test]
fn the_doctor_names_what_drops() -> Result<()> {
    let scene = scene()?;
    let host = &scene.host;
    host.namespaces(&["a".to_owned()])?;
    host.attach("default", "a")?;
    let examine = || -> Result<(i32, Vec<Value>)> {
        let text = host.sh("/opt/weft/weft doctor --json && echo code 0 || echo code $?")?;
        let (document, code) = text.rsplit_once("code ").context("no code")?;
        let document: Value = serde_json::from_str(document)?;
        Ok((code.trim().parse()?, document["findings"].as_array().context("no findings")?.clone()))
    };
    let kinds = |all: &[Value], kind: &str| all.iter().filter(|f| f["kind"] == kind).count();
    host.sh("rm -f /etc/cni/net.d/*; sysctl -qw net.netfilter.nf_conntrack_max=262144 2>/dev/null || true")?;
    let (_, healthy) = examine()?;
    ensure!(kinds(&healthy, "firewall-drop") == 0 && kinds(&healthy, "agent-away") == 0, "{healthy:#?}");
    ensure!(kinds(&healthy, "forwarding-off") == 0, "{healthy:#?}");

    host.sh("iptables -P FORWARD DROP")?;
    ensure!(host.ping("a", "192.0.2.2".parse()?).is_err(), "the control: it must drop");
    let (code, found) = examine()?;
    let drop =
        found.iter().find(|f| f["kind"] == "firewall-drop").context("nothing was said of the firewall")?;
    ensure!(code == 1 && drop["severity"] == "error", "{drop:#}");
    // The remedy is one: what the doctor prints is typed, and it works.
    for line in drop["fix"].as_array().context("no fix")?.iter().filter_map(Value::as_str) {
        host.sh(line)?;
    }
    host.ping("a", "192.0.2.2".parse()?)?;
    let (_, found) = examine()?;
    ensure!(kinds(&found, "firewall-drop") == 0, "{found:#?}");

    // Without an agent it says so, and still sees the rest.
    let Chains { host, agent } = scene;
    agent.kill();
    host.sh("iptables -D FORWARD 1; iptables -D FORWARD 1; mkdir -p /etc/cni/net.d; echo '{' >/etc/cni/net.d/00-x.conf")?;
    let text = host.sh("/opt/weft/weft doctor || true")?;
    for part in [
        "error: the agent does not answer",
        "the policy of chain FORWARD of table ip filter drops",
        "00-x.conf is not a CNI configuration",
    ] {
        ensure!(text.contains(part), "{part}\n{text}");
    }
    Ok(())
}
