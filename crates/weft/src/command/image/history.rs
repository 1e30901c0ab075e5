//! `weft image history`.

use crate::cli::Session;
use crate::output::entry;
use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image, by name or id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// Show commands in full
    #[arg(long)]
    no_trunc: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let store = super::store(false)?;
    let image = super::find(&store, &args.image)?;
    let steps = render::image::steps(&image);
    session
        .output
        .show(|| entry("history", &steps), || render::image::history(session.output, &steps, args.no_trunc))
}
