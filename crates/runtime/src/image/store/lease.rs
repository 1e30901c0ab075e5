//! Leases: what must not be removed because somebody uses it.
//!
//! A container's lease holds as long as the container's folder is there, so that nothing has to be given back by a
//! process that was killed. A pull's holds as long as the process lives that pulls: it keeps the file locked.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Image, Lock, Store, StoreError, random, remove_file};
use crate::image::Digest;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// The container's folder; none while something is fetched.
    pub(super) container: Option<PathBuf>,
    /// The image as people call it.
    pub(super) image: String,
    pub(super) manifest: Digest,
    /// Its documents and archives.
    pub(super) blobs: Vec<Digest>,
    /// Its layers, unpacked.
    pub(super) layers: Vec<Digest>,
}

/// A lease that ends with this value or with the process, whichever is first.
#[derive(Debug)]
pub(crate) struct Lease {
    _lock: Lock,
}

impl Held {
    fn new(container: Option<&Path>, image: &Image) -> Held {
        let archives = image.layers.iter().map(|layer| layer.blob.digest);
        Held {
            container: container.map(Path::to_owned),
            image: image.title(),
            manifest: image.manifest,
            blobs: [image.manifest, image.id].into_iter().chain(archives).collect(),
            layers: image.layers.iter().map(|layer| layer.chain_id).collect(),
        }
    }
}

impl Store {
    /// Holds an image that is being fetched.
    pub(crate) fn hold(&self, image: &Image) -> Result<Lease, StoreError> {
        let _store = self.shared()?;
        let path = self.lease(&format!("pull-{}", random()?));
        let lock = Lock::exclusive(&path)?.vanishing();
        // Written in place: the lock belongs to this very file. Nobody reads it before the store is free.
        fs::write(&path, encode(&Held::new(None, image), &path)?)
            .map_err(|source| StoreError::io("write", &path, source))?;
        Ok(Lease { _lock: lock })
    }

    /// Holds an image for a container.
    pub(super) fn hold_for(&self, container: &Path, image: &Image) -> Result<(), StoreError> {
        let _store = self.shared()?;
        let path = self.container_lease(container)?;
        self.replace(&path, &encode(&Held::new(Some(container), image), &path)?)
    }

    /// Ends the lease of a container; that there is none is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn release(&self, container: &Path) -> Result<(), StoreError> {
        remove_file(&self.container_lease(container)?)
    }

    /// All leases that hold. Those that do not are removed. The caller holds the store for itself.
    pub(super) fn leases(&self) -> Result<Vec<Held>, StoreError> {
        let folder = self.root.join("leases");
        let failed = |source| StoreError::io("read", &folder, source);
        let mut held = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let is_pull = path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"pull-"));
            if is_pull && let Some(lock) = Lock::try_exclusive(&path)? {
                drop(lock.vanishing());
                continue;
            }
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io("read", &path, error)),
            };
            let lease: Held = serde_json::from_slice(&bytes)
                .map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
            if lease.container.as_ref().is_some_and(|folder| !folder.exists()) {
                remove_file(&path)?;
                continue;
            }
            held.push(lease);
        }
        Ok(held)
    }

    fn lease(&self, name: &str) -> PathBuf {
        self.root.join("leases").join(format!("{name}.json"))
    }

    /// By the last name of the container's folder, so that `ls` shows whose it is.
    fn container_lease(&self, container: &Path) -> Result<PathBuf, StoreError> {
        let sound = |name: &&str| {
            let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            name.len() <= 200
                && name.chars().all(inside)
                && !name.starts_with('.')
                && !name.starts_with("pull-")
        };
        let name = container.file_name().and_then(|name| name.to_str()).filter(sound);
        let why = "a container's folder is called by A-Za-z0-9._-";
        let name = name.ok_or_else(|| StoreError::Unsafe { path: container.to_owned(), why })?;
        Ok(self.lease(name))
    }
}

impl Held {
    /// Who holds it, for messages.
    pub(super) fn holder(&self) -> String {
        let name = self.container.as_deref().and_then(Path::file_name);
        name.map_or_else(|| "a pull".to_owned(), |name| format!("container {}", name.display()))
    }
}

fn encode(held: &Held, path: &Path) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec_pretty(held).map_err(|source| StoreError::Damaged { path: path.to_owned(), source })
}
