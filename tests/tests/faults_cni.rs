//! BAR.md R5: DEL with everything missing, ADD twice, GC of exactly the unlisted, CHECK of every tampering;
//! by the plugin's real program.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_model::Mode;
use weft_tests::host::{Net, REPAIR, difference};
use weft_tests::{Agent, Host, wait};

const NETWORKS: [Net<'static>; 2] = [
    ("routed", Mode::Routed, &["10.77.0.0/24", "fd77::/64"]),
    ("bridge", Mode::Bridge, &["10.78.0.0/24", "fd78::/64"]),
];

/// One call of the plugin: its exit code and what it printed.
struct Call {
    code: Option<i32>,
    out: Value,
    text: String,
}

struct Runtime<'a> {
    host: &'a Host,
    network: &'a str,
}

impl Runtime<'_> {
    fn call(&self, command: &str, container: &str, netns: Option<&str>, more: &Value) -> Result<Call> {
        let mut conf =
            json!({ "cniVersion": "1.1.0", "name": "test", "type": "weft", "network": self.network });
        if let (Some(conf), Some(more)) = (conf.as_object_mut(), more.as_object()) {
            conf.extend(more.clone());
        }
        let mut plugin = self.host.sandbox().command("/opt/cni/bin/weft");
        plugin.env("CNI_COMMAND", command).env("CNI_PATH", "/opt/cni/bin");
        if command != "GC" {
            plugin.env("CNI_CONTAINERID", container).env("CNI_IFNAME", "eth0");
        }
        if let Some(netns) = netns {
            plugin.env("CNI_NETNS", netns);
        }
        let mut child = plugin.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no stdin")?.write_all(conf.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        let text = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr].concat()).into_owned();
        let out = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        Ok(Call { code: output.status.code(), out, text })
    }

    fn add(&self, container: &str) -> Result<Value> {
        let call = self.call("ADD", container, Some(&netns(container)), &json!({}))?;
        ensure!(call.code == Some(0), "ADD {container}: {}", call.text);
        Ok(call.out)
    }

    fn del(&self, container: &str, netns: Option<&str>) -> Result<()> {
        let call = self.call("DEL", container, netns, &json!({}))?;
        ensure!(call.code == Some(0), "DEL {container} ended with {:?}: {}", call.code, call.text);
        Ok(())
    }

    fn check(&self, container: &str, result: &Value) -> Result<Call> {
        self.call("CHECK", container, Some(&netns(container)), &json!({ "prevResult": result }))
    }
}

fn netns(container: &str) -> String {
    format!("/run/netns/{container}")
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn on_both(test: impl Fn(&Host, &Runtime<'_>, Agent) -> Result<()>) -> Result<()> {
    for network in NETWORKS {
        let (host, agent) = Host::with_networks(&[network])?;
        host.namespaces(&names(&["c1", "c2", "c3"]))?;
        let runtime = Runtime { host: &host, network: network.0 };
        test(&host, &runtime, agent).with_context(|| network.0.to_owned())?;
    }
    Ok(())
}

fn containers(host: &Host) -> Result<Vec<String>> {
    Ok(host.status()?.workloads.iter().map(|w| w.id.container.to_string()).collect())
}

#[test]
fn del_succeeds_whatever_is_missing() -> Result<()> {
    on_both(|host, runtime, _agent| {
        let before = host.dump()?;
        runtime.del("never-there", Some("/run/netns/never-there"))?;
        runtime.del("never-there", None)?;

        runtime.add("c1")?;
        for _ in 0..3 {
            runtime.del("c1", Some(&netns("c1")))?;
        }
        host.await_dump("DEL three times", &before, REPAIR)?;

        runtime.add("c1")?;
        runtime.del("c1", None)?;
        host.await_dump("DEL without a namespace", &before, REPAIR)?;

        runtime.add("c2")?;
        host.sh("ip netns del c2")?;
        runtime.del("c2", Some(&netns("c2")))?;
        host.await_dump("DEL after the namespace", &before, REPAIR)?;
        ensure!(containers(host)?.is_empty());
        Ok(())
    })
}

#[test]
fn del_without_an_agent_is_done_by_the_next_one() -> Result<()> {
    on_both(|host, runtime, agent| {
        let before = host.dump()?;
        let gone = names(&["c1", "c2", "c3"]);
        for container in &gone {
            runtime.add(container)?;
        }
        agent.kill();
        runtime.del("c1", Some(&netns("c1")))?;
        runtime.del("c2", None)?;
        host.sh("ip netns del c3")?;
        runtime.del("c3", Some(&netns("c3")))?;
        runtime.del("c3", Some(&netns("c3")))?;
        let words = host.sh("ls /run/weft/journal")?;
        ensure!(words.lines().count() == 3, "the journal has {words}");
        // Invariant 5: without an agent, what can be cut is cut at once.
        let inside = host.sh("ip -n c1 -o link")?;
        ensure!(!inside.contains("eth0"), "the wire of c1 is still there: {inside}");

        let agent = host.start(&[])?;
        host.await_dump("the journal", &before, REPAIR)?;
        ensure!(containers(host)?.is_empty());
        wait::until("an empty journal", REPAIR, || {
            let left = host.sh("ls /run/weft/journal")?;
            ensure!(left.is_empty(), "left in the journal: {left}");
            Ok(())
        })?;
        drop(agent);
        Ok(())
    })
}

#[test]
fn del_without_agent_and_state_is_done_from_the_kernel() -> Result<()> {
    on_both(|host, runtime, agent| {
        let before = host.dump()?;
        runtime.add("c1")?;
        runtime.add("c2")?;
        agent.kill();
        host.sh("rm -rf /var/lib/weft /run/weft")?;
        runtime.del("c1", Some(&netns("c1")))?;
        let _agent = host.start(&[])?;
        runtime.del("c2", Some(&netns("c2")))?;
        host.await_dump("DEL without state", &before, REPAIR)?;
        ensure!(containers(host)?.is_empty());
        Ok(())
    })
}

#[test]
fn add_twice_is_an_error_that_changes_nothing() -> Result<()> {
    on_both(|host, runtime, _agent| {
        runtime.add("c1")?;
        let before = (host.dump()?, host.dump_inside("c1")?, host.status()?.workloads);
        let call = runtime.call("ADD", "c1", Some(&netns("c1")), &json!({}))?;
        ensure!(call.code == Some(1) && call.out["code"].is_number(), "the second ADD: {}", call.text);
        // Under another id too: the interface is there.
        let call = runtime.call("ADD", "other", Some(&netns("c1")), &json!({}))?;
        ensure!(call.code == Some(1), "an ADD of a present interface: {}", call.text);
        host.await_dump("nothing to have changed", &before.0, REPAIR)?;
        let inside = host.dump_inside("c1")?;
        ensure!(inside == before.1, "{}", difference(&before.1, &inside));
        ensure!(host.status()?.workloads == before.2);
        Ok(())
    })
}

#[test]
fn gc_removes_exactly_the_unlisted_of_its_owner() -> Result<()> {
    on_both(|host, runtime, _agent| {
        host.namespaces(&names(&["person"]))?;
        host.attach(runtime.network, "person")?;
        runtime.add("c1")?;
        let before = host.dump()?;
        runtime.add("c2")?;
        runtime.add("c3")?;
        let keep = json!([{ "containerID": "c1", "ifname": "eth0" }]);
        let call = runtime.call("GC", "", None, &json!({ "cni.dev/valid-attachments": keep }))?;
        ensure!(call.code == Some(0), "GC: {}", call.text);
        host.await_dump("GC", &before, REPAIR)?;
        ensure!(containers(host)? == ["c1", "person"], "left are {:?}", containers(host)?);
        Ok(())
    })
}

/// What can be done to an attachment while nobody mends it: its agent sleeps and is asked right after.
#[test]
fn check_finds_every_tampering() -> Result<()> {
    on_both(|host, runtime, agent| {
        let result = runtime.add("c1")?;
        let sane = runtime.check("c1", &result)?;
        ensure!(sane.code == Some(0), "CHECK of an attachment in order: {}", sane.text);
        let gateway = if runtime.network == "routed" { "169.254.1.1" } else { "10.78.0.1" };
        let address = host.sh("ip -n c1 -4 -o addr show eth0 | awk '{ print $4 }'")?;
        let address = address.trim();
        let tampers = [
            format!("ip -n c1 addr del {address} dev eth0"),
            "ip -n c1 addr add 192.0.2.5/32 dev eth0".to_owned(),
            "ip -n c1 route del default".to_owned(),
            "ip -n c1 -6 route del default".to_owned(),
            format!("ip -n c1 neigh del {gateway} dev eth0"),
            format!("ip -n c1 neigh replace {gateway} lladdr 02:00:00:00:00:77 dev eth0 nud permanent"),
            "ip -n c1 link set eth0 down".to_owned(),
            "ip -n c1 link set eth0 address 02:00:00:00:00:66".to_owned(),
            "ip -n c1 link set eth0 mtu 1300".to_owned(),
            "ip netns exec c1 sysctl -qw net.ipv6.conf.eth0.accept_ra=2".to_owned(),
            "ip -n c1 link set eth0 name eth9".to_owned(),
            "ip -n c1 link del eth0".to_owned(),
        ];
        for tamper in &tampers {
            host.sh(tamper).with_context(|| tamper.clone())?;
            let call = runtime.check("c1", &result)?;
            ensure!(call.code == Some(1), "CHECK did not find `{tamper}`: {:?} {}", call.code, call.text);
            ensure!(
                !call.out["msg"].as_str().unwrap_or_default().is_empty(),
                "CHECK said nothing: {}",
                call.text
            );
            runtime.del("c1", Some(&netns("c1")))?;
            wait::until("the wire to be gone", REPAIR, || {
                ensure!(!host.sh("ip -n c1 -o link")?.contains(": eth"));
                Ok(())
            })?;
            runtime.add("c1")?;
        }
        drop(agent);
        Ok(())
    })
}

#[test]
fn check_wants_the_addresses_that_the_runtime_was_told() -> Result<()> {
    on_both(|_host, runtime, _agent| {
        let mut result = runtime.add("c1")?;
        result["ips"][0]["address"] = json!("10.99.0.9/32");
        let call = runtime.check("c1", &result)?;
        ensure!(call.code == Some(1) && call.text.contains("10.99.0.9"), "{}", call.text);
        let unknown = runtime.check("c2", &result)?;
        ensure!(unknown.code == Some(1), "CHECK of what was never attached: {}", unknown.text);
        Ok(())
    })
}

/// Without an agent, too, a port is free for the next workload once `DEL` has returned.
#[test]
fn del_without_an_agent_takes_the_ports_away() -> Result<()> {
    on_both(|host, runtime, agent| {
        let before = host.dump()?;
        let ports = json!({ "runtimeConfig": { "portMappings": [
            { "hostPort": 8080, "containerPort": 80 },
            { "hostPort": 5353, "containerPort": 53, "protocol": "udp" },
        ] } });
        let add = |container: &str| runtime.call("ADD", container, Some(&netns(container)), &ports);
        let call = add("c1")?;
        ensure!(call.code == Some(0), "{}", call.text);
        let refused = add("c2")?;
        ensure!(refused.out["code"] == 101 && refused.text.contains("c1"), "{}", refused.text);
        let elements = || {
            host.sh("nft list table inet weft | grep -c 'elements.*\\. 8080\\|elements.*\\. 5353' || true")
        };
        ensure!(elements()?.trim() != "0", "no ports: {}", host.sh("nft list table inet weft")?);
        agent.kill();
        runtime.del("c1", Some(&netns("c1")))?;
        ensure!(elements()?.trim() == "0", "ports are left: {}", host.sh("nft list table inet weft")?);
        let _agent = host.start(&[])?;
        let call = add("c2")?;
        ensure!(call.code == Some(0), "{}", call.text);
        runtime.del("c2", None)?;
        host.await_dump("everything gone", &before, REPAIR)?;
        Ok(())
    })
}

/// What cannot be published or limited: refused with a code and a word, and nothing is left of the attempt.
#[test]
fn bad_ports_and_rates_are_refused_with_their_codes() -> Result<()> {
    on_both(|host, runtime, _agent| {
        let before = (host.dump()?, host.dump_inside("c1")?);
        let _holder = host.sandbox().netns()?.run(|| std::net::TcpListener::bind("0.0.0.0:7000"))??;
        let port = |host: i64, more: Value| {
            let mut mapping = json!({ "hostPort": host, "containerPort": 80 });
            if let (Some(mapping), Some(more)) = (mapping.as_object_mut(), more.as_object()) {
                mapping.extend(more.clone());
            }
            json!({ "portMappings": [mapping] })
        };
        let rate = |bits: u64| json!({ "bandwidth": { "ingressRate": bits } });
        for (wish, code, why) in [
            (port(0, json!({})), 7, "'0' is not a port"),
            (port(65536, json!({})), 7, "'65536' is not a port"),
            (port(80, json!({ "containerPort": 0 })), 7, "'0' is not a port"),
            (port(65535, json!({ "range": 2 })), 7, "beyond 65535"),
            (port(80, json!({ "range": -5 })), 7, "'-5' is not a whole number"),
            (
                port(80, json!({ "hostIP": "198.51.100.1" })),
                7,
                "198.51.100.1, which is no address of this host",
            ),
            (port(80, json!({ "hostIP": "2001:db8:77::1" })), 7, "no address of this host"),
            (port(80, json!({ "hostIP": "224.0.0.1" })), 7, "cannot be published at 224.0.0.1"),
            (port(80, json!({ "hostIP": "127.0.0.1" })), 100, "publish_on_loopback is off"),
            (port(80, json!({ "protocol": "icmp" })), 7, "'icmp' is not a protocol"),
            (port(7000, json!({})), 101, "listens at 0.0.0.0:7000/tcp"),
            (
                json!({ "portMappings": [
                    { "hostPort": 80, "containerPort": 80 }, { "hostPort": 80, "containerPort": 81 },
                ] }),
                7,
                "want one port",
            ),
            (rate(0), 7, "0 would let nothing through"),
            (rate(1), 7, "the lowest rate is 128k"),
            (rate(1_000_000_000_000_000_000), 7, "the highest rate is 1T"),
        ] {
            let call =
                runtime.call("ADD", "c1", Some(&netns("c1")), &json!({ "runtimeConfig": wish.clone() }))?;
            ensure!(
                call.code == Some(1) && call.out["code"] == code,
                "{wish}: {:?} {}",
                call.code,
                call.text
            );
            ensure!(call.text.contains(why), "{wish}: {}", call.text);
            ensure!(host.dump_inside("c1")? == before.1, "{wish}: something is left inside");
        }
        host.await_dump("nothing", &before.0, REPAIR)?;
        ensure!(host.status()?.workloads.is_empty());
        Ok(())
    })
}
