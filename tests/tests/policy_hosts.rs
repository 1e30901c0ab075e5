//! Policy between hosts: what comes as it is and what comes by a tunnel is judged alike, on both ends; and a packet is followed
//! from one host to the other.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_lab::traffic::{WebServer, get};
use weft_lab::{Cluster, Host, Namespace, shared_network};
use weft_model::api::{Apply, Reply, Request};
use weft_model::{Encapsulation, Mode, Object, Profile};
use weft_tests::scene::{SOON, Workload, anywhere, program};

const SILENT: Duration = Duration::from_millis(300);

fn apply(host: &Host, json: &str) -> Result<()> {
    let object: Object = serde_json::from_str(json)?;
    match host.request(&Request::Apply(Apply { objects: vec![object], dry_run: false }))? {
        Reply::Applied(_) => Ok(()),
        other => bail!("{other:?}"),
    }
}

fn policy(direction: &str, list: &str, peers: &[String]) -> String {
    let peers: Vec<String> =
        peers.iter().map(|cidr| format!(r#"{{"ipBlock":{{"cidr":"{cidr}"}}}}"#)).collect();
    format!(
        r#"{{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1","metadata":{{"name":"{direction}"}},
            "spec":{{"podSelector":{{}},"policyTypes":["{}"],"{direction}":[{{"{list}":[{}],"ports":[{{"port":80}}]}}]}}}}"#,
        if direction == "ingress" { "Ingress" } else { "Egress" },
        peers.join(",")
    )
}

#[test]
fn both_ends_are_judged_whichever_way_a_packet_comes() -> Result<()> {
    let network = shared_network(1, Mode::Routed, Encapsulation::Auto)?;
    let mut cluster = Cluster::new(program()?, 1500, vec![network])?;
    cluster.join(&[0, 0, 1])?;
    let name = cluster.network(1)?;
    let attach = |host: &Host| -> Result<Workload> {
        let namespace = Namespace::new()?;
        let mut wish = namespace.wish(&name, "eth0")?;
        wish.profile = Profile { labels: [("app".parse()?, "web".parse()?)].into(), ..Profile::default() };
        let attached = Namespace::attach_as(host, wish)?;
        Ok(Workload { namespace, attached })
    };
    let all: Vec<Workload> = cluster.hosts.iter().map(attach).collect::<Result<_>>()?;
    let servers: Vec<WebServer> =
        all.iter().map(|w| WebServer::start(w.namespace.netns(), anywhere(80))).collect::<Result<_, _>>()?;
    let reaches = |from: usize, to: usize, v4: bool, patience| {
        let address = all[to].addresses().find(|a| a.is_ipv4() == v4);
        address.is_some_and(|to| get(all[from].namespace.netns(), SocketAddr::new(to, 80), patience).is_ok())
    };
    let blocks =
        |of: usize| all[of].addresses().map(|a| ipnet::IpNet::from(a).to_string()).collect::<Vec<_>>();
    for v4 in [true, false] {
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0)] {
            ensure!(reaches(from, to, v4, SOON), "{from} → {to}, IPv4 {v4}: without policy all is open");
        }
    }
    // The first host lets in the third, which comes by a tunnel, and not the second, which comes as it is; then the other way round.
    for (friend, enemy) in [(2, 1), (1, 2)] {
        apply(&cluster.hosts[0], &policy("ingress", "from", &blocks(friend)))?;
        for v4 in [true, false] {
            ensure!(reaches(friend, 0, v4, SOON), "{friend} is let in, IPv4 {v4}");
            ensure!(!reaches(enemy, 0, v4, SILENT), "{enemy} gets in, IPv4 {v4}");
            ensure!(reaches(0, enemy, v4, SOON), "answers to the first host do not come, IPv4 {v4}");
        }
    }
    let said = followed(&cluster, &all, 2, 0)?;
    let hops: Vec<&str> =
        said["hops"].as_array().into_iter().flatten().filter_map(|h| h["what"].as_str()).collect();
    ensure!(hops.iter().any(|hop| hop.contains("VXLAN")), "{hops:#?}");
    let lost =
        said["hops"].as_array().into_iter().flatten().find(|hop| hop["lost"] == true).context("no loss")?;
    ensure!(lost["at"] == cluster.hosts[0].name(), "{said:#}");
    ensure!(lost["what"].as_str().is_some_and(|what| what.contains("denied_ingress")), "{said:#}");
    // And the sender's own policies are asked on the sender's host.
    apply(&cluster.hosts[2], &policy("egress", "to", &blocks(1)))?;
    for v4 in [true, false] {
        ensure!(reaches(2, 1, v4, SOON) && !reaches(2, 0, v4, SILENT), "egress of the third host, IPv4 {v4}");
    }
    let said = followed(&cluster, &all, 2, 0)?;
    let lost =
        said["hops"].as_array().into_iter().flatten().find(|hop| hop["lost"] == true).context("no loss")?;
    ensure!(lost["at"] == cluster.hosts[2].name(), "{said:#}");
    drop(servers);
    Ok(())
}

/// `weft trace` on one host, looking into the other, too.
fn followed(cluster: &Cluster, all: &[Workload], from: usize, to: usize) -> Result<Value> {
    let (name, to_address) =
        (all[from].namespace.container().to_string(), all[to].addresses().find(std::net::IpAddr::is_ipv4));
    let mut command = Command::new(program()?);
    command.args(["--json", "--socket"]).arg(cluster.hosts[from].socket());
    command.args(["trace", "--wait", "1", "--at"]).arg(cluster.hosts[to].socket());
    command.args([name, format!("{}:80", to_address.context("it has IPv4")?)]);
    let output = command.output()?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}
