//! Chains of plugins on a host with weft's agent: called by cnitool, as libcni does.

use anyhow::Result;
use serde_json::{Value, json};

use crate::host::Net;
use crate::{Agent, Host, outside, programs};

/// A host with an agent, a neighbour outside, and Debian's plugins.
pub struct Chains {
    /// The host.
    pub host: Host,
    /// Its agent.
    pub agent: Agent,
}

impl Chains {
    /// Makes the host with these networks.
    ///
    /// # Errors
    /// What is missing, or the agent's.
    pub fn new(networks: &[Net<'_>]) -> Result<Chains> {
        programs::require(&["iptables", "nft", "tc"])?;
        let (host, agent) = Host::with_networks(networks)?;
        host.sandbox().copy_in(&programs::from_script("cnitool")?, "/opt/cnitool")?;
        outside::put(host.sandbox())?;
        Ok(Chains { host, agent })
    }

    /// Makes `plugins` the chain that is called.
    ///
    /// # Errors
    /// The file system's.
    pub fn chain(&self, plugins: &Value) -> Result<()> {
        let list = json!({ "cniVersion": "1.0.0", "name": "chain", "plugins": plugins });
        self.host.sandbox().write("/etc/cni/net.d/10-chain.conflist", list.to_string())
    }

    /// Has the chain called for a namespace, with what the runtime wishes by capabilities; gives what it printed.
    ///
    /// # Errors
    /// The plugins' words.
    pub fn cni(&self, verb: &str, container: &str, capabilities: &Value) -> Result<String> {
        self.host.sh(&format!(
            "CNI_PATH=/opt/cni/bin:/usr/lib/cni NETCONFPATH=/etc/cni/net.d CAP_ARGS='{capabilities}' \
             /opt/cnitool {verb} chain /run/netns/{container} 2>&1"
        ))
    }
}
