//! `weft node`: the hosts of a cluster.

use std::path::PathBuf;

use ipnet::IpNet;
use weft_agent::settings;
use weft_model::NodeName;
use weft_model::api::{Member, Reply, Request};
use weft_store::cluster::Etcd;

use super::agent;
use crate::cli::Session;
use crate::client::unexpected;
use crate::output::entry;
use crate::place;
use crate::render;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the hosts, also those that do not run
    Ls,
    /// Remove a host that is gone for ever: its addresses go to others, its share of the store ends
    Rm {
        /// The host
        name: NodeName,
        /// The agent's configuration file
        #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
        config: PathBuf,
    },
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ls => list(session),
        Command::Rm { name, config } => remove(session, &name, &config),
    }
}

fn list(session: &Session) -> anyhow::Result<()> {
    match session.ask(&Request::NodeList)? {
        Reply::Nodes(nodes) => {
            session.output.show(|| entry("nodes", &nodes), || render::members(session.output, &nodes))
        }
        reply => Err(unexpected(&reply)),
    }
}

fn remove(session: &Session, name: &NodeName, config: &std::path::Path) -> anyhow::Result<()> {
    let removed = match session.ask(&Request::NodeRemove { name: name.clone() }) {
        Ok(Reply::Done { .. }) => Ok(()),
        Ok(reply) => return Err(unexpected(&reply)),
        Err(error) => Err(error),
    };
    // A share of the store can be all that is left of a host.
    let ended = match removed {
        Ok(()) => end_share(name, config)?,
        Err(error) if is_known(session, name)? || !end_share(name, config)? => return Err(error),
        Err(_) => true,
    };
    session.output.show(
        || entry("removed", name),
        || {
            let share = if ended { "; its share of the store is none any more" } else { "" };
            format!("removed {name}{share}\n")
        },
    )
}

fn is_known(session: &Session, name: &NodeName) -> anyhow::Result<bool> {
    match session.ask(&Request::NodeList)? {
        Reply::Nodes(nodes) => Ok(nodes.iter().any(|node| node.name == *name)),
        reply => Err(unexpected(&reply)),
    }
}

/// Takes a host out of the members of an etcd that weft runs. Returns whether it was one.
fn end_share(name: &NodeName, config: &std::path::Path) -> anyhow::Result<bool> {
    let config = agent::load(config)?;
    // One that runs elsewhere is its owner's.
    let Some(file) = settings::find(&config).filter(|f| f.is_managed(&config)) else { return Ok(false) };
    let settings = settings::read(&file).map_err(crate::member::failure)?;
    let store = Etcd::new(&settings.store, &settings.credentials).map_err(crate::member::failure)?;
    let members = store.members().map_err(crate::member::failure)?;
    let Some(member) = members.iter().find(|m| m.name == name.as_str()) else { return Ok(false) };
    store.remove_member(member.id).map_err(crate::member::failure)?;
    Ok(true)
}

/// One block, or how many.
pub(crate) fn blocks(member: &Member) -> String {
    match member.blocks.as_slice() {
        all if all.len() <= 2 => all.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", "),
        [first, second, rest @ ..] => format!("{first}, {second} and {} more", rest.len()),
        _ => String::new(),
    }
}
