//! Why state could not be read or written, and what to do about it.
//!
//! Never retries and never logs.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use weft_model::api::{self, ErrorKind};

/// Why state could not be read or written. Display says what failed; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A symbolic link stands where a file or directory of weft's should.
    #[error("{path} is a symbolic link")]
    Symlink {
        /// Where.
        path: PathBuf,
    },
    /// Something else stands where a file or directory of weft's should.
    #[error("{path} is not a {wanted}")]
    WrongKind {
        /// Where.
        path: PathBuf,
        /// `directory` or `regular file`.
        wanted: &'static str,
    },
    /// The file or directory belongs to another user.
    #[error("{path} belongs to user {uid}, not to the agent's")]
    Foreign {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Another process works with the files.
    #[error("another agent{} holds {path}", pid.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    Held {
        /// The file or directory.
        path: PathBuf,
        /// Which process, if it could be found out.
        pid: Option<u32>,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The contents of the file make no sense to the database.
    #[error("cannot {action} {path}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// A later version of weft wrote the file.
    #[error("{path} has schema {found}; this version of weft knows schemas up to {known}")]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The schema of the file.
        found: u64,
        /// The latest schema known here.
        known: u64,
    },
    /// A record cannot be written down, such as a path that is not UTF-8.
    #[error("cannot write down {record}")]
    Encode {
        /// Which record.
        record: String,
        /// Why not.
        source: serde_json::Error,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> StoreError {
        StoreError::Io { action, path: path.to_owned(), source: source.into() }
    }

    pub(crate) fn redb(action: &'static str, path: &Path, source: redb::Error) -> StoreError {
        let path = path.to_owned();
        match source {
            redb::Error::Io(source) => StoreError::Io { action, path, source },
            redb::Error::DatabaseAlreadyOpen => StoreError::Held { path, pid: None },
            source => StoreError::Database { action, path, source: Box::new(source) },
        }
    }

    /// Whether the file's contents are to blame, so that another attempt would end the same way.
    pub(crate) fn is_damage(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, InvalidData, InvalidInput, UnexpectedEof};
        match self {
            StoreError::Io { source, .. } => {
                matches!(source.kind(), FileTooLarge | InvalidData | InvalidInput | UnexpectedEof)
            }
            StoreError::Database { source, .. } => matches!(
                **source,
                redb::Error::Corrupted(_)
                    | redb::Error::UpgradeRequired(_)
                    | redb::Error::TableDoesNotExist(_)
                    | redb::Error::TableTypeMismatch { .. }
                    | redb::Error::TypeDefinitionChanged { .. }
                    | redb::Error::TableIsMultimap(_)
                    | redb::Error::TableIsNotMultimap(_)
            ),
            _ => false,
        }
    }

    /// Whether the file cannot be written for now and may be sound: a full or read-only file system.
    pub(crate) fn is_unwritable(&self) -> bool {
        matches!(self, StoreError::Io { source, .. } if unwritable(source))
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let shown = |path: &Path| path.display().to_string();
        match self {
            StoreError::Symlink { path } | StoreError::WrongKind { path, .. } => {
                format!("see who put it there, then remove it: rm {}", shown(path))
            }
            StoreError::Foreign { path, .. } => format!("chown --no-dereference root: {}", shown(path)),
            StoreError::Held { .. } => {
                "one agent per host: systemctl status weft, or stop the other one".into()
            }
            StoreError::Io { path, source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    format!("make room on the file system of {}: df {0}", shown(path))
                }
                io::ErrorKind::ReadOnlyFilesystem => {
                    format!(
                        "mount the file system of {} writable, or choose another --state-dir",
                        shown(path)
                    )
                }
                _ => format!("look at {} and at the kernel log: dmesg", shown(path)),
            },
            StoreError::Database { .. } => "restart the agent: it sets a damaged file aside".into(),
            StoreError::Newer { path, .. } => {
                format!("install the later version again, or move {} away", shown(path))
            }
            StoreError::Encode { .. } => "use names and paths that are UTF-8".into(),
        }
    }
}

fn unwritable(source: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(source.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem | PermissionDenied)
}

impl From<StoreError> for api::Error {
    fn from(error: StoreError) -> api::Error {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            message = format!("{message}: {source}").replace('\n', " ");
            cause = source.source();
        }
        api::Error::new(ErrorKind::Storage, message).hint(error.hint())
    }
}
