//! `weft image load`.

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context;
use weft_runtime::image::{Image, Platform, Reference, Store, load_archive, load_folder};

use crate::cli::Session;
use crate::output::{Output, entry};
use crate::progress;
use crate::render;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An archive, compressed or not, or a folder with an OCI layout; `-` is standard input
    #[arg(value_name = "PATH", default_value = "-")]
    path: PathBuf,
    /// What to call the image, if it is the only one
    #[arg(long, value_parser = super::reference)]
    name: Option<Reference>,
    /// Which image of several to take, as OS/ARCHITECTURE[/VARIANT] [default: this host's]
    #[arg(long, value_parser = super::platform)]
    platform: Option<Platform>,
    /// Make device nodes that the image holds outside /dev; without this such an image is refused
    #[arg(long)]
    devices: bool,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let store = super::store(args.devices)?;
    let images = load(&store, args, session.output).map_err(super::no_space)?;
    images.iter().for_each(|image| super::remark_platform(session, image));
    let summaries: Vec<_> = images.iter().map(render::image::summary).collect();
    session.output.show(
        || entry("images", summaries),
        || images.iter().map(|image| format!("loaded {}\n", loaded(image))).collect(),
    )
}

fn load(store: &Store, args: &Args, output: Output) -> anyhow::Result<Vec<Image>> {
    let (name, platform) = (args.name.as_ref(), args.platform.as_ref());
    let progress = progress::watcher(output);
    let what = || format!("failed to load {}", args.path.display());
    if args.path.as_os_str() == "-" {
        return load_archive(store, std::io::stdin(), None, name, platform, &*progress)
            .context("failed to load from standard input");
    }
    if args.path.is_dir() {
        return load_folder(store, &args.path, name, platform, &*progress).with_context(what);
    }
    let file = File::open(&args.path).with_context(what)?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|meta| meta.len());
    load_archive(store, file, size, name, platform, &*progress).with_context(what)
}

fn loaded(image: &Image) -> String {
    match image.names.as_slice() {
        [] => format!("{} without a name; give it one with --name", image.id.short()),
        names => format!("{}  {}", names.join(", "), image.id.short()),
    }
}
