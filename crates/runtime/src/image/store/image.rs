//! Images as they are in the store, and how they are found.

use super::{Store, StoreError};
use crate::image::{Descriptor, Digest, Document, DocumentError, ImageConfig, Manifest, Reference, chain_id};

/// An image of the store.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of its configuration: what the image is, whatever carried it here.
    pub id: Digest,
    /// The digest of its manifest: what a registry calls it.
    pub manifest: Digest,
    /// Its names; none if a newer image has taken the last one.
    pub names: Vec<String>,
    /// How it runs.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<Layer>,
}

/// A layer in its place in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its archive, unpacked.
    pub diff_id: Digest,
    /// The name of the layer with all that are below it, and of its folder.
    pub chain_id: Digest,
    /// Its archive as it came.
    pub blob: Descriptor,
}

impl Image {
    pub(crate) fn new(manifest: Digest, document: &Manifest, config: ImageConfig) -> Image {
        let mut below = None;
        let layer = |(diff_id, blob): (&Digest, &Descriptor)| {
            let chain_id = chain_id(below.as_ref(), diff_id);
            below = Some(chain_id);
            Layer { diff_id: *diff_id, chain_id, blob: blob.clone() }
        };
        let layers = config.rootfs.diff_ids.iter().zip(&document.layers).map(layer).collect();
        Image { id: document.config.digest, manifest, names: Vec::new(), config, layers }
    }

    /// Bytes of its archives.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.blob.size).fold(0, u64::saturating_add)
    }

    /// A name for messages: the first, or else the id.
    #[must_use]
    pub fn title(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.id.short())
    }
}

impl Store {
    /// All images, by name; those without a name last. One that cannot be read is left out of the first list and is
    /// in the second.
    ///
    /// # Errors
    /// [`StoreError`], if the list itself cannot be read.
    pub fn images(&self) -> Result<(Vec<Image>, Vec<StoreError>), StoreError> {
        let (mut images, mut broken): (Vec<Image>, _) = (Vec::new(), Vec::new());
        for (name, descriptor) in self.named()? {
            if let Some(known) = images.iter_mut().find(|i| i.manifest == descriptor.digest) {
                known.names.extend(name);
                continue;
            }
            match self.image(&descriptor.digest) {
                Ok(image) => images.push(Image { names: name.into_iter().collect(), ..image }),
                Err(error) => broken.push(error),
            }
        }
        images.iter_mut().for_each(|image| image.names.sort());
        images
            .sort_by(|a, b| (a.names.is_empty(), &a.names, a.id).cmp(&(b.names.is_empty(), &b.names, b.id)));
        Ok((images, broken))
    }

    /// The image with this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn resolve(&self, reference: &Reference) -> Result<Image, StoreError> {
        let name = reference.to_string();
        let named = self.named()?;
        let found = named.iter().find(|(n, _)| n.as_deref() == Some(&name));
        let (_, descriptor) = found.ok_or(StoreError::NoImage(name))?;
        let digest = descriptor.digest;
        let names = named.into_iter().filter(|(_, d)| d.digest == digest).filter_map(|(n, _)| n).collect();
        Ok(Image { names, ..self.image(&digest)? })
    }

    /// The image that a person means: by name, or by its id or at least the first four digits of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn find(&self, word: &str) -> Result<Image, StoreError> {
        let none = || StoreError::NoImage(word.chars().take(300).collect());
        if let Ok(reference) = word.parse::<Reference>() {
            match self.resolve(&reference) {
                Err(StoreError::NoImage(_)) => {}
                other => return other,
            }
        }
        let digits = word.strip_prefix("sha256:").unwrap_or(word);
        if digits.len() < 4 || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(none());
        }
        let mut fitting = self
            .images()?
            .0
            .into_iter()
            .filter(|image| image.id.hex().starts_with(digits) || image.manifest.hex() == digits);
        let first = fitting.next().ok_or_else(none)?;
        // The same configuration under two manifests is the same image.
        if fitting.any(|other| other.id != first.id) {
            return Err(StoreError::Ambiguous(word.to_owned()));
        }
        Ok(first)
    }

    /// The image of a manifest.
    pub(crate) fn image(&self, digest: &Digest) -> Result<Image, StoreError> {
        let failed = |source| StoreError::Document { image: *digest, source };
        let document = match Document::parse(&self.document(digest, self.limits().manifest)?, self.limits()) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => {
                let why = "it is an index of several images".to_owned();
                return Err(failed(DocumentError::Refused { what: "manifest", why }));
            }
            Err(error) => return Err(failed(error)),
        };
        let bytes = self.document(&document.config.digest, self.limits().config)?;
        let config = ImageConfig::parse(&bytes, self.limits()).map_err(failed)?;
        config.belongs_to(&document).map_err(failed)?;
        Ok(Image::new(*digest, &document, config))
    }
}
