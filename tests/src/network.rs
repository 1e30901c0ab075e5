//! The CNI network under test: plugins, configuration, and how the host is made ready for it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Sandbox, programs};

/// Where Debian's reference plugins live.
pub const REFERENCE_PLUGINS: &str = "/usr/lib/cni";

type Prepare = dyn Fn(&Sandbox) -> Result<()> + Sync;
type Leaks = dyn Fn(&Sandbox) -> Result<Vec<String>> + Sync;

/// A CNI network. Give your own with [`Network::new`], or the reference plugins' with [`Network::reference`].
pub struct Network {
    name: String,
    conflist: Value,
    plugins: PathBuf,
    residue: Vec<String>,
    prepare: Box<Prepare>,
    leaks: Box<Leaks>,
}

impl Network {
    /// A network from the text of a conflist and the folder with its plugins.
    ///
    /// The conflist bears the newest `cniVersion` that the plugins speak; an engine that is older gets it
    /// with its own newest. A plugin that the folder lacks is taken from the reference ones, and so is `loopback`,
    /// which containerd executes beside every network.
    ///
    /// # Errors
    /// If the text is no conflist.
    pub fn new(plugins: impl Into<PathBuf>, conflist: &str) -> Result<Network> {
        let conflist: Value = serde_json::from_str(conflist).context("the conflist is not JSON")?;
        let name = conflist["name"].as_str().context("the conflist has no name")?.to_owned();
        ensure!(conflist["cniVersion"].is_string(), "the conflist has no cniVersion");
        ensure!(conflist["plugins"].is_array(), "the conflist has no plugins");
        Ok(Network {
            name,
            conflist,
            plugins: plugins.into(),
            residue: Vec::new(),
            prepare: Box::new(|_| Ok(())),
            leaks: Box::new(|_| Ok(Vec::new())),
        })
    }

    /// What to do on the host before the first engine starts, after the plugins are in `/opt/cni/bin`.
    ///
    /// Such as: [`Sandbox::copy_in`] the agent, spawn it with [`Sandbox::command`] and wait until it answers.
    /// It need not be stopped: it ends with the sandbox.
    #[must_use]
    pub fn prepare(mut self, hook: impl Fn(&Sandbox) -> Result<()> + Sync + 'static) -> Network {
        self.prepare = Box::new(hook);
        self
    }

    /// How to list what is still allocated when no container is left; must be empty then.
    #[must_use]
    pub fn leaks(mut self, list: impl Fn(&Sandbox) -> Result<Vec<String>> + Sync + 'static) -> Network {
        self.leaks = Box::new(list);
        self
    }

    /// Names interfaces that the network keeps by design after its last container.
    #[must_use]
    pub fn residue(mut self, links: &[&str]) -> Network {
        self.residue = links.iter().map(ToString::to_string).collect();
        self
    }

    /// The CNI project's `bridge` and `host-local`, dual stack.
    ///
    /// # Panics
    /// Never: the conflist is a constant.
    #[must_use]
    pub fn reference() -> Network {
        let conflist = json!({
            "cniVersion": "1.0.0",
            "name": "reference",
            "plugins": [{
                "type": "bridge",
                "bridge": "ref0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": "10.98.0.0/24" }], [{ "subnet": "fd98::/64" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                },
            }],
        });
        Network::new(REFERENCE_PLUGINS, &conflist.to_string())
            .expect("the reference conflist is well-formed")
            .residue(&["ref0"])
            .leaks(|sandbox| host_local_leases(sandbox, "reference"))
    }

    /// The CNI project's `ptp` and `host-local`: routed, without a bridge, and nothing kept afterwards.
    ///
    /// # Panics
    /// Never: the conflist is a constant.
    #[must_use]
    pub fn reference_routed() -> Network {
        let conflist = json!({
            "cniVersion": "1.0.0",
            "name": "routed",
            "plugins": [{
                "type": "ptp",
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": "10.97.0.0/24" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        });
        Network::new(REFERENCE_PLUGINS, &conflist.to_string())
            .expect("the routed conflist is well-formed")
            .leaks(|sandbox| host_local_leases(sandbox, "routed"))
    }

    /// Its name, by which podman and cnitool call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interfaces named with [`Network::residue`].
    #[must_use]
    pub fn kept_links(&self) -> &[String] {
        &self.residue
    }

    /// What is still allocated, as the network itself tells.
    ///
    /// # Errors
    /// The hook's.
    pub fn leaked(&self, sandbox: &Sandbox) -> Result<Vec<String>> {
        (self.leaks)(sandbox)
    }

    /// Puts plugins and conflist where engines look for them, and prepares the host.
    ///
    /// `newest` is the newest CNI version that the engine understands.
    ///
    /// # Errors
    /// If a plugin is missing, or the hook's.
    pub fn install(&self, sandbox: &Sandbox, newest: &str) -> Result<()> {
        let mut wanted = BTreeSet::from(["loopback".to_owned()]);
        types(&self.conflist["plugins"], &mut wanted);
        for plugin in wanted {
            let dirs = [self.plugins.as_path(), Path::new(REFERENCE_PLUGINS)];
            let mut files = dirs.iter().map(|dir| dir.join(&plugin));
            let file = files.find(|file| programs::is_executable(file)).with_context(|| {
                let dir = self.plugins.display();
                format!("missing: the CNI plugin {plugin}, neither in {dir} nor in {REFERENCE_PLUGINS} (scripts/setup test)")
            })?;
            sandbox.copy_in(&file, &format!("/opt/cni/bin/{plugin}"))?;
        }
        let mut conflist = self.conflist.clone();
        if version(newest) < version(conflist["cniVersion"].as_str().unwrap_or_default()) {
            conflist["cniVersion"] = newest.into();
        }
        sandbox.write(&format!("/etc/cni/net.d/10-{}.conflist", self.name), conflist.to_string())?;
        (self.prepare)(sandbox).context("failed to prepare the host for the network")
    }
}

/// The plugins that a configuration names, also those that its plugins call.
fn types(config: &Value, found: &mut BTreeSet<String>) {
    match config {
        Value::Array(items) => items.iter().for_each(|item| types(item, found)),
        Value::Object(fields) => {
            found.extend(fields.get("type").and_then(Value::as_str).map(str::to_owned));
            fields.get("ipam").into_iter().for_each(|ipam| types(ipam, found));
        }
        _ => {}
    }
}

/// host-local keeps one file per address, and some for its own book-keeping.
fn host_local_leases(sandbox: &Sandbox, network: &str) -> Result<Vec<String>> {
    let list = sandbox.sh(&format!("ls /var/lib/cni/networks/{network} 2>/dev/null || true"))?;
    let kept = list.lines().filter(|name| !name.starts_with("last_reserved") && *name != "lock");
    Ok(kept.map(|name| format!("address {name}")).collect())
}

fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("name", &self.name)
            .field("plugins", &self.plugins)
            .finish_non_exhaustive()
    }
}
