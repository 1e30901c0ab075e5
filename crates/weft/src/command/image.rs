//! `weft image`: fetch, load, keep, show and remove the images that containers are made of. No agent is needed.

mod history;
mod inspect;
mod list;
mod load;
pub(crate) mod pull;
mod remove;
mod save;

use weft_agent::Config;
use weft_runtime::image::{Image, Policy, Reference, Store, StoreError};

use crate::cli::Session;
use crate::failure::Failure;
use crate::place;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Fetch an image from a registry and unpack it
    Pull(pull::Args),
    /// Take images from an archive of `docker save`, or an OCI layout in an archive or a folder
    Load(load::Args),
    /// Write images into an archive that docker, podman and weft can load
    Save(save::Args),
    /// List the images
    Ls(list::Args),
    /// Show an image's manifest, configuration and layers
    Inspect(inspect::Args),
    /// Show the steps in which an image was made
    History(history::Args),
    /// Take names away from images, and remove images that have none left
    Rm(remove::Args),
    /// Remove images without a name, and all that nothing needs any more
    Prune(remove::Prune),
}

pub(crate) fn run(session: &Session, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Pull(args) => pull::run(session, &args),
        Command::Load(args) => load::run(session, &args),
        Command::Save(args) => save::run(session, &args),
        Command::Ls(args) => list::run(session, &args),
        Command::Inspect(args) => inspect::run(session, &args),
        Command::History(args) => history::run(session, &args),
        Command::Rm(args) => remove::run(session, &args),
        Command::Prune(args) => remove::prune(session, &args),
    }
}

/// The store of this host.
pub(crate) fn store(devices: bool) -> anyhow::Result<Store> {
    let config = Config::load(&place::config())?;
    let policy = Policy { devices, ..Policy::default() };
    Store::with(&config.state_dir, policy).map_err(|error| match error {
        StoreError::Io { ref source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
            let hint = "images belong to root: run this as root";
            anyhow::Error::new(error).context(Failure::new("the images cannot be opened").hint(hint))
        }
        error => error.into(),
    })
}

/// The image that a person means.
pub(crate) fn find(store: &Store, word: &str) -> anyhow::Result<Image> {
    store.find(word).map_err(explain)
}

/// What to do about it, where that can be said.
fn explain(error: StoreError) -> anyhow::Error {
    let hint = match &error {
        StoreError::NoImage(_) => "`weft image ls` shows those that are here; `weft image pull` fetches one",
        StoreError::Ambiguous(_) => "write more of it; `weft image ls --no-trunc` shows all of it",
        StoreError::InUse { .. } => "remove the containers first; --force takes only its names away",
        StoreError::WrongDigest { .. } | StoreError::Lacks(_) | StoreError::Document { .. } => {
            "fetch or load it again: `weft image pull NAME`"
        }
        _ => return no_space(error.into()),
    };
    Failure::new(error_line(&error)).hint(hint).into()
}

/// The whole chain on one line.
pub(crate) fn error_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        line += &format!(": {source}");
        next = source.source();
    }
    line
}

/// A full disk is the host's, not the image's.
fn no_space(error: anyhow::Error) -> anyhow::Error {
    let full = |cause: &&(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull)
    };
    if !error.chain().any(|cause| full(&cause)) {
        return error;
    }
    let hint = "nothing was kept; make room, or free some with `weft image prune --all`";
    Failure::new(format!("{error:#}")).hint(hint).into()
}

fn reference(name: &str) -> Result<Reference, String> {
    name.parse().map_err(|error: weft_runtime::image::ReferenceError| error.to_string())
}

fn platform(word: &str) -> Result<weft_runtime::image::Platform, String> {
    word.parse().map_err(|error: weft_runtime::image::PlatformError| error.to_string())
}

/// Several images, each by its name or id.
fn all(store: &Store, words: &[String]) -> anyhow::Result<Vec<Image>> {
    words.iter().map(|word| find(store, word)).collect()
}

/// Said when an image will not run here.
fn remark_platform(session: &Session, image: &Image) {
    let (its, ours) = (image.config.platform(), weft_runtime::image::Platform::host());
    if its.architecture != ours.architecture {
        session.output.remark(&format!("{} is for {its}; this host is {ours}", image.title()));
    }
}
