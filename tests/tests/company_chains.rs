//! Debian's plugins in one chain with weft, each at each place (docs/guide-cni.md, "Other plugins in the chain"): what is
//! theirs does its work, nothing foreign is touched, and all of it goes on DEL.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_lab::traffic::{WebServer, connect, get};
use weft_model::Mode;
use weft_tests::chain::Chains;
use weft_tests::host::{Net, REPAIR, difference};
use weft_tests::outside::HOST;
use weft_tests::scene::{SOON, anywhere};
use weft_tests::wait;

const NETWORKS: [Net<'static>; 2] = [
    ("default", Mode::Routed, &["10.77.0.0/24", "fd77::/64"]),
    ("lan", Mode::Bridge, &["10.78.0.0/24", "fd78::/64"]),
];
const CONTAINER: &str = "c1";
const PORT: u16 = 18080;

/// What somebody else has on the host.
const FOREIGN: &str = "
    nft add table inet theirs; nft 'add chain inet theirs in { type filter hook input priority 5; }'
    nft add rule inet theirs in ip saddr 192.0.2.99 drop
    iptables -A FORWARD -i docker0 -j ACCEPT; iptables -t nat -A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE
    ip6tables -A FORWARD -i docker0 -j ACCEPT; ip6tables -t nat -A POSTROUTING -s fd99::/64 -j MASQUERADE
    ip link add theirs0 type bridge; ip link set theirs0 addrgenmode none; ip link set theirs0 up; ip addr add 10.99.0.1/24 dev theirs0
    tc qdisc add dev theirs0 root handle 1: tbf rate 1mbit burst 10k latency 100ms";

fn ports() -> Value {
    json!({ "portMappings": [{ "hostPort": PORT, "containerPort": 8080, "protocol": "tcp" }] })
}

fn limits() -> Value {
    json!({ "bandwidth": {
        "ingressRate": 100_000_000, "ingressBurst": 10_000_000, "egressRate": 50_000_000, "egressBurst": 10_000_000,
    } })
}

fn tuning(key: &str, value: &str) -> Value {
    json!({ "type": "tuning", "sysctl": { key: value } })
}

fn portmap() -> Value {
    json!({ "type": "portmap", "capabilities": { "portMappings": true } })
}

fn bandwidth() -> Value {
    json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } })
}

fn firewall() -> Value {
    json!({ "type": "firewall", "backend": "iptables" })
}

fn weft(network: &str) -> Value {
    json!({ "type": "weft", "network": network })
}

/// A chain, what the runtime wishes, and what is to be seen while the container is there.
struct Cell<'a> {
    what: &'a str,
    chain: Value,
    wishes: Value,
    /// Debian's `portmap` fails its own CHECK where there is IPv6: it looks for IPv4's rules in IPv6's tables.
    check: bool,
    seen: &'a dyn Fn(&Stage, &Value) -> Result<()>,
}

struct Stage {
    chains: Chains,
}

impl Stage {
    fn new() -> Result<Stage> {
        let chains = Chains::new(&NETWORKS)?;
        chains.host.namespaces(&[CONTAINER.to_owned()])?;
        chains.host.sh(FOREIGN)?;
        Ok(Stage { chains })
    }

    /// All of the host, queues and filters too.
    fn dump(&self) -> Result<String> {
        let host = &self.chains.host;
        let queues =
            host.sh("tc qdisc show | grep -v -e noqueue -e 'qdisc fq' | sed 's/^/queue /; s/ *$//'")?;
        Ok(format!("{}\n{}", host.dump()?, queues.trim_end()))
    }

    /// Nothing of anybody's has come or gone since.
    fn is_as(&self, before: &str) -> Result<()> {
        wait::until("a host as before", REPAIR, || {
            let now = self.dump()?;
            ensure!(now == before, "{}", difference(before, &now));
            Ok(())
        })
    }

    /// What was there and is not weft's is there.
    fn has_kept(&self, before: &str) -> Result<()> {
        let now = self.dump()?;
        let now: BTreeSet<&str> = now.lines().collect();
        let gone: Vec<&str> = before.lines().filter(|l| !l.contains("weft") && !now.contains(l)).collect();
        ensure!(gone.is_empty(), "gone or changed: {gone:#?}");
        Ok(())
    }

    /// The container has a network, whatever else the chain does.
    fn is_attached(&self, result: &Value) -> Result<()> {
        let host = &self.chains.host;
        for address in addresses(result)? {
            host.sh(&format!("ping -n -c1 -W2 {address}"))?;
        }
        ensure!(host.diff()?.is_empty(), "{:#?}", host.diff()?);
        Ok(())
    }

    /// ADD, the look at it, CHECK, DEL, DEL again: twice, because the plugins leave their empty chains behind for the
    /// next container, which are there from the first time on.
    fn holds(&self, cell: &Cell<'_>) -> Result<()> {
        self.chains.chain(&cell.chain)?;
        let mut before = self.dump()?;
        for round in ["at first", "again"] {
            let result: Value = serde_json::from_str(&self.chains.cni("add", CONTAINER, &cell.wishes)?)?;
            self.is_attached(&result)?;
            self.has_kept(&before)?;
            (cell.seen)(self, &result).with_context(|| round.to_owned())?;
            if cell.check {
                self.chains.cni("check", CONTAINER, &cell.wishes)?;
            }
            self.chains.cni("del", CONTAINER, &cell.wishes)?;
            self.chains.cni("del", CONTAINER, &cell.wishes)?;
            let status = self.chains.host.status()?;
            ensure!(status.workloads.is_empty(), "{:?}", status.workloads);
            if round == "at first" {
                self.has_kept(&before)?;
                let host = &self.chains.host;
                wait::until("the wire's end", REPAIR, || {
                    let left = host.sh("ip -o link | grep -c -e 'weft[0-9a-f]\\{10\\}' -e bwp || true")?;
                    ensure!(left.trim() == "0", "{left} links are left");
                    Ok(())
                })?;
                host.settles()?;
                before = self.dump()?;
            }
        }
        self.is_as(&before)
    }

    /// All of a list.
    fn all_hold(&self, cells: &[Cell<'_>]) -> Result<()> {
        cells.iter().try_for_each(|cell| self.holds(cell).with_context(|| cell.what.to_owned()))
    }

    /// A chain that cannot be: the plugin at fault says so, weft has nothing, and DEL takes away what there is.
    fn is_refused(&self, what: &str, chain: &Value, wishes: &Value, words: &str) -> Result<()> {
        let before = self.dump()?;
        self.chains.chain(chain)?;
        let refused = self.chains.cni("add", CONTAINER, wishes);
        let told = refused.err().with_context(|| format!("{what}: it was granted"))?.to_string();
        ensure!(told.contains(words), "{what}: {told}");
        self.chains.cni("del", CONTAINER, wishes).context(what.to_owned())?;
        ensure!(self.chains.host.status()?.workloads.is_empty(), "{what}");
        self.is_as(&before).context(what.to_owned())
    }

    fn published(&self) -> Result<()> {
        let host = &self.chains.host;
        let _server = WebServer::start(&host.netns(CONTAINER)?, anywhere(8080))?;
        for at in HOST {
            get(&host.netns("outside")?, SocketAddr::new(at, PORT), SOON)
                .with_context(|| format!("at {at}"))?;
        }
        Ok(())
    }

    fn inside(&self, key: &str) -> Result<String> {
        Ok(self.chains.host.sh(&format!("ip netns exec {CONTAINER} sysctl -n {key}"))?.trim().to_owned())
    }
}

/// The addresses that weft gave.
fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let ips = result["ips"].as_array().context("no addresses")?;
    let texts = ips.iter().filter_map(|ip| ip["address"].as_str()?.split('/').next());
    let all = texts.map(str::parse).collect::<Result<Vec<IpAddr>, _>>()?;
    Ok(all.into_iter().filter(|a| !a.is_loopback()).collect())
}

fn somaxconn(stage: &Stage, _: &Value) -> Result<()> {
    let value = stage.inside("net.core.somaxconn")?;
    ensure!(value == "500", "net.core.somaxconn is {value}");
    Ok(())
}

/// Each by itself behind weft, in both modes.
#[test]
fn after_weft_each_does_its_work() -> Result<()> {
    let stage = Stage::new()?;
    for (network, _, _) in NETWORKS {
        let chain = |plugin: Value| json!([weft(network), plugin]);
        let none = || json!({});
        stage
            .all_hold(&[
                Cell {
                    what: "tuning",
                    chain: chain(tuning("net.ipv4.conf.eth0.log_martians", "1")),
                    wishes: none(),
                    check: true,
                    seen: &|stage, _| {
                        ensure!(stage.inside("net.ipv4.conf.eth0.log_martians")? == "1");
                        Ok(())
                    },
                },
                Cell {
                    what: "bandwidth",
                    chain: chain(bandwidth()),
                    wishes: limits(),
                    check: true,
                    seen: &|stage, result| {
                        let wire = result["interfaces"][0]["name"].as_str().context("no wire")?;
                        let queues = stage.chains.host.sh(&format!(
                            "tc qdisc show dev {wire}; tc filter show dev {wire} ingress; ip -o link"
                        ))?;
                        for part in ["tbf 1:", "mirred", " bwp"] {
                            ensure!(queues.contains(part), "no {part} in {queues}");
                        }
                        Ok(())
                    },
                },
                Cell {
                    what: "firewall",
                    chain: chain(firewall()),
                    wishes: none(),
                    check: true,
                    seen: &|stage, result| {
                        let rules = stage.chains.host.sh("iptables-save; ip6tables-save")?;
                        for address in addresses(result)? {
                            ensure!(rules.contains(&format!("-d {address}/")), "no {address} in {rules}");
                        }
                        Ok(())
                    },
                },
                Cell {
                    what: "portmap",
                    chain: chain(portmap()),
                    wishes: ports(),
                    check: false,
                    seen: &|stage, _| stage.published(),
                },
            ])
            .with_context(|| format!("in network {network}"))?;
    }
    Ok(())
}

/// Before weft there is no `eth0`. What needs none works; who needs one says so.
#[test]
fn between_another_plugin_and_weft() -> Result<()> {
    let stage = Stage::new()?;
    for (network, _, _) in NETWORKS {
        let chain = |plugin: Value| json!([{ "type": "loopback" }, plugin, weft(network)]);
        let none = || json!({});
        let nothing: &dyn Fn(&Stage, &Value) -> Result<()> = &|_, _| Ok(());
        stage
            .all_hold(&[
                Cell {
                    what: "tuning of the namespace",
                    chain: chain(tuning("net.core.somaxconn", "500")),
                    wishes: none(),
                    check: false, // it looks for eth0's settings, too, as they were before ADD
                    seen: &somaxconn,
                },
                Cell {
                    what: "firewall, which knows the addresses of the plugins before it",
                    chain: chain(firewall()),
                    wishes: none(),
                    check: false, // its own fails: it looks for rules about the addresses of the whole result
                    seen: &|stage, result| {
                        let rules = stage.chains.host.sh("iptables-save")?;
                        for address in addresses(result)? {
                            ensure!(!rules.contains(&address.to_string()), "{address} in {rules}");
                        }
                        Ok(())
                    },
                },
                Cell {
                    what: "portmap, which leads to the addresses of the plugins before it",
                    chain: chain(portmap()),
                    wishes: ports(),
                    check: false,
                    seen: &|stage, _| {
                        let host = &stage.chains.host;
                        let server = WebServer::start(&host.netns(CONTAINER)?, anywhere(8080))?;
                        let at = SocketAddr::new(HOST[0], PORT);
                        let answer = connect(&host.netns("outside")?, at, std::time::Duration::from_secs(1));
                        ensure!(answer.is_err() && server.peers().is_empty(), "{at} leads to the container");
                        Ok(())
                    },
                },
                Cell {
                    what: "bandwidth without a limit",
                    chain: chain(bandwidth()),
                    wishes: none(),
                    check: false,
                    seen: nothing,
                },
            ])
            .with_context(|| format!("in network {network}"))?;
        let of_eth0 = tuning("net.ipv4.conf.eth0.log_martians", "1");
        stage.is_refused("tuning of eth0", &chain(of_eth0), &none(), "conf/eth0/log_martians")?;
        stage.is_refused("a limit", &chain(bandwidth()), &limits(), "could not look up \"eth0\"")?;
    }
    Ok(())
}

/// As the first of a chain none of them works, with whatever behind it: they say so, and weft has not been asked.
#[test]
fn as_the_first_they_refuse_by_themselves() -> Result<()> {
    let stage = Stage::new()?;
    for (plugin, wishes, words) in [
        (tuning("net.core.somaxconn", "500"), json!({}), "Required prevResult missing"),
        (firewall(), json!({}), "missing prevResult from earlier plugin"),
        (portmap(), ports(), "must be called as chained plugin"),
        (bandwidth(), limits(), "must be called as chained plugin"),
    ] {
        let what = plugin["type"].to_string();
        stage.is_refused(&what, &json!([plugin, weft("default")]), &wishes, words)?;
    }
    Ok(())
}

/// All of them around it at once.
#[test]
fn in_the_midst_of_all() -> Result<()> {
    let stage = Stage::new()?;
    let wishes = json!({ "portMappings": ports()["portMappings"], "bandwidth": limits()["bandwidth"] });
    for (network, _, _) in NETWORKS {
        let chain = json!([
            { "type": "loopback" },
            tuning("net.core.somaxconn", "500"),
            weft(network),
            bandwidth(),
            tuning("net.ipv4.conf.eth0.log_martians", "1"),
            firewall(),
            portmap(),
        ]);
        let seen: &dyn Fn(&Stage, &Value) -> Result<()> = &|stage, result| {
            somaxconn(stage, result)?;
            ensure!(stage.inside("net.ipv4.conf.eth0.log_martians")? == "1");
            stage.published()
        };
        let what = format!("in network {network}");
        stage
            .holds(&Cell { what: &what, chain, wishes: wishes.clone(), check: false, seen })
            .context(what)?;
    }
    Ok(())
}

/// Where both weft and `portmap` are given the ports, both lead to the same place, and nobody notices.
#[test]
fn weft_and_portmap_publish_the_same_port() -> Result<()> {
    let stage = Stage::new()?;
    for (network, _, _) in NETWORKS {
        let publishing =
            json!({ "type": "weft", "network": network, "capabilities": { "portMappings": true } });
        let cell = Cell {
            what: "both",
            chain: json!([publishing, portmap()]),
            wishes: ports(),
            check: false,
            seen: &|stage, _| {
                ensure!(
                    stage.chains.host.status()?.workloads[0].ports.len() == 1,
                    "weft does not publish it"
                );
                stage.published()
            },
        };
        stage.holds(&cell).with_context(|| format!("in network {network}"))?;
    }
    Ok(())
}

/// Where both weft and `bandwidth` are given the limits, one queue is in the place of the other: the second says so.
#[test]
fn weft_and_bandwidth_limit_the_same_wire() -> Result<()> {
    let stage = Stage::new()?;
    for (network, _, _) in NETWORKS {
        let limiting = json!({ "type": "weft", "network": network, "capabilities": { "bandwidth": true } });
        let chain = json!([limiting, bandwidth()]);
        stage.is_refused(network, &chain, &limits(), "file exists")?;
    }
    Ok(())
}
