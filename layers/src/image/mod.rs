//! Images: where they come from, what the store keeps of them, and how they become whole.

use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::layer::LayerStack;
use crate::progress::Observer;
use crate::spec::{Descriptor, DiffId, ImageConfig, Index, Manifest, Platform, Raw, Reference};
use crate::store::Store;
use crate::stream::Compression;

/// Where images come from: a registry, a layout, an archive.
pub trait ImageSource: Send + Sync {
    /// Manifest and config of an image, both verified; nothing else is fetched.
    /// Foreign errors arrive as `Error::Source`.
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage>;

    /// A blob's bytes, from its start; the caller verifies.
    fn open(&self, reference: &Reference, blob: &Descriptor) -> Result<Box<dyn Read + Send>>;
}

/// A resolved image: everything but the layers' bytes.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// As it was asked for.
    pub reference: Reference,
    /// The index that it was chosen from, if there is one.
    pub index: Option<Raw<Index>>,
    /// Its manifest, by which it is tagged unless there is an index.
    pub descriptor: Descriptor,
    /// Its manifest.
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
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// An image in the store, opened by what a tag names.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// What the tag names: manifest or pending manifest (an index is resolved by platform).
    pub descriptor: Descriptor,
    /// Its config.
    pub config: Raw<ImageConfig>,
    /// The config's descriptor; its digest is the image ID.
    pub config_descriptor: Descriptor,
}

/// Opens the image that `reference` names in the store; `None` when there is none.
pub fn open(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<StoredImage>> {
    let _ = (store, reference, platform);
    todo!()
}

/// Stores config and pending manifest of a built image and returns the descriptor to tag.
/// Where every layer has its blob already, that is the real manifest at once.
pub fn commit(
    store: &Store,
    config: &Raw<ImageConfig>,
    base: Option<&Manifest>,
    annotations: std::collections::BTreeMap<String, String>,
) -> Result<Descriptor> {
    let _ = (store, config, base, annotations);
    todo!()
}

/// Makes the image whole: compresses what is not, stores the manifest, re-points tags that named
/// the pending form. A real manifest comes back as it is.
pub fn finalise(
    store: &Store,
    image: &Descriptor,
    compression: Option<Compression>,
    threads: usize,
    observer: &dyn Observer,
) -> Result<Descriptor> {
    let _ = (store, image, compression, threads, observer);
    todo!()
}

/// Brings an image into the store: config, layers (blobs, and trees where `unpack`), manifest,
/// index; several layers at once, what is here already not again. Sets no tag.
pub fn fetch(
    store: &Store,
    source: &dyn ImageSource,
    image: &ResolvedImage,
    unpack: bool,
    jobs: usize,
    observer: &dyn Observer,
) -> Result<Descriptor> {
    let _ = (store, source, image, unpack, jobs, observer);
    todo!()
}

/// The unpacked layers of an image in the store, unpacking from blobs what is not unpacked yet.
pub fn stack(
    store: &Store,
    image: &StoredImage,
    jobs: usize,
    observer: &dyn Observer,
) -> Result<LayerStack> {
    let _ = (store, image, jobs, observer);
    todo!()
}
