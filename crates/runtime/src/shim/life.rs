//! A container's process from its birth to its end, and perhaps to the next birth.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
use weft_kernel::process::{Born, fork};
use weft_kernel::signal::Signals;

use super::parts::{Parts, chain};
use super::stdio::Stdio;
use crate::birth::{Birth, NAMESPACES};
use crate::channel::{FromShim, Started};
use crate::container::{End, Phase};
use crate::report::{Refusal, Report, Word};
use crate::seccomp;
use crate::spec::restart::Attempts;
use crate::time;

/// How long a container has to end by itself after it was asked to, unless `weft stop` says something else.
const GRACE: Duration = Duration::from_secs(10);

/// A process with the ends of its standard input and output that are the shim's.
pub(super) struct Running {
    born: Born,
    pub(super) input: Option<OwnedFd>,
    pub(super) output: Option<OwnedFd>,
    pub(super) error: Option<OwnedFd>,
    pub(super) terminal: Option<OwnedFd>,
    since: Instant,
}

/// Starts the container's process; returns when its program runs.
pub(super) fn start(parts: &mut Parts<'_>) -> Result<Running, Refusal> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |e: std::io::Error| Refusal::new(format!("failed to {what}: {e}"))
    };
    let spec = parts.spec;
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| io("make a pipe")(e.into()));
    let (stdio, mut input, mut output, mut error) = if spec.tty {
        (None, None, None, None)
    } else {
        let (inside, writer) = if spec.interactive {
            let (reader, writer) = pipe()?;
            (reader, Some(writer))
        } else {
            let null = fs::File::open("/dev/null").map_err(io("open /dev/null"))?;
            (OwnedFd::from(null), None)
        };
        let ((output, out), (error, err)) = (pipe()?, pipe()?);
        (Some([inside, out, err]), writer, Some(output), Some(error))
    };
    let filters = seccomp::filters(spec.capabilities).map_err(|e| chain(&e))?;
    let (report, theirs) = Report::pair().map_err(io("make a line to the container"))?;
    let folder = parts.live.group.folder().map_err(|e| chain(&e))?;
    let live = parts.folder();
    let birth = Birth {
        spec,
        merged: &parts.live.root.merged,
        etc: &live,
        group: &parts.live.group,
        doors: parts.live.group.doors().map_err(|e| chain(&e))?,
        filters: &filters,
        stdio,
        report: &theirs,
    };
    let born = {
        let _inside = match &parts.netns {
            Some(netns) => Some(netns.enter().map_err(|e| chain(&e))?),
            None => None,
        };
        fork(NAMESPACES, folder.as_ref().map(AsFd::as_fd), move || birth.run()).map_err(|e| chain(&e))?
    };
    drop(theirs);
    let mut terminal = None;
    let refusal = loop {
        match report.next().map_err(io("hear from the container"))? {
            Word::Terminal(fd) => terminal = Some(fd),
            Word::Refused(refusal) => break Some(refusal),
            Word::Executed => break None,
            Word::Ready => {
                if let Err(refusal) = parts.connected() {
                    break Some(refusal);
                }
                report.go().map_err(io("speak to the container"))?;
            }
        }
    };
    let running = Running {
        born,
        input: input.take(),
        output: output.take(),
        error: error.take(),
        terminal,
        since: Instant::now(),
    };
    if let Some(refusal) = refusal {
        let _ = pidfd_send_signal(&running.born.pidfd, Signal::KILL);
        running.reap();
        return Err(refusal);
    }
    parts.live.pid = Some(running.born.pid.as_raw_pid());
    parts.live.started = Some(time::now());
    parts.live.phase = Phase::Running;
    parts.save()?;
    Ok(running)
}

impl Running {
    pub(super) fn pidfd(&self) -> impl AsFd + '_ {
        self.born.pidfd.as_fd()
    }

    pub(super) fn send(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            let _ = pidfd_send_signal(&self.born.pidfd, signal);
        }
    }

    /// Its exit code, once it has ended: 128 and the signal's number if it was killed.
    fn reap(&self) -> i32 {
        let status = waitid(WaitId::PidFd(self.born.pidfd.as_fd()), WaitIdOptions::EXITED);
        let Ok(Some(status)) = status else { return 255 };
        status.exit_status().or_else(|| status.terminating_signal().map(|s| 128 + s)).unwrap_or(255)
    }

    pub(super) fn output_or_terminal(&self) -> &Option<OwnedFd> {
        if self.terminal.is_some() { &self.terminal } else { &self.output }
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

/// Why waiting has come to an end.
pub(super) enum Event {
    Ended,
    /// Somebody wants it stopped, or the time for that is over.
    Stop,
    Kill,
}

/// Follows the container until it is over for good.
pub(super) fn follow(
    parts: &mut Parts<'_>,
    first: Running,
    stdio: &mut Stdio,
    signals: &Signals,
) -> End {
    let mut attempts = Attempts::default();
    let mut running = first;
    let mut stopping = None;
    let mut kills = 0;
    stdio.say(&FromShim::Started(Started { pid: running.born.pid.as_raw_pid() }));
    loop {
        let code = wait(parts, &mut running, stdio, signals, &mut stopping);
        stdio.drain(&mut running);
        let lived = running.since.elapsed();
        let counted = parts.live.group.oom_kills();
        let oom = counted > kills;
        kills = counted;
        let end = |error| End {
            code,
            oom,
            at: time::now(),
            started: parts.live.started,
            restarts: parts.live.restarts,
            error,
        };
        let pause = parts.spec.restart.next(&mut attempts, code, lived);
        let Some(pause) = pause.filter(|_| stopping.is_none()) else { return end(None) };
        let over = end(None);
        parts.live.phase = Phase::Restarting;
        parts.live.pid = None;
        let _ = parts.save();
        if rest(pause, signals) {
            return over;
        }
        parts.live.restarts += 1;
        match start(parts) {
            Ok(next) => running = next,
            Err(refusal) => return End { code: refusal.code, error: Some(refusal.message), ..over },
        }
    }
}

/// Waits until the process has ended, moving its input and output meanwhile; returns its exit code.
fn wait(
    parts: &Parts<'_>,
    running: &mut Running,
    stdio: &mut Stdio,
    signals: &Signals,
    stopping: &mut Option<Instant>,
) -> i32 {
    loop {
        let event = match stdio.turn(running, signals, *stopping) {
            Ok(Some(event)) => event,
            Ok(None) => continue,
            // Nothing sensible is left to do but to end.
            Err(_) => Event::Kill,
        };
        match event {
            Event::Ended => return running.reap(),
            Event::Stop if stopping.is_none() => {
                let grace = fs::read_to_string(parts.folder().join("grace")).ok();
                let grace = grace.and_then(|g| g.trim().parse().ok()).map_or(GRACE, Duration::from_secs);
                *stopping = Some(Instant::now() + grace);
                running.send(parts.spec.stop_signal);
            }
            Event::Stop => {}
            Event::Kill => {
                running.send(Signal::KILL.as_raw());
                *stopping = Some(Instant::now() + Duration::from_secs(3600));
            }
        }
    }
}

/// Waits before the next start; returns whether somebody wants it stopped meanwhile.
fn rest(pause: Duration, signals: &Signals) -> bool {
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let mut fds = [rustix::event::PollFd::new(signals, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec::try_from(left).unwrap_or_default();
        if rustix::event::poll(&mut fds, Some(&timeout)).is_err() {
            continue;
        }
        while let Ok(Some(number)) = signals.next() {
            if is_stop(number) {
                return true;
            }
        }
    }
}

pub(super) fn is_stop(number: i32) -> bool {
    [Signal::TERM.as_raw(), Signal::INT.as_raw()].contains(&number)
}
