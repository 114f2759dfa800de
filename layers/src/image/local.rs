//! The store as a source of images, so that a build can start from an image built here.

use std::io::Read;

use super::open::open;
use super::{ImageSource, ResolvedImage, StoredImage, StoredManifest};
use crate::layer;
use crate::progress::Silent;
use crate::spec::{Descriptor, DiffId, Manifest, MediaType, Platform, Raw, Reference};
use crate::store::Store;
use crate::stream::Compression;
use crate::{Error, Result};

impl ImageSource for Store {
    fn resolve(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage> {
        let image = open(self, reference, platform)?.ok_or_else(|| Error::ImageMissing {
            reference: reference.to_string(),
        })?;
        let manifest = match &image.manifest {
            StoredManifest::Whole(manifest) => manifest.as_ref().clone(),
            StoredManifest::Pending(_) => plain_manifest(self, &image)?,
        };
        Ok(ResolvedImage {
            reference: reference.clone(),
            index: image.index,
            descriptor: image.descriptor,
            manifest,
            config: image.config,
        })
    }

    fn open(&self, _reference: &Reference, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        if let Some(reader) = self.blobs().get(blob)? {
            return Ok(Box::new(reader));
        }
        let missing = || Error::BlobMissing {
            digest: blob.digest.clone(),
        };
        let diff_id = DiffId(blob.digest.clone());
        if blob.media_type != MediaType::LAYER || layer::record(self, &diff_id)?.is_none() {
            return Err(missing());
        }
        let plain = layer::compress(self, &diff_id, Some(Compression::None), 1, &Silent)?;
        match self.blobs().get(&plain)? {
            Some(reader) => Ok(Box::new(reader)),
            None => Err(missing()),
        }
    }
}

/// A pending image's manifest as it would be without compression: a plain layer's digest is its
/// diff ID, so every layer can be named before any blob exists.
fn plain_manifest(store: &Store, image: &StoredImage) -> Result<Raw<Manifest>> {
    let mut layers = Vec::new();
    for (diff_id, blob) in image.layers() {
        if let Some(blob) = blob
            && store.blobs().has(&blob)?
        {
            layers.push(blob);
            continue;
        }
        let record = layer::record(store, &diff_id)?.ok_or_else(|| Error::BlobMissing {
            digest: diff_id.digest().clone(),
        })?;
        let digest = diff_id.digest().clone();
        layers.push(Descriptor::new(MediaType::LAYER, digest, record.size_bytes));
    }
    let manifest = Manifest::new(image.config_descriptor.clone(), layers);
    Ok(Raw::encode(manifest, "manifest")?)
}
