//! `weft shim`: the process that holds a container; started by `weft run` and `weft exec`, not by people.

use std::path::PathBuf;

use weft_runtime::shim::Handed;
use weft_runtime::{Name, Places, shim};

use crate::containers::refused;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    name: Name,
    /// The descriptor of the line to its caller
    #[arg(long)]
    channel: i32,
    /// The descriptor of the container's folder
    #[arg(long)]
    lock: Option<i32>,
    /// What survives a reboot
    #[arg(long)]
    state: PathBuf,
    /// What lives until the next reboot
    #[arg(long)]
    run: PathBuf,
    /// The agent's socket
    #[arg(long)]
    agent: PathBuf,
    /// Where word is left for an agent that is away
    #[arg(long)]
    journal: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let places = Places { state: args.state, run: args.run, socket: args.agent, journal: args.journal };
    let handed = Handed { places, name: args.name, lock: args.lock, channel: args.channel };
    shim::run(&handed).map_err(refused)
}
