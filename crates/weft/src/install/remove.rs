//! Uninstalling files: those in the manifest, then the directories that were made, if they are empty.
//!
//! A file that cannot be removed does not keep the others; it stays in the manifest for the next try.

use std::path::Path;

use anyhow::bail;

use super::files::{ENABLED, UNIT};
use super::manifest::{self, Entry, Manifest, Part};
use super::transaction::Change;
use super::tree::{Found, Tree};
use crate::failure::Failure;

/// Removes the files of these parts. `None`: nothing is installed. With `keep`, settings that a
/// person has edited stay, and stay recorded.
pub(crate) fn remove(tree: &Tree, parts: &[Part], keep: bool) -> anyhow::Result<Option<Vec<Change>>> {
    if tree.look(Path::new(manifest::PATH))? == Found::Nothing {
        return trace_of_a_killed_run(tree).map(|()| None);
    }
    let _lock = tree.lock(Path::new(manifest::LOCK))?;
    let Some(mut manifest) = Manifest::read(tree)? else { return Ok(None) };
    let (mut changes, mut failed) = (Vec::new(), Vec::new());
    let unit = manifest.files.iter().any(|e| e.path == Path::new(UNIT) && parts.contains(&e.part));
    if unit && let Err(error) = disable(tree, &mut changes) {
        failed.push(error);
    }
    let (mut doomed, mut left): (Vec<Entry>, Vec<Entry>) =
        manifest.files.drain(..).partition(|e| parts.contains(&e.part));
    if doomed.is_empty() {
        return Ok(None);
    }
    // Last in, first out: what starts the agent goes before the agent.
    doomed.reverse();
    for entry in doomed {
        if let Some(folder) = entry.path.parent() {
            failed.extend(tree.sweep(folder).err());
        }
        match take(tree, &entry, keep) {
            Ok(Taken { stays: true, change }) => {
                changes.extend(change);
                left.insert(0, entry);
            }
            Ok(Taken { stays: false, change }) => changes.extend(change),
            Err(error) => {
                failed.push(error);
                left.insert(0, entry);
            }
        }
    }
    manifest.files = left;
    finish(tree, manifest, &mut changes, &mut failed)?;
    if failed.is_empty() {
        return Ok(Some(changes));
    }
    let words: Vec<String> = failed.iter().map(|e| format!("{e:#}")).collect();
    bail!(
        Failure::new(words.join("; "))
            .hint("what is left is still recorded: put that right and run it again")
    )
}

/// An install that was killed before it wrote the manifest has left a directory, perhaps with half a manifest.
fn trace_of_a_killed_run(tree: &Tree) -> anyhow::Result<()> {
    let own = Path::new(manifest::FOLDER);
    if tree.look(own)? != Found::Other {
        return Ok(());
    }
    let _lock = tree.lock(Path::new(manifest::LOCK))?;
    tree.sweep(own)?;
    tree.unlink(Path::new(manifest::LOCK))?;
    tree.remove_folder(own).map(drop)
}

struct Taken {
    stays: bool,
    change: Option<Change>,
}

fn take(tree: &Tree, entry: &Entry, keep: bool) -> anyhow::Result<Taken> {
    let found = tree.look(&entry.path)?;
    let path = &entry.path;
    let gone = |change| Ok(Taken { stays: false, change });
    let same = entry.is(&found);
    if !same && found != Found::Nothing {
        if !matches!(found, Found::File(_)) {
            return gone(Some(Change::new("left", path).note("it is no longer the file that was installed")));
        }
        if entry.pending {
            return gone(Some(Change::new("left", path).note("it is not weft's")));
        }
        if keep && entry.settings {
            return Ok(Taken { stays: true, change: Some(Change::new("kept", path).note("it was edited")) });
        }
    }
    let saved = match &entry.saved {
        Some(saved) if matches!(tree.look(saved)?, Found::File(_)) => Some(saved),
        _ => None,
    };
    if let Some(saved) = saved {
        let name = path.file_name().unwrap_or_default();
        tree.rename(saved, name)?;
        // Both names may be one file, when the run that saved it was killed: then rename does nothing.
        tree.unlink(saved)?;
        return gone(Some(Change::new("restored", path)));
    }
    tree.unlink(path)?;
    gone(match found {
        Found::Nothing => None,
        _ if same => Some(Change::new("removed", path)),
        _ => Some(Change::new("removed", path).note("it had been edited")),
    })
}

/// Takes away the link of `systemctl enable`, which would dangle.
fn disable(tree: &Tree, changes: &mut Vec<Change>) -> anyhow::Result<()> {
    let path = Path::new(ENABLED);
    if let Found::Link(target) = tree.look(path)?
        && target.ends_with("weft.service")
    {
        tree.unlink(path)?;
        changes.push(Change::new("removed", path));
    }
    Ok(())
}

/// Removes empty directories and, when nothing is left to remember, the manifest itself.
fn finish(
    tree: &Tree,
    mut manifest: Manifest,
    changes: &mut Vec<Change>,
    failed: &mut Vec<anyhow::Error>,
) -> anyhow::Result<()> {
    let own = Path::new(manifest::FOLDER);
    let remembered = !manifest.files.is_empty();
    tree.sweep(own)?;
    let folders = std::mem::take(&mut manifest.directories);
    let (holding, others): (Vec<_>, Vec<_>) = folders.into_iter().partition(|f| own.starts_with(f));
    let mut full = Vec::new();
    for folder in others.into_iter().rev() {
        match tree.remove_folder(&folder) {
            Ok(true) => {}
            Ok(false) => full.push(folder),
            Err(error) => {
                failed.push(error);
                full.push(folder);
            }
        }
    }
    full.reverse();
    if remembered {
        manifest.directories = holding;
        manifest.made(&full);
        return tree.replace(Path::new(manifest::PATH), &manifest.bytes()?, 0o644);
    }
    tree.unlink(Path::new(manifest::PATH))?;
    tree.unlink(Path::new(manifest::LOCK))?;
    // A killed run may have made it without a record; empty, it is of no use to anybody.
    tree.remove_folder(own)?;
    for folder in holding.iter().rev() {
        if !tree.remove_folder(folder)? && folder != own {
            full.push(folder.clone());
        }
    }
    let left = |folder| Change::new("left", folder).note("the directory is not empty");
    changes.extend(full.iter().map(|f| left(f)));
    Ok(())
}
