//! The one helper program that is executed: `systemctl`, and only where systemd runs.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The unit's name.
const UNIT: &str = "weft.service";
/// The unit that starts containers after a boot.
const CONTAINERS: &str = "weft-containers.service";

/// Whether this host was booted with systemd (sd_booted(3)).
pub(crate) fn running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Whether there is a unit to start.
pub(crate) fn unit_exists() -> bool {
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"]
        .iter()
        .any(|folder| Path::new(folder).join(UNIT).exists())
}

/// Whether systemd runs the agent.
pub(crate) fn unit_is_active() -> bool {
    running() && quietly(&["is-active", "--quiet", UNIT])
}

/// Makes systemd read the unit files again.
pub(crate) fn reload() -> anyhow::Result<()> {
    systemctl(&["daemon-reload"])
}

/// Starts the agent, or makes the running one the new program.
pub(crate) fn restart() -> anyhow::Result<()> {
    systemctl(&["restart", UNIT])
}

/// Stops the agent, and forgets that containers were started after the boot; they run on.
pub(crate) fn stop() -> anyhow::Result<()> {
    quietly(&["stop", CONTAINERS]); // an older installation has none
    systemctl(&["stop", UNIT])
}

/// Starts a unit of weft's, now and after each boot.
pub(crate) fn start_unit(unit: &str) -> anyhow::Result<()> {
    reload()?;
    systemctl(&["enable", "--now", unit])
}

/// Stops a unit of weft's, and keeps it from starting at boot.
pub(crate) fn stop_unit(unit: &str) -> anyhow::Result<()> {
    systemctl(&["disable", "--now", unit])
}

/// Tells those who might take weft's links about the drop-ins; returns whom it could not tell.
pub(crate) fn tell_others() -> Vec<&'static str> {
    let others = ["NetworkManager.service", "systemd-networkd.service"];
    let active = others.into_iter().filter(|u| quietly(&["is-active", "--quiet", u]));
    active.filter(|u| !quietly(&["reload", u])).collect()
}

fn quietly(arguments: &[&str]) -> bool {
    let mut command = Command::new("systemctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

fn systemctl(arguments: &[&str]) -> anyhow::Result<()> {
    let words = format!("systemctl {}", arguments.join(" "));
    let mut command = Command::new("systemctl");
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("failed to run `{words}`"))?;
    if !output.status.success() {
        bail!("`{words}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
