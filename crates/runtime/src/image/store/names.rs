//! Names: the store's `index.json`, in the form of an OCI image layout. Each image stands there once for every
//! name, or once without one.

use std::fs;
use std::io::ErrorKind;

use super::{Store, StoreError};
use crate::image::document::media;
use crate::image::{Descriptor, Digest, Index, Reference};

/// The annotation that bears an image's name (OCI image specification, annotations.md).
pub(crate) const NAME: &str = "org.opencontainers.image.ref.name";

impl Store {
    /// Every name with the manifest behind it, and the manifests without a name.
    pub(crate) fn named(&self) -> Result<Vec<(Option<String>, Descriptor)>, StoreError> {
        let path = self.root.join("index.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(StoreError::io("read", &path, error)),
        };
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|source| StoreError::Damaged { path, source })?;
        Ok(index.manifests.into_iter().map(|d| (d.annotations.get(NAME).cloned(), d)).collect())
    }

    /// Writes the names. The caller holds the store for itself.
    pub(super) fn set_named(&self, named: Vec<(Option<String>, Descriptor)>) -> Result<(), StoreError> {
        let entry = |(name, mut descriptor): (Option<String>, Descriptor)| {
            descriptor.annotations.clear();
            descriptor.annotations.extend(name.map(|name| (NAME.to_owned(), name)));
            descriptor
        };
        let manifests = named.into_iter().map(entry).collect();
        let index = Index { schema_version: 2, media_type: Some(media::INDEX.to_owned()), manifests };
        let path = self.root.join("index.json");
        let text = serde_json::to_vec_pretty(&index)
            .map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
        self.replace(&path, &text)
    }

    /// Gives an image a name, or keeps it without one. The image that had the name keeps its others, or none.
    pub(crate) fn name(&self, name: Option<&Reference>, manifest: &Descriptor) -> Result<(), StoreError> {
        let _lock = self.exclusive()?;
        let name = name.map(ToString::to_string);
        let mut named = self.named()?;
        if named.iter().any(|(n, d)| d.digest == manifest.digest && (name.is_none() || *n == name)) {
            return Ok(());
        }
        for (known, _) in &mut named {
            if name.is_some() && *known == name {
                *known = None;
            }
        }
        named.push((name, manifest.clone()));
        self.set_named(tidy(named))
    }

    /// Takes names away. The caller holds the store for itself.
    pub(super) fn unname(&self, gone: &[String]) -> Result<(), StoreError> {
        let named = self.named()?;
        let left = named.into_iter().filter(|(n, _)| n.as_ref().is_none_or(|n| !gone.contains(n)));
        self.set_named(left.collect())
    }
}

/// An image with a name needs no entry without one, and one entry without a name is enough.
fn tidy(named: Vec<(Option<String>, Descriptor)>) -> Vec<(Option<String>, Descriptor)> {
    let has_name: Vec<Digest> = named.iter().filter(|(n, _)| n.is_some()).map(|(_, d)| d.digest).collect();
    let mut seen: Vec<Digest> = Vec::new();
    let mut kept = named;
    kept.retain(|(name, d)| {
        let needed = name.is_some() || !(has_name.contains(&d.digest) || seen.contains(&d.digest));
        seen.push(d.digest);
        needed
    });
    kept
}
