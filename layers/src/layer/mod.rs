//! Finished layers: their records, their trees, and the merged view of a stack of trees.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::progress::Observer;
use crate::spec::{ChainId, Descriptor, DiffId};
use crate::store::Store;
use crate::stream::Compression;
use crate::tree::{Entry, EntryPath, Timestamp};

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

/// What a tree is keyed by: decision 1 of the architecture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TreeKey {
    /// A self-contained layer.
    Diff(DiffId),
    /// A layer that needed its parents to be unpacked.
    Chain(ChainId),
}

/// One layer's files on disk, and its entry list.
#[derive(Debug, Clone)]
pub struct LayerTree {
    key: TreeKey,
    diff_id: DiffId,
    // SKELETON
}

impl LayerTree {
    /// What it is keyed by.
    pub fn key(&self) -> &TreeKey {
        &self.key
    }

    /// The layer.
    pub fn diff_id(&self) -> &DiffId {
        &self.diff_id
    }

    /// The directory to mount: ownership and overlay marks as the store's flavour says.
    pub fn fs(&self) -> &Path {
        todo!()
    }

    /// All entries in canonical order, with true ownership.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        todo!()
    }
}

/// Unpacked layers, bottom first: what a root file system is made of.
#[derive(Debug, Clone, Default)]
pub struct LayerStack {
    trees: Vec<LayerTree>,
}

/// A name found in a stack.
#[derive(Debug, Clone)]
pub struct Found {
    /// With true ownership; `path` is where it was found, after resolving symlinks.
    pub entry: Entry,
    /// Index of the layer that it comes from, 0 at the bottom.
    pub layer: usize,
}

impl LayerStack {
    /// The trees of `diff_ids`, bottom first; `None` when one is not unpacked here.
    pub fn open(store: &Store, diff_ids: &[DiffId]) -> Result<Option<Self>> {
        let _ = (store, diff_ids);
        todo!()
    }

    /// Bottom first.
    pub fn trees(&self) -> &[LayerTree] {
        &self.trees
    }

    /// The merged view's entry of exactly this path (the last part is not followed, nor are
    /// parents that are symlinks); whiteouts and opaque directories honoured.
    pub fn lookup(&self, path: &EntryPath) -> Result<Option<Found>> {
        let _ = path;
        todo!()
    }

    /// Resolves symlinks inside the merged view as chroot would (absolute ones start at its root,
    /// `..` stops there, 40 links at most). The result's last parts may not exist.
    /// `follow_last`: whether a symlink in last place is followed too.
    pub fn resolve(&self, path: &EntryPath, follow_last: bool) -> Result<EntryPath> {
        let _ = (path, follow_last);
        todo!()
    }

    /// Merged children of a directory (exact path), sorted by name.
    pub fn read_dir(&self, path: &EntryPath) -> Result<Vec<Found>> {
        let _ = path;
        todo!()
    }

    /// Opens a regular file's content (hard links included), through the door that cannot leave the tree.
    pub fn open_file(&self, found: &Found) -> Result<File> {
        let _ = found;
        todo!()
    }
}

/// Unpacks layer bodies. One pass: verify, keep the blob, decode, check the diff ID, unpack.
///
/// When the layer turns out not to be self-contained, the blob is kept and the result is
/// [`Unpacked::NeedsParents`]; call [`unpack_onto`] once its parents are there.
pub fn unpack(
    store: &Store,
    blob: &Descriptor,
    diff_id: &DiffId,
    body: &mut (dyn Read + Send),
) -> Result<Unpacked> {
    let _ = (store, blob, diff_id, body);
    todo!()
}

/// What became of a body.
#[derive(Debug)]
pub enum Unpacked {
    /// The tree is there, keyed by diff ID.
    Tree(LayerTree),
    /// Only the blob is there.
    NeedsParents,
}

/// Unpacks a layer whose blob is in the store on top of its parents, keyed by chain ID.
pub fn unpack_onto(
    store: &Store,
    blob: &Descriptor,
    diff_id: &DiffId,
    parents: &LayerStack,
) -> Result<LayerTree> {
    let _ = (store, blob, diff_id, parents);
    todo!()
}

/// The record of a layer; `None` when the store does not know it.
pub fn record(store: &Store, diff_id: &DiffId) -> Result<Option<LayerRecord>> {
    let _ = (store, diff_id);
    todo!()
}

/// The layer's blob in the wanted compression, compressing it now if it never was (decision 3).
/// `compression: None` takes any blob there is, else gzip.
pub fn compress(
    store: &Store,
    diff_id: &DiffId,
    compression: Option<Compression>,
    threads: usize,
    observer: &dyn Observer,
) -> Result<Descriptor> {
    let _ = (store, diff_id, compression, threads, observer);
    todo!()
}

/// What a new layer is written for: decision 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A later step reads it from disk: make the tree, hash the tar stream, do not compress.
    Tree,
    /// Nobody reads it from disk: hash and compress in one read, make no tree.
    Blob(Compression),
}

/// A layer being written entry by entry, in canonical order (parents before children, sorted).
#[derive(Debug)]
pub struct LayerWriter {
    // SKELETON
}

impl LayerWriter {
    /// Begins a layer. Times after `clamp` are written as `clamp`.
    pub fn new(
        store: &Store,
        purpose: Purpose,
        clamp: Option<Timestamp>,
        threads: usize,
    ) -> Result<Self> {
        let _ = (store, purpose, clamp, threads);
        todo!()
    }

    /// Adds an entry; `content` is read for regular files (a `File` may be reflinked).
    pub fn add(&mut self, entry: Entry, content: Option<File>) -> Result<()> {
        let _ = (entry, content);
        todo!()
    }

    /// Publishes the layer (tree or blob, entry list, record).
    pub fn finish(self) -> Result<LayerRecord> {
        todo!()
    }
}
