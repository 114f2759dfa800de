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
//!
//! Invariants:
//! - What has its final name is whole: temporary file → fsync → rename → fsync of the directory.
//! - Every open [`Store`] holds a shared lock on `locks/store`; who removes anything that a
//!   reader might be about to use (garbage collection) holds it exclusively.
//! - A tag in `index.json` carries the reference's full normal form
//!   (`docker.io/library/app:latest`) as `org.opencontainers.image.ref.name`, so
//!   `skopeo inspect oci:ROOT:docker.io/library/app:latest` finds it. Entries of other tools are
//!   kept and not interpreted.
//! - `trees/`, `snapshots/` and `cache/` are mode 0700, and so is a store that was made here: they
//!   hold set-user-ID programs of whoever owns the store.
//! - Formats are versioned by a part of their path (`v1`); the layout by its own file.

mod blobs;
mod index;
mod layout;
mod lock;
mod records;
mod temp;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use blobs::{BlobStore, BlobWriter};
pub use index::REF_NAME;
pub use records::Records;

use crate::spec::{Descriptor, Reference};
use crate::tree::Flavour;
use crate::{Error, Result};
use lock::{FileLock, Mode};

/// How long opening waits for a garbage collection to end.
const STORE_LOCK_PATIENCE: Duration = Duration::from_secs(120);

/// Directories of ours, beside the layout's own; made when they are first needed.
const INGEST_DIR: &str = "ingest";

/// An open store. Cheap to clone; every open store (in any process) holds the shared lock, and
/// its clones hold it together.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    flavour: Flavour,
    blobs: BlobStore,
    /// `None` where the disk is read-only and has no lock file: nobody can change it then.
    lock: Option<Arc<FileLock>>,
}

impl Store {
    /// Opens the store at `root`, making it if it is not there. Works read-only where the disk
    /// or the permissions are: then what writes says so ([`Error::ReadOnly`]).
    ///
    /// # Errors
    /// [`Error::NotALayout`] when `root` holds something else or a version that is not
    /// understood; [`Error::Locked`] when a garbage collection takes too long.
    pub fn open(root: &Path, flavour: Flavour) -> Result<Self> {
        let root = std::path::absolute(root).map_err(Error::io("resolve", root))?;
        let blobs = BlobStore::of_store(&root);
        match layout::create_store(&root, &blobs.ingest) {
            // Checked again: only an existing store can be used read-only.
            Err(Error::ReadOnly { path, source }) => {
                if !layout::check(&root)? {
                    return Err(Error::ReadOnly { path, source });
                }
            }
            other => other?,
        }
        let lock = lock_shared(&root.join("locks").join("store"))?;
        temp::remove_stale(&blobs.ingest);
        Ok(Self {
            root,
            flavour,
            blobs,
            lock: lock.map(Arc::new),
        })
    }

    /// Where it is, as an absolute path.
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

    /// The records kept in the directory `kind` of the store (`layers/v1`); the version belongs
    /// into the name.
    pub fn records<T: Serialize + DeserializeOwned>(&self, kind: &str) -> Records<T> {
        Records::new(self.root.join(kind), self.root.join(INGEST_DIR))
    }

    /// What a reference names here: a manifest, an index or a pending manifest
    /// ([`crate::image::PendingManifest`]). Where it has a digest, that decides: any entry of its
    /// repository with that digest is it.
    pub fn tag(&self, reference: &Reference) -> Result<Option<Descriptor>> {
        let Some(digest) = reference.digest() else {
            return self.blobs.entry(&entry_name(reference));
        };
        let tags = self.tags()?.into_iter();
        let mut same_repository = tags.filter(|(tagged, _)| tagged.name() == reference.name());
        Ok(same_repository.find_map(|(_, target)| (target.digest == *digest).then_some(target)))
    }

    /// Points a reference at a descriptor, atomically. Writes nothing when it points there already.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] when the reference has a digest, and another one.
    pub fn set_tag(&self, reference: &Reference, target: &Descriptor) -> Result<()> {
        if let Some(expected) = reference.digest().filter(|d| **d != target.digest) {
            return Err(Error::DigestMismatch {
                expected: expected.clone(),
                actual: target.digest.clone(),
            });
        }
        self.blobs.set_entry(&entry_name(reference), target)
    }

    /// Removes a reference; `false` when there was none.
    pub fn remove_tag(&self, reference: &Reference) -> Result<bool> {
        self.blobs.remove_entry(&entry_name(reference))
    }

    /// All references, sorted. Entries whose name is not a reference in normal form are another
    /// tool's and not listed.
    pub fn tags(&self) -> Result<Vec<(Reference, Descriptor)>> {
        let mut tags = Vec::new();
        for mut entry in self.blobs.entries()? {
            let Some(name) = entry.annotations.remove(REF_NAME) else {
                continue;
            };
            let Ok(reference) = name.parse::<Reference>() else {
                continue;
            };
            if entry_name(&reference) == name {
                tags.push((reference, entry));
            }
        }
        // Stable: of entries with one name the first stays, as `BlobStore::entry` has it.
        tags.sort_by(|(a, _), (b, _)| a.cmp(b));
        tags.dedup_by(|(later, _), (first, _)| later == first);
        Ok(tags)
    }

    /// Removes the temporary files of dead processes; returns how many. Opening does so too.
    pub(crate) fn remove_leftovers(&self) -> u64 {
        let dirs = [&self.blobs.ingest, &self.root];
        dirs.into_iter().map(|dir| temp::remove_stale(dir)).sum()
    }

    /// Holds the store alone until the guard is dropped, for what removes things.
    ///
    /// Other processes are kept out; other clones in this process are not, so the caller sees to
    /// it that they are idle.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process uses the store for longer than `patience`.
    pub(crate) fn exclusive(&self, patience: Duration) -> Result<Exclusive<'_>> {
        let lock = self.lock.as_deref().ok_or_else(|| Error::ReadOnly {
            path: self.root.clone(),
            source: io::ErrorKind::ReadOnlyFilesystem.into(),
        })?;
        let guard = Exclusive { lock };
        // On failure the guard goes, and takes the shared lock again.
        lock.change(Mode::Exclusive, patience)?;
        Ok(guard)
    }
}

/// A store held alone; see [`Store::exclusive`].
#[derive(Debug)]
pub struct Exclusive<'a> {
    lock: &'a FileLock,
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.lock.downgrade(STORE_LOCK_PATIENCE) {
            tracing::warn!(%error, "the store is used without its lock");
        }
    }
}

/// The name of a reference in `index.json`: a digest decides, so no tag beside it.
fn entry_name(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => format!("{}@{digest}", reference.name()),
        None => reference.to_string(),
    }
}

/// The shared lock; on a read-only disk it is taken on what is there, if anything is.
fn lock_shared(path: &Path) -> Result<Option<FileLock>> {
    match FileLock::acquire(path, Mode::Shared, STORE_LOCK_PATIENCE) {
        Err(Error::ReadOnly { .. }) => {
            match FileLock::acquire_existing(path, Mode::Shared, STORE_LOCK_PATIENCE) {
                Err(Error::Io { source, .. })
                    if matches!(
                        source.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                    ) =>
                {
                    Ok(None)
                }
                other => other.map(Some),
            }
        }
        other => other.map(Some),
    }
}
