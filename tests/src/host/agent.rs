//! The one process of the agent: signals to it, its end, and what it uses.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A running agent. Dropping it kills it.
pub struct Agent {
    pub(super) child: Child,
    pub(super) pid: Pid,
    pub(super) log: PathBuf,
}

impl Agent {
    /// Its number, as this process sees it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid, signal)?;
        self.wake_parent(signal)
    }

    /// nsenter stops itself when its child is stopped, and must be woken to see its end.
    fn wake_parent(&self, signal: Signal) -> Result<()> {
        let parent = Pid::from_raw(i32::try_from(self.child.id())?).context("no process number")?;
        if signal != Signal::CONT { Ok(()) } else { Ok(kill_process(parent, signal)?) }
    }

    /// A file of its in `/proc`, such as `status`.
    ///
    /// # Errors
    /// If it is gone.
    pub fn proc(&self, file: &str) -> Result<String> {
        Ok(std::fs::read_to_string(format!("/proc/{}/{file}", self.pid.as_raw_nonzero()))?)
    }

    /// Ends it as nobody can prevent, and waits for that.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.wake_parent(Signal::CONT);
        }
        let _ = self.child.wait();
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// If it has not ended after ten seconds, or not with success.
    pub fn terminate(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.wait(Duration::from_secs(10))?;
        ensure!(status.success(), "SIGTERM ended the agent with {status}\n{}", self.log());
        Ok(())
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// If it still runs after `bound`.
    pub fn wait(&mut self, bound: Duration) -> Result<std::process::ExitStatus> {
        wait::until("the agent's end", bound, || self.child.try_wait()?.context("still running"))
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resident memory in KiB, and open files.
    ///
    /// # Errors
    /// If it is gone.
    pub fn use_of(&self) -> Result<(u64, usize)> {
        let pid = self.pid.as_raw_pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let resident = resident.trim().trim_end_matches(" kB").parse()?;
        Ok((resident, std::fs::read_dir(format!("/proc/{pid}/fd"))?.count()))
    }

    /// The last 40 lines of what the host's agents have said.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.end();
    }
}

pub(super) fn tail(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
