//! Image manifests and indexes, OCI and Docker schema 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::descriptor::null_as_default;
use super::{Descriptor, MediaType, Raw, SpecError};

/// Largest manifest or index read, in bytes: 4 MiB, the limit that distribution-spec
/// §Pushing Manifests says registries should enforce.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// An image manifest (image-spec `manifest.md`; Docker schema 2 has the same shape).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; optional in OCI, required by Docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The kind of artifact, for what is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config blob.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know, kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// An OCI image manifest of a config and its layers, bottom first.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::MANIFEST),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

/// An image index (image-spec `image-index.md`; Docker's manifest list has the same shape).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own media type; optional in OCI, required by Docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    /// The kind of artifact, for what is not an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Manifests or further indexes.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields this version does not know, kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Index {
    /// An OCI index of `manifests`.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(MediaType::INDEX),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

/// What a reference can lead to: one image, or an index of several.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a handful are alive at once, and a box would be in everybody's way"
)]
pub enum Document {
    /// One image (or artifact).
    Manifest(Raw<Manifest>),
    /// Several.
    Index(Raw<Index>),
}

impl Document {
    /// Parses a manifest or an index by the media type it was served with, or, where that says
    /// nothing (`application/json`, none), by what it holds.
    ///
    /// A document whose own `mediaType` names the other kind is refused: it would be read one way
    /// here and another way elsewhere (CVE-2021-41190).
    ///
    /// # Errors
    /// [`SpecError`] when the bytes are neither, are of Docker's schema 1, or contradict themselves.
    pub fn parse(bytes: Vec<u8>, served_as: Option<&MediaType>) -> Result<Self, SpecError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Peek {
            #[serde(default)]
            schema_version: u32,
            media_type: Option<MediaType>,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let refuse = |reason: &str| SpecError::Document {
            what: "manifest",
            reason: reason.into(),
        };
        let peek: Peek = serde_json::from_slice(&bytes).map_err(|source| SpecError::Json {
            what: "manifest",
            source,
        })?;
        if peek.schema_version == 1 {
            return Err(refuse(
                "it is of Docker's retired schema 1; push the image again with a current tool",
            ));
        }
        if peek.schema_version != 2 {
            return Err(refuse("schemaVersion is not 2"));
        }
        let has_image = peek.config.is_some() || peek.layers.is_some();
        if has_image && peek.manifests.is_some() {
            return Err(refuse("it has both layers and manifests"));
        }
        let claims = [peek.media_type.as_ref(), served_as];
        let claims_index = claims
            .iter()
            .flatten()
            .any(|media_type| media_type.is_index());
        let claims_manifest = claims
            .iter()
            .flatten()
            .any(|media_type| media_type.is_manifest());
        if peek.manifests.is_some() && !claims_manifest {
            Raw::parse(bytes, "index").map(Self::Index)
        } else if has_image && !claims_index {
            Raw::parse(bytes, "manifest").map(Self::Manifest)
        } else if claims_index && !has_image {
            Raw::parse(bytes, "index").map(Self::Index)
        } else {
            Err(refuse("its media type contradicts its content"))
        }
    }

    /// The media type to name it with: its own, else the OCI one of its kind.
    pub fn media_type(&self) -> MediaType {
        match self {
            Self::Manifest(raw) => raw.media_type.clone().unwrap_or(MediaType::MANIFEST),
            Self::Index(raw) => raw.media_type.clone().unwrap_or(MediaType::INDEX),
        }
    }

    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Manifest(raw) => raw.bytes(),
            Self::Index(raw) => raw.bytes(),
        }
    }

    /// Describes the exact bytes.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(self.media_type(), self.bytes())
    }
}
