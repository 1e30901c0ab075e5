//! A container's process from its birth to its end, and perhaps to the next birth.

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use weft_kernel::process::fork;
use weft_kernel::signal::Signals;

use super::parts::Parts;
use super::process::{self, Running, is_stop};
use super::stdio::{Event, Stdio};
use crate::birth::{Birth, namespaces};
use crate::channel::{FromShim, Started};
use crate::container::{End, Phase};
use crate::report::{Refusal, chain};
use crate::seccomp;
use crate::spec::restart::Attempts;
use crate::time;

/// How long a container has to end by itself after it was asked to, unless `weft stop` says something else.
const GRACE: Duration = Duration::from_secs(10);

/// Starts the container's process; returns when its program runs.
pub(super) fn start(parts: &mut Parts<'_>) -> Result<Running, Refusal> {
    let spec = parts.spec;
    let filters = seccomp::filters(spec.capabilities).map_err(|e| chain(&e))?;
    let folder = parts.live.group.folder().map_err(|e| chain(&e))?;
    let doors = parts.live.group.doors().map_err(|e| chain(&e))?;
    let (etc, merged, group) = (parts.folder(), parts.live.root.merged.clone(), parts.live.group.clone());
    let (netns, space) = (parts.netns.take(), parts.space.take());
    let inside = space.as_ref();
    let born = process::bear(
        spec,
        |stdio, report| {
            let birth = Birth {
                spec,
                merged: &merged,
                etc: &etc,
                group: &group,
                doors,
                filters: &filters,
                stdio,
                report,
                space: inside,
            };
            let _inside = match &netns {
                Some(netns) => Some(netns.enter().map_err(|e| chain(&e))?),
                None => None,
            };
            fork(namespaces(inside), folder.as_ref().map(AsFd::as_fd), move || birth.run())
                .map_err(|e| chain(&e))
        },
        || parts.connected(),
    );
    (parts.netns, parts.space) = (netns, space);
    let running = born?;
    parts.live.pid = Some(running.pid());
    parts.live.started = Some(time::now());
    parts.live.phase = Phase::Running;
    parts.save()?;
    Ok(running)
}

/// Follows the container until it is over for good.
pub(super) fn follow(parts: &mut Parts<'_>, first: Running, stdio: &mut Stdio, signals: &Signals) -> End {
    let mut attempts = Attempts::default();
    let mut running = first;
    let mut stopping = None;
    let mut kills = 0;
    stdio.say(&FromShim::Started(Started { pid: running.pid() }));
    loop {
        let code = wait(parts, &mut running, stdio, signals, &mut stopping);
        stdio.drain(&mut running);
        let lived = running.lived();
        let counted = parts.live.group.oom_kills();
        let oom = counted > kills;
        kills = counted;
        let end = |error| End {
            code,
            oom,
            at: time::now(),
            started: parts.live.started,
            restarts: parts.live.restarts,
            boot: parts.live.boot.clone(),
            stopped: asked(parts),
            error,
        };
        let pause = parts.spec.restart.next(&mut attempts, code, lived);
        let Some(pause) = pause.filter(|_| stopping.is_none()) else { return end(None) };
        let over = end(None);
        parts.live.phase = Phase::Restarting;
        parts.live.pid = None;
        let _ = parts.save();
        if rest(pause, signals) {
            return End { stopped: asked(parts), ..over };
        }
        parts.live.restarts += 1;
        match start(parts) {
            Ok(next) => running = next,
            Err(refusal) => return End { code: refusal.code, error: Some(refusal.message), ..over },
        }
    }
}

/// Whether somebody asked for its end with `weft stop`, and not the host that goes down.
fn asked(parts: &Parts<'_>) -> bool {
    parts.folder().join("grace").exists()
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
