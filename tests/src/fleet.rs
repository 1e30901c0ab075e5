//! Hosts on one segment that people make into a cluster by typing commands: each a sandbox with weft installed.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weft_lab::Underlay;

use crate::{Agent, Host, wait};

/// The program on each host.
pub const WEFT: &str = "/opt/weft/weft";
/// A joining host takes part within moments; a loaded machine gets more.
pub const SOON: Duration = Duration::from_secs(60);

/// Hosts on one segment, each with an agent.
pub struct Fleet {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// Their agents.
    pub agents: Vec<Agent>,
    /// What they are connected to.
    pub underlay: Underlay,
}

impl Fleet {
    /// So many hosts, called host1 and so on, each with an agent.
    ///
    /// # Errors
    /// What is missing.
    pub fn new(count: u8) -> Result<Fleet> {
        crate::programs::require(&["etcd", "etcdctl"])?;
        let underlay = Underlay::new(1500)?;
        let mut fleet = Fleet { hosts: Vec::new(), agents: Vec::new(), underlay };
        for n in 1..=count {
            fleet.add(n, &format!("host{n}"))?;
        }
        Ok(fleet)
    }

    /// One more host at 192.0.2.(10+n), called `name`.
    ///
    /// # Errors
    /// What was said.
    pub fn add(&mut self, n: u8, name: &str) -> Result<()> {
        let host = Host::new()?;
        host.sandbox().write("/etc/weft/config.toml", format!("node = {name:?}\nlease = 8\n"))?;
        let root = host.sandbox().path("/");
        let pid = root.iter().nth(2).and_then(|p| p.to_str()).context("no process")?.to_owned();
        let port = format!("port{n}");
        let mut command = self.underlay.netns().command("ip");
        command.args(["link", "add", &port, "up", "master", self.underlay.link(), "type", "veth"]);
        let output = command.args(["peer", "name", "eth0", "netns", &pid]).output()?;
        ensure!(output.status.success(), "ip link add: {}", String::from_utf8_lossy(&output.stderr));
        let last = 10 + n;
        host.sh(&format!(
            "ip link set eth0 up; ip addr add 192.0.2.{last}/24 dev eth0
             ip addr add 2001:db8:1::{last:x}/64 dev eth0 nodad
             ip route add default via 192.0.2.1; ip route add default via 2001:db8:1::1"
        ))?;
        self.agents.push(host.start(&[])?);
        self.hosts.push(host);
        Ok(())
    }

    /// What a command of weft's prints on a host.
    ///
    /// # Errors
    /// What it said instead.
    pub fn weft(&self, host: usize, words: &str) -> Result<String> {
        self.hosts[host].sh(&format!("{WEFT} {words}"))
    }

    /// The line that `weft init` or `weft token` printed, without `weft` itself.
    ///
    /// # Errors
    /// What was said.
    pub fn invitation(&self, host: usize, command: &str) -> Result<String> {
        let said = self.weft(host, command)?;
        let line = said.lines().map(str::trim).find(|l| l.starts_with("weft join "));
        Ok(line.with_context(|| format!("no invitation in: {said}"))?.trim_start_matches("weft ").to_owned())
    }

    /// Waits until a host is in sync with the store and has addresses to give.
    ///
    /// # Errors
    /// What was said.
    pub fn ready(&self, host: usize) -> Result<()> {
        wait::until("a host to take part", SOON, || {
            let status = self.hosts[host].status()?;
            ensure!(status.store.as_ref().is_some_and(|s| s.in_sync), "not in sync: {:?}", status.health);
            let network = status.networks.iter().find(|n| n.network.name.as_str() == "default");
            let network = network.context("no network")?;
            ensure!(network.network.vni.is_some(), "the network is this host's own");
            ensure!(network.pools.iter().all(|p| p.usable > 0), "no block yet: {:?}", status.health);
            Ok(())
        })
    }

    /// Attaches a namespace of this name; its addresses.
    ///
    /// # Errors
    /// What was said.
    pub fn attach(&self, host: usize, name: &str) -> Result<Vec<IpAddr>> {
        self.hosts[host].namespaces(&[name.to_owned()])?;
        let attached = self.hosts[host].attach("default", name)?;
        Ok(attached.addresses.iter().map(|a| a.address.addr()).collect())
    }

    /// Everybody reaches everybody.
    ///
    /// # Errors
    /// What was said.
    pub fn reach(&self, from: &[(usize, &str)], to: &[IpAddr]) -> Result<()> {
        for (host, container) in from {
            for address in to {
                wait::until("a ping", SOON, || self.hosts[*host].ping(container, *address))
                    .with_context(|| format!("{container} on host {host} → {address}"))?;
            }
        }
        Ok(())
    }

    /// Runs etcdctl on a host, as that host.
    ///
    /// # Errors
    /// What was said.
    pub fn etcdctl(&self, host: usize, words: &str) -> Result<String> {
        self.hosts[host].sh(&format!(
            "F=/var/lib/weft/cluster; ETCDCTL_API=3 etcdctl --endpoints=192.0.2.11:2379 --cacert=$F/ca.pem \
             --cert=$F/node.pem --key=$F/node.key {words}"
        ))
    }

    /// Ends a host's share of the store as `kill -9` does; its data stay.
    ///
    /// # Errors
    /// What was said.
    pub fn kill_share(&self, host: usize) -> Result<()> {
        let script = "kill -9 $(cat /run/weft/member.pid); \
                      while pidof etcd >/dev/null; do sleep 0.05; done";
        self.hosts[host].sh(script).map(drop)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// What was said.
    pub fn start_share(&self, host: usize) -> Result<()> {
        self.hosts[host].sh(&format!("setsid {WEFT} member >>/run/member.log 2>&1 </dev/null &")).map(drop)
    }
}
