//! `weft apply`: takes in objects as Kubernetes users write them.

use std::path::{Path, PathBuf};

use anyhow::bail;
use weft_model::api::{Apply, Outcome, Reply, Request};
use weft_model::{Object, ObjectId};

use crate::cli::Session;
use crate::client::unexpected;
use crate::failure::{Failure, USAGE};
use crate::manifest;
use crate::output::entry;

/// A request has at most [`weft_model::api::REQUEST_LIMIT`] bytes; this leaves room for what is around.
const CHUNK: usize = weft_model::api::REQUEST_LIMIT - 4096;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file with objects in YAML or JSON, a folder of such files, or `-` for standard input
    #[arg(short, long = "filename", value_name = "PATH", required = true)]
    filename: Vec<PathBuf>,
    /// Only check the objects and say what would become of them
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let objects = load_all(&args.filename)?;
    let mut outcomes = Vec::new();
    for objects in chunks(objects)? {
        match session.ask(&Request::Apply(Apply { objects, dry_run: args.dry_run }))? {
            Reply::Applied(more) => outcomes.extend(more),
            reply => return Err(unexpected(&reply)),
        }
    }
    show(session, &outcomes, args.dry_run)
}

/// All objects of these files, in order.
pub(crate) fn load_all(files: &[PathBuf]) -> anyhow::Result<Vec<Object>> {
    let mut objects = Vec::new();
    for file in files {
        objects.extend(manifest::load(file)?);
    }
    if objects.is_empty() {
        let names: Vec<String> = files.iter().map(|f: &PathBuf| Path::display(f).to_string()).collect();
        return Err(Failure::new(format!("there is no object in {}", names.join(", "))).code(USAGE).into());
    }
    Ok(objects)
}

/// Objects in requests that are not too long. Each is taken in as a whole.
fn chunks(objects: Vec<Object>) -> anyhow::Result<Vec<Vec<Object>>> {
    let (mut chunks, mut length) = (vec![Vec::new()], 0);
    for object in objects {
        let size = serde_json::to_vec(&object)?.len() + 1;
        if size > CHUNK {
            bail!(
                Failure::new(format!("{} has {size} bytes, at most {CHUNK} are possible", object.id()))
                    .hint("split it into several objects")
            );
        }
        if length + size > CHUNK {
            chunks.push(Vec::new());
            length = 0;
        }
        length += size;
        chunks.last_mut().expect("there is one from the start").push(object);
    }
    Ok(chunks)
}

/// What became of objects, a line each.
pub(crate) fn show(session: &Session, outcomes: &[(ObjectId, Outcome)], dry_run: bool) -> anyhow::Result<()> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Created => "created",
        Outcome::Configured => "configured",
        Outcome::Unchanged => "unchanged",
        Outcome::Deleted => "deleted",
        Outcome::Absent => "was not there",
        Outcome::Terminating => "terminating: it goes when its namespace's last workload does",
    };
    let note = if dry_run { " (dry run)" } else { "" };
    session.output.show(
        || {
            let rows: Vec<_> = outcomes
                .iter()
                .map(|(id, outcome)| serde_json::json!({ "object": id, "outcome": outcome }))
                .collect();
            entry("objects", rows)
        },
        || outcomes.iter().map(|(id, outcome)| format!("{id} {}{note}\n", word(outcome))).collect(),
    )
}
