//! `weft image ls`.

use crate::cli::Session;
use crate::output::entry;
use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show ids and digests in full
    #[arg(long)]
    no_trunc: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let (images, broken) = super::store(false)?.images()?;
    for error in broken {
        session.output.remark(&format!("an image is not listed: {}", super::error_line(&error)));
    }
    let summaries: Vec<_> = images.iter().map(render::image::summary).collect();
    session.output.show(
        || entry("images", summaries),
        || match render::image::list(session.output, &images, args.no_trunc) {
            text if text.is_empty() => "no images: fetch one with `weft image pull`\n".to_owned(),
            text => text,
        },
    )
}
