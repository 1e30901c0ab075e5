//! Where an image's files are taken from: an archive, copied into the store's `ingest`, or a folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::ArchiveError;
use crate::image::layer::{Entries, Kind, decompress, show};
use crate::image::store::Scratch;
use crate::image::{Act, Descriptor, Digest, Hasher, Limits, Meter, Progress, Store};

/// Files by their path.
pub(super) enum Input {
    Archive(Archive),
    /// An open folder.
    Folder(File),
}

/// An archive's files, hashed while they were copied. They vanish with this value, but for those that were claimed.
pub(super) struct Archive {
    scratch: Scratch,
    files: BTreeMap<Vec<u8>, Copied>,
    /// Symbolic links: older versions of Docker wrote a layer once and linked to it.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug)]
struct Copied {
    digest: Digest,
    size: u64,
    path: PathBuf,
}

impl Archive {
    /// Copies an archive, compressed or not.
    pub(super) fn copy(
        store: &Store,
        input: impl Read + Send,
        meter: &dyn Meter,
    ) -> Result<Archive, ArchiveError> {
        let mut archive =
            Archive { scratch: store.scratch()?, files: BTreeMap::new(), links: BTreeMap::new() };
        // More than any archive of images has: a layer is one file here.
        let limits = Limits { entries: 50_000, ..*store.limits() };
        decompress(input, &limits, meter, |source| {
            let mut entries = Entries::new(source, &limits);
            while let Some(entry) = entries.next()? {
                match entry.kind {
                    Kind::File => {
                        let path = archive.scratch.path().join(archive.files.len().to_string());
                        let copied = copy_file(&mut entries, path)?;
                        archive.files.insert(entry.path, copied);
                    }
                    Kind::Link(target) => {
                        archive.links.insert(entry.path, target);
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .map_err(ArchiveError::Read)?;
        Ok(archive)
    }

    fn at(&self, path: &[u8]) -> Option<&Copied> {
        let target = |link: &Vec<u8>| resolve(path, link);
        self.files.get(path).or_else(|| self.files.get(&self.links.get(path).and_then(target)?))
    }

    fn of(&self, digest: &Digest) -> Option<&Copied> {
        self.files.values().find(|file| file.digest == *digest)
    }
}

fn copy_file(entries: &mut Entries<'_>, path: PathBuf) -> Result<Copied, crate::image::LayerError> {
    let name = path.as_os_str().as_encoded_bytes().to_vec();
    let failed = |source| crate::image::LayerError::io("write", &name, source);
    let mut file = File::create_new(&path).map_err(failed)?;
    let (mut hasher, mut size) = (Hasher::default(), 0);
    entries.content(&mut |bytes| {
        hasher.update(bytes);
        size += bytes.len() as u64;
        file.write_all(bytes).map_err(failed)
    })?;
    Ok(Copied { digest: hasher.finish(), size, path })
}

/// The path that a link in `path`'s folder means, without asking any file system.
fn resolve(path: &[u8], link: &[u8]) -> Option<Vec<u8>> {
    let mut words: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    words.pop();
    for word in link.split(|b| *b == b'/') {
        match word {
            b".." => drop(words.pop()?),
            b"" | b"." => {}
            _ => words.push(word),
        }
    }
    Some(words.join(&b'/'))
}

impl Input {
    pub(super) fn folder(path: &Path) -> Result<Input, ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
            ArchiveError::Io { what: "open", path: path.to_owned(), source: errno.into() }
        })?;
        Ok(Input::Folder(folder.into()))
    }

    /// Opens a file; `None` if there is none of this name.
    fn open(&self, path: &str) -> Result<Option<File>, ArchiveError> {
        let failed = |source: std::io::Error| ArchiveError::Io { what: "open", path: path.into(), source };
        match self {
            Input::Archive(archive) => {
                archive.at(path.as_bytes()).map(|file| File::open(&file.path).map_err(failed)).transpose()
            }
            Input::Folder(folder) => {
                // Nothing outside the folder, whatever links are in it; and no pipe that never ends.
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                match rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve) {
                    Ok(file) => {
                        let file = File::from(file);
                        let is_file = file.metadata().map_err(failed)?.is_file();
                        if is_file {
                            Ok(Some(file))
                        } else {
                            Err(failed(std::io::ErrorKind::InvalidInput.into()))
                        }
                    }
                    Err(rustix::io::Errno::NOENT) => Ok(None),
                    Err(errno) => Err(failed(errno.into())),
                }
            }
        }
    }

    /// A small file; `None` if there is none of this name. One byte more than `limit` is read at most.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let failed = |source| ArchiveError::Io { what: "read", path: path.into(), source };
        file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes))
    }

    /// A document by its digest.
    pub(super) fn document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let bytes = match self {
            Input::Archive(archive) => {
                let file = archive.of(digest).ok_or_else(|| self.missing(digest))?;
                let mut bytes = Vec::new();
                let failed = |source| ArchiveError::Io { what: "read", path: file.path.clone(), source };
                let opened = File::open(&file.path).map_err(failed)?;
                opened.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
                bytes
            }
            Input::Folder(_) => self.read(&blob_path(digest), limit)?.ok_or_else(|| self.missing(digest))?,
        };
        match Digest::of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(ArchiveError::WrongDigest { path: blob_path(digest), found }),
        }
    }

    /// Puts a blob into the store.
    pub(super) fn claim(
        &self,
        store: &Store,
        blob: &Descriptor,
        progress: &dyn Progress,
    ) -> Result<(), ArchiveError> {
        let digest = &blob.digest;
        let wrong = |found| ArchiveError::WrongSize { digest: *digest, expected: blob.size, found };
        if let Input::Archive(archive) = self {
            let file = archive.of(digest).ok_or_else(|| self.missing(digest))?;
            return if file.size == blob.size {
                Ok(store.adopt(&file.path, digest, file.size)?)
            } else {
                Err(wrong(file.size))
            };
        }
        if store.has(digest, blob.size) {
            return Ok(());
        }
        let path = blob_path(digest);
        let failed = |source| ArchiveError::Io { what: "read", path: path.clone().into(), source };
        let mut file = self.open(&path)?.ok_or_else(|| self.missing(digest))?;
        let size = file.metadata().map_err(failed)?.len();
        if size != blob.size {
            return Err(wrong(size));
        }
        let meter = progress.begin(Act::Copy, digest, Some(size));
        let mut part = store.part(digest)?;
        part.restart()?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                count => {
                    part.write(&buffer[..count])?;
                    meter.advance(count as u64);
                }
            }
        }
        match part.finish(store, Some(digest)) {
            Err(crate::image::StoreError::WrongDigest { found, .. }) => {
                Err(ArchiveError::WrongDigest { path, found })
            }
            other => {
                other?;
                meter.done();
                Ok(())
            }
        }
    }

    /// The digest and length of a file of an archive, by its path.
    pub(super) fn named(&self, path: &str) -> Result<(Digest, u64), ArchiveError> {
        let clean = path.trim_start_matches("./");
        let found = match self {
            Input::Archive(archive) => archive.at(clean.as_bytes()).map(|file| (file.digest, file.size)),
            Input::Folder(_) => None,
        };
        found.ok_or_else(|| ArchiveError::Lacks(show(path.as_bytes())))
    }

    /// The first bytes of a file of an archive.
    pub(super) fn magic(&self, path: &str) -> Result<[u8; 4], ArchiveError> {
        let mut magic = [0; 4];
        let bytes = self.read(path.trim_start_matches("./"), 3)?.unwrap_or_default();
        for (to, from) in magic.iter_mut().zip(bytes) {
            *to = from;
        }
        Ok(magic)
    }

    /// Why there is no content of this digest: a file of this name has another content, or there is none.
    fn missing(&self, digest: &Digest) -> ArchiveError {
        let path = blob_path(digest);
        match self.named(&path) {
            Ok((found, _)) if found != *digest => ArchiveError::WrongDigest { path, found },
            _ => ArchiveError::Lacks(digest.to_string()),
        }
    }
}

pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
