//! `weft stop`, `weft kill`, `weft wait`, `weft rm`: the ends of containers.

use std::process::ExitCode;
use std::time::Duration;

use weft_kernel::signal;
use weft_runtime::{Name, Places, Refusal, stop};

use crate::cli::Session;
use crate::containers::refused;
use crate::failure::{self, Failure, USAGE};
use crate::output::{self, entry};

#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<Name>,
    /// Seconds that each has to end by itself before it is killed
    #[arg(long, short, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(..=86_400))]
    time: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KillArgs {
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<Name>,
    /// The signal, by name or number
    #[arg(long, short, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// The containers
    #[arg(value_name = "NAME", required = true)]
    names: Vec<Name>,
    /// Kill those that run
    #[arg(long, short)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// The container
    name: Name,
}

pub(crate) fn stop(session: &Session, args: &StopArgs) -> anyhow::Result<ExitCode> {
    let grace = Duration::from_secs(args.time);
    each(session, "stopped", &args.names, |places, name| stop::stop(places, name, grace))
}

pub(crate) fn kill(session: &Session, args: &KillArgs) -> anyhow::Result<ExitCode> {
    let Some(signal) = signal::parse(&args.signal) else {
        return Err(Failure::new(format!("'{}' is no signal", args.signal)).code(USAGE).into());
    };
    each(session, "signalled", &args.names, |places, name| stop::kill(places, name, signal))
}

pub(crate) fn rm(session: &Session, args: &RmArgs) -> anyhow::Result<ExitCode> {
    each(session, "removed", &args.names, |places, name| stop::remove(places, name, args.force))
}

/// Does it for every container; one that fails does not keep the others from it.
pub(super) fn each(
    session: &Session,
    what: &str,
    names: &[Name],
    work: impl Fn(&Places, &Name) -> Result<(), Refusal>,
) -> anyhow::Result<ExitCode> {
    let places = session.places()?;
    let mut done = Vec::new();
    let mut failed = None;
    for name in names {
        match work(&places, name) {
            Ok(()) => done.push(name),
            Err(refusal) if names.len() == 1 => return Err(one(refused(refusal))),
            Err(refusal) => {
                let error = one(refused(refusal));
                output::complain(&failure::text(&error));
                failed = Some(error);
            }
        }
    }
    let text = || done.iter().map(|name| format!("{name}\n")).collect();
    session.output.show(|| entry(what, &done), text)?;
    Ok(failed.map_or(ExitCode::SUCCESS, |_| ExitCode::from(failure::FAILED)))
}

/// These commands fail with 1, as others do: 125 is for what concerns the container's own exit code.
fn one(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Failure>() {
        Ok(failure) => failure.code(failure::FAILED).into(),
        Err(other) => other,
    }
}

/// Waits for the end and prints the exit code.
pub(crate) fn wait(session: &Session, args: &WaitArgs) -> anyhow::Result<ExitCode> {
    let places = session.places()?;
    let end = stop::wait(&places, &args.name).map_err(|r| one(refused(r)))?;
    let code = end.as_ref().map(|e| e.code);
    session.output.show(|| entry("code", code), || code.map_or_else(String::new, |c| format!("{c}\n")))?;
    Ok(ExitCode::SUCCESS)
}
