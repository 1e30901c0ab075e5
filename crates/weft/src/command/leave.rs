//! `weft leave`: makes this host stand alone again, and tells the others.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use weft_agent::{Config, settings};
use weft_model::NodeName;
use weft_model::api::{Reply, Request};
use weft_store::cluster::{ClusterStore as _, Etcd, View};

use super::agent;
use crate::cli::Session;
use crate::client::unexpected;
use crate::failure::{AGENT_AWAY, Failure, code};
use crate::member::failure;
use crate::member::files::Files;
use crate::member::service;
use crate::output::entry;
use crate::place;

/// How long members may take to settle after one of them came.
const SETTLED: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave also if the store or the agent cannot be reached; then the others must be told: weft node rm NAME
    #[arg(long)]
    force: bool,
    /// The agent's configuration file
    #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
    config: PathBuf,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let config = agent::load(&args.config)?;
    let (files, name) = (Files::new(&config.state_dir), config.node());
    if config.store.is_some() {
        bail!(
            Failure::new("the configuration names the store (`store`)")
                .hint("remove it there and restart the agent")
        );
    }
    if !files.is_joined() {
        bail!(Failure::new("this host belongs to no cluster"));
    }
    let share = match share(&config, &files, &name) {
        Err(error) if !args.force => return Err(error),
        found => found.unwrap_or_default(),
    };
    let told = match session.ask(&Request::NodeLeave { force: args.force }) {
        Ok(Reply::Done { .. }) => true,
        Ok(reply) => return Err(unexpected(&reply)),
        Err(error) if code(&error) == AGENT_AWAY && args.force => false,
        Err(error) => return Err(error),
    };
    if let Some((store, id)) = &share {
        match end(store, *id) {
            Err(error) if !args.force => return Err(error),
            _ => {}
        }
    }
    service::remove(&config)?;
    let mut gone = vec![config.state_dir.join("cluster"), files.data()];
    if !told {
        // What the next agent would remember.
        gone.push(config.state_dir.join("cluster.json"));
    }
    for gone in gone {
        let removed = if gone.is_dir() { fs::remove_dir_all(&gone) } else { fs::remove_file(&gone) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", gone.display()));
            }
            _ => {}
        }
    }
    session.output.show(
        || entry("left", &name),
        || {
            let share = if share.is_some() { " Its share of the store is none any more." } else { "" };
            let rest = if args.force {
                format!(" If the store did not hear of it, type on another host: weft node rm {name}")
            } else {
                String::new()
            };
            format!("Host {name} has left and stands alone.{share}{rest}\n")
        },
    )
}

/// Takes a member out. etcd refuses within some seconds of another member's coming.
fn end(store: &Etcd, id: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match store.remove_member(id) {
            Err(error) if error.to_string().contains("unhealthy") && begun.elapsed() < SETTLED => {
                std::thread::sleep(Duration::from_millis(500));
            }
            ended => return ended.map_err(failure),
        }
    }
}

/// This host among the members of an etcd that weft runs, if it is one of several. Fails if others need the only one.
fn share(config: &Config, files: &Files, name: &NodeName) -> anyhow::Result<Option<(Etcd, u64)>> {
    let Some(file) = settings::find(config).filter(|f| files.is_member() && f.is_managed(config)) else {
        return Ok(None);
    };
    let settings = settings::read(&file).map_err(failure)?;
    let store = Etcd::new(&settings.store, &settings.credentials).map_err(failure)?;
    let members = store.members().map_err(failure)?;
    let Some(own) = members.iter().find(|m| m.name == name.as_str()) else { return Ok(None) };
    if members.len() > 1 {
        let id = own.id;
        return Ok(Some((store, id)));
    }
    let view = View::of(&store.snapshot().map_err(failure)?);
    let others: Vec<&str> = view.nodes.keys().filter(|n| *n != name).map(NodeName::as_str).collect();
    if !others.is_empty() {
        bail!(Failure::new(format!("this host alone runs the store, which {} need", others.join(", "))).hint(
            "let another host run a share first: weft leave there, then weft join TOKEN --member; or remove the hosts: weft node rm NAME"
        ));
    }
    Ok(None)
}
