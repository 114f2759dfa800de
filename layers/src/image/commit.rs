//! From a built image to its manifest: pending at first, whole once every layer has its blob.

use std::collections::BTreeMap;

use super::open::{check_layer_count, read_config, read_pending};
use super::{PendingManifest, pool};
use crate::layer;
use crate::progress::Observer;
use crate::spec::{Descriptor, DiffId, ImageConfig, Manifest, MediaType, Raw};
use crate::store::Store;
use crate::stream::Compression;
use crate::{Error, Result};

/// Layers longer than this, in bytes of plain tar, are compressed one after the other with all
/// threads; shorter ones side by side with one thread each.
const LARGE_LAYER_BYTES: u64 = 32 << 20;

/// Stores config and pending manifest of a built image and returns the descriptor to tag.
/// Where every layer has its blob already, that is the real manifest at once.
///
/// `base`: the manifest of the image it was built on, whose layers are the config's first ones;
/// their blobs are kept as they are.
///
/// # Errors
/// When the config is not valid or the store cannot be written.
pub fn commit(
    store: &Store,
    config: &Raw<ImageConfig>,
    base: Option<&Manifest>,
    annotations: BTreeMap<String, String>,
) -> Result<Descriptor> {
    config.validate()?;
    let base_layers = base.map_or(&[][..], |manifest| &manifest.layers);
    let diff_ids = &config.rootfs.diff_ids;
    let mut blobs = Vec::with_capacity(diff_ids.len());
    for (place, diff_id) in diff_ids.iter().enumerate() {
        blobs.push(known_blob(store, diff_id, base_layers.get(place))?);
    }
    store.blobs().put(config.bytes())?;
    let pending = PendingManifest {
        config: config.descriptor(MediaType::CONFIG),
        diff_ids: diff_ids.clone(),
        blobs,
        annotations,
    };
    if let Some(layers) = pending.blobs.iter().cloned().collect::<Option<Vec<_>>>() {
        return put_manifest(store, &pending, layers);
    }
    let pending = Raw::encode(pending, "pending manifest")?;
    store.blobs().put(pending.bytes())?;
    Ok(pending.descriptor(MediaType::PENDING_MANIFEST))
}

/// Makes the image whole: compresses what is not, stores the manifest, re-points tags that named
/// the pending form. A real manifest comes back as it is.
///
/// # Errors
/// When a layer cannot be compressed or the store cannot be written.
pub fn finalise(
    store: &Store,
    image: &Descriptor,
    compression: Option<Compression>,
    threads: usize,
    observer: &dyn Observer,
) -> Result<Descriptor> {
    if image.media_type != MediaType::PENDING_MANIFEST {
        return Ok(image.clone());
    }
    let mut pending = read_pending(store, image)?;
    let config = read_config(store, &pending.config)?;
    check_layer_count(pending.diff_ids.len(), &config)?;
    check_layer_count(pending.blobs.len(), &config)?;
    compress_missing(store, &mut pending, compression, threads, observer)?;
    let layers = pending.blobs.iter().cloned();
    let Some(layers) = layers.collect::<Option<Vec<_>>>() else {
        // `compress_missing` fills every gap or fails.
        return Err(Error::BlobMissing {
            digest: image.digest.clone(),
        });
    };
    let manifest = put_manifest(store, &pending, layers)?;
    store.blobs().repoint_entries(&image.digest, &manifest)?;
    Ok(manifest)
}

/// A blob that is here and is this layer's: the base's own, else one made or pulled before.
fn known_blob(
    store: &Store,
    diff_id: &DiffId,
    base: Option<&Descriptor>,
) -> Result<Option<Descriptor>> {
    if let Some(blob) = base
        && store.blobs().has(blob)?
    {
        return Ok(Some(blob.clone()));
    }
    let Some(record) = layer::record(store, diff_id)? else {
        return Ok(None);
    };
    for blob in record.blobs {
        // A plain tar is here because something streamed the layer; it is not what to send away.
        let is_plain = [MediaType::LAYER, MediaType::DOCKER_LAYER].contains(&blob.media_type);
        if !is_plain && store.blobs().has(&blob)? {
            return Ok(Some(blob));
        }
    }
    Ok(None)
}

/// Gives every layer of `pending` its blob.
fn compress_missing(
    store: &Store,
    pending: &mut PendingManifest,
    compression: Option<Compression>,
    threads: usize,
    observer: &dyn Observer,
) -> Result<()> {
    // Whatever there is in any compression, else the default; a plain tar only when asked for.
    let wanted = Some(compression.unwrap_or_default());
    let mut small = Vec::new();
    let mut made: BTreeMap<DiffId, Descriptor> = BTreeMap::new();
    for (diff_id, blob) in pending.diff_ids.iter().zip(&mut pending.blobs) {
        if let Some(known) = blob.as_ref()
            && !store.blobs().has(known)?
        {
            *blob = None;
        }
        if blob.is_some() || made.contains_key(diff_id) || small.contains(diff_id) {
            continue;
        }
        if compression.is_none()
            && let Some(known) = known_blob(store, diff_id, None)?
        {
            *blob = Some(known);
            continue;
        }
        let size = layer::record(store, diff_id)?.map_or(0, |record| record.size_bytes);
        if size > LARGE_LAYER_BYTES {
            let descriptor = layer::compress(store, diff_id, wanted, threads, observer)?;
            made.insert(diff_id.clone(), descriptor);
        } else {
            small.push(diff_id.clone());
        }
    }
    let finished = std::sync::Mutex::new(made);
    pool::for_each(threads, &small, |diff_id, _| {
        let descriptor = layer::compress(store, diff_id, wanted, 1, observer)?;
        let mut finished = finished.lock().unwrap_or_else(|poison| poison.into_inner());
        finished.insert(diff_id.clone(), descriptor);
        Ok(())
    })?;
    let finished = finished
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    for (diff_id, blob) in pending.diff_ids.iter().zip(&mut pending.blobs) {
        if blob.is_none() {
            *blob = finished.get(diff_id).cloned();
        }
    }
    Ok(())
}

fn put_manifest(
    store: &Store,
    pending: &PendingManifest,
    layers: Vec<Descriptor>,
) -> Result<Descriptor> {
    let layers = layers.into_iter().map(as_oci).collect();
    let mut manifest = Manifest::new(pending.config.clone(), layers);
    manifest.annotations.clone_from(&pending.annotations);
    let manifest = Raw::encode(manifest, "manifest")?;
    store.blobs().put(manifest.bytes())?;
    Ok(manifest.descriptor(MediaType::MANIFEST))
}

/// A base pulled as Docker schema 2 has Docker's media types for the same bytes; an OCI manifest
/// that mixed them in would not be accepted everywhere.
fn as_oci(mut layer: Descriptor) -> Descriptor {
    let twins = [
        (MediaType::DOCKER_LAYER, MediaType::LAYER),
        (MediaType::DOCKER_LAYER_GZIP, MediaType::LAYER_GZIP),
        (MediaType::DOCKER_LAYER_ZSTD, MediaType::LAYER_ZSTD),
    ];
    if let Some((_, oci)) = twins
        .into_iter()
        .find(|(docker, _)| *docker == layer.media_type)
    {
        layer.media_type = oci;
    }
    layer
}
