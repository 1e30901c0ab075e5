//! `weft image rm` and `weft image prune`.

use weft_runtime::image::Pruned;

use crate::cli::Session;
use crate::failure;
use crate::output::{self, entry};
use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The images, by name or id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Also if containers use them: these keep their layers until they end
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    /// Also images with a name, if no container uses them
    #[arg(long)]
    all: bool,
}

/// One after the other; one that fails does not keep the others.
pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let store = super::store(false)?;
    let (mut done, mut failed) = (Pruned::default(), Vec::new());
    for word in &args.images {
        match store.remove(word, args.force) {
            Ok(pruned) => {
                done.images.extend(pruned.images);
                done.layers.extend(pruned.layers);
                done.blobs.extend(pruned.blobs);
                done.bytes += pruned.bytes;
            }
            Err(error) => failed.push(super::explain(error)),
        }
    }
    let Some(last) = failed.pop() else { return show(session, &done) };
    if !session.output.json && !done.images.is_empty() {
        output::write(&text(&done))?;
    }
    for error in failed {
        output::complain(&failure::text(&error));
    }
    Err(last)
}

pub(crate) fn prune(session: &Session, args: &Prune) -> anyhow::Result<()> {
    let pruned = super::store(false)?.prune(args.all).map_err(super::explain)?;
    show(session, &pruned)
}

fn show(session: &Session, done: &Pruned) -> anyhow::Result<()> {
    session.output.show(
        || {
            let mut document = entry("removed", &done.images)?;
            document.extend(entry("layers", &done.layers)?);
            document.extend(entry("blobs", &done.blobs)?);
            document.extend(entry("bytes", done.bytes)?);
            Ok(document)
        },
        || text(done),
    )
}

fn text(done: &Pruned) -> String {
    let names: String = done.images.iter().map(|name| format!("removed {name}\n")).collect();
    match done.bytes {
        0 if done.images.is_empty() => "nothing to remove\n".to_owned(),
        0 => names,
        bytes => format!("{names}{} freed\n", render::image::bytes(bytes)),
    }
}
