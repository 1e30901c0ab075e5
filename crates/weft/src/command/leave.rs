//! `weft leave`: makes this host stand alone again.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::agent;
use crate::cli::Session;
use crate::failure::Failure;
use crate::member::files::Files;
use crate::member::service;
use crate::output::entry;
use crate::place;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's configuration file
    #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
    config: PathBuf,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let config = agent::load(&args.config)?;
    let files = Files::new(&config.state_dir);
    if config.store.is_some() {
        bail!(
            Failure::new("the configuration names the store (`store`)")
                .hint("remove it there and restart the agent")
        );
    }
    if !files.is_joined() {
        bail!(Failure::new("this host belongs to no cluster"));
    }
    service::remove(&config)?;
    for gone in [config.state_dir.join("cluster"), files.data()] {
        match fs::remove_dir_all(&gone) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("failed to remove {}", gone.display())),
        }
    }
    let name = config.node();
    session.output.show(
        || entry("left", &name),
        || format!("Host {name} has left. Restart its agent, then, on another host: weft node rm {name}\n"),
    )
}
