//! `weft inventory`: everything on this host that is weft's, with or without an agent.

use std::collections::BTreeSet;

use weft_agent::Config;
use weft_model::api::{Owned, Reply, Request};

use crate::cli::Session;
use crate::client::unexpected;
use crate::containers::owned;
use crate::failure;
use crate::install::installed_files;
use crate::output::entry;
use crate::place;
use crate::table::Table;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read the kernel without asking the agent
    #[arg(long)]
    offline: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let (source, objects) = objects(session, args.offline)?;
    let mut objects: BTreeSet<Owned> = objects.into_iter().collect();
    let config = Config::load(&place::config()).unwrap_or_default();
    for folder in [&config.state_dir, &config.run_dir] {
        if folder.exists() {
            objects.insert(Owned { kind: "file".to_owned(), object: folder.display().to_string() });
        }
    }
    match session.places_as_they_are() {
        Ok(places) => objects.extend(owned(&places)),
        Err(error) => session.output.remark(&format!("containers are not listed: {error:#}")),
    }
    match installed_files() {
        Ok(files) => objects.extend(files),
        Err(error) => session.output.remark(&format!("installed files are not listed: {error:#}")),
    }
    session.output.show(
        || {
            let mut document = entry("source", source)?;
            document.extend(entry("objects", &objects)?);
            Ok(document)
        },
        || {
            let mut table = Table::new(["KIND", "OBJECT"]);
            for owned in &objects {
                table.row([owned.kind.clone(), owned.object.clone()]);
            }
            match objects.len() {
                0 => "nothing on this host is weft's\n".to_owned(),
                _ => table.render(session.output),
            }
        },
    )
}

/// What the kernel holds, and who says so.
fn objects(session: &Session, offline: bool) -> anyhow::Result<(&'static str, Vec<Owned>)> {
    if !offline {
        match session.ask(&Request::Inventory) {
            Ok(Reply::Inventory(objects)) => return Ok(("agent", objects)),
            Ok(reply) => return Err(unexpected(&reply)),
            Err(error) if failure::code(&error) == failure::AGENT_AWAY => {
                session.output.remark(&format!("{error:#}\nread from the kernel instead"));
            }
            Err(error) => return Err(error),
        }
    }
    let objects =
        weft_agent::inventory().map_err(|why| anyhow::anyhow!(why).context("failed to read the kernel"))?;
    Ok(("kernel", objects))
}
