//! Containers of `weft run` on a host with an agent and an image: for tests of the runner.

use std::collections::BTreeSet;
use std::process::Output;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_model::Mode;

use crate::{Agent, Host, images, wait};

const WEFT: &str = "/opt/weft/weft";

/// A host on which containers run.
pub struct Containers {
    /// The host.
    pub host: Host,
    /// Its agent, until it is taken away.
    pub agent: Option<Agent>,
    before: BTreeSet<String>,
}

impl Containers {
    /// A host with a network called `default`, an agent, and the image [`images::BUSYBOX`].
    ///
    /// # Errors
    /// What is missing.
    pub fn new() -> Result<Containers> {
        let (host, agent) =
            Host::with_networks(&[("default", Mode::Routed, &["10.77.0.0/24", "fd77::/64"])])?;
        images::put(host.sandbox())?;
        host.sh(&format!("{WEFT} image load {}; mkdir -p /run/weft/containers", images::ARCHIVE))?;
        let before = held(&host)?;
        Ok(Containers { host, agent: Some(agent), before })
    }

    /// Runs weft with these arguments to its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn weft(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.host.sandbox().command("timeout");
        command.args(["-k", "5", "120", WEFT]).args(args);
        command.output().context("failed to start weft")
    }

    /// The same, which must succeed; what it printed.
    ///
    /// # Errors
    /// What it said.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        let output = self.weft(args)?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`weft {}`: {} {}", args.join(" "), output.status, words.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a shell's script in a fresh container that is removed afterwards: the exit code and all it wrote.
    ///
    /// # Errors
    /// If weft cannot be started.
    pub fn inside(&self, options: &[&str], script: &str) -> Result<(i32, String)> {
        let args = [&["run", "--rm"], options, &[images::BUSYBOX, "/bin/sh", "-c", script]].concat();
        let output = self.weft(&args)?;
        let text = [output.stdout, output.stderr].concat();
        let code = output.status.code().context("weft was killed")?;
        Ok((code, String::from_utf8_lossy(&text).into_owned()))
    }

    /// What `weft inspect` says.
    ///
    /// # Errors
    /// If there is no such container.
    pub fn inspect(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.ok(&["--json", "inspect", name])?)?)
    }

    /// What the agent knows under a container's name.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn attached(&self, name: &str) -> Result<bool> {
        Ok(self.host.status()?.workloads.iter().any(|w| w.id.container.as_str() == name))
    }

    /// Waits until nothing is left of any container, on the host and with the agent.
    ///
    /// # Errors
    /// What is left.
    pub fn clean(&self) -> Result<()> {
        wait::until("a clean host", wait::LONG / 4, || {
            let left: Vec<String> = held(&self.host)?.difference(&self.before).cloned().collect();
            ensure!(left.is_empty(), "left over:\n{}", left.join("\n"));
            if self.agent.is_some() {
                let workloads = self.host.status()?.workloads;
                if !workloads.is_empty() {
                    bail!("the agent still has {workloads:?}");
                }
            }
            Ok(())
        })
    }
}

/// Everything that a container can leave behind.
fn held(host: &Host) -> Result<BTreeSet<String>> {
    let text = host.sh(
        "find /var/lib/weft/containers /run/weft/containers -mindepth 1 -maxdepth 1 2>/dev/null | sed 's/^/folder /'
         ip netns list | sed 's/^/namespace /'
         find /sys/fs/cgroup -path '*/weft/*' -type d | sed 's/^/cgroup /'
         cut -d' ' -f5 /proc/self/mountinfo | grep /weft/ | sed 's/^/mount /'
         ip -o link | grep -o 'weft[0-9a-f]\\{10\\}' | sort -u | sed 's/^/wire /'
         for p in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$p 2>/dev/null | grep '^weft shim' || true; done",
    )?;
    Ok(text.lines().map(str::to_owned).collect())
}
