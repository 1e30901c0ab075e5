//! What people want to see of an image and of the store.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::{Image, Store, StoreError, digests};
use crate::image::Digest;

/// An image with its documents, as they are stored.
#[derive(Clone, Debug, Serialize)]
pub struct Details {
    /// The manifest.
    pub manifest: Value,
    /// The configuration.
    pub config: Value,
    /// The layers, the lowest first.
    pub layers: Vec<LayerDetails>,
}

/// One layer of the chain.
#[derive(Clone, Debug, Serialize)]
pub struct LayerDetails {
    /// The digest of its archive, unpacked.
    pub diff_id: Digest,
    /// The name of the layer with all below it.
    pub chain_id: Digest,
    /// The digest of its archive as it came.
    pub blob: Digest,
    /// What that is.
    pub media_type: String,
    /// Bytes of it.
    pub size: u64,
    /// Its folder, if it is unpacked.
    pub folder: Option<PathBuf>,
    /// Bytes of its files.
    pub bytes: Option<u64>,
    /// Entries of its archive.
    pub entries: Option<u64>,
    /// Device nodes that were left out.
    pub devices_left_out: Option<u64>,
    /// Extended attributes that were left out.
    pub attributes_left_out: Option<u64>,
}

/// How much the store holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Usage {
    /// Images, with a name or without.
    pub images: usize,
    /// Layers that are unpacked.
    pub layers: usize,
    /// Bytes of documents and archives.
    pub blob_bytes: u64,
    /// Bytes of the files of layers.
    pub layer_bytes: u64,
}

impl Store {
    /// An image with all that is known of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn details(&self, image: &Image) -> Result<Details, StoreError> {
        let document = |digest: &Digest, limit| {
            let bytes = self.document(digest, limit)?;
            serde_json::from_slice(&bytes)
                .map_err(|source| StoreError::Damaged { path: self.blob(digest), source })
        };
        let layers = image.layers.iter().map(|layer| {
            let record = self.record(&layer.chain_id)?;
            let of = |number: fn(&super::Record) -> u64| record.as_ref().map(number);
            Ok(LayerDetails {
                diff_id: layer.diff_id,
                chain_id: layer.chain_id,
                blob: layer.blob.digest,
                media_type: layer.blob.media_type.clone(),
                size: layer.blob.size,
                folder: record.as_ref().map(|_| self.layer(&layer.chain_id).join("diff")),
                bytes: of(|r| r.bytes),
                entries: of(|r| r.entries),
                devices_left_out: of(|r| r.devices_left_out),
                attributes_left_out: of(|r| r.attributes_left_out),
            })
        });
        Ok(Details {
            manifest: document(&image.manifest, self.limits().manifest)?,
            config: document(&image.id, self.limits().config)?,
            layers: layers.collect::<Result<_, StoreError>>()?,
        })
    }

    /// How much the store holds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn usage(&self) -> Result<Usage, StoreError> {
        let (images, broken) = self.images()?;
        let mut usage = Usage { images: images.len() + broken.len(), ..Usage::default() };
        for chain_id in digests(&self.root.join("layers"))? {
            usage.layers += 1;
            usage.layer_bytes += self.record(&chain_id)?.map_or(0, |record| record.bytes);
        }
        for digest in digests(&self.root.join("blobs/sha256"))? {
            usage.blob_bytes += std::fs::symlink_metadata(self.blob(&digest)).map_or(0, |meta| meta.len());
        }
        Ok(usage)
    }
}
