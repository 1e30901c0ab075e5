//! `weft uninstall`: the host as it was before weft. Needs no agent, and can be run again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use weft_agent::Config;
use weft_runtime::Places;

use super::install::{text, tree};
use crate::cli::Session;
use crate::containers::end_all;
use crate::failure::Failure;
use crate::install::{Change, Part, remove, stop, systemd};
use crate::output::entry;
use crate::place;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove from the image below this directory; only files are removed, the kernel is left alone
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Keep declared networks and an edited configuration
    #[arg(long)]
    keep_state: bool,
    /// The configuration file, which says where state is
    #[arg(long, value_name = "FILE", default_value_os_t = place::config())]
    config: PathBuf,
}

const PARTS: [Part; 2] = [Part::Cni, Part::Node];

pub(crate) fn run(session: &Session, args: &Args) -> anyhow::Result<()> {
    let tree = tree(args.root.as_deref())?;
    if args.root.is_some() {
        let changes = remove(&tree, &PARTS, args.keep_state)?;
        return show(session, &[], &changes.unwrap_or_default());
    }
    // Read before its file goes. A broken one must not keep weft on the host.
    let mut config = Config::load(&args.config).unwrap_or_else(|error| {
        let error = anyhow::Error::new(error);
        session.output.remark(&format!("{error:#}; the default places are looked at"));
        Config::default()
    });
    config.socket = session.socket.clone().or(config.socket);
    let places = Places {
        state: config.state_dir.clone(),
        run: config.run_dir.clone(),
        socket: config.socket(),
        journal: config.journal(),
    };
    // While the agent can still be told that they are over; and before their folders go, in which they are mounted.
    for done in end_all(&places, args.keep_state)? {
        session.output.remark(&done);
    }
    if let Some(done) = stop::agent(&config.socket())? {
        session.output.remark(&done);
    }
    crate::member::service::remove(&config)?;
    // The program goes last: while the kernel still holds something of weft's, it is needed again.
    let commands = weft_agent::remove_all(&config).map_err(|why| {
        let advice = Failure::new("not everything of weft's could be removed from the kernel")
            .hint("the files were left in place: run it again");
        anyhow::anyhow!(why).context(advice)
    })?;
    let installed = remove(&tree, &PARTS, args.keep_state)?;
    if installed.is_some() && systemd::running() {
        systemd::reload()?;
        systemd::tell_others();
    }
    let mut changes = installed.unwrap_or_default();
    changes.extend(folder(&config.run_dir)?);
    if !args.keep_state {
        changes.extend(folder(&config.state_dir)?);
        // systemd makes these whatever the configuration says; an rmdir removes nothing of value.
        for made in [Config::default().run_dir, Config::default().state_dir] {
            let _ = fs::remove_dir(made);
        }
    }
    show(session, &commands, &changes)
}

/// Removes one of the agent's directories with what is in it.
fn folder(path: &Path) -> anyhow::Result<Option<Change>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(meta) if meta.is_dir() && is_ours(path) => {}
        // A configuration that says `state_dir = "/var"` must not cost the host its /var.
        _ => {
            let note = "it is not a directory with weft's name: remove it by hand if it is weft's";
            return Ok(Some(Change::new("left", path).note(note)));
        }
    }
    fs::remove_dir_all(path).with_context(|| format!("failed to remove {}", path.display()))?;
    Ok(Some(Change::new("removed", path)))
}

fn is_ours(path: &Path) -> bool {
    path.is_absolute() && path.file_name().is_some_and(|n| n.to_string_lossy().contains("weft"))
}

fn show(session: &Session, commands: &[String], changes: &[Change]) -> anyhow::Result<()> {
    session.output.show(
        || {
            let mut document = entry("commands", commands)?;
            document.extend(entry("changes", changes)?);
            Ok(document)
        },
        || {
            let kernel: String = commands.iter().map(|c| format!("{c}\n")).collect();
            match (commands, changes) {
                ([], []) => "nothing is installed\n".to_owned(),
                _ => format!("{kernel}{}", text(session, changes)),
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_our_name_is_left() {
        let host = tempfile::tempdir().unwrap();
        let (state, var) = (host.path().join("weft"), host.path().join("var"));
        for folder in [&state, &var] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("x"), "x").unwrap();
        }
        assert_eq!(folder(&state).unwrap().unwrap().action, "removed");
        assert_eq!(folder(&state).unwrap(), None);
        assert_eq!(folder(&var).unwrap().unwrap().action, "left");
        assert!(var.join("x").exists() && !state.exists());
    }

    #[test]
    fn a_link_in_the_place_of_the_folder_is_left() {
        let host = tempfile::tempdir().unwrap();
        let (target, link) = (host.path().join("precious"), host.path().join("weft"));
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(folder(&link).unwrap().unwrap().action, "left");
        assert!(target.exists());
    }
}
