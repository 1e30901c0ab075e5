//! Where the store is: as the configuration says, or as `weft init` and `weft join` wrote it down.
//!
//! Never both: what a person wrote into the configuration wins.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use weft_store::cluster::{ClusterError, Credentials};

use crate::Config;

/// What `weft init` and `weft join` write, below the state folder.
pub const FILE: &str = "cluster/store.toml";

/// Where the store is, and how to be let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreFile {
    /// Its address.
    pub store: String,
    /// The authority of its servers' certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// This host's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// A user of etcd's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// That user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Whether it may go without TLS.
    #[serde(default)]
    pub plaintext: bool,
}

/// The same with what the files hold, so that a renewed certificate is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The store's address.
    pub store: String,
    /// How to be let in.
    pub credentials: Credentials,
    contents: Vec<Vec<u8>>,
}

/// Finds the store's address, if this host belongs to a cluster.
#[must_use]
pub fn find(config: &Config) -> Option<StoreFile> {
    if let Some(store) = &config.store {
        return Some(StoreFile {
            store: store.clone(),
            ca: config.store_ca.clone(),
            cert: config.store_cert.clone(),
            key: config.store_key.clone(),
            user: config.store_user.clone(),
            password_file: config.store_password_file.clone(),
            plaintext: config.store_plaintext,
        });
    }
    let text = std::fs::read_to_string(config.state_dir.join(FILE)).ok()?;
    match toml::from_str(&text) {
        Ok(file) => Some(file),
        Err(error) => {
            let store = format!("{FILE} makes no sense: {error}");
            Some(StoreFile { store, ..StoreFile::default() })
        }
    }
}

/// Reads the credentials.
///
/// # Errors
/// [`ClusterError::Credential`].
pub fn read(file: &StoreFile) -> Result<Settings, ClusterError> {
    let files = [&file.ca, &file.cert, &file.key, &file.password_file];
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|e| ClusterError::Credential { path: path.clone(), why: e.to_string() })
    };
    let contents = files.into_iter().flatten().map(read).collect::<Result<_, _>>()?;
    let credentials = Credentials {
        ca: file.ca.clone(),
        cert: file.cert.clone(),
        key: file.key.clone(),
        user: file.user.clone(),
        password_file: file.password_file.clone(),
        plaintext: file.plaintext,
    };
    Ok(Settings { store: file.store.clone(), credentials, contents })
}

/// Whether this host belongs to a cluster, or is about to.
#[must_use]
pub fn is_member(config: &Config) -> bool {
    config.store.is_some() || has_file(&config.state_dir)
}

fn has_file(state_dir: &Path) -> bool {
    state_dir.join(FILE).exists()
}
