//! Snapshots: a stack of layer trees as one root file system to run in.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::layer::{LayerRecord, LayerStack};
use crate::store::Store;
use crate::tree::Timestamp;

/// Makes snapshots. Implementations: overlay (new mount API, layer by layer) and copy.
pub trait Snapshotter: Send + Sync {
    /// A writable snapshot on `stack` (empty stack: an empty root).
    fn prepare(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>>;

    /// A read-only one.
    fn view(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>>;
}

/// A root file system to run in. Dropping it removes what it put on disk.
pub trait Snapshot: Send {
    /// The root: a mount that is attached nowhere yet, or a plain directory.
    fn root(&self) -> Result<Root>;

    /// Turns what was changed into a layer: the upper directory becomes the tree by rename.
    /// `None` when nothing was changed. Times after `clamp` become `clamp`.
    fn commit(self: Box<Self>, clamp: Option<Timestamp>) -> Result<Option<LayerRecord>>;
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
/// it mount one (tried once, for real), else copy.
pub fn choose(store: &Store) -> Result<Box<dyn Snapshotter>> {
    let _ = store;
    todo!()
}

/// Attaches a detached mount at `target` in this mount namespace.
pub fn attach(mount: &OwnedFd, target: &Path) -> Result<()> {
    let _ = (mount, target);
    todo!()
}
