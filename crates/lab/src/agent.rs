//! The agent's process on a host: its start, its end, its words.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use weft_kernel::netns::ends_with_thread;
use weft_model::api::Request;

use crate::{Error, ask};

/// How long an agent may take to answer first, or to end when asked to; either is a matter of milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of a log is told, in lines.
const TOLD: usize = 40;

/// A running agent. Dropping it kills it.
pub(crate) struct Agent {
    node: String,
    program: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Agent {
    /// Starts `command` and waits until it answers at `socket`.
    pub(crate) fn start(node: &str, mut command: Command, log: &Path, socket: &Path) -> Result<Agent, Error> {
        let program = PathBuf::from(command.get_program());
        let file = |source| Error::File { path: log.to_owned(), source };
        let out = File::options().append(true).create(true).open(log).map_err(file)?;
        command.stdin(Stdio::null()).stdout(out.try_clone().map_err(file)?).stderr(out);
        let child = spawn(command).map_err(|source| Error::Program {
            what: "start",
            program: program.clone(),
            source,
        })?;
        let mut agent = Agent { node: node.to_owned(), program, log: log.to_owned(), child };
        let begin = Instant::now();
        loop {
            let answer = ask(socket, &Request::NetworkList);
            if let Some(status) = agent.poll()? {
                return Err(Error::Ended { node: agent.node.clone(), status, log: agent.words() });
            }
            match answer {
                Ok(_) => return Ok(agent),
                Err(_) if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
                Err(_) => return Err(agent.silent("answer")),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(mut self) -> Result<(), Error> {
        self.signal(Signal::TERM)?;
        let begin = Instant::now();
        while self.poll()?.is_none() {
            if begin.elapsed() > PATIENCE {
                return Err(self.silent("end"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) fn kill(mut self) -> Result<(), Error> {
        self.signal(Signal::KILL)?;
        self.child.wait().map(|_| ()).map_err(|source| self.failed("wait for", source))
    }

    /// Waits for an end that comes by itself.
    pub(crate) fn wait(mut self) -> Result<String, Error> {
        let begin = Instant::now();
        loop {
            match self.poll()? {
                Some(status) => return Ok(status),
                None if begin.elapsed() > PATIENCE => return Err(self.silent("end")),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        // Not reaped yet, so the number is still this child's.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| self.failed("stop", io::ErrorKind::NotFound.into()))?;
        kill_process(pid, signal).map_err(|source| self.failed("stop", source.into()))
    }

    fn poll(&mut self) -> Result<Option<String>, Error> {
        let status = self.child.try_wait();
        Ok(status.map_err(|source| self.failed("wait for", source))?.map(|s| s.to_string()))
    }

    fn failed(&self, what: &'static str, source: io::Error) -> Error {
        Error::Program { what, program: self.program.clone(), source }
    }

    fn silent(&self, what: &'static str) -> Error {
        Error::Silent { node: self.node.clone(), what, seconds: PATIENCE.as_secs(), log: self.words() }
    }

    fn words(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TOLD)..].join("\n")
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a program that dies with this process, even by `kill -9`. The kernel ties that to the thread
/// that starts it, so one thread that never ends starts all.
pub(crate) fn spawn(mut command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, queue) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in queue {
                answer.send(command.spawn()).ok();
            }
        });
        Mutex::new(orders)
    });
    ends_with_thread(&mut command);
    let (answer, child) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts programs is gone");
    starter.lock().unwrap_or_else(PoisonError::into_inner).send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
