//! `weft doctor` on hosts whose ways to each other are broken in the ways that real ones are: it names what is wrong,
//! and what it says mends it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_lab::{Cluster, shared_network};
use weft_model::{Encapsulation, Mode};
use weft_tests::scene::program;
use weft_tests::wait;

/// Three rounds of probes, and once more.
const PROBED: Duration = Duration::from_secs(60);

/// What the doctor finds on the first host.
fn findings(cluster: &Cluster) -> Result<Vec<Value>> {
    let host = &cluster.hosts[0];
    let mut command = host.netns().command(&program()?.to_string_lossy());
    let output = command.arg("--socket").arg(host.socket()).args(["--json", "doctor"]).output()?;
    let document: Value = serde_json::from_slice(&output.stdout).context("no document")?;
    Ok(document["findings"].as_array().context("no findings")?.clone())
}

fn find(cluster: &Cluster, kind: &str) -> Result<Value> {
    let all = findings(cluster)?;
    let found = all.iter().find(|f| f["kind"] == kind).with_context(|| format!("no {kind} in {all:#?}"))?;
    ensure!(found["severity"] == "error", "{found:#}");
    Ok(found.clone())
}

fn sh(cluster: &Cluster, host: usize, script: &str) -> Result<()> {
    let output = cluster.hosts[host].netns().command("sh").args(["-ec", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Two hosts on one segment that speak in VXLAN, are sound, and have heard of each other.
fn sound() -> Result<Cluster> {
    let network = shared_network(1, Mode::Routed, Encapsulation::Vxlan)?;
    let mut cluster = Cluster::new(program()?, 1500, vec![network])?;
    cluster.join(&[0, 0])?;
    wait::until("the hosts to hear of each other", wait::LONG, || {
        let status = cluster.hosts[0].status()?;
        ensure!(status.peers.iter().all(|p| p.heard.is_some() && p.clock.is_some()), "{:?}", status.peers);
        let clock = status.peers[0].clock.context("no clock")?;
        ensure!(clock.abs() < 2_000, "two agents on one machine whose clocks differ by {clock} ms");
        Ok(())
    })?;
    let kinds: Vec<String> = findings(&cluster)?.iter().map(|f| f["kind"].to_string()).collect();
    let about_hosts = |k: &String| {
        ["peer-", "mtu-", "checksum", "clock-differs", "firewall-"].iter().any(|p| k.contains(p))
    };
    ensure!(!kinds.iter().any(about_hosts), "findings on sound hosts: {kinds:?}");
    Ok(cluster)
}

#[test]
fn a_firewall_that_shuts_the_port_of_tunnels() -> Result<()> {
    let cluster = sound()?;
    let table = "table inet fw { chain in { type filter hook input priority 0; udp dport 4789 drop; }; }";
    sh(&cluster, 0, &format!("nft '{table}'"))?;
    // Known at once, by its rules.
    let found = find(&cluster, "firewall-drop")?;
    ensure!(found["what"].to_string().contains("VXLAN"), "{found:#}");
    // And after some rounds by what does not arrive.
    wait::until("the silence to be a finding", PROBED, || find(&cluster, "peer-silent"))?;
    let fix = found["fix"][0].as_str().context("no fix")?;
    sh(&cluster, 0, &(fix.replacen("nft ", "nft '", 1) + "'"))?;
    wait::until("what it said to mend it", PROBED, || {
        let all = findings(&cluster)?;
        ensure!(!all.iter().any(|f| f["kind"] == "peer-silent" || f["kind"] == "firewall-drop"), "{all:#?}");
        Ok(())
    })
}

#[test]
fn an_underlay_that_carries_less_than_it_says() -> Result<()> {
    let mut cluster = sound()?;
    let less = "chain in { type filter hook input priority 0; udp dport 4789 meta length > 1400 drop; }";
    sh(&cluster, 1, &format!("nft 'table inet fw {{ {less}; }}'"))?;
    let found = wait::until("large packets to be missed", PROBED, || find(&cluster, "peer-mtu"))?;
    ensure!(found["why"].to_string().contains("1450 bytes and 50 for the tunnel are 1500"), "{found:#}");
    // As it says: the uplinks are told what is carried.
    for host in 0..2 {
        cluster.record(host)?.mtu = 1400;
        sh(&cluster, host, "ip link set eth0 mtu 1400")?;
    }
    cluster.publish()?;
    wait::until("the smaller MTU to mend it", PROBED, || {
        let all = findings(&cluster)?;
        ensure!(!all.iter().any(|f| f["kind"] == "peer-mtu"), "{all:#?}");
        Ok(())
    })
}
