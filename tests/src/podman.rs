//! podman with its CNI backend in a sandbox: no daemon, its storage in the sandbox's memory.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::engine::{self, Engine};
use crate::images::{self, ARCHIVE, BUSYBOX, PAUSE};
use crate::{Network, Sandbox, programs};

/// The program that makes podman's containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// What podman prefers.
    Crun,
    /// What containerd uses.
    Runc,
}

impl Runtime {
    fn program(self) -> &'static str {
        match self {
            Runtime::Crun => "crun",
            Runtime::Runc => "runc",
        }
    }
}

/// podman, set up to use the network under test by default.
#[derive(Debug)]
pub struct Podman<'a> {
    sandbox: &'a Sandbox,
    network: String,
    runtime: Runtime,
}

impl<'a> Podman<'a> {
    /// Installs the network, writes podman's configuration and loads the images.
    ///
    /// # Errors
    /// The network's or podman's.
    pub fn start(sandbox: &'a Sandbox, network: &Network, runtime: Runtime) -> Result<Podman<'a>> {
        programs::require(&["podman", "conmon", runtime.program()])?;
        network.install(sandbox, "1.0.0")?; // libcni 1.1
        images::put(sandbox)?;
        sandbox.write("/etc/containers/containers.conf", config(network.name(), runtime))?;
        let storage = "[storage]\ndriver = \"overlay\"\ngraphroot = \"/run/podman/root\"\nrunroot = \"/run/podman/run\"\n";
        sandbox.write("/etc/containers/storage.conf", storage)?;
        let this = Podman { sandbox, network: network.name().to_owned(), runtime };
        this.podman(&["load", "--quiet", "--input", ARCHIVE])?;
        let backend = this.podman(&["info", "--format", "{{.Host.NetworkBackend}}"])?;
        ensure!(backend.trim() == "cni", "this podman has no CNI backend: it uses {}", backend.trim());
        Ok(this)
    }

    /// Runs podman to its end.
    ///
    /// # Errors
    /// Its words.
    pub fn podman(&self, args: &[&str]) -> Result<String> {
        self.sandbox.run(&[&["podman"], args].concat())
    }

    /// Its version.
    ///
    /// # Errors
    /// If it does not run.
    pub fn version(&self) -> Result<String> {
        Ok(self.podman(&["version", "--format", "{{.Client.Version}}"])?.trim().to_owned())
    }

    /// The addresses that `podman inspect` reports.
    ///
    /// # Errors
    /// podman's.
    pub fn addresses(&self, container: &str) -> Result<Vec<IpAddr>> {
        let text = self.podman(&["inspect", "--format", "{{json .NetworkSettings.Networks}}", container])?;
        let networks: Value = serde_json::from_str(&text)?;
        let network = &networks[&self.network];
        let fields = ["IPAddress", "GlobalIPv6Address"].iter().filter_map(|field| network[field].as_str());
        fields
            .filter(|address| !address.is_empty())
            .map(|address| address.parse().with_context(|| format!("{address:?} is not an address")))
            .collect()
    }
}

impl Engine for Podman<'_> {
    fn name(&self) -> String {
        format!("podman {} with {}", self.version().unwrap_or_default(), self.runtime.program())
    }

    fn start(&self, id: &str) -> Result<Vec<IpAddr>> {
        let [shell, flag, script] = engine::server(id);
        let network = format!("--network={}", self.network);
        self.podman(&["run", "--detach", "--name", id, &network, BUSYBOX, &shell, &flag, &script])?;
        self.addresses(id)
    }

    fn exec(&self, id: &str, args: &[&str]) -> Result<String> {
        self.podman(&[&["exec", id], args].concat())
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.podman(&["rm", "--force", "--time", "0", id]).map(|_| ())
    }
}

fn config(network: &str, runtime: Runtime) -> String {
    // cgroupfs and file: there is neither systemd nor a journal in a sandbox.
    format!(
        r#"[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
default_network = "{network}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "{}"
infra_image = "{PAUSE}"
image_copy_tmp_dir = "/run/tmp"
"#,
        runtime.program()
    )
}
