//! Layers, unpacked: a folder each, called by the digest of the layer with all that are below it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Layer, Store, StoreError, remove_tree, sync_folder, write_file};
use crate::image::{Act, Digest, Progress, unpack};

/// What is known of an unpacked layer: its `layer.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) chain_id: Digest,
    pub(crate) diff_id: Digest,
    /// The chain id of the layer below; none for the lowest.
    pub(crate) below: Option<Digest>,
    /// The archive that it was unpacked from.
    pub(crate) blob: Digest,
    pub(crate) entries: u64,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Device nodes that were left out.
    pub(crate) devices_left_out: u64,
    /// Extended attributes that were left out.
    pub(crate) attributes_left_out: u64,
    /// Whether it hides all layers below.
    pub(crate) opaque: bool,
}

impl Store {
    /// The folder in which all layers of a host are, whose state is there.
    pub(crate) fn layers_of(state: &Path) -> PathBuf {
        state.join("images/layers")
    }

    /// A layer's folder; its files are in `diff` there.
    pub(crate) fn layer(&self, chain_id: &Digest) -> PathBuf {
        self.root.join("layers").join(chain_id.hex())
    }

    /// What is known of an unpacked layer, if it is there.
    pub(crate) fn record(&self, chain_id: &Digest) -> Result<Option<Record>, StoreError> {
        let path = self.layer(chain_id).join("layer.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| StoreError::Damaged { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &path, error)),
        }
    }

    /// Makes sure that a layer is unpacked. `below` are those that it lies on, the lowest first, unpacked already.
    /// Of several processes that want the same one unpacks and the others wait.
    pub(crate) fn unpacked(
        &self,
        layer: &Layer,
        below: &[Record],
        progress: &dyn Progress,
    ) -> Result<Record, StoreError> {
        if let Some(record) = self.record(&layer.chain_id)? {
            progress.begin(Act::Present, &layer.blob.digest, None).done();
            return Ok(record);
        }
        let stem = format!("layer-{}", layer.chain_id.hex());
        let _lock = self.work(&stem)?;
        if let Some(record) = self.record(&layer.chain_id)? {
            return Ok(record);
        }
        let tree = self.ingest(&format!("{stem}.tree"));
        remove_tree(&tree)?;
        let record = self.unpack_into(&tree, layer, below, progress).and_then(|record| {
            let place = self.layer(&layer.chain_id);
            // A folder without its layer.json is not ours to have made; it cannot be a whole layer.
            remove_tree(&place)?;
            let landed =
                sync_all(&tree).and_then(|()| fs::rename(&tree, &place)).and_then(|()| sync_folder(&place));
            landed.map(|()| record).map_err(|source| StoreError::io("keep", &place, source))
        });
        if record.is_err() {
            let _ = remove_tree(&tree); // the first failure counts; what stays is swept
        }
        record
    }

    fn unpack_into(
        &self,
        tree: &Path,
        layer: &Layer,
        below: &[Record],
        progress: &dyn Progress,
    ) -> Result<Record, StoreError> {
        let diff = tree.join("diff");
        for (folder, mode) in [(tree, 0o700), (diff.as_path(), 0o755)] {
            let made = fs::DirBuilder::new().mode(mode).create(folder);
            made.map_err(|source| StoreError::io("make the folder", folder, source))?;
        }
        // The umask may have taken bits away; what is written inside is not subject to it.
        fs::set_permissions(&diff, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .map_err(|source| StoreError::io("set the mode of", &diff, source))?;
        let blob = layer.blob.digest;
        let archive = File::open(self.blob(&blob)).map_err(|error| match error.kind() {
            ErrorKind::NotFound => StoreError::Lacks(blob),
            _ => StoreError::io("open", &self.blob(&blob), error),
        })?;
        let folders: Vec<(PathBuf, bool)> =
            below.iter().rev().map(|r| (self.layer(&r.chain_id).join("diff"), r.opaque)).collect();
        let folders: Vec<(&Path, bool)> = folders.iter().map(|(p, opaque)| (p.as_path(), *opaque)).collect();
        let meter = progress.begin(Act::Unpack, &blob, Some(layer.blob.size));
        let failed = |source| StoreError::Layer { layer: blob, source };
        let done = unpack(archive, &diff, &folders, &self.policy, &*meter).map_err(failed)?;
        if done.diff_id != layer.diff_id {
            let (expected, found) = (layer.diff_id, done.diff_id);
            return Err(failed(crate::image::LayerError::Digest { expected, found }));
        }
        let record = Record {
            chain_id: layer.chain_id,
            diff_id: layer.diff_id,
            below: below.last().map(|r| r.chain_id),
            blob,
            entries: done.entries,
            bytes: done.bytes,
            devices_left_out: done.devices,
            attributes_left_out: done.attributes,
            opaque: done.opaque,
        };
        let path = tree.join("layer.json");
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|source| StoreError::Damaged { path: path.clone(), source })?;
        write_file(&path, &text).map_err(|source| StoreError::io("write", &path, source))?;
        meter.done();
        Ok(record)
    }
}

/// One call for all files of a layer: synchronising each by itself would take a journal's commit each.
fn sync_all(tree: &Path) -> std::io::Result<()> {
    rustix::fs::syncfs(File::open(tree)?).map_err(Into::into)
}
