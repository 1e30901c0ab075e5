//! The documents of an image: index, manifest and configuration (OCI image specification 1.1; Docker's
//! manifest schema 2 is the same under other names).
//!
//! What Docker writes as `null` counts as absent. Unknown keys are kept out: the bytes themselves are stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::{Digest, Limits, Platform};

/// Media types that are written.
pub(crate) mod media {
    pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
}

/// Names some content: what it is, how long, and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    pub media_type: String,
    /// Their digest.
    pub digest: Digest,
    /// How many there are.
    pub size: u64,
    /// In an index: what the image runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Remarks; in a store's index `org.opencontainers.image.ref.name` is the image's name.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// Of content without remarks.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        let media_type = media_type.to_owned();
        Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() }
    }
}

/// Several images behind one name, for different platforms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// What this document says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The images.
    #[serde(default, deserialize_with = "nullable")]
    pub manifests: Vec<Descriptor>,
}

/// One image: its configuration and its layers, the lowest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// What this document says it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers.
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
}

/// Either of the two documents that a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// Images to choose from.
    Index(Index),
    /// The image.
    Manifest(Manifest),
}

/// What an image is to be run as (OCI image specification, config.md).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, as RFC 3339 writes times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The processor it is for.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// The system it is for.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// The processor's generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How a container of it runs.
    #[serde(default, deserialize_with = "nullable")]
    pub config: Execution,
    /// The layers by what is in them.
    pub rootfs: RootFs,
    /// How it was made, the oldest first.
    #[serde(default, deserialize_with = "nullable")]
    pub history: Vec<History>,
}

/// What a container of an image runs unless told otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Execution {
    /// `USER`, `UID`, `USER:GROUP` or `UID:GID`; empty: root.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// `NAME=VALUE` each.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// The first words of the command; what is typed comes after them.
    #[serde(deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// The words of the command that what is typed replaces.
    #[serde(deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// Where it starts; empty: `/`.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// Ports that it serves, such as `80/tcp`.
    #[serde(deserialize_with = "nullable")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    /// Folders whose content should outlive a container.
    #[serde(deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// Remarks.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// The signal that ends it; empty: SIGTERM.
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
}

/// An image's layers by the digests of their unpacked archives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// One step in which an image was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, as RFC 3339 writes times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// By what command.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub created_by: String,
    /// A remark.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// True if the step made no layer.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// A document is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is too long to be looked at.
    #[error("the {what} has {size} bytes, more than the {limit} that are taken")]
    Long {
        /// Which document.
        what: &'static str,
        /// Its bytes.
        size: u64,
        /// How many are taken.
        limit: u64,
    },
    /// It is not JSON of this form.
    #[error("the {what} makes no sense")]
    Parse {
        /// Which document.
        what: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It is sound JSON that is refused.
    #[error("the {what} is refused: {why}")]
    Refused {
        /// Which document.
        what: &'static str,
        /// Why.
        why: String,
    },
}

fn refused<T>(what: &'static str, why: impl Into<String>) -> Result<T, DocumentError> {
    Err(DocumentError::Refused { what, why: why.into() })
}

fn fits(what: &'static str, bytes: &[u8], limit: u64) -> Result<(), DocumentError> {
    let size = bytes.len() as u64;
    if size > limit { Err(DocumentError::Long { what, size, limit }) } else { Ok(()) }
}

impl Document {
    /// Reads a manifest or an index. A text that could be both is refused: two readers could then see two
    /// images under one digest (CVE-2021-41190).
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Document, DocumentError> {
        const WHAT: &str = "manifest";
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Face {
            schema_version: Option<u32>,
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        fits(WHAT, bytes, limits.manifest)?;
        let parse = |source| DocumentError::Parse { what: WHAT, source };
        let face: Face = serde_json::from_slice(bytes).map_err(parse)?;
        match face.schema_version {
            Some(2) => {}
            Some(1) => {
                return refused(
                    WHAT,
                    "it is of Docker's schema 1, which has no digests; push the image anew",
                );
            }
            other => return refused(WHAT, format!("its schemaVersion is {other:?} and not 2")),
        }
        let is_index = face.manifests.is_some();
        if is_index && (face.layers.is_some() || face.config.is_some()) {
            return refused(WHAT, "it could be an index as well as a manifest");
        }
        let named = face.media_type.as_deref().unwrap_or_default();
        let other = if is_index {
            [media::MANIFEST, media::DOCKER_MANIFEST]
        } else {
            [media::INDEX, media::DOCKER_LIST]
        };
        if other.contains(&named) {
            return refused(WHAT, format!("it says that it is {named} and is not"));
        }
        if is_index {
            return Ok(Document::Index(serde_json::from_slice(bytes).map_err(parse)?));
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(parse)?;
        manifest.check(limits)?;
        Ok(Document::Manifest(manifest))
    }
}

impl Manifest {
    fn check(&self, limits: &Limits) -> Result<(), DocumentError> {
        const WHAT: &str = "manifest";
        if ![media::CONFIG, media::DOCKER_CONFIG].contains(&self.config.media_type.as_str()) {
            return refused(WHAT, format!("it is not of an image to run but of {}", self.config.media_type));
        }
        if self.config.size > limits.config {
            return refused(WHAT, format!("its configuration has {} bytes", self.config.size));
        }
        if self.layers.len() > limits.layers {
            let (many, limit) = (self.layers.len(), limits.layers);
            return refused(WHAT, format!("it has {many} layers, more than the {limit} that can be stacked"));
        }
        for Descriptor { media_type, digest, size, .. } in &self.layers {
            if media_type.contains("encrypted") {
                return refused(WHAT, format!("its layer {digest} is encrypted"));
            }
            if *size > limits.compressed {
                return refused(WHAT, format!("its layer {digest} has {size} bytes"));
            }
        }
        Ok(())
    }
}

impl ImageConfig {
    /// Reads the configuration that belongs to `manifest`.
    ///
    /// # Errors
    /// [`DocumentError`], also if the two do not fit together.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<ImageConfig, DocumentError> {
        const WHAT: &str = "configuration";
        fits(WHAT, bytes, limits.config)?;
        let parse = |source| DocumentError::Parse { what: WHAT, source };
        let config: ImageConfig = serde_json::from_slice(bytes).map_err(parse)?;
        if config.rootfs.kind != "layers" {
            return refused(
                WHAT,
                format!("its root file system is of type '{}', not layers", config.rootfs.kind),
            );
        }
        if !["linux", ""].contains(&config.os.as_str()) {
            return refused(WHAT, format!("the image is for {}, not for Linux", config.os));
        }
        if config.rootfs.diff_ids.len() > limits.layers {
            return refused(WHAT, format!("it has {} layers", config.rootfs.diff_ids.len()));
        }
        Ok(config)
    }

    /// Checks that this is the configuration of `manifest`: one diff id for each layer.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn belongs_to(&self, manifest: &Manifest) -> Result<(), DocumentError> {
        let (ids, layers) = (self.rootfs.diff_ids.len(), manifest.layers.len());
        if ids == layers {
            return Ok(());
        }
        refused("configuration", format!("it names {ids} layers and the manifest {layers}"))
    }

    /// What it says it runs on.
    #[must_use]
    pub fn platform(&self) -> Platform {
        let or = |word: &str, default: String| if word.is_empty() { default } else { word.to_owned() };
        let host = Platform::host();
        Platform {
            architecture: or(&self.architecture, host.architecture),
            os: or(&self.os, host.os),
            variant: self.variant.clone().filter(|v| !v.is_empty()),
        }
    }
}

/// Docker writes null where nothing is.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
