//! From what a tag names to an image: index → manifest → config, each verified.

use super::{MAX_CONFIG_BYTES, PendingManifest, StoredImage, StoredManifest};
use crate::spec::{
    Descriptor, Document, ImageConfig, Index, MAX_MANIFEST_BYTES, Manifest, MediaType, Platform,
    Raw, Reference, SpecError,
};
use crate::store::Store;
use crate::{Error, Result};

/// Indexes within indexes that are followed; nothing known nests more than two.
const MAX_INDEX_DEPTH: u32 = 4;

/// Opens the image that `reference` names in the store; `None` when there is none, or when it
/// was pulled for other platforms only.
///
/// A tag that names one image leads to that, whatever its platform.
///
/// # Errors
/// [`Error::PlatformMissing`] when an index has none for `platform`; [`Error::NotAnImage`];
/// what is wrong with a damaged document.
pub fn open(
    store: &Store,
    reference: &Reference,
    platform: &Platform,
) -> Result<Option<StoredImage>> {
    match store.tag(reference)? {
        Some(target) => open_target(store, &target, platform),
        None => Ok(None),
    }
}

/// Opens the image that a descriptor (of a manifest, a pending manifest or an index) names.
///
/// # Errors
/// As [`open`].
pub fn open_target(
    store: &Store,
    target: &Descriptor,
    platform: &Platform,
) -> Result<Option<StoredImage>> {
    if target.media_type == MediaType::PENDING_MANIFEST {
        return open_pending(store, target).map(Some);
    }
    match read_document(store, target)? {
        Document::Manifest(manifest) => open_manifest(store, target, manifest).map(Some),
        Document::Index(index) => {
            let opened = open_child(store, &index, platform, 0)?;
            Ok(opened.map(|image| StoredImage {
                index: Some(index),
                ..image
            }))
        }
    }
}

/// A manifest or an index in the store, verified.
///
/// # Errors
/// [`Error::BlobMissing`]; what is wrong with a document that is neither.
pub fn read_document(store: &Store, target: &Descriptor) -> Result<Document> {
    let bytes = store.blobs().read(target, MAX_MANIFEST_BYTES)?;
    Ok(Document::parse(bytes, Some(&target.media_type))?)
}

/// A pending manifest, verified.
pub(super) fn read_pending(store: &Store, target: &Descriptor) -> Result<PendingManifest> {
    let bytes = store.blobs().read(target, MAX_MANIFEST_BYTES)?;
    let pending: Raw<PendingManifest> = Raw::parse(bytes, "pending manifest")?;
    Ok(pending.into_value())
}

/// An image config, verified.
pub(super) fn read_config(store: &Store, target: &Descriptor) -> Result<Raw<ImageConfig>> {
    let bytes = store.blobs().read(target, MAX_CONFIG_BYTES)?;
    match Raw::<ImageConfig>::parse(bytes, "image config") {
        Ok(config) => {
            config.validate()?;
            Ok(config)
        }
        // Old images have configs of type `application/octet-stream`, so only now is this said.
        Err(_) if !target.media_type.is_config() => Err(Error::NotAnImage {
            digest: target.digest.clone(),
            media_type: target.media_type.to_string(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// The same number of layers by manifest and config; everything that pairs them relies on it.
pub(super) fn check_layer_count(layers: usize, config: &ImageConfig) -> Result<()> {
    let diff_ids = config.rootfs.diff_ids.len();
    if layers == diff_ids {
        return Ok(());
    }
    let error = SpecError::Document {
        what: "image",
        reason: format!("its manifest has {layers} layers and its config {diff_ids}"),
    };
    Err(error.into())
}

fn open_pending(store: &Store, target: &Descriptor) -> Result<StoredImage> {
    let pending = read_pending(store, target)?;
    let config = read_config(store, &pending.config)?;
    check_layer_count(pending.blobs.len(), &config)?;
    check_layer_count(pending.diff_ids.len(), &config)?;
    Ok(StoredImage {
        descriptor: target.clone(),
        index: None,
        config,
        config_descriptor: pending.config.clone(),
        manifest: StoredManifest::Pending(Box::new(pending)),
    })
}

fn open_manifest(
    store: &Store,
    target: &Descriptor,
    manifest: Raw<Manifest>,
) -> Result<StoredImage> {
    let config = read_config(store, &manifest.config)?;
    check_layer_count(manifest.layers.len(), &config)?;
    Ok(StoredImage {
        descriptor: target.clone(),
        index: None,
        config,
        config_descriptor: manifest.config.clone(),
        manifest: StoredManifest::Whole(Box::new(manifest)),
    })
}

/// The best image of an index for a platform; `None` when that one is not in the store.
fn open_child(
    store: &Store,
    index: &Index,
    platform: &Platform,
    depth: u32,
) -> Result<Option<StoredImage>> {
    let mut ranked: Vec<_> = index
        .manifests
        .iter()
        .filter_map(|child| Some((platform.match_rank(child.platform.as_ref()?)?, child)))
        .collect();
    // Stable: of equals the first counts.
    ranked.sort_by_key(|(rank, _)| *rank);
    if let Some((_, best)) = ranked.first() {
        return match read_document_if_here(store, best)? {
            Some(Document::Manifest(manifest)) => open_manifest(store, best, manifest).map(Some),
            Some(Document::Index(inner)) if depth < MAX_INDEX_DEPTH => {
                open_child(store, &inner, platform, depth + 1)
            }
            Some(Document::Index(_)) => Err(nested_too_deep()),
            None => Ok(None),
        };
    }
    open_child_without_platform(store, index, platform, depth)
}

/// Children that say no platform: their configs do.
fn open_child_without_platform(
    store: &Store,
    index: &Index,
    platform: &Platform,
    depth: u32,
) -> Result<Option<StoredImage>> {
    let unnamed = index.manifests.iter().filter(|c| c.platform.is_none());
    let mut is_incomplete = false;
    for child in unnamed {
        match read_document_if_here(store, child)? {
            Some(Document::Manifest(manifest)) => match open_manifest(store, child, manifest) {
                Ok(image) if platform.match_rank(&image.config.platform()).is_some() => {
                    return Ok(Some(image));
                }
                Ok(_) | Err(Error::NotAnImage { .. }) => {}
                Err(error) => return Err(error),
            },
            Some(Document::Index(inner)) if depth < MAX_INDEX_DEPTH => {
                match open_child(store, &inner, platform, depth + 1) {
                    Err(Error::PlatformMissing { .. }) => {}
                    other => return other,
                }
            }
            Some(Document::Index(_)) => return Err(nested_too_deep()),
            None => is_incomplete = true,
        }
    }
    if is_incomplete {
        return Ok(None);
    }
    let mut offered: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|child| child.platform.as_ref())
        .map(ToString::to_string)
        .filter(|text| text != "unknown/unknown")
        .collect();
    offered.sort();
    offered.dedup();
    Err(Error::PlatformMissing {
        wanted: platform.to_string(),
        offered: offered.join(", "),
    })
}

fn read_document_if_here(store: &Store, child: &Descriptor) -> Result<Option<Document>> {
    if store.blobs().stat(&child.digest)?.is_none() {
        return Ok(None);
    }
    read_document(store, child).map(Some)
}

fn nested_too_deep() -> Error {
    let reason = format!("indexes are nested more than {MAX_INDEX_DEPTH} deep");
    let what = "index";
    SpecError::Document { what, reason }.into()
}
