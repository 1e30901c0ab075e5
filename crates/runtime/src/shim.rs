//! The process that holds one container: it makes it, listens to it, and takes everything down when it ends.
//!
//! It is of a session of its own and outlives the command that started it, and the agent. It has one thread.

pub(crate) mod connect;
mod entry;
mod life;
mod parts;
mod process;
mod stdio;

use rustix::process::Signal;
use weft_kernel::process::{inherited, keep_descriptors_private};
use weft_kernel::signal::Signals;

use crate::channel::{Channel, Exec, FromShim, ToShim};
use crate::container::{End, Held, load, save};
use crate::log;
use crate::name::Name;
use crate::places::Places;
use crate::reconcile::remove_folder;
use crate::report::Refusal;
use crate::rootfs;
use crate::spec::Spec;

/// What a shim is started with.
#[derive(Debug)]
pub struct Handed {
    /// Where things are.
    pub places: Places,
    /// The container.
    pub name: Name,
    /// The descriptor of the locked folder; `None`: the container runs, and something else shall run in it.
    pub lock: Option<i32>,
    /// The descriptor of the line to the command that started it.
    pub channel: i32,
}

/// Lives as long as the container does.
///
/// # Errors
/// What kept it from beginning; all that comes later is told over the line and kept in the container's folder.
pub fn run(handed: &Handed) -> Result<(), Refusal> {
    let lock = handed.lock.map(inherited).transpose().map_err(begin("take over the container's folder"))?;
    let channel = Channel::of(inherited(handed.channel).map_err(begin("speak to its caller"))?);
    keep_descriptors_private().map_err(begin("close what it was started with"))?;
    rustix::process::setsid().map_err(|e| begin("begin a session")(e.into()))?;
    // The folder from which it was started must not be kept busy.
    rustix::process::chdir("/").map_err(|e| begin("leave its folder")(e.into()))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let signals = Signals::take(&[Signal::TERM, Signal::INT, Signal::HUP, Signal::USR1, Signal::PIPE]);
    let signals = signals.map_err(begin("listen for signals"))?;
    let folder = handed.places.containers().join(handed.name.as_str());
    let Some(lock) = lock else {
        entry::hold(&handed.places, &handed.name, &channel_exec(&channel)?, channel, &signals);
        return Ok(());
    };
    let Some(spec) = load::<Spec>(&folder.join("spec.json")) else {
        return Err(begin("read what was asked for")(std::io::ErrorKind::InvalidData.into()));
    };
    hold(&handed.places, &spec, &Held { folder, lock }, channel, &signals);
    Ok(())
}

/// What is to be executed in a container that runs comes over the line first.
fn channel_exec(channel: &Channel) -> Result<Exec, Refusal> {
    let word = channel.hear::<ToShim>().map_err(begin("hear what to execute"))?;
    match word {
        Some(ToShim::Execute(exec)) => Ok(*exec),
        _ => Err(begin("hear what to execute")(std::io::ErrorKind::InvalidData.into())),
    }
}

fn begin(what: &'static str) -> impl FnOnce(std::io::Error) -> Refusal {
    move |error| Refusal::new(format!("the shim could not {what}: {error}"))
}

/// Makes the container, follows it to its end, and keeps what is to be kept.
fn hold(places: &Places, spec: &Spec, held: &Held, channel: Channel, signals: &Signals) {
    // One that is started again has written something already.
    let again = rootfs::wrote(&held.folder);
    let mut parts = parts::Parts::new(places, spec, held);
    let first = match parts.make().and_then(|()| life::start(&mut parts)) {
        Ok(first) => first,
        Err(refusal) => {
            parts.release();
            if again {
                let _ = save(&held.folder.join("end.json"), &End::refused(&refusal));
            } else {
                // Nothing of it ever ran: nothing of it stays.
                remove_folder(&held.folder);
            }
            let _ = channel.tell(&FromShim::Refused(refusal));
            return;
        }
    };
    // A container whose log cannot be written runs all the same.
    let log = log::Writer::open(&held.folder, spec.log_limit).ok();
    let mut stdio = stdio::Stdio::new(channel, log);
    let mut end = life::follow(&mut parts, first, &mut stdio, signals);
    let left = parts.release();
    if !left.is_empty() && end.error.is_none() {
        end.error = Some(left.join("; "));
    }
    let kept = save(&held.folder.join("end.json"), &end);
    if spec.remove {
        remove_folder(&held.folder);
    } else if let (Err(error), None) = (kept, &end.error) {
        end.error = Some(error.to_string());
    }
    stdio.close(&FromShim::Ended(end));
}
