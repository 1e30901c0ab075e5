//! `weft image inspect`.

use crate::cli::Session;
use crate::output::entry;
use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The images, by name or id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let store = super::store(false)?;
    let images = super::all(&store, &args.images)?;
    let details = images.iter().map(|image| store.details(image)).collect::<Result<Vec<_>, _>>();
    let details = details.map_err(super::explain)?;
    session.output.show(
        || {
            let documents: Vec<_> =
                images.iter().zip(&details).map(|(image, d)| render::image::document(image, d)).collect();
            entry("images", documents)
        },
        || {
            let texts: Vec<String> = images
                .iter()
                .zip(&details)
                .map(|(image, details)| render::image::inspect(session.output, image, details))
                .collect();
            texts.join("\n")
        },
    )
}
