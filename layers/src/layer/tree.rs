//! Layer trees: one layer's files on disk, and its entry list.
//!
//! ```text
//! trees/v1/<flavour>/<hex of the diff ID>/fs         the files, as overlayfs wants them
//!                                        /entries    the entry list, with true ownership
//!                                        /info.json  what mounting and look-ups must know
//!                   /chain-<hex of the chain ID>/…   the same of a layer that needs its parents
//! ```
//!
//! A tree appears whole, by one rename, and is never written again. It is not synced to the disk:
//! after a loss of power it may be torn, but everything that leaves the store is checked against
//! its diff ID first ([`super::compress()`]), and trees can be made again from their blobs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::scratch::Scratch;
use crate::spec::{ChainId, DiffId};
use crate::store::Store;
use crate::tree::{ApplyStatistics, Entry, EntryList, EntryPath, Flavour, RootDir};
use crate::{Error, Result};

/// What a tree is keyed by: decision 1 of the architecture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TreeKey {
    /// A self-contained layer.
    Diff(DiffId),
    /// A layer that needed its parents to be unpacked.
    Chain(ChainId),
}

impl TreeKey {
    fn directory(&self, store: &Store) -> PathBuf {
        let name = match self {
            Self::Diff(id) => id.digest().hex().to_owned(),
            Self::Chain(id) => format!("chain-{}", id.digest().hex()),
        };
        trees(store).join(name)
    }
}

/// Where a store's trees are.
pub(crate) fn trees(store: &Store) -> PathBuf {
    let flavour = match store.flavour() {
        Flavour::Root => "root",
        Flavour::SubIds => "subids",
        Flavour::SingleId => "singleid",
    };
    store.root().join("trees/v1").join(flavour)
}

/// What a mount and a look-up must know without reading the entry list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TreeInfo {
    /// The layer.
    pub(crate) diff_id: DiffId,
    /// The layer has an entry for the root directory itself.
    pub(crate) lists_root: bool,
    /// The root directory is opaque, which overlayfs does not look at.
    pub(crate) opaque_root: bool,
    /// Something (a device, an owner, an attribute) is only in the entry list, beyond what the
    /// flavour keeps there anyway.
    pub(crate) listed_only: bool,
    /// Whiteouts and opaque marks are only in the entry list, beyond the reach of an overlay mount.
    pub(crate) unmade_marks: bool,
}

impl TreeInfo {
    pub(crate) fn new(diff_id: &DiffId, list: &EntryList, statistics: &ApplyStatistics) -> Self {
        Self {
            diff_id: diff_id.clone(),
            lists_root: list.get(&EntryPath::ROOT).is_some(),
            opaque_root: list.is_opaque(&EntryPath::ROOT),
            listed_only: statistics.only_listed > 0,
            unmade_marks: statistics.unmade_marks > 0,
        }
    }
}

/// One layer's files on disk, and its entry list. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LayerTree {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    key: TreeKey,
    info: TreeInfo,
    flavour: Flavour,
    directory: PathBuf,
    fs: PathBuf,
    list: OnceLock<EntryList>,
}

impl LayerTree {
    /// The tree of this key; `None` when there is none.
    pub(crate) fn open(store: &Store, key: TreeKey) -> Result<Option<Self>> {
        let directory = key.directory(store);
        let path = directory.join(INFO);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        // Torn by a loss of power: as if it were not there, and in the way of nobody.
        let Ok(info) = serde_json::from_slice(&bytes) else {
            tracing::warn!(path = %directory.display(), "a damaged layer tree is removed");
            discard(store, &directory)?;
            return Ok(None);
        };
        Ok(Some(Self::with_info(store, key, directory, info)))
    }

    fn with_info(store: &Store, key: TreeKey, directory: PathBuf, info: TreeInfo) -> Self {
        Self {
            shared: Arc::new(Shared {
                key,
                info,
                flavour: store.flavour(),
                fs: directory.join(FS),
                directory,
                list: OnceLock::new(),
            }),
        }
    }

    /// What it is keyed by.
    pub fn key(&self) -> &TreeKey {
        &self.shared.key
    }

    /// The layer.
    pub fn diff_id(&self) -> &DiffId {
        &self.shared.info.diff_id
    }

    /// The directory to mount: ownership and overlay marks as the store's flavour says.
    pub fn fs(&self) -> &Path {
        &self.shared.fs
    }

    /// All entries in canonical order, with true ownership.
    ///
    /// # Errors
    /// When the entry list cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        self.list().map(|list| list.entries().to_vec())
    }

    /// The entry list, searchable; read once, when first asked for.
    ///
    /// # Errors
    /// When the entry list cannot be read.
    pub fn list(&self) -> Result<&EntryList> {
        if let Some(list) = self.shared.list.get() {
            return Ok(list);
        }
        let list = super::record::read_list(&self.shared.directory.join(ENTRIES))?;
        Ok(self.shared.list.get_or_init(|| list))
    }

    /// What is known without the entry list.
    pub(crate) fn info(&self) -> &TreeInfo {
        &self.shared.info
    }

    /// How it is kept.
    pub(crate) fn flavour(&self) -> Flavour {
        self.shared.flavour
    }

    /// Whether metadata has to be looked up in the entry list: the disk does not hold it all.
    pub(crate) fn list_is_truth(&self) -> bool {
        self.shared.flavour == Flavour::SingleId || self.shared.info.listed_only
    }

    /// Whether some entries are only in the entry list.
    pub(crate) fn has_off_disk(&self) -> bool {
        self.shared.info.listed_only || self.shared.info.unmade_marks
    }

    /// The door to its files.
    pub(crate) fn open_root(&self) -> Result<RootDir> {
        RootDir::open(&self.shared.fs)
    }
}

/// Names inside a tree's directory.
const FS: &str = "fs";
const ENTRIES: &str = "entries";
const INFO: &str = "info.json";

/// A tree being made in a scratch directory, as `tree` there, so that it is published by one rename.
#[derive(Debug)]
pub(crate) struct NewTree {
    directory: PathBuf,
}

impl NewTree {
    /// Makes the directories in `scratch`.
    pub(crate) fn new(scratch: &Scratch) -> Result<Self> {
        let directory = scratch.path().join("tree");
        for path in [directory.clone(), directory.join(FS)] {
            std::fs::create_dir(&path).map_err(Error::write("create directory", &path))?;
        }
        Ok(Self { directory })
    }

    /// The one that [`NewTree::new`] has made in `scratch` before.
    pub(crate) fn made(scratch: &Scratch) -> Self {
        let directory = scratch.path().join("tree");
        Self { directory }
    }

    /// Where the files go.
    pub(crate) fn fs(&self) -> PathBuf {
        self.directory.join(FS)
    }

    /// Publishes it as `key`. Where another process was faster its tree is the one: both hold
    /// what the key says.
    pub(crate) fn publish(
        self,
        store: &Store,
        key: TreeKey,
        info: &TreeInfo,
        list: &EntryList,
    ) -> Result<LayerTree> {
        let path = self.directory.join(ENTRIES);
        let write = || -> io::Result<()> { list.write(&mut std::fs::File::create(&path)?) };
        write().map_err(Error::write("write", &path))?;
        let path = self.directory.join(INFO);
        let bytes =
            serde_json::to_vec(info).map_err(|error| Error::write("write", &path)(error.into()))?;
        std::fs::write(&path, bytes).map_err(Error::write("write", &path))?;
        let target = key.directory(store);
        let mut renamed = rustix::fs::rename(&self.directory, &target);
        if renamed == Err(Errno::NOENT) {
            let parent = trees(store);
            std::fs::create_dir_all(&parent).map_err(Error::write("create directory", &parent))?;
            renamed = rustix::fs::rename(&self.directory, &target);
        }
        match renamed {
            Ok(()) => Ok(LayerTree::with_info(store, key, target, info.clone())),
            Err(Errno::EXIST | Errno::NOTEMPTY) => match LayerTree::open(store, key.clone())? {
                Some(tree) => Ok(tree),
                // It was damaged and is out of the way now.
                None => {
                    rustix::fs::rename(&self.directory, &target).map_err(|errno| {
                        Error::write("rename into place", &target)(errno.into())
                    })?;
                    Ok(LayerTree::with_info(store, key, target, info.clone()))
                }
            },
            Err(errno) => Err(Error::write("rename into place", &target)(errno.into())),
        }
    }
}

/// Takes a damaged tree away, atomically for everybody else.
fn discard(store: &Store, directory: &Path) -> Result<()> {
    let scratch = Scratch::in_store(store)?;
    let target = scratch.path().join("discarded");
    match rustix::fs::rename(directory, &target) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::io("remove", directory)(errno.into())),
    }
}
