//! Stopping an agent before its files go: through systemd, or by a signal to the process that verifiably is it.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, Signal};
use weft_model::api::{Reply, Request};

use super::systemd;
use crate::away::agents;
use crate::client::exchange;
use crate::failure::Failure;

/// How long an agent may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Makes sure that no agent of this network namespace runs. Says what it did, if anything.
pub(crate) fn agent(socket: &Path) -> anyhow::Result<Option<String>> {
    let mut done = None;
    if systemd::running() && systemd::unit_exists() {
        // Also when it is not active: it may be waiting to be restarted.
        let active = systemd::unit_is_active();
        systemd::stop().context("failed to stop the agent")?;
        done = active.then(|| "stopped the agent (systemctl stop weft)".to_owned());
    }
    if let Ok(stream) = UnixStream::connect(socket) {
        let pid = by_signal(stream, socket)?;
        done = Some(format!("stopped the agent (process {pid})"));
    }
    // One that listens elsewhere would make again what is about to be removed. Agents in other
    // network namespaces have kernels' worth of their own and are left alone.
    let here = |pid: &u32| namespace(&pid.to_string()).is_none_or(|theirs| Some(theirs) == namespace("self"));
    if let Some(pid) = agents().into_iter().find(here) {
        let message =
            format!("process {pid} is a weft agent and still running, but not at {}", socket.display());
        bail!(
            Failure::new(message).hint(format!("stop it (`kill {pid}`), or name its socket with --socket"))
        );
    }
    Ok(done)
}

fn namespace(pid: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// Sends SIGTERM to the process behind the socket and waits for its end.
fn by_signal(stream: UnixStream, socket: &Path) -> anyhow::Result<u32> {
    let listener = socket_peercred(&stream).context("failed to ask who listens on the agent's socket")?.pid;
    let pid = match exchange(stream, &Request::Status)? {
        Reply::Status(status) => status.pid,
        reply => return Err(crate::client::unexpected(&reply)),
    };
    let refuse = |why: String| {
        let message =
            format!("an agent answers at {} and cannot be stopped from here: {why}", socket.display());
        Failure::new(message).hint("stop it first, then run this again")
    };
    // The kernel's word and the agent's: they differ when it runs in another process namespace.
    if u32::try_from(listener.as_raw_nonzero().get()).ok() != Some(pid) {
        bail!(refuse(format!(
            "it says that it is process {pid}, the socket is process {}'s",
            listener.as_raw_nonzero()
        )));
    }
    let process = open(listener).map_err(|e| refuse(format!("process {pid}: {e}")))?;
    // Checked after the process was opened: from here on it cannot become another.
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    let program = program.map_err(|e| refuse(format!("process {pid}: {e}")))?;
    if !is_weft(&program) {
        bail!(refuse(format!("process {pid} is {}", program.display())));
    }
    rustix::process::pidfd_send_signal(&process, Signal::TERM)
        .map_err(|e| refuse(format!("process {pid}: {e}")))?;
    let mut ends = [PollFd::new(&process, PollFlags::IN)];
    match rustix::event::poll(&mut ends, Some(&PATIENCE)) {
        Ok(1) => Ok(pid),
        _ => bail!(refuse(format!("process {pid} did not end within {} s of SIGTERM", PATIENCE.tv_sec))),
    }
}

fn open(pid: Pid) -> rustix::io::Result<OwnedFd> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

/// An upgraded agent runs a file that has no name any more.
fn is_weft(program: &Path) -> bool {
    let name = program.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    name.strip_suffix(" (deleted)").unwrap_or(name) == "weft" || name.starts_with(super::tree::TEMPORARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_after_an_upgrade_too() {
        assert!(is_weft(Path::new("/usr/local/bin/weft")));
        assert!(is_weft(Path::new("/usr/local/bin/weft (deleted)")));
        assert!(!is_weft(Path::new("/usr/bin/weftly")));
        assert!(!is_weft(Path::new("/usr/bin/sleep")));
    }
}
