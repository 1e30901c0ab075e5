//! Images come in from files.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::input::{Archive, Input};
use super::{ArchiveError, CONTAINERD_NAME, DockerEntry};
use crate::image::document::media;
use crate::image::store::NAME;
use crate::image::{
    Act, Descriptor, Digest, Document, DocumentError, Image, ImageConfig, Manifest, Platform, Progress,
    Reference, Store,
};

/// Takes the images of an archive, compressed or not. `name` is for an archive of one image that says none.
///
/// # Errors
/// [`ArchiveError`].
pub fn load_archive(
    store: &Store,
    input: impl Read + Send,
    size: Option<u64>,
    name: Option<&Reference>,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Vec<Image>, ArchiveError> {
    let meter = progress.begin(Act::Copy, &Digest::of(b""), size);
    let archive = Archive::copy(store, input, &*meter)?;
    meter.done();
    load(store, &Input::Archive(archive), name, platform, progress)
}

/// Takes the images of an OCI layout in a folder.
///
/// # Errors
/// [`ArchiveError`].
pub fn load_folder(
    store: &Store,
    folder: &Path,
    name: Option<&Reference>,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Vec<Image>, ArchiveError> {
    load(store, &Input::folder(folder)?, name, platform, progress)
}

/// An image that was found, before anything of it is kept.
struct Found {
    names: Vec<Reference>,
    descriptor: Descriptor,
    /// The manifest, as it was or as it was made here.
    bytes: Vec<u8>,
    manifest: Manifest,
}

fn load(
    store: &Store,
    input: &Input,
    name: Option<&Reference>,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Vec<Image>, ArchiveError> {
    let limit = store.limits().manifest;
    let docker = match input.read("manifest.json", limit)? {
        Some(bytes) => parse::<Vec<DockerEntry>>("manifest.json", &bytes, limit)?,
        None => Vec::new(),
    };
    let layout = input.read("oci-layout", limit)?.and(input.read("index.json", limit)?);
    let mut found = match layout {
        Some(bytes) => of_layout(store, input, &bytes, platform)?,
        None if docker.is_empty() => return Err(ArchiveError::NoImage),
        None => docker.iter().map(|entry| of_docker(store, input, entry)).collect::<Result<_, _>>()?,
    };
    if let Some(name) = name {
        match found.as_mut_slice() {
            [one] => one.names = vec![name.clone()],
            all => return Err(ArchiveError::Several(all.len())),
        }
    } else {
        nameless(input, &docker, &mut found)?;
    }
    let mut images = Vec::new();
    for one in found {
        images.push(keep(store, input, one, progress)?);
    }
    if images.is_empty() { Err(ArchiveError::NoImage) } else { Ok(images) }
}

/// An archive of both forms may say the names only in Docker's.
fn nameless(input: &Input, docker: &[DockerEntry], found: &mut [Found]) -> Result<(), ArchiveError> {
    for one in found.iter_mut().filter(|one| one.names.is_empty()) {
        for entry in docker {
            let same =
                input.named(&entry.config).is_ok_and(|(digest, _)| digest == one.manifest.config.digest);
            for tag in entry.repo_tags.iter().flatten().filter(|_| same) {
                one.names.push(tag.parse()?);
            }
        }
    }
    Ok(())
}

fn keep(store: &Store, input: &Input, found: Found, progress: &dyn Progress) -> Result<Image, ArchiveError> {
    let failed = |source| ArchiveError::Document { what: "configuration".to_owned(), source };
    let Found { names, descriptor, bytes, manifest } = found;
    let text = input.document(&manifest.config.digest, store.limits().config)?;
    let config = ImageConfig::parse(&text, store.limits()).map_err(failed)?;
    config.belongs_to(&manifest).map_err(failed)?;
    let mut image = Image::new(descriptor.digest, &manifest, config);
    let _lease = store.hold(&image)?;
    for layer in &image.layers {
        input.claim(store, &layer.blob, progress)?;
    }
    store.stack(&image, progress)?;
    store.keep(&text)?;
    store.keep(&bytes)?;
    if names.is_empty() {
        store.name(None, &descriptor)?;
    }
    for name in &names {
        store.name(Some(name), &descriptor)?;
    }
    image.names = names.iter().map(ToString::to_string).collect();
    Ok(image)
}

/// The images of an OCI layout. Those that share a name are for different platforms: the best is taken.
fn of_layout(
    store: &Store,
    input: &Input,
    bytes: &[u8],
    platform: Option<&Platform>,
) -> Result<Vec<Found>, ArchiveError> {
    let index = |bytes: &[u8]| -> Result<Document, ArchiveError> {
        Document::parse(bytes, store.limits())
            .map_err(|source| ArchiveError::Document { what: "index.json".to_owned(), source })
    };
    let Document::Index(top) = index(bytes)? else { return Err(ArchiveError::NoImage) };
    let mut by_name: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
    for descriptor in top.manifests {
        let said = |key| descriptor.annotations.get(key).cloned();
        // Some write only the tag into the second: then it names nothing by itself.
        let name = said(CONTAINERD_NAME).or_else(|| said(NAME).filter(|n| n.contains([':', '/', '@'])));
        by_name.entry(name).or_default().push(descriptor);
    }
    let mut found = Vec::new();
    for (name, descriptors) in by_name {
        let names: Vec<Reference> = name.iter().map(|n| n.parse()).collect::<Result<_, _>>()?;
        let all_have_one = descriptors.iter().all(|d| d.platform.is_some());
        let chosen = if descriptors.len() > 1 && all_have_one {
            vec![choose(&descriptors, platform)?.clone()]
        } else {
            descriptors
        };
        for descriptor in chosen {
            let bytes = input.document(&descriptor.digest, store.limits().manifest)?;
            let (descriptor, bytes, document) = match index(&bytes)? {
                Document::Index(inner) => {
                    let descriptor = choose(&inner.manifests, platform)?.clone();
                    let bytes = input.document(&descriptor.digest, store.limits().manifest)?;
                    let document = index(&bytes)?;
                    (descriptor, bytes, document)
                }
                document => (descriptor, bytes, document),
            };
            let Document::Manifest(manifest) = document else {
                let why = "an index leads to another index".to_owned();
                let source = DocumentError::Refused { what: "manifest", why };
                return Err(ArchiveError::Document { what: "index.json".to_owned(), source });
            };
            found.push(Found { names: names.clone(), descriptor, bytes, manifest });
        }
    }
    Ok(found)
}

fn choose<'a>(all: &'a [Descriptor], platform: Option<&Platform>) -> Result<&'a Descriptor, ArchiveError> {
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let offered =
        || all.iter().filter_map(|d| d.platform.as_ref()).map(ToString::to_string).take(20).collect();
    wanted.choose(all).ok_or_else(|| ArchiveError::Platform { wanted: wanted.clone(), offered: offered() })
}

/// An image of a `docker save` archive. Such have no manifest: it is made here, always the same for the same files.
fn of_docker(store: &Store, input: &Input, entry: &DockerEntry) -> Result<Found, ArchiveError> {
    let names =
        entry.repo_tags.iter().flatten().map(|tag| tag.parse()).collect::<Result<Vec<Reference>, _>>()?;
    let (digest, size) = input.named(&entry.config)?;
    let stem = entry.config.strip_suffix(".json").unwrap_or_default();
    if Digest::from_hex(stem).is_some_and(|named| named != digest) {
        return Err(ArchiveError::WrongDigest { path: entry.config.clone(), found: digest });
    }
    let mut layers = Vec::new();
    for path in entry.layers.iter().flatten() {
        let (digest, size) = input.named(path)?;
        let kind = match input.magic(path)? {
            [0x1f, 0x8b, ..] => format!("{}+gzip", media::LAYER),
            [0x28, 0xb5, 0x2f, 0xfd] => format!("{}+zstd", media::LAYER),
            _ => media::LAYER.to_owned(),
        };
        layers.push(Descriptor::new(&kind, digest, size));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::MANIFEST.to_owned()),
        config: Descriptor::new(media::CONFIG, digest, size),
        layers,
    };
    let failed = |source| ArchiveError::Document { what: "manifest.json".to_owned(), source };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|source| failed(DocumentError::Parse { what: "manifest", source }))?;
    // The same limits as for one that came from outside.
    Document::parse(&bytes, store.limits()).map_err(failed)?;
    let descriptor = Descriptor::new(media::MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    Ok(Found { names, descriptor, bytes, manifest })
}

fn parse<T: serde::de::DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
    limit: u64,
) -> Result<T, ArchiveError> {
    let failed = |source| ArchiveError::Document { what: what.to_owned(), source };
    let size = bytes.len() as u64;
    if size > limit {
        return Err(failed(DocumentError::Long { what, size, limit }));
    }
    serde_json::from_slice(bytes).map_err(|source| failed(DocumentError::Parse { what, source }))
}
