//! Fetching an image: its documents, then its layers, several at a time, each unpacked as soon as it and those below
//! it are there.

use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::document::media;
use super::registry::Registry;
use super::store::Part;
use super::{
    Act, Descriptor, Digest, Document, DocumentError, Image, ImageConfig, Platform, Progress, Reference,
    RegistryError, RegistryOptions, Store, StoreError,
};

/// Layers that are fetched at the same time.
const PARALLEL: usize = 3;
/// How often a transfer that broke off is taken up again.
const TRIES: u32 = 4;

/// What was fetched.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// Bytes that came over the network: what was here already did not.
    pub fetched: u64,
}

/// Why an image was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document of the image.
    #[error("what {host} sent for '{name}' cannot be used")]
    Document {
        /// The registry.
        host: String,
        /// The image.
        name: String,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// Another layer failed first.
    #[error("another layer could not be fetched")]
    Stopped,
    /// There is no image for this platform.
    #[error("'{name}' has no image for {wanted}; there are {}", if .offered.is_empty() { "none at all".to_owned() } else { .offered.join(", ") })]
    Platform {
        /// The image.
        name: String,
        /// What was looked for.
        wanted: Platform,
        /// What there is.
        offered: Vec<String>,
    },
}

/// Fetches an image and unpacks it. Broken off, what has come is kept for a day and taken up again.
///
/// # Errors
/// [`PullError`].
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: RegistryOptions,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Pulled, PullError> {
    let registry = Registry::of(reference, options)?;
    let job = Job { store, registry: &registry, reference, progress };
    let (descriptor, bytes) = job.manifest(platform)?;
    let failed = |source| job.document_error(source);
    let Document::Manifest(manifest) = Document::parse(&bytes, store.limits()).map_err(failed)? else {
        let why = "an index leads to another index".to_owned();
        return Err(failed(DocumentError::Refused { what: "manifest", why }));
    };
    let text = job.small(&manifest.config)?;
    let config = ImageConfig::parse(&text, store.limits()).map_err(failed)?;
    config.belongs_to(&manifest).map_err(failed)?;
    let image = Image::new(descriptor.digest, &manifest, config);
    let _lease = store.hold(&image)?;
    let fetched = job.layers(&image)?;
    store.keep(&text)?;
    store.keep(&bytes)?;
    store.name(Some(reference), &descriptor)?;
    Ok(Pulled { image: Image { names: vec![reference.to_string()], ..image }, fetched })
}

struct Job<'a> {
    store: &'a Store,
    registry: &'a Registry,
    reference: &'a Reference,
    progress: &'a dyn Progress,
}

/// How far the fetching is, for whoever unpacks.
#[derive(Default)]
struct State {
    next: usize,
    there: BTreeSet<usize>,
    fetched: u64,
    failed: Option<PullError>,
}

impl Job<'_> {
    fn document_error(&self, source: DocumentError) -> PullError {
        PullError::Document {
            host: self.registry.host().to_owned(),
            name: self.reference.to_string(),
            source,
        }
    }

    /// The manifest that the name leads to; of an index, that for the platform.
    fn manifest(&self, platform: Option<&Platform>) -> Result<(Descriptor, Vec<u8>), PullError> {
        let limits = self.store.limits();
        let bytes = self.registry.manifest(&self.reference.version(), limits)?;
        let digest = Digest::of(&bytes);
        check(self.reference.digest().unwrap_or(&digest), digest, || {
            format!("the manifest of '{}'", self.reference)
        })?;
        let wanted = platform.cloned().unwrap_or_else(Platform::host);
        match Document::parse(&bytes, limits).map_err(|source| self.document_error(source))? {
            Document::Manifest(manifest) => {
                let media_type = manifest.media_type.as_deref().unwrap_or(media::MANIFEST);
                let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
                Ok((descriptor, bytes))
            }
            Document::Index(index) => {
                let Some(chosen) = wanted.choose(&index.manifests) else {
                    let offered = index.manifests.iter().filter_map(|d| d.platform.as_ref());
                    let mut offered: Vec<String> = offered.map(ToString::to_string).collect();
                    offered.truncate(20);
                    return Err(PullError::Platform { name: self.reference.to_string(), wanted, offered });
                };
                let bytes = self.registry.manifest(&chosen.digest.to_string(), limits)?;
                self.matches(chosen, &bytes)?;
                let descriptor = Descriptor { annotations: Default::default(), ..chosen.clone() };
                Ok((descriptor, bytes))
            }
        }
    }

    /// A document that another one names.
    fn small(&self, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        if let Ok(bytes) = self.store.document(&descriptor.digest, descriptor.size) {
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        let body = self.registry.blob(&descriptor.digest, 0)?;
        let read = body.reader.take(descriptor.size + 1).read_to_end(&mut bytes);
        read.map_err(|source| RegistryError::Cut { host: self.registry.host().to_owned(), source })?;
        self.matches(descriptor, &bytes)?;
        Ok(bytes)
    }

    fn matches(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), PullError> {
        let what = || format!("what {} sent for {}", self.registry.host(), descriptor.digest);
        let (expected, found) = (descriptor.size, bytes.len() as u64);
        if expected != found {
            return Err(StoreError::WrongSize { what: what(), expected, found }.into());
        }
        check(&descriptor.digest, Digest::of(bytes), what)
    }

    /// Fetches what is missing and unpacks in order. Returns the bytes that came.
    fn layers(&self, image: &Image) -> Result<u64, PullError> {
        let state = Mutex::new(State::default());
        let (changed, stop) = (Condvar::new(), AtomicBool::new(false));
        let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
        let fetch = || {
            loop {
                let at = {
                    let mut state = lock();
                    state.next += 1;
                    state.next - 1
                };
                let Some(layer) = image.layers.get(at).filter(|_| !stop.load(Ordering::Relaxed)) else {
                    return;
                };
                let result = self.fetch(&layer.blob, &stop);
                let mut state = lock();
                match result {
                    Ok(bytes) => {
                        state.there.insert(at);
                        state.fetched += bytes;
                    }
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        state.failed.get_or_insert(error);
                    }
                }
                changed.notify_all();
            }
        };
        let unpack = || {
            let mut records = Vec::new();
            for (at, layer) in image.layers.iter().enumerate() {
                let mut waiting = lock();
                while !waiting.there.contains(&at) {
                    if let Some(error) = waiting.failed.take() {
                        return Err(error);
                    }
                    waiting = changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
                drop(waiting);
                records.push(self.store.unpacked(layer, &records, self.progress)?);
            }
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..PARALLEL.min(image.layers.len()) {
                scope.spawn(fetch);
            }
            let done = unpack();
            stop.store(true, Ordering::Relaxed);
            done
        })?;
        Ok(lock().fetched)
    }

    /// Fetches one blob, or what is missing of it; returns the bytes that came.
    fn fetch(&self, blob: &Descriptor, stop: &AtomicBool) -> Result<u64, PullError> {
        if self.store.has(&blob.digest, blob.size) {
            return Ok(0);
        }
        let mut part = self.store.part(&blob.digest)?;
        if self.store.has(&blob.digest, blob.size) {
            part.discard()?; // another process was faster
            return Ok(0);
        }
        let meter = self.progress.begin(Act::Download, &blob.digest, Some(blob.size));
        let (mut came, mut failures) = (0, 0);
        let mut resumed = part.size() > 0;
        meter.advance(part.size());
        loop {
            if part.size() > blob.size {
                part.restart()?;
            }
            match self.transfer(blob, &mut part, &mut came, &*meter, stop) {
                Err(PullError::Registry(error)) if error.may_pass() && failures < TRIES => {
                    if matches!(error, RegistryError::Range) {
                        part.restart()?;
                    }
                    thread::sleep(Duration::from_millis(100) * 4_u32.pow(failures));
                    failures += 1;
                    continue;
                }
                other => other?,
            }
            match part.finish(self.store, Some(&blob.digest)) {
                // What was here from an earlier try may be what is wrong.
                Err(StoreError::WrongDigest { .. }) if resumed => {
                    resumed = false;
                    part = self.store.part(&blob.digest)?;
                }
                Err(StoreError::WrongDigest { expected, found, .. }) => {
                    let what = format!("what {} sent for {expected}", self.registry.host());
                    return Err(StoreError::WrongDigest { what, expected, found }.into());
                }
                other => {
                    other?;
                    meter.done();
                    return Ok(came);
                }
            }
        }
    }

    /// Takes bytes until all are there.
    fn transfer(
        &self,
        blob: &Descriptor,
        part: &mut Part,
        came: &mut u64,
        meter: &dyn super::Meter,
        stop: &AtomicBool,
    ) -> Result<(), PullError> {
        if part.size() == blob.size {
            return Ok(());
        }
        let mut body = self.registry.blob(&blob.digest, part.size())?;
        if body.from != part.size() {
            part.restart()?;
        }
        let mut buffer = vec![0; 128 << 10];
        let host = || self.registry.host().to_owned();
        while part.size() <= blob.size {
            if stop.load(Ordering::Relaxed) {
                return Err(PullError::Stopped);
            }
            let count = match body.reader.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(RegistryError::Cut { host: host(), source }.into()),
            };
            if count == 0 {
                break;
            }
            part.write(&buffer[..count])?;
            *came += count as u64;
            meter.advance(count as u64);
        }
        match part.size() {
            size if size == blob.size => Ok(()),
            size if size < blob.size => {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                Err(RegistryError::Cut { host: host(), source }.into())
            }
            found => {
                part.restart()?;
                let what = format!("what {} sent for {}", host(), blob.digest);
                Err(StoreError::WrongSize { what, expected: blob.size, found }.into())
            }
        }
    }
}

fn check(expected: &Digest, found: Digest, what: impl FnOnce() -> String) -> Result<(), PullError> {
    if *expected == found {
        return Ok(());
    }
    Err(StoreError::WrongDigest { what: what(), expected: *expected, found }.into())
}
