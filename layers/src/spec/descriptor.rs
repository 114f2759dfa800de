//! Descriptors: media type, digest and size, the only way to name a blob.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Platform};

/// A media type (image-spec `media-types.md`, and Docker's schema 2 twins).
///
/// Open by nature: an unknown type is kept, not refused. The associated constants are the known ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// OCI image manifest.
    pub const MANIFEST: Self = Self::known("application/vnd.oci.image.manifest.v1+json");
    /// OCI image index.
    pub const INDEX: Self = Self::known("application/vnd.oci.image.index.v1+json");
    /// OCI image config.
    pub const CONFIG: Self = Self::known("application/vnd.oci.image.config.v1+json");
    /// OCI empty JSON (`{}`).
    pub const EMPTY: Self = Self::known("application/vnd.oci.empty.v1+json");
    /// OCI layer, not compressed.
    pub const LAYER: Self = Self::known("application/vnd.oci.image.layer.v1.tar");
    /// OCI layer, gzip.
    pub const LAYER_GZIP: Self = Self::known("application/vnd.oci.image.layer.v1.tar+gzip");
    /// OCI layer, zstd.
    pub const LAYER_ZSTD: Self = Self::known("application/vnd.oci.image.layer.v1.tar+zstd");
    /// Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: Self =
        Self::known("application/vnd.docker.distribution.manifest.v2+json");
    /// Docker schema 2 manifest list.
    pub const DOCKER_INDEX: Self =
        Self::known("application/vnd.docker.distribution.manifest.list.v2+json");
    /// Docker image config.
    pub const DOCKER_CONFIG: Self = Self::known("application/vnd.docker.container.image.v1+json");
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: Self =
        Self::known("application/vnd.docker.image.rootfs.diff.tar.gzip");
    /// Docker layer, not compressed.
    pub const DOCKER_LAYER: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar");
    /// Non-standard, read but never written.
    pub const DOCKER_LAYER_ZSTD: Self =
        Self::known("application/vnd.docker.image.rootfs.diff.tar.zstd");

    /// wythe's own: an image built here whose layers are not all compressed yet. Never leaves the store.
    pub const PENDING_MANIFEST: Self =
        Self::known("application/vnd.wythe.pending.manifest.v1+json");

    const fn known(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// Any media type; parameters (`; charset=…`) are cut off and case is folded.
    pub fn new(text: &str) -> Self {
        let bare = text.split(';').next().unwrap_or_default().trim();
        Self(Cow::Owned(bare.to_ascii_lowercase()))
    }

    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An image manifest, OCI or Docker.
    pub fn is_manifest(&self) -> bool {
        *self == Self::MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    /// An image index, OCI or Docker.
    pub fn is_index(&self) -> bool {
        *self == Self::INDEX || *self == Self::DOCKER_INDEX
    }

    /// An image config, OCI or Docker.
    pub fn is_config(&self) -> bool {
        *self == Self::CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// A file system layer of any known kind, compressed or not.
    pub fn is_layer(&self) -> bool {
        [
            Self::LAYER,
            Self::LAYER_GZIP,
            Self::LAYER_ZSTD,
            Self::DOCKER_LAYER,
            Self::DOCKER_LAYER_GZIP,
            Self::DOCKER_LAYER_ZSTD,
        ]
        .contains(self)
            || self
                .0
                .starts_with("application/vnd.oci.image.layer.nondistributable.v1.tar")
            || self
                .0
                .starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar")
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Media type, digest and size of a blob (image-spec `descriptor.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: MediaType,
    /// Digest of the blob's exact bytes.
    pub digest: Digest,
    /// The blob's length in bytes.
    pub size: u64,
    /// Further places to get the blob from; never followed unless asked to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The blob itself in base64, when it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// The kind of artifact, when this names an artifact's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The platform, when this names an image inside an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Fields this version does not know, kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Descriptor {
    /// The three required fields, and nothing else.
    pub fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self {
            media_type,
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            artifact_type: None,
            platform: None,
            extra: BTreeMap::new(),
        }
    }

    /// Describes `bytes`.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }
}

/// Go encoders write `null` for an empty map or list; that is not an error.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
