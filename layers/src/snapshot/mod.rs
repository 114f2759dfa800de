//! Snapshots: a stack of layer trees as one root file system to run in.
//!
//! Invariants: a snapshot is private to the process that made it and is gone when dropped; the
//! layer trees below it are never written; what a killed process left is swept by the next one
//! that calls [`choose`].

mod commit;
mod copy;
mod mount;
mod overlay;
mod reaper;

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

pub use copy::CopySnapshotter;
pub use mount::attach;
pub use overlay::OverlaySnapshotter;

use crate::layer::{LayerRecord, LayerStack, scratch};
use crate::store::Store;
use crate::tree::{EntryPath, Timestamp};
use crate::{Error, Result};

/// Makes snapshots. Implementations: overlay (new mount API, layer by layer) and copy.
pub trait Snapshotter: Send + Sync {
    /// A writable snapshot on `stack` (empty stack: an empty root).
    fn prepare(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>>;

    /// A read-only one.
    fn view(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>>;
}

/// A root file system to run in. Dropping it removes what it put on disk.
pub trait Snapshot: Send {
    /// The root: a mount that is attached nowhere yet, or a plain directory. Asked again, the
    /// same one.
    fn root(&self) -> Result<Root>;

    /// Turns what was changed into a layer: the upper directory becomes the tree by rename.
    /// `None` when nothing was changed (a new modification time of `/` alone is nothing).
    /// No process may still write to the root.
    fn commit(self: Box<Self>, options: &CommitOptions) -> Result<Option<LayerRecord>>;
}

/// How to commit a snapshot.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// Times after it are it in the layer; a tree keeps them as they are. Default: no clamping.
    pub clamp: Option<Timestamp>,
    /// Mount points that the runtime had to make and that were not there below (`proc`,
    /// `etc/resolv.conf`): where they are still empty they do not become part of the layer, nor
    /// do directories that changed for their sake only. Default: none.
    pub ignore: BTreeSet<EntryPath>,
}

/// Where a snapshot's files are.
#[derive(Debug)]
pub enum Root {
    /// From `fsmount`/`open_tree`: attach with `move_mount`, in any mount namespace of the same owner.
    Detached(OwnedFd),
    /// A directory that holds the files themselves.
    Directory(PathBuf),
}

/// The best snapshotter that this process can use for this store: overlay where the kernel lets
/// it mount one (tried once, for real), else copy. Sweeps what killed processes left.
///
/// # Errors
/// When the store cannot be written to.
pub fn choose(store: &Store) -> Result<Box<dyn Snapshotter>> {
    scratch::sweep(store);
    if let Some(overlay) = OverlaySnapshotter::remembered(store) {
        return Ok(Box::new(Remembered(overlay)));
    }
    match OverlaySnapshotter::probe(store) {
        Ok(overlay) => {
            overlay.remember(store);
            Ok(Box::new(overlay))
        }
        Err(error) if is_full_or_read_only(&error) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "no overlay here; snapshots are copies");
            Ok(Box::new(CopySnapshotter))
        }
    }
}

/// Overlay by what an earlier process found out. This one may be allowed less (another container,
/// another security module), so each snapshot is mounted before it is believed in.
struct Remembered(OverlaySnapshotter);

impl Remembered {
    fn or_copy(
        &self,
        store: &Store,
        make: impl Fn(&dyn Snapshotter) -> Result<Box<dyn Snapshot>>,
    ) -> Result<Box<dyn Snapshot>> {
        let mounted = make(&self.0).and_then(|snapshot| snapshot.root().map(|_| snapshot));
        match mounted {
            Err(error) if !is_full_or_read_only(&error) => {
                tracing::debug!(%error, store = %store.root().display(), "no overlay any more; snapshots are copies");
                make(&CopySnapshotter)
            }
            other => other,
        }
    }
}

impl Snapshotter for Remembered {
    fn prepare(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>> {
        self.or_copy(store, |snapshots| snapshots.prepare(store, stack))
    }

    fn view(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>> {
        self.or_copy(store, |snapshots| snapshots.view(store, stack))
    }
}

fn is_full_or_read_only(error: &Error) -> bool {
    matches!(error, Error::DiskFull { .. } | Error::ReadOnly { .. })
}

#[cfg(test)]
mod tests;
