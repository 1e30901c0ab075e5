//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::image::{Digest, DocumentError, LayerError};

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused something.
    #[error("failed to {what} {path}")]
    Io {
        /// What.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder cannot be trusted.
    #[error("the folder {path} is not used: {why}")]
    Unsafe {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// There is no image of this name.
    #[error("there is no image '{0}' here")]
    NoImage(String),
    /// A short id is too short.
    #[error("'{0}' is the beginning of more than one image's id")]
    Ambiguous(String),
    /// An image cannot be removed because containers use it.
    #[error("the image '{image}' is used by {}", .by.join(", "))]
    InUse {
        /// The image.
        image: String,
        /// The containers.
        by: Vec<String>,
    },
    /// What came is not what was named.
    #[error("{what} is not what its name says: its digest is {found}, not {expected}")]
    WrongDigest {
        /// What came.
        what: String,
        /// As named.
        expected: Digest,
        /// As it is.
        found: Digest,
    },
    /// What came has the wrong length.
    #[error("{what} has {found} bytes, but {expected} were announced")]
    WrongSize {
        /// What came.
        what: String,
        /// As announced.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// Something that the store should hold is not there.
    #[error("the store holds no {0}, which an image needs")]
    Lacks(Digest),
    /// A document of an image is not sound.
    #[error("the image {image} cannot be used")]
    Document {
        /// The digest of its manifest.
        image: Digest,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// The store's own file is not sound.
    #[error("the file {path} of the store is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A layer cannot be unpacked.
    #[error("the layer {layer} cannot be unpacked")]
    Layer {
        /// The digest of its archive.
        layer: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The root file system cannot be put together.
    #[error("failed to {what} the root file system at {path}")]
    Mount {
        /// Mount, unmount.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> StoreError {
        StoreError::Io { what, path: path.to_owned(), source }
    }
}
