//! The files of a membership: written so that none is ever half there, readable by root alone.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use weft_agent::Config;
use weft_agent::settings::{self, FILE, StoreFile};
use weft_store::cluster::authority::{Authority, Pair};
use weft_store::cluster::{Credentials, Etcd};

use super::exchange::Elsewhere;
use super::{CLIENTS, failure, token};

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    state_dir: PathBuf,
}

/// A share of the store, as its host runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Share {
    /// The host's name, which is the member's.
    pub(crate) name: String,
    /// Its address on the underlay.
    pub(crate) address: std::net::IpAddr,
    /// All members at its beginning, as etcd's `--initial-cluster` has it.
    pub(crate) initial: String,
    /// Whether it joined others.
    pub(crate) joined: bool,
    /// The store is somebody else's and runs elsewhere: this host has only a door to it.
    #[serde(default)]
    pub(crate) elsewhere: bool,
}

impl Files {
    pub(crate) fn new(state_dir: &Path) -> Files {
        Files { state_dir: state_dir.to_owned() }
    }

    fn folder(&self) -> PathBuf {
        self.state_dir.join("cluster")
    }

    /// A file of every host in a cluster.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// A file of a host that runs a share of the store.
    pub(crate) fn of_member(&self, name: &str) -> PathBuf {
        self.folder().join("member").join(name)
    }

    /// The data of that share.
    pub(crate) fn data(&self) -> PathBuf {
        self.state_dir.join("etcd")
    }

    /// Whether this host belongs to a cluster.
    pub(crate) fn is_joined(&self) -> bool {
        self.state_dir.join(FILE).exists()
    }

    pub(crate) fn is_member(&self) -> bool {
        self.of_member("member.json").exists()
    }

    pub(crate) fn share(&self) -> anyhow::Result<Share> {
        let path = self.of_member("member.json");
        let text = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} makes no sense", path.display()))
    }

    pub(crate) fn authority(&self) -> anyhow::Result<Authority> {
        let read = |name: &str| {
            let path = self.of_member(name);
            fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        Ok(Authority::read(Pair { cert: read("authority.pem")?, key: read("authority.key")? })?)
    }

    /// Makes the folders; only root can look into them.
    pub(crate) fn prepare(&self, member: bool) -> anyhow::Result<()> {
        let mut folders = vec![self.folder()];
        if member {
            folders.extend([self.folder().join("member"), self.data()]);
        }
        for folder in folders {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.with_context(|| format!("failed to make {}", folder.display()))?;
        }
        Ok(())
    }

    /// Writes a file that only root can read, at once and durably.
    pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
        let put = || -> io::Result<()> {
            let aside = path.with_extension("new");
            let _ = fs::remove_file(&aside);
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&aside, path)
        };
        put().with_context(|| format!("failed to write {}", path.display()))
    }

    /// Writes this host's certificate, its key, and whom it trusts.
    pub(crate) fn write_node(&self, node: &Pair, trusted: &str) -> anyhow::Result<()> {
        Files::write(&self.path("ca.pem"), trusted)?;
        Files::write(&self.path("node.key"), &node.key)?;
        Files::write(&self.path("node.pem"), &node.cert)
    }

    /// Writes what a member needs.
    pub(crate) fn write_member(&self, share: &Share, server: &Pair, authority: &Pair) -> anyhow::Result<()> {
        Files::write(&self.of_member("authority.pem"), &authority.cert)?;
        Files::write(&self.of_member("authority.key"), &authority.key)?;
        Files::write(&self.of_member("server.key"), &server.key)?;
        Files::write(&self.of_member("server.pem"), &server.cert)?;
        Files::write(&self.of_member("member.json"), &serde_json::to_string_pretty(share)?)
    }

    /// Tells the agent where the store is: from then on it takes part.
    pub(crate) fn write_store(&self, endpoints: &[String]) -> anyhow::Result<()> {
        let file = StoreFile { store: format!("etcd://{}", endpoints.join(",")), ..self.store_file() };
        self.write_store_file(&file)
    }

    pub(crate) fn write_store_file(&self, file: &StoreFile) -> anyhow::Result<()> {
        Files::write(&self.state_dir.join(FILE), &file.text())
    }

    fn store_file(&self) -> StoreFile {
        StoreFile {
            ca: Some(self.path("ca.pem")),
            cert: Some(self.path("node.pem")),
            key: Some(self.path("node.key")),
            ..StoreFile::default()
        }
    }

    /// How this host is let into the store.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials {
            ca: Some(self.path("ca.pem")),
            cert: Some(self.path("node.pem")),
            key: Some(self.path("node.key")),
            ..Credentials::default()
        }
    }

    /// A client of the store: by this host's own share of it, or as its agent speaks to one that runs elsewhere.
    pub(crate) fn store(&self) -> anyhow::Result<Etcd> {
        let share = self.share()?;
        if !share.elsewhere {
            let own = format!("etcd://{}", endpoint(share.address));
            return Etcd::new(&own, &self.credentials()).map_err(failure);
        }
        let settings = settings::read(&self.written()?).map_err(failure)?;
        Etcd::new(&settings.store, &settings.credentials).map_err(failure)
    }

    /// What was written down of the store.
    fn written(&self) -> anyhow::Result<StoreFile> {
        let config = Config { state_dir: self.state_dir.clone(), ..Config::default() };
        settings::find(&config).context("this host belongs to no cluster")
    }

    /// A store that runs elsewhere, as a host that joins needs to know it.
    pub(crate) fn elsewhere(&self) -> anyhow::Result<Elsewhere> {
        let file = self.written()?;
        let read = |path: &Option<PathBuf>| {
            let path = path.as_ref();
            path.map(|p| fs::read_to_string(p).with_context(|| format!("failed to read {}", p.display())))
                .transpose()
        };
        Ok(Elsewhere {
            ca: read(&file.ca)?,
            cert: read(&file.cert)?,
            key: read(&file.key)?,
            password: read(&file.password_file)?,
            address: file.store,
            user: file.user,
            plaintext: file.plaintext,
        })
    }

    /// Writes down a store that runs elsewhere, with what opens it.
    pub(crate) fn write_elsewhere(&self, store: &Elsewhere) -> anyhow::Result<()> {
        let write = |name: &str, text: &Option<String>| {
            let path = self.path(name);
            text.as_ref().map(|text| Files::write(&path, text).map(|()| path)).transpose()
        };
        self.write_store_file(&StoreFile {
            store: store.address.clone(),
            ca: write("store-ca.pem", &store.ca)?,
            cert: write("store.pem", &store.cert)?,
            key: write("store.key", &store.key)?,
            user: store.user.clone(),
            password_file: write("store.password", &store.password)?,
            plaintext: store.plaintext,
        })
    }

    /// The SHA-256 of the authority's certificate, as tokens have it.
    pub(crate) fn fingerprint(&self) -> anyhow::Result<String> {
        let path = self.of_member("authority.pem");
        let text = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        fingerprint(&text)
    }
}

/// The SHA-256 of the first certificate in some PEM.
pub(crate) fn fingerprint(pem: &[u8]) -> anyhow::Result<String> {
    use rustls::pki_types::pem::PemObject as _;
    let cert = rustls::pki_types::CertificateDer::from_pem_slice(pem);
    Ok(token::hash(cert.map_err(|e| anyhow::anyhow!("no certificate: {e}"))?.as_ref()))
}

/// Where clients reach the etcd of a host.
pub(crate) fn endpoint(address: std::net::IpAddr) -> String {
    std::net::SocketAddr::from((address, CLIENTS)).to_string()
}
