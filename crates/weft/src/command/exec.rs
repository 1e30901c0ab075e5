//! `weft exec`: run a further program in a container that runs.

use std::path::PathBuf;
use std::process::ExitCode;

use weft_runtime::channel;
use weft_runtime::{Name, launch, seat};

use crate::cli::Session;
use crate::containers::{left, refused};
use crate::failure::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    name: Name,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// A variable of the environment, KEY=VALUE; may be repeated
    #[arg(long, short, value_name = "VARIABLE")]
    env: Vec<String>,
    /// Where the program starts [default: as the container]
    #[arg(long, short, value_name = "FOLDER")]
    workdir: Option<PathBuf>,
    /// As whom it runs, USER[:GROUP] [default: as the container]
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Keep standard input open
    #[arg(long, short)]
    interactive: bool,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Run it in the background
    #[arg(long, short)]
    detach: bool,
}

pub(crate) fn run(session: &Session, args: Args) -> anyhow::Result<ExitCode> {
    let places = session.places()?;
    let (detach, tty, interactive) = (args.detach, args.tty, args.interactive);
    if tty && !detach && interactive && !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Failure::new("standard input is no terminal").hint("leave -t out").code(125).into());
    }
    let workdir = args.workdir.map(|w| PathBuf::from("/").join(w));
    let (command, env, user) = (args.command, args.env, args.user);
    let exec = channel::Exec { command, env, workdir, user, tty, interactive };
    let channel = launch::exec(&places, &args.name, exec).map_err(refused)?;
    seat::started(&channel).map_err(refused)?;
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    left(&seat::sit(channel, tty, interactive)?)
}
