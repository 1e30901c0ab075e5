//! Where the store is: as the configuration says, or as `weft init` and `weft join` wrote it down.
//!
//! Never both: what a person wrote into the configuration wins.

use std::collections::BTreeSet;
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

/// Takes over whom all hosts are to trust, where `weft init` and `weft join` manage the certificates. New
/// connections count with it.
pub(crate) fn trust(config: &Config, pem: &str) {
    let path = config.state_dir.join("cluster/ca.pem");
    let same = std::fs::read(&path).is_ok_and(|known| known == pem.as_bytes());
    if config.store.is_some() || same || !pem.contains("-----BEGIN CERTIFICATE-----") || !path.exists() {
        return;
    }
    match replace(&path, pem) {
        Ok(()) => tracing::info!("whom to trust as the store's authority has changed"),
        Err(error) => tracing::warn!(%error, "failed to record whom to trust as the store's authority"),
    }
}

/// Takes over where the store's servers are, where `weft init` and `weft join` manage them: the next session
/// begins with that.
pub(crate) fn refresh(config: &Config, servers: &[String]) {
    let Some(file) = find(config).filter(|_| config.store.is_none() && !servers.is_empty()) else { return };
    let known: BTreeSet<&str> = file.store.trim_start_matches("etcd://").split(',').collect();
    if !file.is_managed(config) || known == servers.iter().map(String::as_str).collect() {
        return;
    }
    let file = StoreFile { store: format!("etcd://{}", servers.join(",")), ..file };
    if let Err(error) = replace(&config.state_dir.join(FILE), &file.text()) {
        tracing::warn!(%error, "failed to record where the store's servers are");
    }
}

/// Takes the file away: this host belongs to no cluster. What else was written for it is removed by who wrote it.
pub(crate) fn forget(config: &Config) {
    if let Err(error) = std::fs::remove_file(config.state_dir.join(FILE)) {
        tracing::warn!(%error, "failed to remove what names the store");
    }
}

impl StoreFile {
    /// Whether its certificates are those that `weft init` and `weft join` made, with a store that they run.
    #[must_use]
    pub fn is_managed(&self, config: &Config) -> bool {
        config.store.is_none() && self.cert.as_ref() == Some(&config.state_dir.join("cluster/node.pem"))
    }

    /// As it is written down.
    #[must_use]
    pub fn text(&self) -> String {
        // Every value is a string or a boolean, which JSON writes as TOML does.
        let document = serde_json::to_value(self).unwrap_or_default();
        let values = document.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let lines: String = values.map(|(key, value)| format!("{key} = {value}\n")).collect();
        format!("# Written by weft init and weft join; the agent reads it and keeps it up to date.\n{lines}")
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let aside = path.with_extension("next");
    let _ = std::fs::remove_file(&aside);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&aside, path)
}

/// Whether this host belongs to a cluster, or is about to.
#[must_use]
pub fn is_member(config: &Config) -> bool {
    config.store.is_some() || has_file(&config.state_dir)
}

fn has_file(state_dir: &Path) -> bool {
    state_dir.join(FILE).exists()
}
