//! Starting a shim: this program once more, sealed, with a line to the one who starts it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use weft_kernel::mount::Sealed;

use crate::channel::{Channel, Exec, ToShim};
use crate::container::{Container, Error, Held};
use crate::name::Name;
use crate::places::Places;
use crate::report::Refusal;
use crate::spec::Spec;
use crate::users;

/// The hidden command that is a shim.
pub const COMMAND: &str = "shim";

/// Makes a container's folder and starts its shim, which says over the line how it goes on.
///
/// # Errors
/// If there is such a container already, or the shim cannot be started.
pub fn run(places: &Places, mut spec: Spec) -> Result<Channel, Refusal> {
    let choosing = users::settle(places, &mut spec)?;
    let held = Held::create(places, &spec).map_err(|error| match error {
        Error::Exists(_) => {
            let hint = format!("remove it with `weft rm {}`, or use another name", spec.name);
            Refusal::from(error).hint(hint)
        }
        other => other.into(),
    })?;
    drop(choosing);
    let started = shim(places, &spec.name, Some(&held));
    if started.is_err() {
        let _ = std::fs::remove_dir_all(&held.folder);
    }
    started
}

/// Starts a container that is over once more, with all that it wrote.
///
/// # Errors
/// If there is no such container, it runs, or the shim cannot be started.
pub fn again(places: &Places, name: &Name) -> Result<Channel, Refusal> {
    let folder = places.containers().join(name.as_str());
    Container::find(places, name)?;
    let held = Held::take(&folder).ok_or_else(|| Refusal::new(format!("the container '{name}' runs")))?;
    match std::fs::remove_file(folder.join("end.json")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Refusal::new(format!("failed to begin '{name}' anew: {error}")))
        }
        _ => shim(places, name, Some(&held)),
    }
}

/// Starts a shim for a further program in a container that runs.
///
/// # Errors
/// If the shim cannot be started.
pub fn exec(places: &Places, name: &Name, exec: Exec) -> Result<Channel, Refusal> {
    let channel = shim(places, name, None)?;
    let told = channel.tell(&ToShim::Execute(Box::new(exec)));
    told.map_err(|e| Refusal::new(format!("failed to speak to the shim: {e}")))?;
    Ok(channel)
}

fn shim(places: &Places, name: &Name, held: Option<&Held>) -> Result<Channel, Refusal> {
    let start = || -> io::Result<Channel> {
        let (mine, theirs) = Channel::pair()?;
        let sealed = Sealed::of_self()?;
        let mut command = Command::new(sealed.path());
        command.arg0("weft").arg(COMMAND);
        let option = |key: &str, value: OsString| [OsString::from(key), value];
        command.args(option("--channel", pass(&theirs)?));
        if let Some(held) = held {
            command.args(option("--lock", pass(&held.lock)?));
        }
        command.args(option("--state", places.state.clone().into()));
        command.args(option("--run", places.run.clone().into()));
        command.args(option("--agent", places.socket.clone().into()));
        command.args(option("--journal", places.journal.clone().into()));
        command.arg(name.as_str());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn()?;
        Ok(mine)
    };
    start().map_err(|e| Refusal::new(format!("failed to start the shim of '{name}': {e}")))
}

/// Lets a descriptor pass into the shim; returns its number.
fn pass(fd: impl AsFd) -> io::Result<OsString> {
    fcntl_setfd(&fd, FdFlags::empty())?;
    Ok(fd.as_fd().as_raw_fd().to_string().into())
}
