//! Putting weft's files on a host, and taking them away so that the host is as it was.
//!
//! | file | subject |
//! |---|---|
//! | `files` | which files, and `text` what is in them |
//! | `tree` | reading and writing below a root without following foreign links |
//! | `manifest` | the record of what was put there |
//! | `transaction` | changes that can be taken back |
//! | `apply`, `remove` | install and uninstall |
//! | `systemd`, `stop` | the running agent |

mod apply;
mod files;
mod manifest;
mod remove;
pub(crate) mod stop;
pub(crate) mod systemd;
mod text;
mod transaction;
mod tree;

use weft_model::api::Owned;

pub(crate) use apply::apply;
pub(crate) use files::{CniPlaces, NodePlaces, Wanted, cni, node, plugin, program};
pub(crate) use manifest::Part;
pub(crate) use remove::remove;
pub(crate) use transaction::Change;
pub(crate) use tree::Tree;

/// FNV-1a, 64 bits: enough to notice an edit. It is no defence: whoever can write these files is root.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// What the manifest of this host lists.
pub(crate) fn installed_files() -> anyhow::Result<Vec<Owned>> {
    let Some(manifest) = manifest::Manifest::read(&Tree::host()?)? else { return Ok(Vec::new()) };
    let paths = manifest.files.into_iter().map(|f| f.path).chain([manifest::PATH.into()]);
    Ok(paths.map(|p| Owned { kind: "file".to_owned(), object: p.display().to_string() }).collect())
}
