//! Ending containers that run, and removing those that are over.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::container::{Container, End, Held, Phase, load};
use crate::name::Name;
use crate::places::Places;
use crate::reconcile::remove_folder;
use crate::report::Refusal;

/// The shim of a container that runs, found by its number and known by the lock that it holds.
struct Shim(OwnedFd);

impl Shim {
    /// `None` if the container is over.
    fn find(places: &Places, name: &Name) -> Result<Option<Shim>, Refusal> {
        let container = Container::find(places, name)?;
        let Some(live) = container.live else { return Ok(None) };
        let pid = Pid::from_raw(live.shim);
        let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // A number that is another's by now: then nobody holds the folder.
        let held = Held::take(&places.containers().join(name.as_str())).is_none();
        Ok(pidfd.filter(|_| held).map(Shim))
    }

    /// Waits for its end; returns whether it came.
    fn wait(&self, patience: Option<Duration>) -> bool {
        let until = patience.map(|p| Instant::now() + p);
        loop {
            let left = until.map(|u| u.saturating_duration_since(Instant::now()));
            let timeout = left.map(|l| Timespec::try_from(l).unwrap_or_default());
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                other => return matches!(other, Ok(1..)),
            }
        }
    }
}

/// Asks a container to end, and has it killed after `grace`. Returns when all it held is gone.
///
/// # Errors
/// If there is no such container, or it cannot be ended.
pub fn stop(places: &Places, name: &Name, grace: Duration) -> Result<(), Refusal> {
    let Some(shim) = Shim::find(places, name)? else { return Ok(()) };
    let file = places.live(name).join("grace");
    let written = fs::write(&file, grace.as_secs().to_string());
    written.map_err(|e| Refusal::new(format!("failed to write {}: {e}", file.display())))?;
    pidfd_send_signal(shim.0.as_fd(), Signal::TERM)
        .map_err(|e| Refusal::new(format!("failed to speak to the shim of '{name}': {e}")))?;
    // Killing takes a moment, and so does taking everything down.
    if shim.wait(Some(grace + Duration::from_secs(30))) {
        return Ok(());
    }
    Err(Refusal::new(format!("the container '{name}' does not end")).hint(
        "`weft inspect` shows its cgroups; what is in `cgroup.procs` there may wait for a device or a server",
    ))
}

/// Sends a signal to a container's first process.
///
/// # Errors
/// If there is no such container, or it does not run.
pub fn kill(places: &Places, name: &Name, signal: Signal) -> Result<(), Refusal> {
    let gone = || Refusal::new(format!("the container '{name}' does not run"));
    let shim = Shim::find(places, name)?.ok_or_else(gone)?;
    let container = Container::find(places, name)?;
    let pid =
        container.live.filter(|l| l.phase == Phase::Running).and_then(|l| l.pid).and_then(Pid::from_raw);
    let pidfd = pidfd_open(pid.ok_or_else(gone)?, PidfdFlags::empty()).map_err(|_| gone())?;
    // Its shim lives and has not noted an end, so the number is still the container's.
    drop(shim);
    pidfd_send_signal(pidfd, signal).map_err(|e| Refusal::new(format!("failed to signal '{name}': {e}")))
}

/// Waits until a container is over; its end, unless nothing of it was to be kept.
///
/// # Errors
/// If there is no such container.
pub fn wait(places: &Places, name: &Name) -> Result<Option<End>, Refusal> {
    if let Some(shim) = Shim::find(places, name)? {
        shim.wait(None);
    }
    Ok(load(&places.containers().join(name.as_str()).join("end.json")))
}

/// Removes a container with all that it wrote; one that runs only with `force`, which kills it.
///
/// # Errors
/// If there is no such container, it runs, or its files cannot be removed.
pub fn remove(places: &Places, name: &Name, force: bool) -> Result<(), Refusal> {
    let folder = places.containers().join(name.as_str());
    if let Some(shim) = Shim::find(places, name)? {
        if !force {
            return Err(Refusal::new(format!("the container '{name}' runs")).hint(format!(
                "stop it first with `weft stop {name}`, or kill it with `weft rm -f {name}`"
            )));
        }
        drop(shim);
        stop(places, name, Duration::ZERO)?;
    }
    let Some(_held) = Held::take(&folder) else {
        return match fs::symlink_metadata(&folder) {
            // With --rm its shim has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => Err(Refusal::new(format!("the container '{name}' is being used by another command"))),
        };
    };
    if let Ok(container) = Container::find(places, name) {
        crate::rootfs::release(places, &container.spec, &folder);
    }
    match remove_folder(&folder) {
        None => Ok(()),
        Some(why) => Err(Refusal::new(why)),
    }
}
