//! What the store remembers of a layer for good: `layers/v1/<hex of the diff ID>.json`, and beside
//! it `….entries` where there is no tree to keep the entry list.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scratch::Scratch;
use super::tree::{LayerTree, TreeKey};
use crate::spec::{Descriptor, DiffId};
use crate::store::{Records, Store};
use crate::tree::EntryList;
use crate::{Error, Result};

/// A finished layer: what is known of it for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Its name.
    pub diff_id: DiffId,
    /// Length of its uncompressed tar in bytes.
    pub size_bytes: u64,
    /// Its known compressed (or plain) blobs; empty until it is first pushed, exported or pulled.
    pub blobs: Vec<Descriptor>,
}

fn records(store: &Store) -> Records<LayerRecord> {
    store.records("layers/v1")
}

/// Where the entry list of a layer without a tree is.
pub(super) fn entries_path(store: &Store, diff_id: &DiffId) -> PathBuf {
    records(store)
        .path(diff_id.digest())
        .with_extension("entries")
}

/// The record of a layer; `None` when the store does not know it.
///
/// # Errors
/// When it is there and cannot be read.
pub fn record(store: &Store, diff_id: &DiffId) -> Result<Option<LayerRecord>> {
    let record = records(store).get(diff_id.digest())?;
    Ok(record.filter(|record| record.diff_id == *diff_id))
}

/// Records a layer, adding `blob` to the ones known. Two processes at once may lose one of two
/// blobs: then it is found out again.
pub(crate) fn remember(
    store: &Store,
    diff_id: &DiffId,
    size_bytes: u64,
    blob: Option<&Descriptor>,
) -> Result<LayerRecord> {
    let mut record = record(store, diff_id)?.unwrap_or_else(|| LayerRecord {
        diff_id: diff_id.clone(),
        size_bytes,
        blobs: Vec::new(),
    });
    if let Some(blob) = blob
        && !record.blobs.iter().any(|known| known.digest == blob.digest)
    {
        // Only what names the bytes: annotations and URLs belong to one manifest.
        let plain = Descriptor::new(blob.media_type.clone(), blob.digest.clone(), blob.size);
        record.blobs.push(plain);
    }
    records(store).put(diff_id.digest(), &record)?;
    Ok(record)
}

/// Reads an entry list.
pub(super) fn read_list(path: &Path) -> Result<EntryList> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    EntryList::read(&mut BufReader::new(file))
}

/// Writes an entry list, atomically but not synced: it is as good as its layer's record.
pub(super) fn write_list(store: &Store, path: &Path, list: &EntryList) -> Result<()> {
    let scratch = Scratch::in_store(store)?;
    let temporary = scratch.path().join("entries");
    let write = || -> io::Result<()> {
        list.write(&mut File::create(&temporary)?)?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(Error::write("write", path))
}

/// The entry list of a layer, wherever the store has it; `None` where it was never seen unpacked.
///
/// # Errors
/// When it is there and cannot be read.
pub fn entries(store: &Store, diff_id: &DiffId) -> Result<Option<EntryList>> {
    if let Some(tree) = LayerTree::open(store, TreeKey::Diff(diff_id.clone()))? {
        return tree.list().cloned().map(Some);
    }
    let path = entries_path(store, diff_id);
    match path.try_exists() {
        Ok(true) => read_list(&path).map(Some),
        _ => Ok(None),
    }
}
