//! netavark, podman's network program. podman itself chooses the addresses, so they cost nothing here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::host::{Host, Seat};
use crate::program;

/// Where Debian puts it.
pub(crate) const PROGRAM: &str = "/usr/lib/podman/netavark";

/// netavark on a host.
pub(crate) struct Netavark {
    config: PathBuf,
    /// Its firewall driver, as `NETAVARK_FW` names it.
    driver: &'static str,
    /// podman holds a lock of its own around each call: netavark fails where two run at once.
    one_at_a_time: Mutex<()>,
}

/// The firewall driver to measure: nftables where this netavark has it (from 1.10 on), otherwise iptables.
///
/// # Errors
/// If it cannot be executed.
pub(crate) fn driver() -> Result<(String, &'static str)> {
    let (_, output) = program::run(Command::new(PROGRAM).arg("--version"), b"")?;
    let version = String::from_utf8_lossy(&output).trim().replace("netavark ", "");
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let driver = if (major, minor) >= (1, 10) { "nftables" } else { "iptables" };
    Ok((version, driver))
}

impl Netavark {
    /// netavark with its files on `host`.
    pub(crate) fn new(host: &Host, driver: &'static str) -> Netavark {
        let config = host.dir.join("netavark");
        // Failure shows at the first set-up.
        let _ = std::fs::create_dir_all(&config);
        Netavark { config, driver, one_at_a_time: Mutex::new(()) }
    }

    fn call(&self, verb: &str, seat: &Seat) -> Result<(Duration, Vec<u8>)> {
        let mut command = Command::new(Path::new(PROGRAM));
        command.env_clear().env("NETAVARK_FW", self.driver);
        command.arg("--config").arg(&self.config).arg(verb).arg(&seat.netns);
        let _turn = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        program::run(&mut command, wish(seat).to_string().as_bytes())
    }

    pub(super) fn setup(&self, seat: &Seat) -> Result<(Duration, Value)> {
        let (took, output) = self.call("setup", seat)?;
        Ok((took, serde_json::from_slice(&output).context("netavark's answer is not JSON")?))
    }

    pub(super) fn teardown(&self, seat: &Seat) -> Result<Duration> {
        Ok(self.call("teardown", seat)?.0)
    }
}

/// What podman writes to its stdin.
fn wish(seat: &Seat) -> Value {
    let [high, low] = seat.number.to_be_bytes();
    json!({
        "container_id": seat.container,
        "container_name": seat.container,
        "networks": {
            "bench": { "static_ips": [format!("10.203.{high}.{low}")], "interface_name": "eth0", "aliases": [] },
        },
        "network_info": {
            "bench": {
                "name": "bench",
                "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
                "driver": "bridge",
                "network_interface": "podman1",
                "created": "2026-01-01T00:00:00Z",
                "subnets": [{ "subnet": "10.203.0.0/16", "gateway": "10.203.255.254" }],
                "ipv6_enabled": false,
                "internal": false,
                "dns_enabled": false,
                "ipam_options": { "driver": "host-local" },
            },
        },
    })
}
