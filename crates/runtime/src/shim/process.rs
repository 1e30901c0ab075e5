//! A process of a container as its shim sees it: born, connected, watched, reaped.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use weft_kernel::process::Born;

use crate::report::{Refusal, Report, Word};
use crate::spec::Spec;

/// A process, with those ends of its standard input and output that are the shim's.
pub(super) struct Running {
    born: Born,
    pub(super) input: Option<OwnedFd>,
    pub(super) output: Option<OwnedFd>,
    pub(super) error: Option<OwnedFd>,
    pub(super) terminal: Option<OwnedFd>,
    since: Instant,
}

/// Standard input, output and error of a process that has no terminal.
pub(super) type Inside = Option<[OwnedFd; 3]>;

/// Lets `fork` make a process that reports, and sees it through until its program runs; `ready` is done when all but
/// the program is there.
pub(super) fn bear(
    spec: &Spec,
    fork: impl FnOnce(Inside, &Report) -> Result<Born, Refusal>,
    mut ready: impl FnMut() -> Result<(), Refusal>,
) -> Result<Running, Refusal> {
    let (inside, [input, output, error]) = pipes(spec).map_err(failed("make pipes"))?;
    let (report, theirs) = Report::pair().map_err(failed("make a line to the container"))?;
    let born = fork(inside, &theirs)?;
    drop(theirs);
    let mut running = Running { born, input, output, error, terminal: None, since: Instant::now() };
    let refusal = loop {
        match report.next().map_err(failed("hear from the container")) {
            Ok(Word::Opened(fd)) => running.terminal = Some(fd),
            Ok(Word::Executed) => break None,
            Ok(Word::Refused(refusal)) | Err(refusal) => break Some(refusal),
            Ok(Word::Ready) => {
                let go = || report.go().map_err(failed("speak to the container"));
                if let Err(refusal) = ready().and_then(|()| go()) {
                    break Some(refusal);
                }
            }
        }
    };
    match refusal {
        None => Ok(running),
        Some(refusal) => {
            running.send(Signal::KILL.as_raw());
            running.reap();
            Err(refusal)
        }
    }
}

/// The ends of the process, and the shim's: input (only where somebody may give some), output, error.
fn pipes(spec: &Spec) -> io::Result<(Inside, [Option<OwnedFd>; 3])> {
    if spec.tty {
        return Ok((None, [None, None, None]));
    }
    let (stdin, input) = if spec.interactive {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        (reader, Some(writer))
    } else {
        (OwnedFd::from(fs::File::open("/dev/null")?), None)
    };
    let (output, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (error, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Some([stdin, stdout, stderr]), [input, Some(output), Some(error)]))
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> Refusal {
    move |error| Refusal::new(format!("failed to {what}: {error}"))
}

impl Running {
    /// Its number on the host.
    pub(super) fn pid(&self) -> i32 {
        self.born.pid.as_raw_pid()
    }

    pub(super) fn pidfd(&self) -> impl AsFd + '_ {
        self.born.pidfd.as_fd()
    }

    /// How long it has lived.
    pub(super) fn lived(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn send(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = pidfd_send_signal(&self.born.pidfd, signal);
        }
    }

    /// Its exit code, once it has ended: 128 and the signal's number if it was killed.
    pub(super) fn reap(&self) -> i32 {
        let status = waitid(WaitId::PidFd(self.born.pidfd.as_fd()), WaitIdOptions::EXITED);
        let Ok(Some(status)) = status else { return 255 };
        status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s)).unwrap_or(255)
    }

    pub(super) fn output_or_terminal(&self) -> Option<&OwnedFd> {
        self.terminal.as_ref().or(self.output.as_ref())
    }

    /// Nothing more will come from there.
    pub(super) fn close_output(&mut self, stream: u8) {
        match stream {
            2 => self.error = None,
            _ if self.terminal.is_some() => self.terminal = None,
            _ => self.output = None,
        }
    }
}

/// Whether a signal to a shim means that its container shall stop.
pub(super) fn is_stop(number: i32) -> bool {
    [Signal::TERM.as_raw(), Signal::INT.as_raw()].contains(&number)
}
