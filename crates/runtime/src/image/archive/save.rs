//! Images go out into files. The same images give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::input::blob_path;
use super::{ArchiveError, CONTAINERD_NAME, DockerEntry};
use crate::image::document::media;
use crate::image::store::NAME;
use crate::image::{
    Act, Descriptor, Digest, Document, DocumentError, Hasher, Image, Index, Meter, Progress, Store,
    StoreError,
};

/// What an archive is made for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `docker load`, podman, skopeo, containerd: an OCI layout that has Docker's `manifest.json` as well.
    #[default]
    Docker,
    /// An OCI layout and nothing else.
    Oci,
}

/// Writes an archive of images.
///
/// # Errors
/// [`ArchiveError`]. What was written until then is of no use.
pub fn save_archive(
    store: &Store,
    images: &[Image],
    format: Format,
    output: impl Write,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    let mut archive = Builder::new(output);
    for folder in ["blobs/", "blobs/sha256/"] {
        let header = header(EntryType::Directory, 0o755, 0);
        append(&mut archive, header, folder, io::empty())?;
    }
    for digest in blobs(images) {
        let (file, size) = open(store, &digest)?;
        let meter = progress.begin(Act::Copy, &digest, Some(size));
        let mut input = Checked { input: file, hasher: Hasher::default(), meter: &*meter };
        append(&mut archive, header(EntryType::Regular, 0o644, size), &blob_path(&digest), &mut input)?;
        checked(store, &digest, input.hasher)?;
        meter.done();
    }
    for (name, text) in documents(store, images, format)? {
        append(&mut archive, header(EntryType::Regular, 0o644, text.len() as u64), name, &text[..])?;
    }
    archive.into_inner().and_then(|mut output| output.flush()).map_err(ArchiveError::Write)
}

/// Writes an OCI layout into a new folder.
///
/// # Errors
/// [`ArchiveError`].
pub fn save_folder(
    store: &Store,
    images: &[Image],
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ArchiveError::Io { what, path, source }
    };
    for path in [folder.to_owned(), folder.join("blobs"), folder.join("blobs/sha256")] {
        fs::create_dir(&path).map_err(failed("make the folder", &path))?;
    }
    for digest in blobs(images) {
        let (file, size) = open(store, &digest)?;
        let meter = progress.begin(Act::Copy, &digest, Some(size));
        let mut input = Checked { input: file, hasher: Hasher::default(), meter: &*meter };
        let path = folder.join(blob_path(&digest));
        let copied = File::create_new(&path).and_then(|mut output| io::copy(&mut input, &mut output));
        copied.map_err(failed("write", &path))?;
        checked(store, &digest, input.hasher)?;
        meter.done();
    }
    for (name, text) in documents(store, images, Format::Oci)? {
        let path = folder.join(name);
        fs::write(&path, text).map_err(failed("write", &path))?;
    }
    Ok(())
}

/// All blobs of some images, each once.
fn blobs(images: &[Image]) -> BTreeSet<Digest> {
    let of = |image: &Image| {
        let layers = image.layers.iter().map(|layer| layer.blob.digest);
        layers.chain([image.id, image.manifest]).collect::<Vec<_>>()
    };
    images.iter().flat_map(of).collect()
}

fn open(store: &Store, digest: &Digest) -> Result<(File, u64), ArchiveError> {
    let path = store.blob(digest);
    let opened = File::open(&path).and_then(|file| file.metadata().map(|meta| (file, meta.len())));
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StoreError::Lacks(*digest).into(),
        _ => StoreError::io("open", &path, error).into(),
    })
}

/// The documents beside the blobs.
fn documents(
    store: &Store,
    images: &[Image],
    format: Format,
) -> Result<Vec<(&'static str, Vec<u8>)>, ArchiveError> {
    let failed = |source| ArchiveError::Document {
        what: "index.json".to_owned(),
        source: DocumentError::Parse { what: "index", source },
    };
    let (mut manifests, mut docker) = (Vec::new(), Vec::new());
    for image in images {
        let bytes = store.document(&image.manifest, store.limits().manifest)?;
        let kind = match Document::parse(&bytes, store.limits()) {
            Ok(Document::Manifest(manifest)) => manifest.media_type,
            _ => None,
        };
        let kind = kind.unwrap_or_else(|| media::MANIFEST.to_owned());
        let mut plain = Descriptor::new(&kind, image.manifest, bytes.len() as u64);
        plain.platform = Some(image.config.platform());
        let named = |name: &String| {
            let keys = [NAME, CONTAINERD_NAME].map(|key| (key.to_owned(), name.clone()));
            Descriptor { annotations: BTreeMap::from(keys), ..plain.clone() }
        };
        match image.names.as_slice() {
            [] => manifests.push(plain),
            names => manifests.extend(names.iter().map(named)),
        }
        docker.push(DockerEntry {
            config: blob_path(&image.id),
            repo_tags: Some(image.names.iter().filter(|n| !n.contains('@')).cloned().collect()),
            layers: Some(image.layers.iter().map(|layer| blob_path(&layer.blob.digest)).collect()),
        });
    }
    let index = Index { schema_version: 2, media_type: Some(media::INDEX.to_owned()), manifests };
    let mut all = vec![
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes()),
        ("index.json", serde_json::to_vec(&index).map_err(failed)?),
    ];
    if format == Format::Docker {
        all.push(("manifest.json", serde_json::to_vec(&docker).map_err(failed)?));
    }
    Ok(all)
}

/// A blob that has rotted on the disk must not go out under its old name.
fn checked(store: &Store, digest: &Digest, hasher: Hasher) -> Result<(), ArchiveError> {
    match hasher.finish() {
        found if found == *digest => Ok(()),
        found => {
            let what = store.blob(digest).display().to_string();
            Err(StoreError::WrongDigest { what, expected: *digest, found }.into())
        }
    }
}

struct Checked<'a> {
    input: File,
    hasher: Hasher,
    meter: &'a dyn Meter,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.meter.advance(count as u64);
        Ok(count)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu(); // times, user and group are 0
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn append<W: Write>(
    archive: &mut Builder<W>,
    mut header: Header,
    name: &str,
    data: impl Read,
) -> Result<(), ArchiveError> {
    archive.append_data(&mut header, name, data).map_err(ArchiveError::Write)
}
