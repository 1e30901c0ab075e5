//! What can go wrong with images in files.

use std::io;
use std::path::PathBuf;

use crate::image::{Digest, DocumentError, LayerError, Platform, ReferenceError, StoreError};

/// What can go wrong with images in files.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive itself cannot be read.
    #[error("the archive cannot be read")]
    Read(#[source] LayerError),
    /// It holds no image.
    #[error(
        "there is no image in it: neither manifest.json of `docker save` nor index.json of an OCI layout"
    )]
    NoImage,
    /// Something that it names is not in it.
    #[error("it names {0}, which is not in it")]
    Lacks(String),
    /// A file is not what its name says.
    #[error("its file {path} is damaged: its content has the digest {found}")]
    WrongDigest {
        /// The file.
        path: String,
        /// As it is.
        found: Digest,
    },
    /// A file is longer or shorter than announced.
    #[error("its file for {digest} has {found} bytes, but {expected} were announced")]
    WrongSize {
        /// Whose file.
        digest: Digest,
        /// As announced.
        expected: u64,
        /// As it is.
        found: u64,
    },
    /// One of its documents makes no sense.
    #[error("its {what} cannot be used")]
    Document {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// One of its names is not one.
    #[error(transparent)]
    Name(#[from] ReferenceError),
    /// A name was given for several images.
    #[error("it holds {0} images: one name cannot be given to all of them")]
    Several(usize),
    /// There is no image for this platform.
    #[error("it has no image for {wanted}; there are {}", .offered.join(", "))]
    Platform {
        /// What was looked for.
        wanted: Platform,
        /// What there is.
        offered: Vec<String>,
    },
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
    /// The archive cannot be written.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}
