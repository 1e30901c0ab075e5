//! What the commands for containers share: where containers are, and what their failures mean here.

use std::process::ExitCode;
use std::time::Duration;

use weft_agent::Config;
use weft_model::api::Owned;
use weft_runtime::container::{End, Phase};
use weft_runtime::reconcile::reconcile;
use weft_runtime::seat::Left;
use weft_runtime::{Container, Places, Refusal, stop};

use crate::cli::Session;
use crate::failure::Failure;
use crate::output;
use crate::place;

impl Session {
    /// Where things are, after what was left undone there has been made good.
    pub(crate) fn places(&self) -> anyhow::Result<Places> {
        let places = self.places_as_they_are()?;
        for line in reconcile(&places) {
            output::complain(&format!("weft: {line}\n"));
        }
        Ok(places)
    }

    /// Where things are. What was left undone there stays so.
    pub(crate) fn places_as_they_are(&self) -> anyhow::Result<Places> {
        Ok(Places { socket: self.socket(), ..places_of(&Config::load(&place::config())?) })
    }
}

/// Where things are by a configuration.
pub(crate) fn places_of(config: &Config) -> Places {
    Places {
        state: config.state_dir.clone(),
        run: config.run_dir.clone(),
        socket: config.socket(),
        journal: config.journal(),
    }
}

/// Every container of this host, with what it holds of the kernel; nothing is made good.
pub(crate) fn owned(places: &Places) -> Vec<Owned> {
    let one = |kind: &str, object: String| Owned { kind: kind.to_owned(), object };
    let mut all = Vec::new();
    for Container { spec, live, .. } in Container::all(places) {
        all.push(one("container", spec.name.to_string()));
        let Some(live) = live else { continue };
        let groups = live.group.unified.iter().chain(live.group.v1.iter().map(|(_, folder)| folder));
        all.extend(groups.map(|folder| one("cgroup", folder.display().to_string())));
        all.extend(live.netns.map(|path| one("namespace", path.display().to_string())));
        all.push(one("mount", live.root.merged.display().to_string()));
    }
    all
}

/// Ends all containers, and removes what they wrote unless it is to be kept. Returns what was done.
pub(crate) fn end_all(places: &Places, keep: bool) -> anyhow::Result<Vec<String>> {
    reconcile(places);
    let mut done = Vec::new();
    for container in Container::all(places) {
        let name = &container.spec.name;
        if container.phase() != Phase::Exited {
            stop::stop(places, name, Duration::ZERO).map_err(refused)?;
            done.push(format!("container {name} stopped"));
        }
        if !keep {
            stop::remove(places, name, true).map_err(refused)?;
        }
    }
    Ok(done)
}

/// A refusal of the runtime as a failure of this command, with its exit code.
pub(crate) fn refused(refusal: Refusal) -> anyhow::Error {
    let failure = Failure::new(refusal.message).code(exit_code(refusal.code));
    match refusal.hint {
        Some(hint) => failure.hint(hint).into(),
        None => failure.into(),
    }
}

/// The exit code of this command, from how the container was left.
pub(crate) fn left(left: &Left) -> anyhow::Result<ExitCode> {
    match left {
        Left::Ended(End { code, error, oom, .. }) => {
            if let Some(error) = error {
                output::complain(&format!("weft: {error}\n"));
            }
            if *oom {
                output::complain("weft: the container went beyond its memory and was killed for it\n");
            }
            Ok(ExitCode::from(exit_code(*code)))
        }
        Left::Detached => Ok(ExitCode::SUCCESS),
        Left::Lost => {
            let message = "the shim of the container was killed, and the container with it";
            Err(Failure::new(message).hint("the next weft command takes down what is left").code(125).into())
        }
    }
}

fn exit_code(code: i32) -> u8 {
    u8::try_from(code & 0xff).unwrap_or(u8::MAX)
}
