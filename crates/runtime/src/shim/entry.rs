//! A further program in a container that runs: what `weft exec` starts.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use weft_kernel::process::fork;
use weft_kernel::signal::Signals;

use super::process::{self, Running};
use super::stdio::{Event, Stdio};
use crate::birth::entry::Entry;
use crate::channel::{Channel, Exec, FromShim, Started};
use crate::container::{Container, End, Live, Phase};
use crate::name::Name;
use crate::places::Places;
use crate::report::{Refusal, chain};
use crate::seccomp;
use crate::spec::Spec;
use crate::time;
use crate::users::Space;

/// Executes it, and follows it to its end.
pub(super) fn hold(places: &Places, name: &Name, exec: &Exec, channel: Channel, signals: &Signals) {
    match start(places, name, exec) {
        Ok(running) => follow(running, Stdio::new(channel, None), signals),
        Err(refusal) => {
            let _ = channel.tell(&FromShim::Refused(refusal));
        }
    }
}

fn start(places: &Places, name: &Name, exec: &Exec) -> Result<Running, Refusal> {
    let container = Container::find(places, name).map_err(|e| chain(&e))?;
    let (live, pidfd) = first_process(&container)?;
    let spec = with(container.spec, exec);
    let filters = seccomp::filters(spec.capabilities).map_err(|e| chain(&e))?;
    let folder = live.group.folder().map_err(|e| chain(&e))?;
    let doors = live.group.doors().map_err(|e| chain(&e))?;
    let range = spec.users.range();
    let pid = live.pid.and_then(Pid::from_raw);
    let space = pid.zip(range).map(|(pid, range)| Space::of_process(pid, range)).transpose()?;
    // What is born from here on is born into the container's process namespace.
    move_into_thread_name_spaces(pidfd.as_fd(), ThreadNameSpaceType::PROCESS_ID)
        .map_err(|e| Refusal::new(format!("failed to enter the process namespace of '{name}': {e}")))?;
    let space = space.as_ref();
    process::bear(
        &spec,
        |stdio, report| {
            let entry = Entry { spec: &spec, pidfd: &pidfd, doors, filters: &filters, stdio, report, space };
            fork(0, folder.as_ref().map(AsFd::as_fd), move || entry.run()).map_err(|e| chain(&e))
        },
        || Ok(()),
    )
}

/// The container's first process, which is what it says to be: a number alone may be another's by now.
fn first_process(container: &Container) -> Result<(Live, OwnedFd), Refusal> {
    let name = &container.spec.name;
    let gone = || {
        Refusal::new(format!("the container '{name}' does not run"))
            .hint("`weft ps -a` shows what became of it")
    };
    let live = container.live.clone().filter(|l| l.phase == Phase::Running).ok_or_else(gone)?;
    let pid = live.pid.and_then(Pid::from_raw).ok_or_else(gone)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let place = format!("weft/{name}");
    if !groups.lines().any(|line| line.ends_with(&place)) {
        return Err(gone());
    }
    Ok((live, pidfd))
}

/// The container as it would be if this were its program.
fn with(mut spec: Spec, exec: &Exec) -> Spec {
    spec.command.clone_from(&exec.command);
    spec.env.extend(exec.env.iter().cloned());
    (spec.tty, spec.interactive) = (exec.tty, exec.interactive);
    if let Some(workdir) = &exec.workdir {
        spec.workdir.clone_from(workdir);
    }
    if let Some(user) = &exec.user {
        spec.user.clone_from(user);
    }
    spec
}

fn follow(mut running: Running, mut stdio: Stdio, signals: &Signals) {
    let started = Some(time::now());
    stdio.say(&FromShim::Started(Started { pid: running.pid() }));
    let mut deadline: Option<Instant> = None;
    let code = loop {
        match stdio.turn(&mut running, signals, deadline) {
            Ok(None) => {}
            Ok(Some(Event::Ended)) => break running.reap(),
            // Its caller's signals come over the line; a signal to the shim itself ends both.
            Ok(Some(Event::Stop | Event::Kill)) | Err(_) => {
                running.send(rustix::process::Signal::KILL.as_raw());
                deadline = None;
            }
        }
    };
    stdio.drain(&mut running);
    let end = End {
        code,
        oom: false,
        at: time::now(),
        started,
        restarts: 0,
        boot: String::new(),
        stopped: false,
        error: None,
    };
    stdio.close(&FromShim::Ended(end));
}
