//! `weft start`: containers that are over run once more, with all that they wrote.

use std::process::ExitCode;

use weft_runtime::{Container, Name, launch, seat};

use super::stop::each;
use crate::cli::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers
    #[arg(value_name = "NAME", required_unless_present = "after_boot")]
    names: Vec<Name>,
    /// Those that want to start again when the host has booted, and have not yet
    #[arg(long, conflicts_with = "names")]
    after_boot: bool,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<ExitCode> {
    let names = if args.after_boot {
        let all = Container::all(&session.places()?);
        all.into_iter().filter(Container::waits_for_boot).map(|c| c.spec.name).collect()
    } else {
        args.names
    };
    each(session, "started", &names, |places, name| {
        let channel = launch::again(places, name)?;
        seat::started(&channel).map(|_| ())
    })
}
