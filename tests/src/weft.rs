//! weft as the network under test: its plugin, its agent, and what it must not leave behind.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use crate::{Network, programs, wait};

const PROGRAM: &str = "/run/weft-bin/weft";

/// Where the programs under test are: `WEFT_BIN` (set by `make test`), or beside the test's own executable.
///
/// # Errors
/// If they are in neither place, with the way to build them.
pub fn programs_folder() -> Result<PathBuf> {
    let beside = || {
        let own = std::env::current_exe().ok()?;
        own.ancestors().nth(2).map(PathBuf::from) // target/debug/deps/test → target/debug
    };
    std::env::var_os("WEFT_BIN")
        .map(PathBuf::from)
        .or_else(beside)
        .filter(|folder| folder.join("weft").is_file() && folder.join("weft-cni").is_file())
        .context("no weft and weft-cni: run `make test`, or `cargo build -p weft -p weft-cni`")
}

/// How its workloads are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The default network.
    Routed,
    /// A network with a bridge.
    Bridge,
}

impl Network {
    /// weft's plugin with a real agent on the host.
    ///
    /// # Errors
    /// If the programs are not built.
    pub fn weft(mode: Mode) -> Result<Network> {
        let folder = programs_folder()?;
        let network = match mode {
            Mode::Routed => "default",
            Mode::Bridge => "lan",
        };
        let capabilities = json!({
            "portMappings": true, "bandwidth": true, "ips": true, "mac": true, "ipRanges": true, "dns": true
        });
        let plugin = json!({ "type": "weft-cni", "network": network, "capabilities": capabilities });
        let conflist = json!({ "cniVersion": "1.1.0", "name": "weft", "plugins": [plugin] });
        programs::require(&["ip", "nft"])?;
        let program = folder.join("weft");
        let prepare = move |host: &crate::Sandbox| {
            host.copy_in(&program, PROGRAM)?;
            host.daemon("agent", &[], &[PROGRAM, "agent"])?.leave();
            wait::until("the agent", wait::LONG, || host.run(&[PROGRAM, "status"]).map(|_| ()))?;
            if mode == Mode::Bridge {
                host.run(&[PROGRAM, "network", "create", "lan", "--mode", "bridge"])?;
            }
            Ok(())
        };
        let network = Network::new(folder, &conflist.to_string())?
            .prepare(prepare)
            .leaks(|host| Ok(host.run(&[PROGRAM, "inventory"])?.lines().map(str::to_owned).collect()));
        Ok(network)
    }
}
