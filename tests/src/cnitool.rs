//! cnitool, the CNI project's own caller: libcni with nothing around it but a namespace.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::containerd::addresses;
use crate::engine::{self, Engine};
use crate::{Network, Sandbox, programs};

/// cnitool with the network installed; its containers are named network namespaces.
#[derive(Debug)]
pub struct CniTool<'a> {
    sandbox: &'a Sandbox,
    program: PathBuf,
    network: String,
}

impl<'a> CniTool<'a> {
    /// Builds cnitool if need be, and installs the network.
    ///
    /// # Errors
    /// The script's or the network's.
    pub fn start(sandbox: &'a Sandbox, network: &Network) -> Result<CniTool<'a>> {
        programs::require(&["busybox", "ip"])?;
        let program = programs::from_script("cnitool")?;
        network.install(sandbox, "1.1.0")?;
        Ok(CniTool { sandbox, program, network: network.name().to_owned() })
    }

    /// `cnitool VERB NETWORK /run/netns/ID`, and what it printed.
    ///
    /// # Errors
    /// Its words.
    pub fn call(&self, verb: &str, id: &str) -> Result<String> {
        let program = self.program.to_string_lossy();
        let netns = format!("/run/netns/{id}");
        let paths = ["env", "CNI_PATH=/opt/cni/bin", "NETCONFPATH=/etc/cni/net.d"];
        self.sandbox.run(&[&paths[..], &[&program, verb, &self.network, &netns]].concat())
    }

    /// Makes the network namespace `id`.
    ///
    /// # Errors
    /// `ip`'s.
    pub fn make(&self, id: &str) -> Result<()> {
        self.sandbox.run(&["ip", "netns", "add", id])?;
        self.sandbox.run(&["ip", "-n", id, "link", "set", "lo", "up"]).map(|_| ())
    }

    /// Ends what runs in the network namespace `id`, and unmounts it.
    ///
    /// # Errors
    /// `ip`'s.
    pub fn unmake(&self, id: &str) -> Result<()> {
        self.sandbox
            .sh(&format!("ip netns pids {id} | xargs -r kill -KILL; ip netns delete {id}"))
            .map(|_| ())
    }
}

impl Engine for CniTool<'_> {
    fn name(&self) -> String {
        "cnitool".into()
    }

    fn start(&self, id: &str) -> Result<Vec<IpAddr>> {
        self.make(id)?;
        let result = self.call("add", id)?;
        let serve = format!(
            "mkdir -p /run/www/{id}; echo {id} >/run/www/{id}/index.html
             ip netns exec {id} setsid busybox httpd -p {} -h /run/www/{id}",
            engine::PORT
        );
        self.sandbox.sh(&serve)?;
        let result: Value =
            serde_json::from_str(&result).with_context(|| format!("not a CNI result: {result}"))?;
        addresses(&result)
    }

    fn exec(&self, id: &str, args: &[&str]) -> Result<String> {
        self.sandbox.run(&[&["ip", "netns", "exec", id, "busybox"], args].concat())
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.call("del", id)?;
        self.call("del", id).context("a second DEL")?;
        self.unmake(id)
    }
}
