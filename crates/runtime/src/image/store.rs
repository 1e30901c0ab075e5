//! Where images are kept: an OCI image layout that any tool can read, and beside it the layers, unpacked.
//!
//! What is there is the truth: nothing counts references, nothing is remembered elsewhere. All that is new is made
//! in `ingest` and gets its name by one rename after it is on the disk; what a killed process left in there is
//! swept by the next one. docs/images.md draws the folders.

mod blob;
mod details;
mod error;
mod garbage;
mod image;
mod layers;
mod lease;
mod lock;
mod mount;
mod names;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Digest, Limits, Policy};

pub(crate) use blob::{Part, Scratch};
pub use details::{Details, LayerDetails, Usage};
pub use error::StoreError;
pub use garbage::Pruned;
pub use image::{Image, Layer};
pub(crate) use layers::Record;
use lock::Lock;
pub use mount::Rootfs;
pub(crate) use names::NAME;

/// How long a download that was cut off is kept, to be taken up again.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// All images of this host.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    policy: Policy,
}

impl Store {
    /// Opens the store in `state_dir/images`, makes it if it is not there, and sweeps what killed processes left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(state_dir: &Path) -> Result<Store, StoreError> {
        Store::with(state_dir, Policy::default())
    }

    /// The same with a policy that is not the default.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn with(state_dir: &Path, policy: Policy) -> Result<Store, StoreError> {
        let store = Store { root: state_dir.join("images"), policy };
        private_folder(state_dir, true)?;
        for folder in ["", "blobs", "blobs/sha256", "layers", "leases", "ingest"] {
            private_folder(&store.root.join(folder), false)?;
        }
        let layout = store.root.join("oci-layout");
        if !layout.exists() {
            store.replace(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        store.sweep(KEPT)?;
        Ok(store)
    }

    /// The store's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.policy.limits
    }

    fn ingest(&self, name: &str) -> PathBuf {
        self.root.join("ingest").join(name)
    }

    /// Waits for whoever changes names or removes things.
    fn shared(&self) -> Result<Lock, StoreError> {
        Lock::shared(&self.root.join("lock"))
    }

    fn exclusive(&self) -> Result<Lock, StoreError> {
        Lock::exclusive(&self.root.join("lock"))
    }

    /// Waits until nobody else works on the same blob or layer.
    fn work(&self, stem: &str) -> Result<Lock, StoreError> {
        Ok(Lock::exclusive(&self.ingest(&format!("{stem}.lock")))?.vanishing())
    }

    /// Removes from `ingest` what nobody works on: half a layer at once, half a download when it is `old`.
    fn sweep(&self, old: Duration) -> Result<u64, StoreError> {
        let (folder, mut bytes) = (self.root.join("ingest"), 0);
        let failed = |source| StoreError::io("read", &folder, source);
        let mut stems = BTreeSet::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some((stem, _)) = name.to_str().and_then(|name| name.rsplit_once('.')) {
                stems.insert(stem.to_owned());
            }
        }
        for stem in stems {
            let Some(lock) = Lock::try_exclusive(&self.ingest(&format!("{stem}.lock")))? else { continue };
            let _lock = lock.vanishing();
            remove_tree(&self.ingest(&format!("{stem}.tree")))?;
            let part = self.ingest(&format!("{stem}.part"));
            if let Ok(meta) = fs::symlink_metadata(&part)
                && meta.modified().ok().and_then(|m| m.elapsed().ok()).is_some_and(|age| age >= old)
            {
                bytes += meta.len();
                remove_file(&part)?;
            }
        }
        Ok(bytes)
    }

    /// Writes a small file whole: whoever opens it sees the old content or the new.
    fn replace(&self, path: &Path, content: &[u8]) -> Result<(), StoreError> {
        let stem = format!("file-{}", random()?);
        let _lock = self.work(&stem)?;
        let new = self.ingest(&format!("{stem}.part"));
        let written = write_file(&new, content).and_then(|()| fs::rename(&new, path));
        if let Err(source) = written.and_then(|()| sync_folder(path)) {
            let _ = fs::remove_file(&new); // the first failure counts
            return Err(StoreError::io("write", path, source));
        }
        Ok(())
    }
}

fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = new_file(path)?;
    io::Write::write_all(&mut file, content)?;
    file.sync_all()
}

fn new_file(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Makes a rename into a folder, or a removal from it, last.
fn sync_folder(of: &Path) -> io::Result<()> {
    fs::File::open(of.parent().unwrap_or(of))?.sync_all()
}

/// Makes a folder that only root can look into: layers hold programs with setuid. One that is there must be so too.
fn private_folder(path: &Path, others_may_look: bool) -> Result<(), StoreError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StoreError::io("make the folder", path, source))?;
    let meta = fs::symlink_metadata(path).map_err(|source| StoreError::io("look at", path, source))?;
    let refused = |why| StoreError::Unsafe { path: path.to_owned(), why };
    if !meta.is_dir() {
        return Err(refused("it is not a folder"));
    }
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(refused("it belongs to somebody else"));
    }
    let open = if others_may_look { 0o022 } else { 0o077 };
    if meta.mode() & open != 0 {
        return Err(refused("others have access to it; chmod 700 it"));
    }
    Ok(())
}

/// Removes a folder with all that is in it, without following links; that it is gone already is no error.
fn remove_tree(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path, error)),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path, error)),
        _ => Ok(()),
    }
}

/// Sixteen digits that nobody else uses.
fn random() -> Result<String, StoreError> {
    let mut bytes = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).map_err(|_| {
        StoreError::io("read", Path::new("/dev/urandom"), io::Error::other("no random bytes"))
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The names in a folder that are digests.
fn digests(folder: &Path) -> Result<Vec<Digest>, StoreError> {
    let failed = |source| StoreError::io("read", folder, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        found.extend(entry.map_err(failed)?.file_name().to_str().and_then(Digest::from_hex));
    }
    found.sort();
    Ok(found)
}
