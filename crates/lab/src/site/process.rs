//! A program that outlives the command that started it: known again by its number, and by a word with which
//! nothing else was started.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::Error;

/// How long a killed program may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program that was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Process {
    pid: u32,
    word: String,
}

impl Process {
    /// Starts a program in a group of its own: the end of this terminal is not its end. `word` is one of its
    /// arguments; what it says goes to the end of `log`.
    pub(super) fn start(mut command: Command, word: String, log: &Path) -> Result<Process, Error> {
        let file = |source| Error::File { path: log.to_owned(), source };
        let out = fs::File::options().append(true).create(true).open(log).map_err(file)?;
        command.stdin(Stdio::null()).stdout(out.try_clone().map_err(file)?).stderr(out);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let program = command.get_program().into();
        let child = command.spawn().map_err(|source| Error::Program { what: "start", program, source })?;
        Ok(Process { pid: child.id(), word })
    }

    /// Whether it still runs: it, and not another one that got its number.
    pub(super) fn is_running(&self) -> bool {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        line.split(|b| *b == 0).any(|word| word == self.word.as_bytes())
    }

    /// Kills it, if it runs, and waits until it is gone.
    pub(super) fn kill(&self) -> Result<(), Error> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|_| self.is_running()) else { return Ok(()) };
        let failed = |source: rustix::io::Errno| Error::Program {
            what: "kill",
            program: self.word.clone().into(),
            source: source.into(),
        };
        kill_process(pid, Signal::KILL).map_err(failed)?;
        let begin = Instant::now();
        while self.is_running() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}
