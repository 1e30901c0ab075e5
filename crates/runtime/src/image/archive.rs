//! Images in files: archives as `docker save` writes them and OCI image layouts, in an archive or a folder
//! (OCI image specification, image-layout.md). What is written can be read as either.

mod error;
mod input;
mod load;
mod save;

use serde::{Deserialize, Serialize};

pub use error::ArchiveError;
pub use load::{load_archive, load_folder};
pub use save::{Format, save_archive, save_folder};

/// One image of a `docker save` archive: an entry of its `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerEntry {
    /// The file of the configuration.
    pub(crate) config: String,
    /// The image's names.
    #[serde(default)]
    pub(crate) repo_tags: Option<Vec<String>>,
    /// The files of the layers, the lowest first.
    #[serde(default)]
    pub(crate) layers: Option<Vec<String>>,
}

/// The annotation in which Docker and containerd write an image's full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
