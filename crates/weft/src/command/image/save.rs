//! `weft image save`.

use std::fs::{self, File};
use std::io::{BufWriter, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use weft_runtime::image::{Format, save_archive, save_folder};

use crate::cli::Session;
use crate::failure::Failure;
use crate::output::entry;
use crate::progress;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The images, by name or id
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Where to write; without it to standard output, unless that is a terminal
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// `docker`: an archive for all programs; `oci`: an archive of an OCI layout only; `folder`: a new folder with it
    #[arg(long, value_name = "FORMAT", default_value = "docker", value_parser = ["docker", "oci", "folder"])]
    format: String,
}

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let store = super::store(false)?;
    let images = super::all(&store, &args.images)?;
    let progress = progress::watcher(session.output);
    let format = if args.format == "oci" { Format::Oci } else { Format::Docker };
    let Some(path) = &args.output else {
        if args.format == "folder" {
            bail!(
                Failure::new("a folder cannot be written to standard output")
                    .hint("say where: --output PATH")
            );
        }
        let out = std::io::stdout().lock();
        if out.is_terminal() || session.output.json {
            bail!(
                Failure::new("an archive is not for reading")
                    .hint("say where: --output PATH, or `weft image save … >FILE`")
            );
        }
        return Ok(save_archive(
            &store,
            &images,
            format,
            BufWriter::with_capacity(128 << 10, out),
            &*progress,
        )?);
    };
    let failed = || format!("failed to write {}", path.display());
    if args.format == "folder" {
        // One that is there is not ours to mix with, nor to remove.
        if path.symlink_metadata().is_ok() {
            bail!(Failure::new(format!("{} is there already", path.display())).hint("name a new folder"));
        }
        if let Err(error) = save_folder(&store, &images, path, &*progress) {
            let _ = fs::remove_dir_all(path); // half a layout is of no use; the first failure counts
            return Err(error).with_context(failed);
        }
    } else if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
        // A pipe or a device: nothing to be replaced.
        let out = fs::OpenOptions::new().write(true).open(path).with_context(failed)?;
        save_archive(&store, &images, format, BufWriter::with_capacity(128 << 10, out), &*progress)?;
    } else {
        let part = beside(path);
        let written = File::create_new(&part).with_context(failed).and_then(|file| {
            let out = BufWriter::with_capacity(128 << 10, file);
            save_archive(&store, &images, format, out, &*progress).with_context(failed)?;
            fs::rename(&part, path).with_context(failed)
        });
        if written.is_err() {
            let _ = fs::remove_file(&part); // the first failure counts
        }
        written?;
    }
    drop(progress);
    let size = if path.is_dir() { None } else { fs::metadata(path).ok().map(|meta| meta.size()) };
    session.output.show(
        || {
            let mut document = entry("path", path)?;
            document.extend(entry("bytes", size)?);
            Ok(document)
        },
        || format!("saved {}\n", path.display()),
    )
}

/// A name for the file until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}
