//! containerd in a sandbox, and containers run by its own client, `ctr run --cni`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::engine::{self, Engine};
use crate::images::{self, ARCHIVE, BUSYBOX, PAUSE};
use crate::sandbox::Daemon;
use crate::{Network, Sandbox, programs, wait};

/// Where containerd listens inside a sandbox.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// Which containerd: the programs, and the newest CNI version of the libcni inside.
#[derive(Debug, Clone)]
pub struct Release {
    bin: Option<PathBuf>,
    /// The newest `cniVersion` that it accepts.
    pub cni_version: &'static str,
}

impl Release {
    /// The machine's own; taken for the 1.x of Debian 12, whose libcni ends at CNI 1.0.0.
    ///
    /// # Errors
    /// If it is not installed.
    pub fn installed() -> Result<Release> {
        programs::require(&["containerd", "ctr", "containerd-shim-runc-v2", "runc"])?;
        Ok(Release { bin: None, cni_version: "1.0.0" })
    }

    /// containerd 2 from a newer Debian suite, unpacked beside: it calls STATUS.
    ///
    /// # Errors
    /// If it cannot be had: says what was tried.
    pub fn two() -> Result<Release> {
        programs::require(&["runc"])?;
        Ok(Release { bin: Some(programs::from_script("containerd2")?), cni_version: "1.1.0" })
    }

    fn program(&self, name: &str) -> String {
        self.bin.as_ref().map_or_else(|| name.to_owned(), |bin| bin.join(name).to_string_lossy().into_owned())
    }
}

/// A running containerd with the suite's images loaded.
#[derive(Debug)]
pub struct Containerd<'a> {
    sandbox: &'a Sandbox,
    release: Release,
    network: String,
    // Before the daemon, so that they end before it.
    clients: Mutex<HashMap<String, Daemon<'a>>>,
    daemon: Mutex<Daemon<'a>>,
}

impl<'a> Containerd<'a> {
    /// Installs the network, starts containerd and imports the images.
    ///
    /// # Errors
    /// The network's or containerd's, with the end of its log.
    pub fn start(sandbox: &'a Sandbox, network: &Network, release: Release) -> Result<Containerd<'a>> {
        network.install(sandbox, release.cni_version)?;
        images::put(sandbox)?;
        sandbox.write("/etc/containerd/config.toml", config())?;
        // The shim is looked for beside containerd and on PATH.
        let path = release.bin.as_ref().map(|bin| format!("{}:{}", bin.display(), programs::PATH));
        let environment = [("PATH", path.as_deref().unwrap_or(programs::PATH))];
        let command = [&release.program("containerd"), "--config", "/etc/containerd/config.toml"];
        let daemon = Mutex::new(sandbox.daemon("containerd", &environment, &command)?);
        let network = network.name().to_owned();
        let this = Containerd { sandbox, release, network, clients: Mutex::default(), daemon };
        wait::until("containerd", wait::LONG, || this.ctr(&["version"]).map(|_| ()))
            .with_context(|| format!("the end of containerd's log:\n{}", this.log()))?;
        for namespace in ["default", "k8s.io"] {
            this.ctr(&["--namespace", namespace, "image", "import", ARCHIVE])?;
        }
        Ok(this)
    }

    /// Runs its client.
    ///
    /// # Errors
    /// The client's words.
    pub fn ctr(&self, args: &[&str]) -> Result<String> {
        let ctr = self.release.program("ctr");
        self.sandbox.run(&[&[ctr.as_str()], args].concat())
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        lock(&self.daemon).log()
    }

    /// The version of the daemon.
    ///
    /// # Errors
    /// The client's.
    pub fn version(&self) -> Result<String> {
        let output = self.sandbox.run(&[&self.release.program("containerd"), "--version"])?;
        Ok(output.split_whitespace().nth(2).unwrap_or("?").to_owned())
    }
}

impl Engine for Containerd<'_> {
    fn name(&self) -> String {
        format!("ctr run --cni of containerd {}", self.version().unwrap_or_default())
    }

    /// In the foreground: a detached `ctr run --cni` leaves the network to nobody, and no DEL ever comes.
    fn start(&self, id: &str) -> Result<Vec<IpAddr>> {
        let [shell, flag, script] = engine::server(id);
        let ctr = self.release.program("ctr");
        let command = [&ctr, "run", "--rm", "--cni", BUSYBOX, id, &shell, &flag, &script];
        let mut client = self.sandbox.daemon(&format!("ctr-{id}"), &[], &command)?;
        // ctr does not print the result; libcni, which it links, keeps it for the later DEL.
        let cache = format!("cat /var/lib/cni/results/{}-*{id}-eth0", self.network);
        let result = wait::until("the CNI result of ctr run", wait::LONG, || match client.check() {
            Ok(()) => {
                self.sandbox.sh(&cache).and_then(|cache| Ok(Ok(serde_json::from_str::<Value>(&cache)?)))
            }
            ended => Ok(ended.map(|()| Value::Null)),
        })??;
        lock(&self.clients).insert(id.to_owned(), client);
        addresses(&result["result"])
    }

    fn exec(&self, id: &str, args: &[&str]) -> Result<String> {
        let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        self.ctr(&[&["task", "exec", "--exec-id", uuid.trim(), id], args].concat())
    }

    fn remove(&self, id: &str) -> Result<()> {
        self.ctr(&["task", "kill", "--signal", "KILL", id])?;
        // By the time of its DEL the namespace is gone: the plugin gets an empty CNI_NETNS.
        let mut client = lock(&self.clients).remove(id).with_context(|| format!("no container {id}"))?;
        client.wait(wait::LONG)
    }
}

/// A panic of another thread is reported by that thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses in a CNI result.
///
/// # Errors
/// If it has none.
pub fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let ips = result["ips"].as_array().with_context(|| format!("no addresses in the CNI result {result}"))?;
    let parse = |ip: &Value| {
        let text = ip["address"].as_str().and_then(|address| address.split('/').next()).unwrap_or_default();
        text.parse().with_context(|| format!("an odd address in the CNI result: {ip}"))
    };
    ips.iter().map(parse).collect()
}

fn config() -> String {
    // restrict_oom_score_adj: runc may not lower oom_score_adj where CAP_SYS_RESOURCE is missing.
    // Written for version 2, which containerd 2 still reads.
    format!(
        r#"version = 2
root = "/run/containerd-root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
"#
    )
}
