//! The store: an OCI image layout, with what wythe keeps beside it.
//!
//! ```text
//! ROOT/oci-layout index.json blobs/sha256/…   an OCI image layout; other tools read it in place
//!      layers/v1/<diff id>.json               LayerRecord: sizes, known compressed descriptors
//!      trees/v1/<flavour>/<key>/{fs/,entries} layer trees, keyed by diff ID (or chain ID)
//!      cache/v1/…                             build cache (builder's)
//!      snapshots/ ingest/                     work in progress; rubbish once its owner is gone
//!      locks/                                 flock files
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::Result;
use crate::spec::{Descriptor, Digest, Reference};
use crate::stream::VerifyingReader;
use crate::tree::Flavour;

/// An open store. Cheap to clone; every clone (in any process) holds the shared lock.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    flavour: Flavour,
    blobs: BlobStore,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there. Works read-only where the disk is.
    pub fn open(root: &Path, flavour: Flavour) -> Result<Self> {
        Ok(Self {
            root: root.to_owned(),
            flavour,
            blobs: BlobStore::open(root)?,
        })
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How its trees are kept.
    pub fn flavour(&self) -> Flavour {
        self.flavour
    }

    /// Its blobs.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// What a reference names here: a manifest, an index or a pending manifest
    /// ([`crate::image::PendingManifest`]).
    pub fn tag(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let _ = reference;
        todo!()
    }

    /// Points a reference at a descriptor, atomically. Writes nothing when it points there already.
    pub fn set_tag(&self, reference: &Reference, target: &Descriptor) -> Result<()> {
        let _ = (reference, target);
        todo!()
    }

    /// Removes a reference; `false` when there was none.
    pub fn remove_tag(&self, reference: &Reference) -> Result<bool> {
        let _ = reference;
        todo!()
    }

    /// All references, sorted.
    pub fn tags(&self) -> Result<Vec<(Reference, Descriptor)>> {
        todo!()
    }
}

/// The blobs of one OCI image layout (the store's, or a foreign `oci:` directory).
///
/// Idempotent and atomic: a blob is there whole or not at all, and several processes may ingest
/// the same one.
#[derive(Debug, Clone)]
pub struct BlobStore {
    root: PathBuf,
}

impl BlobStore {
    /// The blobs under `root`, which is a layout's directory.
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("blobs")
            .join(digest.algorithm().as_str())
            .join(digest.hex())
    }

    /// Reads a blob, verifying; `None` when it is not here.
    pub fn get(&self, descriptor: &Descriptor) -> Result<Option<VerifyingReader<File>>> {
        let _ = descriptor;
        todo!()
    }

    /// A whole small blob (manifest, config), verified; `Error::BlobMissing` when it is not here.
    pub fn read(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Vec<u8>> {
        let _ = (descriptor, max_bytes);
        todo!()
    }

    /// A blob's size in bytes; `None` when it is not here.
    pub fn stat(&self, digest: &Digest) -> Result<Option<u64>> {
        let _ = digest;
        todo!()
    }

    /// Begins a new blob.
    pub fn ingest(&self) -> Result<BlobWriter> {
        todo!()
    }

    /// Stores a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let _ = bytes;
        todo!()
    }

    /// Removes a blob; `false` when it was not here.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let _ = digest;
        todo!()
    }

    /// All blobs with their sizes in bytes, sorted.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        todo!()
    }
}

/// A blob being written to a temporary file; dropped without commit it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    file: File,
}

impl BlobWriter {
    /// fsync, verify against `expected` (digest and size), rename into place, fsync the directory.
    pub fn commit(self, expected: Option<&Descriptor>) -> Result<(Digest, u64)> {
        let _ = expected;
        todo!()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
