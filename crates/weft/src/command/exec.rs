//! `weft exec`: run a further program in a container that runs.

use std::path::PathBuf;
use std::process::ExitCode;

use weft_runtime::channel;
use weft_runtime::{Name, launch, seat};

use crate::cli::Session;
use crate::containers::{left, refused};
use crate::process::ProcessArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    name: Name,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<ExitCode> {
    let places = session.places()?;
    args.process.check()?;
    let ProcessArgs { detach, tty, interactive, .. } = args.process;
    let env = args.process.environment();
    let workdir = args.process.workdir.map(|w| PathBuf::from("/").join(w));
    let exec =
        channel::Exec { command: args.command, env, workdir, user: args.process.user, tty, interactive };
    let channel = launch::exec(&places, &args.name, exec).map_err(refused)?;
    seat::started(&channel).map_err(refused)?;
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    left(&seat::sit(channel, tty, interactive)?)
}
