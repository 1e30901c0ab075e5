//! Who runs a share of the store: systemd where it runs, otherwise a process of its own.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;

use super::files::Files;
use crate::install::systemd;
use weft_agent::Config;

/// The unit's name.
pub(crate) const UNIT: &str = "weft-member.service";
const FILE: &str = "/etc/systemd/system/weft-member.service";

/// Starts this host's share of the store, now and after each boot. Returns where its log is.
pub(crate) fn start(files: &Files, config: &Path) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("failed to find this program's own file")?;
    if systemd::running() {
        let unit = format!(
            "[Unit]\nDescription=weft: this host's share of the cluster's store\nAfter=network-online.target\n\
             Wants=network-online.target\n\n[Service]\nExecStart={} member --config {}\nRestart=always\nRestartSec=2\n\
             LimitNOFILE=65536\n\n[Install]\nWantedBy=multi-user.target\n",
            program.display(),
            config.display()
        );
        fs::write(FILE, unit).with_context(|| format!("failed to write {FILE}"))?;
        systemd::start_unit(UNIT)?;
        return Ok(format!("journalctl -u {UNIT}"));
    }
    let log: PathBuf = files.path("member.log");
    let out = File::options().append(true).create(true).open(&log);
    let out = out.with_context(|| format!("failed to write {}", log.display()))?;
    let mut command = Command::new(program);
    command.args(["member", "--config"]).arg(config).stdin(Stdio::null());
    command.stdout(out.try_clone()?).stderr(out);
    // A group of its own: the end of this terminal is not its end.
    command.process_group(0).spawn().context("failed to start this host's share of the store")?;
    Ok(log.display().to_string())
}

/// Where it writes down its process's number.
pub(crate) fn pid_file(config: &Config) -> PathBuf {
    config.run_dir.join("member.pid")
}

/// Ends it and takes it out of what starts at boot. Absence is success.
pub(crate) fn remove(config: &Config) -> anyhow::Result<()> {
    let pid = fs::read_to_string(pid_file(config)).ok().and_then(|text| text.trim().parse().ok());
    // The number may be another process's by now.
    let ours = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|b| *b == 0).nth(1) == Some(b"member")
    };
    if let Some(pid) = pid.filter(ours).and_then(rustix::process::Pid::from_raw) {
        let ended = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        ended.context("failed to end this host's share of the store")?;
    }
    if Path::new(FILE).exists() {
        if systemd::running() {
            systemd::stop_unit(UNIT)?;
        }
        fs::remove_file(FILE).with_context(|| format!("failed to remove {FILE}"))?;
    }
    Ok(())
}
