//! Installing: decide about every file, refuse before anything is written, write, and go back if that fails.

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::files::Wanted;
use super::manifest::{self, Entry, Manifest, Part};
use super::transaction::{Change, Transaction};
use super::tree::{Content, Found, Tree};
use crate::failure::Failure;

/// What is to be done about one file.
enum Decision {
    Create,
    /// It is ours: replace it. The note says when an edit is lost.
    Replace {
        note: Option<&'static str>,
    },
    /// It is as it should be, or must stay as it is.
    Keep {
        ours: bool,
        note: Option<&'static str>,
    },
    /// It is foreign and force was asked for: it stays under this name.
    Supplant(PathBuf),
}

/// Installs the files, and removes those of the same parts that an older version had. `finish` comes
/// last; when it fails, as when any step does, everything is as it was.
pub(crate) fn apply(
    tree: &Tree,
    wanted: &[Wanted],
    force: bool,
    finish: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Change>> {
    let mut transaction = Transaction::new(tree);
    let result = run(tree, &mut transaction, wanted, force).and_then(|done| finish().map(|()| done));
    match result {
        Ok(changes) => {
            transaction.commit();
            Ok(changes)
        }
        Err(error) => {
            let stuck = transaction.roll_back();
            if stuck.is_empty() {
                return Err(error.context("nothing was installed"));
            }
            let list: Vec<String> = stuck.iter().map(|e| format!("{e:#}")).collect();
            Err(error.context(format!("not everything could be taken back ({})", list.join("; "))))
        }
    }
}

fn run(
    tree: &Tree,
    transaction: &mut Transaction<'_>,
    wanted: &[Wanted],
    force: bool,
) -> anyhow::Result<Vec<Change>> {
    let made = transaction.folders(Path::new(manifest::FOLDER), 0o700)?;
    let _lock = transaction.lock(Path::new(manifest::LOCK))?;
    let before = Manifest::read(tree)?;
    let mut manifest = before.clone().unwrap_or_else(Manifest::empty);
    manifest.made(&made);
    let decisions = decide_all(tree, &manifest, wanted, force)?;

    // The record comes before the files: were this run killed, uninstall would know what to look for.
    let mut intent = manifest.clone();
    for (file, decision) in wanted.iter().zip(&decisions) {
        if let Decision::Create | Decision::Supplant(_) = decision {
            intent.set(entry(file, decision, None, true));
        }
        intent.made(&missing(tree, &file.path)?);
    }
    for folder in wanted.iter().filter_map(|w| w.path.parent()).chain([Path::new(manifest::FOLDER)]) {
        tree.sweep(folder)?;
    }
    record(transaction, before.is_some(), &intent)?;

    let mut changes = Vec::new();
    for (file, decision) in wanted.iter().zip(&decisions) {
        let folder = file.path.parent().unwrap_or(Path::new("/"));
        manifest.made(&transaction.folders(folder, 0o755)?);
        changes.push(perform(transaction, file, decision)?);
        let old = manifest.entry(&file.path).cloned();
        // Kept as edited, or as somebody else's: what is recorded about it stays true.
        if !matches!(decision, Decision::Keep { ours: false, .. } | Decision::Keep { note: Some(_), .. }) {
            manifest.set(entry(file, decision, old, false));
        }
    }
    for old in obsolete(&manifest, wanted) {
        changes.extend(retire(tree, transaction, &old)?);
        manifest.files.retain(|e| e.path != old.path);
    }
    manifest.version = Manifest::empty().version;
    if manifest.bytes()? != intent.bytes()? {
        tree.replace(Path::new(manifest::PATH), &manifest.bytes()?, 0o644)?;
    }
    Ok(changes)
}

/// Decides about every file; all refusals are told at once.
fn decide_all(
    tree: &Tree,
    manifest: &Manifest,
    wanted: &[Wanted],
    force: bool,
) -> anyhow::Result<Vec<Decision>> {
    let mut decisions = Vec::new();
    let mut refused = Vec::new();
    for file in wanted {
        match decide(tree, manifest, file, force)? {
            Some(decision) => decisions.push(decision),
            None => refused.push(file.path.display().to_string()),
        }
    }
    if refused.is_empty() {
        return Ok(decisions);
    }
    let message = format!("not made by weft, and in the way: {}", refused.join(", "));
    let hint =
        "--force replaces regular files and keeps them for uninstall to put back; move anything else away";
    bail!(Failure::new(message).hint(hint))
}

/// `None` is a refusal.
fn decide(tree: &Tree, manifest: &Manifest, file: &Wanted, force: bool) -> anyhow::Result<Option<Decision>> {
    let found = tree.look(&file.path)?;
    let same = match (&found, &file.content) {
        (Found::File(there), Content::File { bytes, .. }) => there == bytes,
        (Found::Link(there), Content::Link(target)) => there == target,
        _ => false,
    };
    let regular = matches!((&found, &file.content), (Found::File(_), Content::File { .. }));
    // A pending entry with another mark is of a run that was killed before it wrote: not ours.
    let ours = manifest.entry(&file.path).filter(|e| !e.pending || e.is(&found));
    Ok(Some(match ours {
        _ if found == Found::Nothing => Decision::Create,
        Some(_) if same => Decision::Keep { ours: true, note: None },
        Some(_) if !regular => return Ok(None),
        Some(entry) if entry.is(&found) => Decision::Replace { note: None },
        Some(_) if file.settings && !force => Decision::Keep { ours: true, note: Some("it was edited") },
        Some(_) => Decision::Replace { note: Some("it had been edited; the edit is gone") },
        None if same => Decision::Keep { ours: false, note: Some("it was there before weft") },
        None if file.may_be_there && regular => {
            Decision::Keep { ours: false, note: Some("it was there before weft") }
        }
        None if regular && force => {
            let mut saved = file.path.clone().into_os_string();
            saved.push(".weft-saved");
            let saved = PathBuf::from(saved);
            match tree.look(&saved)? {
                Found::Nothing => Decision::Supplant(saved),
                _ => return Ok(None),
            }
        }
        None => return Ok(None),
    }))
}

fn perform(transaction: &mut Transaction<'_>, file: &Wanted, decision: &Decision) -> anyhow::Result<Change> {
    let path = &file.path;
    let (bytes, mode) = match &file.content {
        Content::File { bytes, mode } => (bytes.as_slice(), *mode),
        Content::Link(_) => (&[][..], 0),
    };
    match decision {
        Decision::Create => {
            transaction.create(path, &file.content)?;
            Ok(Change::new("created", path))
        }
        Decision::Replace { note } => {
            transaction.replace(path, bytes, mode)?;
            let change = Change::new("replaced", path);
            Ok(note.map(|n| change.clone().note(n)).unwrap_or(change))
        }
        Decision::Keep { note, .. } => {
            let change = Change::new("kept", path);
            Ok(note.map(|n| change.clone().note(n)).unwrap_or(change))
        }
        Decision::Supplant(saved) => {
            transaction.supplant(path, saved, bytes, mode)?;
            Ok(Change::new("replaced", path).note(format!("what was there is now {}", saved.display())))
        }
    }
}

fn entry(file: &Wanted, decision: &Decision, old: Option<Entry>, pending: bool) -> Entry {
    let saved = match decision {
        Decision::Supplant(saved) => Some(saved.clone()),
        _ => old.and_then(|o| o.saved),
    };
    let mark = manifest::mark(&file.content);
    Entry { path: file.path.clone(), part: file.part, mark, settings: file.settings, saved, pending }
}

/// The directories on the way to a file that are not there yet.
fn missing(tree: &Tree, path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for folder in path.ancestors().skip(1).filter(|f| f.parent().is_some()) {
        if tree.look(folder)? != Found::Nothing {
            break;
        }
        folders.push(folder.to_owned());
    }
    Ok(folders)
}

/// Files of the parts that are being installed which this version, or this wish, does not have.
/// The link that starts the unit at boot stays: to install again is not to disable.
fn obsolete(manifest: &Manifest, wanted: &[Wanted]) -> Vec<Entry> {
    let parts: Vec<Part> = wanted.iter().map(|w| w.part).collect();
    let gone = |e: &&Entry| {
        parts.contains(&e.part)
            && e.path != Path::new(super::files::ENABLED)
            && !wanted.iter().any(|w| w.path == e.path)
    };
    manifest.files.iter().filter(gone).cloned().collect()
}

fn retire(tree: &Tree, transaction: &mut Transaction<'_>, old: &Entry) -> anyhow::Result<Option<Change>> {
    let found = tree.look(&old.path)?;
    if found == Found::Nothing || (!old.is(&found) && (old.pending || !matches!(found, Found::File(_)))) {
        return Ok(None);
    }
    transaction.remove(&old.path, old.saved.as_deref())?;
    let change = Change::new("removed", &old.path);
    Ok(Some(if old.is(&found) { change } else { change.note("it had been edited") }))
}

fn record(transaction: &mut Transaction<'_>, there: bool, manifest: &Manifest) -> anyhow::Result<()> {
    let (path, bytes) = (Path::new(manifest::PATH), manifest.bytes()?);
    if there {
        return transaction.replace(path, &bytes, 0o644);
    }
    transaction.create(path, &Content::File { bytes, mode: 0o644 })
}
