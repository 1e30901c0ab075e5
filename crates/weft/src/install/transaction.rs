//! Changes to files that can be taken back until they are committed.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::tree::{Content, Tree, temporary_name};

/// What was done to a file, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) action: &'static str,
    pub(crate) path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Change {
    pub(crate) fn new(action: &'static str, path: &Path) -> Change {
        Change { action, path: path.to_owned(), note: None }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Change {
        self.note = Some(note.into());
        self
    }
}

enum Undo {
    RemoveFolder(PathBuf),
    Remove(PathBuf),
    /// Puts the second back under the name of the first.
    Restore(PathBuf, PathBuf),
}

/// Changes so far, and how to take them back.
pub(super) struct Transaction<'t> {
    tree: &'t Tree,
    undo: Vec<Undo>,
    /// Copies that are needed only to go back.
    copies: Vec<PathBuf>,
}

impl<'t> Transaction<'t> {
    pub(super) fn new(tree: &'t Tree) -> Transaction<'t> {
        Transaction { tree, undo: Vec::new(), copies: Vec::new() }
    }

    /// Makes the missing directories of `path`; returns them.
    pub(super) fn folders(&mut self, path: &Path, mode: u32) -> anyhow::Result<Vec<PathBuf>> {
        let (made, result) = self.tree.make_folders(path, mode);
        self.undo.extend(made.iter().cloned().map(Undo::RemoveFolder));
        result.map(|()| made)
    }

    /// Locks a file until the result is dropped.
    pub(super) fn lock(&mut self, path: &Path) -> anyhow::Result<OwnedFd> {
        let (lock, made) = self.tree.lock(path)?;
        if made {
            self.undo.push(Undo::Remove(path.to_owned()));
        }
        Ok(lock)
    }

    pub(super) fn create(&mut self, path: &Path, content: &Content) -> anyhow::Result<()> {
        self.tree.create(path, content)?;
        self.undo.push(Undo::Remove(path.to_owned()));
        Ok(())
    }

    /// Puts new bytes in the place of a file of ours.
    pub(super) fn replace(&mut self, path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
        let copy = self.keep(path)?;
        self.copies.push(copy);
        self.tree.replace(path, bytes, mode)
    }

    /// Puts new bytes in the place of a foreign file, which stays under the name `saved`.
    pub(super) fn supplant(
        &mut self,
        path: &Path,
        saved: &Path,
        bytes: &[u8],
        mode: u32,
    ) -> anyhow::Result<()> {
        self.tree.link(path, name(saved))?;
        self.undo.push(Undo::Restore(path.to_owned(), saved.to_owned()));
        self.tree.replace(path, bytes, mode)
    }

    /// Removes a file, or puts back what it had supplanted.
    pub(super) fn remove(&mut self, path: &Path, saved: Option<&Path>) -> anyhow::Result<()> {
        let copy = self.keep(path)?;
        self.copies.push(copy);
        match saved {
            // The saved file keeps its name until the commit: going back needs it there.
            Some(saved) => {
                let twin = temporary_name();
                self.tree.link(saved, OsStr::new(&twin))?;
                self.tree.rename(&saved.with_file_name(twin), name(path))?;
                self.copies.push(saved.to_owned());
                Ok(())
            }
            None => self.tree.unlink(path),
        }
    }

    /// Gives a file a second name from which it can be restored.
    fn keep(&mut self, path: &Path) -> anyhow::Result<PathBuf> {
        let copy = temporary_name();
        self.tree.link(path, OsStr::new(&copy))?;
        let copy = path.with_file_name(copy);
        self.undo.push(Undo::Restore(path.to_owned(), copy.clone()));
        Ok(copy)
    }

    /// Makes it final. What cannot be cleaned up now, the next run sweeps.
    pub(super) fn commit(self) {
        for copy in &self.copies {
            let _ = self.tree.unlink(copy);
        }
    }

    /// Takes everything back, last first; returns what could not be.
    pub(super) fn roll_back(self) -> Vec<anyhow::Error> {
        let mut failed = Vec::new();
        for step in self.undo.iter().rev() {
            let result = match step {
                Undo::RemoveFolder(path) => self.tree.remove_folder(path).map(drop),
                Undo::Remove(path) => self.tree.unlink(path),
                // Between the second name and the change nothing may have happened: then both names are
                // one file, rename(2) does nothing, and the second name has to go by itself.
                Undo::Restore(path, copy) => {
                    self.tree.rename(copy, name(path)).and_then(|()| self.tree.unlink(copy))
                }
            };
            failed.extend(result.err());
        }
        failed
    }
}

fn name(path: &Path) -> &OsStr {
    path.file_name().expect("paths of files were checked to have a name")
}
