//! The record of what was installed: what uninstall may remove, and how to know whether it was edited.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::fnv1a;
use super::tree::{Content, Found, Tree};
use crate::failure::Failure;

/// Where it is.
pub(super) const PATH: &str = "/var/lib/weft/installed.json";
/// The directory it is in, which is also the agent's state directory unless configured otherwise.
pub(super) const FOLDER: &str = "/var/lib/weft";
/// Locked while files are installed or removed; goes with the record.
pub(super) const LOCK: &str = "/var/lib/weft/installed.lock";

/// What a file is installed for: each can be installed and removed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    /// The program, its unit and configuration.
    Node,
    /// The CNI plugin and its configuration.
    Cni,
}

/// Everything that was put on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) api: u32,
    pub(super) version: String,
    pub(super) files: Vec<Entry>,
    /// Directories that were made, outermost first.
    pub(super) directories: Vec<PathBuf>,
}

/// One file or link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) part: Part,
    /// Of its content as installed; see [`mark`].
    pub(super) mark: String,
    /// Whether an edit by a person is respected.
    #[serde(default)]
    pub(super) settings: bool,
    /// What was there before, under another name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) saved: Option<PathBuf>,
    /// Written before the file was: if what is there has another mark it is not ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) pending: bool,
}

impl Entry {
    /// Whether what is there is what was installed.
    pub(super) fn is(&self, found: &Found) -> bool {
        found_mark(found).is_some_and(|m| m == self.mark)
    }
}

impl Manifest {
    pub(super) fn empty() -> Manifest {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Manifest { api: 1, version, files: Vec::new(), directories: Vec::new() }
    }

    pub(super) fn read(tree: &Tree) -> anyhow::Result<Option<Manifest>> {
        let bytes = match tree.look(Path::new(PATH))? {
            Found::Nothing => return Ok(None),
            Found::File(bytes) => bytes,
            Found::Link(_) | Found::Other => {
                return Err(Failure::new(format!("{PATH} is not a regular file")).into());
            }
        };
        let broken = || {
            Failure::new(format!("the record of what is installed, {PATH}, cannot be understood"))
                .hint("it may be of a newer weft: use that one; without the record the files must be removed by hand")
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).with_context(broken)?;
        let paths = manifest.files.iter().map(|f| &f.path).chain(&manifest.directories);
        let saved = manifest.files.iter().filter_map(|f| f.saved.as_ref());
        if manifest.api != 1 || !paths.chain(saved).all(|p| super::files::is_plain(p)) {
            return Err(broken().into());
        }
        Ok(Some(manifest))
    }

    pub(super) fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).context("failed to write JSON")?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(super) fn entry(&self, path: &Path) -> Option<&Entry> {
        self.files.iter().find(|e| e.path == path)
    }

    /// Puts an entry in the place of the one with the same path.
    pub(super) fn set(&mut self, entry: Entry) {
        match self.files.iter_mut().find(|e| e.path == entry.path) {
            Some(old) => *old = entry,
            None => self.files.push(entry),
        }
    }

    /// Adds directories that were made just now.
    pub(super) fn made(&mut self, folders: &[PathBuf]) {
        self.directories.extend_from_slice(folders);
        self.directories.sort();
        self.directories.dedup();
    }
}

/// What tells one content from another.
pub(super) fn mark(content: &Content) -> String {
    match content {
        Content::File { bytes, .. } => file_mark(bytes),
        Content::Link(target) => link_mark(target),
    }
}

fn found_mark(found: &Found) -> Option<String> {
    match found {
        Found::File(bytes) => Some(file_mark(bytes)),
        Found::Link(target) => Some(link_mark(target)),
        Found::Nothing | Found::Other => None,
    }
}

fn file_mark(bytes: &[u8]) -> String {
    format!("file:{}:{:016x}", bytes.len(), fnv1a(bytes))
}

fn link_mark(target: &Path) -> String {
    format!("link:{}", target.display())
}
