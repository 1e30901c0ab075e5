//! Blobs: every document and every layer as it came, called by its digest.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::{Lock, Store, StoreError, private_folder, random, remove_file, remove_tree, sync_folder};
use crate::image::{Digest, Hasher};

/// Content on its way into the store.
#[derive(Debug)]
pub(crate) struct Part {
    /// Nobody else fetches the same.
    lock: Lock,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Store {
    /// Where a blob is, if it is there.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// True if the blob is there in its full length.
    pub(crate) fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::symlink_metadata(self.blob(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Reads a document and checks that it is what its name says.
    pub(crate) fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(digest);
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => StoreError::Lacks(*digest),
            _ => StoreError::io("read", &path, source),
        };
        let mut bytes = Vec::new();
        // One more than allowed: whoever parses it says that it is too long.
        File::open(&path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(failed)?;
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => {
                Err(StoreError::WrongDigest { what: path.display().to_string(), expected: *digest, found })
            }
        }
    }

    /// Keeps a document.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        if !self.has(&digest, bytes.len() as u64) {
            self.replace(&self.blob(&digest), bytes)?;
        }
        Ok(digest)
    }

    /// Begins to fetch a blob, or goes on with what is there of it. Waits for another that fetches it now.
    pub(crate) fn part(&self, digest: &Digest) -> Result<Part, StoreError> {
        self.open_part(&format!("blob-{}", digest.hex()))
    }

    /// A folder for files whose names are not known yet.
    pub(crate) fn scratch(&self) -> Result<Scratch, StoreError> {
        let stem = format!("load-{}", random()?);
        let _lock = self.work(&stem)?;
        let path = self.ingest(&format!("{stem}.tree"));
        private_folder(&path, false)?;
        Ok(Scratch { path, _lock })
    }

    /// Gives a file in `ingest` that has been hashed its name.
    pub(crate) fn adopt(&self, file: &Path, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let name = self.blob(digest);
        if self.has(digest, size) {
            return Ok(());
        }
        let kept = File::open(file).and_then(|file| file.sync_all()).and_then(|()| fs::rename(file, &name));
        kept.and_then(|()| sync_folder(&name)).map_err(|source| StoreError::io("keep", &name, source))
    }

    fn open_part(&self, stem: &str) -> Result<Part, StoreError> {
        let lock = self.work(stem)?;
        let path = self.ingest(&format!("{stem}.part"));
        let failed = |source| StoreError::io("open", &path, source);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file =
            options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path).map_err(failed)?;
        let (mut hasher, mut size) = (Hasher::default(), 0);
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => {
                    hasher.update(&buffer[..count]);
                    size += count as u64;
                }
            }
        }
        Ok(Part { lock, path, file, hasher, size })
    }
}

/// A folder in `ingest` that vanishes with this value.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// Keeps it from being swept.
    _lock: Lock,
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = remove_tree(&self.path); // what stays is swept
    }
}

impl Part {
    /// Bytes that are there.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(|source| StoreError::io("write", &self.path, source))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Begins anew: what is there cannot be continued.
    pub(crate) fn restart(&mut self) -> Result<(), StoreError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|source| StoreError::io("empty", &self.path, source))?;
        (self.hasher, self.size) = (Hasher::default(), 0);
        Ok(())
    }

    /// Gives it up, and nothing of it stays.
    pub(crate) fn discard(self) -> Result<(), StoreError> {
        remove_file(&self.path)
    }

    /// The content is complete: it gets its name, and is on the disk when this returns. If it is not what was
    /// `expected`, nothing of it stays.
    pub(crate) fn finish(
        self,
        store: &Store,
        expected: Option<&Digest>,
    ) -> Result<(Digest, u64), StoreError> {
        let Part { lock: _lock, path, file, hasher, size } = self;
        let found = hasher.finish();
        if let Some(expected) = expected.filter(|expected| **expected != found) {
            remove_file(&path)?;
            return Err(StoreError::WrongDigest { what: "what came".to_owned(), expected: *expected, found });
        }
        let name = store.blob(&found);
        if store.has(&found, size) {
            remove_file(&path)?;
        } else {
            let kept =
                file.sync_all().and_then(|()| fs::rename(&path, &name)).and_then(|()| sync_folder(&name));
            kept.map_err(|source| StoreError::io("keep", &name, source))?;
        }
        Ok((found, size))
    }
}
