//! Snapshots by overlayfs: nothing is copied but what is written.
//!
//! ```text
//! snapshots/<random>/tree/fs   the upper directory; `tree` becomes the layer's tree by rename
//!                   /work      the kernel's own
//!                   /root      views only: an empty layer on top, for the root's metadata
//!                   /empty     views of nothing only: the second lower that the kernel wants
//! ```
//!
//! The root directory of an overlay shows the attributes of its topmost layer's root, and an
//! opaque mark on a root means nothing to the kernel. So the upper root gets the stack's own root
//! metadata, and layers below an opaque root are left out by us.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::{AtFlags, FileType, Mode};

use super::mount::{Interface, Overlay, Upper};
use super::{CommitOptions, Root, Snapshot, Snapshotter, commit};
use crate::layer::scratch::Scratch;
use crate::layer::tree::NewTree;
use crate::layer::{LayerRecord, LayerStack};
use crate::store::Store;
use crate::tree::{Flavour, RootDir, prepare_upper};
use crate::{Error, Result};

/// Makes overlay snapshots.
#[derive(Debug, Clone)]
pub struct OverlaySnapshotter {
    interface: Interface,
}

impl OverlaySnapshotter {
    /// Tries an overlay in the store for real: mounts one and deletes a lower file through it,
    /// which needs all that overlayfs asks of a file system (whiteouts, extended attributes).
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn probe(store: &Store) -> Result<Self> {
        let scratch = Scratch::in_store(store)?;
        let directory = |name: &str| -> Result<PathBuf> {
            let path = scratch.path().join(name);
            std::fs::create_dir(&path).map_err(Error::write("create directory", &path))?;
            Ok(path)
        };
        let (lower, upper, work) = (directory("lower")?, directory("upper")?, directory("work")?);
        let victim = lower.join("directory");
        std::fs::create_dir(&victim).map_err(Error::write("create directory", &victim))?;
        let overlay = Overlay {
            lowers: vec![lower],
            upper: Some(Upper {
                upper: upper.clone(),
                work,
            }),
            user_xattr: store.flavour() != Flavour::Root,
        };
        let (mount, interface) =
            overlay.mount(Interface::Descriptors, &scratch.path().join("spare"))?;
        let refused =
            |errno: rustix::io::Errno| Error::io("write to an overlay on", &upper)(errno.into());
        rustix::fs::unlinkat(&mount, c"directory", AtFlags::REMOVEDIR).map_err(refused)?;
        // Made over a whiteout, so the kernel must mark it opaque, by an attribute.
        rustix::fs::mkdirat(&mount, c"directory", Mode::RWXU).map_err(refused)?;
        rustix::fs::unlinkat(&mount, c"directory", AtFlags::REMOVEDIR).map_err(refused)?;
        let mark = rustix::fs::statat(
            rustix::fs::CWD,
            upper.join("directory"),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .map_err(refused)?;
        if FileType::from_raw_mode(mark.st_mode) != FileType::CharacterDevice {
            return Err(refused(rustix::io::Errno::NOTSUP));
        }
        Ok(Self { interface })
    }
}

impl Snapshotter for OverlaySnapshotter {
    fn prepare(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>> {
        let snapshot = OverlaySnapshot::new(self, store, stack, Access::Writable)?;
        Ok(Box::new(snapshot))
    }

    fn view(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>> {
        let snapshot = OverlaySnapshot::new(self, store, stack, Access::ReadOnly)?;
        Ok(Box::new(snapshot))
    }
}

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadOnly,
    Writable,
}

/// One overlay and its directories.
#[derive(Debug)]
struct OverlaySnapshot {
    store: Store,
    stack: LayerStack,
    interface: Interface,
    overlay: Overlay,
    // Mounted when first asked for. Declared before `scratch`: unmounted before it is removed.
    mount: OnceLock<OwnedFd>,
    scratch: Scratch,
}

impl OverlaySnapshot {
    fn new(
        snapshotter: &OverlaySnapshotter,
        store: &Store,
        stack: &LayerStack,
        access: Access,
    ) -> Result<Self> {
        let scratch = Scratch::in_store(store)?;
        let mut lowers = stack.mounted();
        let make =
            |path: &Path| std::fs::create_dir(path).map_err(Error::write("create directory", path));
        let upper = match access {
            Access::Writable => {
                let upper = NewTree::new(&scratch)?.fs();
                let work = scratch.path().join("work");
                make(&work)?;
                prepare_upper(RootDir::open(&upper)?, store.flavour(), stack)?;
                Some(Upper { upper, work })
            }
            Access::ReadOnly => {
                let root = scratch.path().join("root");
                make(&root)?;
                prepare_upper(RootDir::open(&root)?, store.flavour(), stack)?;
                lowers.insert(0, root);
                None
            }
        };
        let wanted = if upper.is_some() { 1 } else { 2 };
        if lowers.len() < wanted {
            let empty = scratch.path().join("empty");
            make(&empty)?;
            lowers.push(empty);
        }
        Ok(Self {
            store: store.clone(),
            stack: stack.clone(),
            interface: snapshotter.interface,
            overlay: Overlay {
                lowers,
                upper,
                user_xattr: store.flavour() != Flavour::Root,
            },
            mount: OnceLock::new(),
            scratch,
        })
    }
}

impl Snapshot for OverlaySnapshot {
    fn root(&self) -> Result<Root> {
        let mount = match self.mount.get() {
            Some(mount) => mount,
            None => {
                let spare = self.scratch.path().join("spare");
                let (mount, _) = self.overlay.mount(self.interface, &spare)?;
                self.mount.get_or_init(|| mount)
            }
        };
        let mount = mount
            .try_clone()
            .map_err(Error::io("hold the mount of", self.scratch.path()))?;
        Ok(Root::Detached(mount))
    }

    fn commit(self: Box<Self>, options: &CommitOptions) -> Result<Option<LayerRecord>> {
        let Self {
            store,
            stack,
            overlay,
            mount,
            scratch,
            ..
        } = *self;
        drop(mount);
        match overlay.upper {
            Some(_) => commit::commit_upper(&store, &stack, &scratch, options),
            None => Ok(None),
        }
    }
}
