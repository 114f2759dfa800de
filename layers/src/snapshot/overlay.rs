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
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, FileType, Mode};

use super::mount::{Interface, Overlay, Upper};
use super::reaper::{Reaper, Rubbish};
use super::{CommitOptions, CopySnapshotter, Root, Snapshot, Snapshotter, commit};
use crate::layer::scratch::{self, Scratch};
use crate::layer::tree::NewTree;
use crate::layer::{LayerRecord, LayerStack};
use crate::store::Store;
use crate::tree::{Flavour, RootDir, prepare_upper};
use crate::{Error, Result};

/// Makes overlay snapshots. Dropped, it waits until what they left is removed.
#[derive(Debug, Clone)]
pub struct OverlaySnapshotter {
    interface: Interface,
    reaper: Arc<Reaper>,
}

impl OverlaySnapshotter {
    /// What an earlier probe of this store found since the machine was started; not tried again.
    pub(super) fn remembered(store: &Store) -> Option<Self> {
        let text = std::fs::read_to_string(memory(store)).ok()?;
        let (boot, number) = text.trim().split_once(' ')?;
        let number: usize = number.parse().ok()?;
        let interface = *Interface::ALL.get(number)?;
        (boot == boot_id()?).then(|| Self {
            interface,
            reaper: Arc::default(),
        })
    }

    /// Spares later processes the probe.
    pub(super) fn remember(&self, store: &Store) {
        if let Some(boot) = boot_id() {
            // Torn or missing, it only means another probe.
            let _ = std::fs::write(
                memory(store),
                format!("{boot} {}\n", self.interface as usize),
            );
        }
    }

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
        let reaper = Arc::<Reaper>::default();
        let mount = Some(mount);
        reaper.take(Rubbish { mount, scratch });
        Ok(Self { interface, reaper })
    }
}

impl Snapshotter for OverlaySnapshotter {
    fn prepare(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>> {
        if !stack.is_mountable() {
            return CopySnapshotter.prepare(store, stack);
        }
        let snapshot = OverlaySnapshot::new(self, store, stack, Access::Writable)?;
        Ok(Box::new(snapshot))
    }

    fn view(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>> {
        if !stack.is_mountable() {
            return CopySnapshotter.view(store, stack);
        }
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
    // A name for what one of the interfaces needs.
    spare: PathBuf,
    // Mounted when first asked for.
    mount: OnceLock<OwnedFd>,
    // Until it is dropped.
    scratch: Option<Scratch>,
    reaper: Arc<Reaper>,
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
            spare: scratch.path().join("spare"),
            mount: OnceLock::new(),
            scratch: Some(scratch),
            reaper: Arc::clone(&snapshotter.reaper),
        })
    }
}

impl Snapshot for OverlaySnapshot {
    fn root(&self) -> Result<Root> {
        let mount = match self.mount.get() {
            Some(mount) => mount,
            None => {
                let (mount, _) = self.overlay.mount(self.interface, &self.spare)?;
                self.mount.get_or_init(|| mount)
            }
        };
        let mount = mount
            .try_clone()
            .map_err(Error::io("hold the mount of", self.store.root()))?;
        Ok(Root::Detached(mount))
    }

    fn commit(mut self: Box<Self>, options: &CommitOptions) -> Result<Option<LayerRecord>> {
        if self.overlay.upper.is_none() {
            return Ok(None);
        }
        let Self {
            store,
            stack,
            mount,
            scratch: Some(scratch),
            ..
        } = &mut *self
        else {
            return Ok(None);
        };
        // Where there is nothing to commit it is left to the reaper.
        let unmount = || drop(mount.take());
        commit::commit_upper(store, stack, scratch, options, unmount)
    }
}

impl Drop for OverlaySnapshot {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            let mount = self.mount.take();
            self.reaper.take(Rubbish { mount, scratch });
        }
    }
}

/// Where the outcome of a probe is kept.
fn memory(store: &Store) -> PathBuf {
    let flavour = match store.flavour() {
        Flavour::Root => "overlay-root",
        Flavour::SubIds | Flavour::SingleId => "overlay-user",
    };
    scratch::parent(store).join(flavour)
}

fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}
