//! The CNI project's `bridge` plugin on a lab host, to show that an attack works where nothing stops it.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};
use weft_kernel::netns::Netns;
use weft_lab::{Folder, Namespace};

use crate::network::REFERENCE_PLUGINS;
use crate::programs;

/// The bridge that the plugin makes.
pub const BRIDGE: &str = "ref0";

/// A host's namespace with a network of the reference plugin.
pub struct Reference {
    host: Netns,
    folder: Folder,
}

impl Reference {
    /// Makes a host with nothing on it.
    ///
    /// # Errors
    /// If the plugins are missing.
    pub fn new() -> Result<Reference> {
        programs::require(&[])?;
        for plugin in ["bridge", "host-local"] {
            let file = format!("{REFERENCE_PLUGINS}/{plugin}");
            ensure!(programs::is_executable(file.as_ref()), "missing: {file} (scripts/setup test)");
        }
        Ok(Reference { host: Netns::anonymous()?, folder: Folder::new()? })
    }

    /// The host's namespace.
    #[must_use]
    pub fn host(&self) -> &Netns {
        &self.host
    }

    /// Attaches a new namespace as `eth0`; gives it with its addresses.
    ///
    /// # Errors
    /// The plugin's words.
    pub fn attach(&self) -> Result<(Namespace, Vec<IpAddr>)> {
        let namespace = Namespace::new()?;
        let config = json!({
            "cniVersion": "1.0.0", "name": "reference", "type": "bridge", "bridge": BRIDGE, "isGateway": true,
            "ipam": {
                "type": "host-local", "dataDir": self.folder.path(),
                "ranges": [[{ "subnet": "10.98.0.0/24" }], [{ "subnet": "fd98::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        });
        let mut command: Command = self.host.command(&format!("{REFERENCE_PLUGINS}/bridge"));
        command
            .env_clear()
            .envs([("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", REFERENCE_PLUGINS)])
            .env("CNI_CONTAINERID", namespace.container().as_str())
            .env("CNI_NETNS", namespace.path());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("no stdin")?.write_all(config.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        let words = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "the reference plugin failed: {words}");
        let result: Value = serde_json::from_str(&words).context("not a CNI result")?;
        let ips = result["ips"].as_array().context("no addresses")?;
        let net = |ip: &Value| ip["address"].as_str().and_then(|a| a.parse::<IpNet>().ok());
        Ok((namespace, ips.iter().filter_map(net).map(|n| n.addr()).collect()))
    }
}
