//! Images: where they come from, what the store keeps of them, and how they become whole.
//!
//! Invariants:
//! - Layers are stored before the config, that before the manifest, that before the index; a tag
//!   comes last and is not set here. So what a tag leads to is complete, and an operation that
//!   fails leaves at most whole blobs and trees that nothing names (garbage collection's food).
//! - A document is stored and named by its exact bytes.
//! - A pending manifest never leaves the store: whoever sends an image away calls [`finalise`].

mod closure;
mod commit;
mod fetch;
mod gc;
#[cfg(test)]
mod layer_tests;
mod local;
mod open;
mod pool;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::spec::{
    Descriptor, DiffId, ImageConfig, ImageId, Index, Manifest, Platform, Raw, Reference,
};

pub use commit::{commit, finalise};
pub use fetch::{fetch, stack};
pub use gc::{BlobRemoval, Collected, Roots, collect_garbage, remove_unused_blob};
pub use open::{open, open_target, read_document};
pub use verify::Problem;

/// Largest image config read, in bytes. Real ones have some kilobytes; BuildKit's inline cache
/// and long histories reach hundreds.
pub const MAX_CONFIG_BYTES: u64 = 8 << 20;

/// Where images come from: a registry, a layout, an archive.
pub trait ImageSource: Send + Sync {
    /// Manifest and config of an image, both verified; nothing else is fetched.
    /// Foreign errors arrive as `Error::Source`.
    ///
    /// # Errors
    /// When there is no such image, none for the platform, or it cannot be got.
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage>;

    /// A blob's bytes, from its start; the caller verifies.
    ///
    /// # Errors
    /// When the blob is not there or cannot be got.
    fn open(&self, reference: &Reference, blob: &Descriptor) -> Result<Box<dyn Read + Send>>;
}

/// A resolved image: everything but the layers' bytes.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// As it was asked for.
    pub reference: Reference,
    /// The index that it was chosen from, if there is one.
    pub index: Option<Raw<Index>>,
    /// Its manifest, by which it is tagged unless there is an index. Where the source is a store
    /// and the image was never compressed, its pending manifest.
    pub descriptor: Descriptor,
    /// Its manifest. Of a pending image: as it would be with plain layers, whose digests are
    /// their diff IDs.
    pub manifest: Raw<Manifest>,
    /// Its config.
    pub config: Raw<ImageConfig>,
}

/// An image built here whose layers are not all compressed yet (decision 3): stored as a blob of
/// media type `application/vnd.wythe.pending.manifest.v1+json`, tagged like a manifest, and
/// replaced by the real manifest once that is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingManifest {
    /// The config blob, in the store.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub diff_ids: Vec<DiffId>,
    /// Blobs already known to be this layer's (the base's), same order; never recompressed.
    pub blobs: Vec<Option<Descriptor>>,
    /// Annotations of the manifest to be.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image in the store, opened by what a tag names.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// Its manifest or pending manifest (an index is resolved by platform).
    pub descriptor: Descriptor,
    /// The index that it was chosen from, if there is one.
    pub index: Option<Raw<Index>>,
    /// What `descriptor` names.
    pub manifest: StoredManifest,
    /// Its config.
    pub config: Raw<ImageConfig>,
    /// The config's descriptor; its digest is the image ID.
    pub config_descriptor: Descriptor,
}

/// A layer and the blob that a manifest names for it.
pub type LayerAndBlob = (DiffId, Option<Descriptor>);

/// The two forms in which the store has a manifest.
#[derive(Debug, Clone)]
pub enum StoredManifest {
    /// As it is pushed and exported.
    Whole(Box<Raw<Manifest>>),
    /// Some layers have no blob yet.
    Pending(Box<PendingManifest>),
}

impl StoredImage {
    /// The digest of its config.
    pub fn id(&self) -> ImageId {
        ImageId(self.config_descriptor.digest.clone())
    }

    /// Its layers, bottom first, with the blobs that its manifest names for them.
    pub fn layers(&self) -> Vec<LayerAndBlob> {
        let blobs: Vec<_> = match &self.manifest {
            StoredManifest::Whole(manifest) => manifest.layers.iter().cloned().map(Some).collect(),
            StoredManifest::Pending(pending) => pending.blobs.clone(),
        };
        // `open` has seen to it that there are as many of either.
        let diff_ids = self.config.rootfs.diff_ids.iter().cloned();
        diff_ids.zip(blobs).collect()
    }
}
