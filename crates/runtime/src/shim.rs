//! The process that holds one container: it makes it, listens to it, and takes everything down when it ends.
//!
//! It is of a session of its own and outlives the command that started it, and the agent. It has one thread.

mod connect;
mod life;
mod parts;
mod stdio;

use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::process::Signal;
use weft_kernel::process::{inherited, keep_descriptors_private};
use weft_kernel::signal::Signals;

use crate::channel::{Channel, FromShim};
use crate::container::{Held, load, save};
use crate::name::Name;
use crate::places::Places;
use crate::reconcile::remove_folder;
use crate::report::Refusal;
use crate::spec::Spec;

/// What a shim is started with.
#[derive(Debug)]
pub struct Handed {
    /// Where things are.
    pub places: Places,
    /// The container.
    pub name: Name,
    /// The descriptor of the locked folder.
    pub lock: i32,
    /// The descriptor of the line to the command that started it.
    pub channel: i32,
}

/// Lives as long as the container does.
///
/// # Errors
/// What kept it from beginning; all that comes later is told over the line and kept in the container's folder.
pub fn run(handed: &Handed) -> Result<(), Refusal> {
    let begin = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| Refusal::new(format!("the shim of '{}' could not {what}: {error}", handed.name))
    };
    let lock = inherited(handed.lock).map_err(begin("take over the container's folder"))?;
    let channel = Channel::of(inherited(handed.channel).map_err(begin("speak to its caller"))?);
    keep_descriptors_private().map_err(begin("close what it was started with"))?;
    rustix::process::setsid().map_err(|e| begin("begin a session")(e.into()))?;
    // The folder from which it was started must not be kept busy.
    rustix::process::chdir("/").map_err(|e| begin("leave its folder")(e.into()))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let signals = Signals::take(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1, Signal::PIPE]);
    let signals = signals.map_err(begin("listen for signals"))?;
    let folder = handed.places.containers().join(handed.name.as_str());
    let held = Held { folder: folder.clone(), lock };
    let Some(spec) = load::<Spec>(&folder.join("spec.json")) else {
        return Err(begin("read")(std::io::Error::other(format!("{}", folder.display()))));
    };
    hold(&handed.places, &spec, &held, channel, &signals);
    Ok(())
}

/// Makes the container, follows it to its end, and keeps what is to be kept.
fn hold(places: &Places, spec: &Spec, held: &Held, channel: Channel, signals: &Signals) {
    let mut parts = parts::Parts::new(places, spec, held);
    let first = match parts.make().and_then(|()| life::start(&mut parts)) {
        Ok(first) => first,
        Err(refusal) => {
            // Nothing of it ever ran: nothing of it stays.
            parts.release();
            remove_folder(&held.folder);
            let _ = channel.tell(&FromShim::Refused(refusal));
            return;
        }
    };
    let mut stdio = stdio::Stdio::new(channel, spec, &held.folder);
    let mut end = life::follow(&mut parts, first, &mut stdio, signals);
    let left = parts.release();
    if !left.is_empty() && end.error.is_none() {
        end.error = Some(left.join("; "));
    }
    let kept = save(&PathBuf::from(&held.folder).join("end.json"), &end);
    if spec.remove {
        remove_folder(&held.folder);
    } else if let (Err(error), None) = (kept, &end.error) {
        end.error = Some(error.to_string());
    }
    stdio.close(&FromShim::Ended(end));
    // The folder's lock goes with this process.
    let _ = held.lock.as_fd();
}
