//! What nobody needs goes: reachable is what a name or a lease leads to, and all else is removed.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::{Image, Store, StoreError, digests, random, remove_file, remove_tree};
use crate::image::Digest;

/// What has been removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names of images, or ids of those that had none.
    pub images: Vec<String>,
    /// Layers, by the digest of the layer with all below it.
    pub layers: Vec<Digest>,
    /// Documents and archives.
    pub blobs: Vec<Digest>,
    /// Bytes that they took.
    pub bytes: u64,
}

impl Store {
    /// Removes images without a name that no container uses, and whatever nothing leads to; with `all` also images
    /// with a name that no container uses.
    ///
    /// # Errors
    /// [`StoreError`]. Nothing is removed if it cannot be told what is needed.
    pub fn prune(&self, all: bool) -> Result<Pruned, StoreError> {
        let _store = self.exclusive()?;
        let used: BTreeSet<Digest> = self.leases()?.iter().map(|held| held.manifest).collect();
        let (gone, kept): (Vec<_>, Vec<_>) = self
            .named()?
            .into_iter()
            .partition(|(name, d)| (all || name.is_none()) && !used.contains(&d.digest));
        if !gone.is_empty() {
            self.set_named(kept)?;
        }
        let images = gone.into_iter().map(|(name, d)| name.unwrap_or_else(|| d.digest.to_string())).collect();
        let mut pruned = self.collect()?;
        pruned.bytes += self.sweep(Duration::ZERO)?;
        Ok(Pruned { images, ..pruned })
    }

    /// Takes one name away from an image, or all if it is called by its id, and removes what nothing leads to any
    /// more. Without `force` an image whose last name it is must not be in use.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove(&self, word: &str, force: bool) -> Result<Pruned, StoreError> {
        let image = self.find(word)?;
        let _store = self.exclusive()?;
        let by_name = word.parse::<crate::image::Reference>().ok().map(|r| r.to_string());
        let names: Vec<String> = match by_name.filter(|name| image.names.contains(name)) {
            Some(name) => vec![name],
            None => image.names.clone(),
        };
        let is_last = names.len() == image.names.len();
        if is_last && !force {
            self.unused(&image)?;
        }
        self.unname(&names)?;
        if is_last {
            let named = self.named()?;
            self.set_named(named.into_iter().filter(|(_, d)| d.digest != image.manifest).collect())?;
        }
        let removed = if names.is_empty() { vec![image.id.to_string()] } else { names };
        Ok(Pruned { images: removed, ..self.collect()? })
    }

    fn unused(&self, image: &Image) -> Result<(), StoreError> {
        let by: Vec<String> = self
            .leases()?
            .iter()
            .filter(|held| held.manifest == image.manifest)
            .map(super::lease::Held::holder)
            .collect();
        if by.is_empty() { Ok(()) } else { Err(StoreError::InUse { image: image.title(), by }) }
    }

    /// Removes what neither a name nor a lease leads to. The caller holds the store for itself.
    fn collect(&self) -> Result<Pruned, StoreError> {
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for held in self.leases()? {
            blobs.extend(held.blobs);
            layers.extend(held.layers);
        }
        for (_, descriptor) in self.named()? {
            // An image that cannot be read: what it needs is not known, so nothing goes.
            let image = self.image(&descriptor.digest)?;
            blobs.extend([image.manifest, image.id]);
            blobs.extend(image.layers.iter().map(|layer| layer.blob.digest));
            layers.extend(image.layers.iter().map(|layer| layer.chain_id));
        }
        let mut pruned = Pruned::default();
        for digest in digests(&self.root.join("layers"))? {
            if !layers.contains(&digest) {
                pruned.bytes += self.record(&digest).ok().flatten().map_or(0, |record| record.bytes);
                self.remove_layer(&digest)?;
                pruned.layers.push(digest);
            }
        }
        for digest in digests(&self.root.join("blobs/sha256"))? {
            if !blobs.contains(&digest) {
                pruned.bytes += fs::symlink_metadata(self.blob(&digest)).map_or(0, |meta| meta.len());
                remove_file(&self.blob(&digest))?;
                pruned.blobs.push(digest);
            }
        }
        Ok(pruned)
    }

    /// Out of sight by one rename, then file by file: killed meanwhile, the rest is swept.
    fn remove_layer(&self, chain_id: &Digest) -> Result<(), StoreError> {
        let (from, to) = (self.layer(chain_id), self.ingest(&format!("gone-{}.tree", random()?)));
        fs::rename(&from, &to).map_err(|source| StoreError::io("remove", &from, source))?;
        remove_tree(&to)
    }
}
