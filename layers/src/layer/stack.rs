//! The merged view of a stack of layer trees, by the rules of overlayfs: directories of one name
//! merge, anything else hides what is below it, a whiteout hides and is not there, and nothing
//! shows through an opaque directory.
//!
//! Nothing is mounted: each layer is looked at on disk, part by part from its root, never
//! through a symlink. The entry list is read only where the disk cannot hold the truth (owners
//! where there is one id only, device nodes where they may not be made), or where the times that
//! the layers say are asked for and not those that the steps saw ([`Times`]).

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk;
use super::merged::{Child, Found, Level, Merged, join};
use super::recent::Recent;
use super::tree::{LayerTree, TreeKey};
use crate::Result;
use crate::spec::{ChainId, DiffId};
use crate::store::Store;
use crate::tree::{Dir, Entry, EntryKind, EntryPath, FileType, Flavour, LowerView, Name};

/// Unpacked layers, bottom first: what a root file system is made of.
#[derive(Debug, Clone, Default)]
pub struct LayerStack {
    trees: Vec<LayerTree>,
    times: Times,
    recent: Recent,
}

/// Which times the entries of a stack have: decision 14 of the architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    /// Those on disk, which steps see: when a file really changed.
    #[default]
    Disk,
    /// Those in the layers, which leave the store: clamped.
    Layers,
}

impl LayerStack {
    /// The trees of `diff_ids`, bottom first; `None` when one is not unpacked here.
    ///
    /// # Errors
    /// When a tree is there and cannot be read.
    pub fn open(store: &Store, diff_ids: &[DiffId]) -> Result<Option<Self>> {
        let mut stack = Self::default();
        for diff_id in diff_ids {
            match Self::open_next(store, &stack, diff_id)? {
                Some(tree) => stack.trees.push(tree),
                None => return Ok(None),
            }
        }
        Ok(Some(stack))
    }

    /// The tree of the layer that comes next on `self`, if it is unpacked.
    fn open_next(store: &Store, stack: &Self, diff_id: &DiffId) -> Result<Option<LayerTree>> {
        let by_diff = LayerTree::open(store, TreeKey::Diff(diff_id.clone()))?;
        if by_diff.is_some() {
            return Ok(by_diff);
        }
        match stack.chain_with(diff_id) {
            Some(chain) => LayerTree::open(store, TreeKey::Chain(chain)),
            None => Ok(None),
        }
    }

    /// This stack with one more layer on top; `None` when it is not unpacked here.
    ///
    /// # Errors
    /// As [`LayerStack::open`].
    pub fn with(&self, store: &Store, diff_id: &DiffId) -> Result<Option<Self>> {
        Ok(Self::open_next(store, self, diff_id)?.map(|tree| {
            let mut stack = self.clone();
            stack.trees.push(tree);
            stack
        }))
    }

    /// The chain ID of this stack with one more layer on top.
    pub(crate) fn chain_with(&self, diff_id: &DiffId) -> Option<ChainId> {
        let diff_ids: Vec<_> = self
            .trees
            .iter()
            .map(LayerTree::diff_id)
            .chain([diff_id])
            .cloned()
            .collect();
        ChainId::of(&diff_ids)
    }

    /// The same stack with these times.
    #[must_use]
    pub fn with_times(self, times: Times) -> Self {
        Self { times, ..self }
    }

    /// Bottom first.
    pub fn trees(&self) -> &[LayerTree] {
        &self.trees
    }

    /// The directories that an overlay of this stack is made of, top first.
    ///
    /// A layer that is in the stack more than once is in it where it is topmost only: overlayfs
    /// refuses one directory twice, and all that the layer says further down it says again there.
    pub(crate) fn mounted(&self) -> Vec<PathBuf> {
        let opaque = self.trees.iter().rposition(|tree| tree.info().opaque_root);
        let mut known = BTreeSet::new();
        self.trees
            .iter()
            .skip(opaque.unwrap_or(0))
            .rev()
            .filter(|tree| known.insert(tree.fs()))
            .map(|tree| tree.fs().to_owned())
            .collect()
    }

    /// Whether an overlay of the trees shows what they mean. Not so when they were unpacked where
    /// marks could not be made (a store on an overlay mount).
    pub(crate) fn is_mountable(&self) -> bool {
        !self.trees.iter().any(|tree| tree.info().unmade_marks)
    }

    /// The root directory's entry: of the topmost layer that has one, else as an empty image has it.
    ///
    /// # Errors
    /// When a tree cannot be read.
    pub fn root(&self) -> Result<Found> {
        for (layer, tree) in self.trees.iter().enumerate().rev() {
            if tree.info().lists_root {
                let mut entry = disk::root_entry(&tree.open_root()?.open_dir(&EntryPath::ROOT)?)?;
                self.correct(&mut entry, tree, tree.flavour() == Flavour::SingleId)?;
                return Ok(Found { entry, layer });
            }
        }
        let entry = Entry::new(EntryPath::ROOT, EntryKind::Directory);
        Ok(Found { entry, layer: 0 })
    }

    /// The merged view's entry of exactly this path (the last part is not followed, nor are
    /// parents that are symlinks); whiteouts and opaque directories honoured.
    ///
    /// # Errors
    /// When a tree cannot be read.
    pub fn lookup(&self, path: &EntryPath) -> Result<Option<Found>> {
        if path.is_root() {
            return self.root().map(Some);
        }
        Ok(self.walk(path)?.map(Child::into_found))
    }

    /// Merged children of a directory (exact path), sorted by name; empty for what is no directory.
    ///
    /// # Errors
    /// When a tree cannot be read.
    pub fn read_dir(&self, path: &EntryPath) -> Result<Vec<Found>> {
        let merged = if path.is_root() {
            self.merged_root()?
        } else {
            match self.walk(path)? {
                Some(Child::Directory { merged, .. }) => merged,
                _ => return Ok(Vec::new()),
            }
        };
        // The first layer to say anything of a name decides; `None`: it says that it is gone.
        let mut names: BTreeMap<Vec<u8>, Option<Found>> = BTreeMap::new();
        for level in &merged.levels {
            for name in level.directory.read()? {
                let btree_map::Entry::Vacant(vacant) = names.entry(name) else {
                    continue;
                };
                let path = join(&merged.path, vacant.key())?;
                let (Some(name), dir) = (Name::of(&path), &level.directory) else {
                    continue;
                };
                let found = match dir.stat(name)? {
                    None => continue,
                    Some(stat) if stat.is_whiteout() => None,
                    Some(stat) => {
                        let entry = disk::entry(dir, name, &stat, path.clone())?;
                        self.found(level, entry)?
                    }
                };
                vacant.insert(found);
            }
            let tree = self.tree(level.layer)?;
            if tree.has_off_disk() {
                for entry in tree.list()?.children(&merged.path) {
                    let name = entry.path.file_name().unwrap_or_default().to_owned();
                    let found = match entry.kind {
                        EntryKind::Whiteout => None,
                        _ if entry.kind.is_device() => Some(Found {
                            entry: entry.clone(),
                            layer: level.layer,
                        }),
                        _ => continue,
                    };
                    names.entry(name).or_insert(found);
                }
            }
        }
        Ok(names.into_values().flatten().collect())
    }

    /// Opens a regular file's content (hard links included), through the door that cannot leave the tree.
    ///
    /// # Errors
    /// When the file is not there, or is no regular file.
    pub fn open_file(&self, found: &Found) -> Result<File> {
        self.tree(found.layer)?
            .open_root()?
            .open_file(&found.entry.path)
    }

    fn tree(&self, layer: usize) -> Result<&LayerTree> {
        self.trees
            .get(layer)
            .ok_or(crate::Error::NoSuchLayer { layer })
    }

    pub(super) fn merged_root(&self) -> Result<Merged> {
        let mut levels = Vec::with_capacity(self.trees.len());
        for (layer, tree) in self.trees.iter().enumerate().rev() {
            let directory = tree.open_root()?.open_dir(&EntryPath::ROOT)?;
            levels.push(Level { layer, directory });
            if tree.info().opaque_root {
                break;
            }
        }
        Ok(Merged {
            path: EntryPath::ROOT,
            levels,
        })
    }

    /// The end of an exact path that is not the root.
    fn walk(&self, path: &EntryPath) -> Result<Option<Child>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(None);
        };
        let directory = match self.recent.get(&parent) {
            Some(known) => known,
            None => self.walk_to_directory(&parent)?,
        };
        match directory {
            Some(directory) => self.child(&directory, name),
            None => Ok(None),
        }
    }

    /// A directory by its exact path, which is remembered.
    fn walk_to_directory(&self, path: &EntryPath) -> Result<Option<Arc<Merged>>> {
        let mut here = self.merged_root()?;
        for part in path.parts() {
            let missing = join(&here.path, part)?;
            here = match self.child(&here, part)? {
                Some(Child::Directory { merged, .. }) => merged,
                _ => {
                    self.recent.set(missing, None);
                    return Ok(None);
                }
            };
        }
        let here = Arc::new(here);
        self.recent.set(path.clone(), Some(Arc::clone(&here)));
        Ok(Some(here))
    }

    /// One name in a merged directory.
    pub(super) fn child(&self, parent: &Merged, name: &[u8]) -> Result<Option<Child>> {
        let path = join(&parent.path, name)?;
        let Some(name) = Name::of(&path) else {
            return Ok(None);
        };
        let mut top: Option<Found> = None;
        let mut levels = Vec::new();
        let last = parent.levels.len().saturating_sub(1);
        for (depth, level) in parent.levels.iter().enumerate() {
            let dir = &level.directory;
            let Some(stat) = dir.stat(name)? else {
                match self.off_disk(level, &path)? {
                    None => continue,
                    Some(entry) if top.is_none() && entry.kind.is_device() => {
                        let layer = level.layer;
                        return Ok(Some(Child::Other(Found { entry, layer })));
                    }
                    Some(_) => break,
                }
            };
            if stat.is_whiteout() || (stat.file_type != FileType::Directory && top.is_some()) {
                break;
            }
            if top.is_none() {
                top = self.found(level, disk::entry(dir, name, &stat, path.clone())?)?;
            }
            if stat.file_type != FileType::Directory {
                return Ok(top.map(Child::Other));
            }
            let directory = dir.open_dir(name)?;
            let is_last = depth == last || self.is_opaque(level, &path, &directory)?;
            levels.push(Level {
                layer: level.layer,
                directory,
            });
            if is_last {
                break;
            }
        }
        Ok(top.map(|found| Child::Directory {
            found,
            merged: Merged {
                path: path.clone(),
                levels,
            },
        }))
    }

    /// A device node or a whiteout that could not be made on disk.
    fn off_disk(&self, level: &Level, path: &EntryPath) -> Result<Option<Entry>> {
        let tree = self.tree(level.layer)?;
        if !tree.has_off_disk() {
            return Ok(None);
        }
        let entry = tree
            .list()?
            .get(path)
            .filter(|entry| entry.kind.is_device() || matches!(entry.kind, EntryKind::Whiteout));
        Ok(entry.cloned())
    }

    fn is_opaque(&self, level: &Level, path: &EntryPath, directory: &Dir) -> Result<bool> {
        let tree = self.tree(level.layer)?;
        if tree.info().unmade_marks && tree.list()?.is_opaque(path) {
            return Ok(true);
        }
        disk::is_opaque(directory, tree.flavour())
    }

    /// What the disk says, made true where it cannot hold the truth.
    fn found(&self, level: &Level, on_disk: Option<Entry>) -> Result<Option<Found>> {
        let Some(mut entry) = on_disk else {
            return Ok(None);
        };
        let tree = self.tree(level.layer)?;
        self.correct(&mut entry, tree, tree.list_is_truth())?;
        Ok(Some(Found {
            entry,
            layer: level.layer,
        }))
    }

    /// Takes from the entry list what the disk does not say.
    fn correct(&self, entry: &mut Entry, tree: &LayerTree, list_is_truth: bool) -> Result<()> {
        if !list_is_truth && self.times == Times::Disk {
            return Ok(());
        }
        let list = tree.list()?;
        let Some(listed) = list.get(&entry.path) else {
            return Ok(());
        };
        let Some(listed) = list.without_link(listed) else {
            return Ok(());
        };
        if self.times == Times::Layers {
            entry.mtime = listed.mtime;
        }
        if list_is_truth {
            entry.mode = listed.mode;
            entry.uid = listed.uid;
            entry.gid = listed.gid;
            entry.xattrs = listed.xattrs;
            entry.content_digest = listed.content_digest;
        }
        Ok(())
    }
}

impl LowerView for LayerStack {
    fn lookup(&self, path: &EntryPath) -> Result<Option<Entry>> {
        Ok(Self::lookup(self, path)?.map(|found| found.entry))
    }

    fn children(&self, path: &EntryPath) -> Result<Vec<Entry>> {
        Ok(self
            .read_dir(path)?
            .into_iter()
            .map(|found| found.entry)
            .collect())
    }

    fn open(&self, path: &EntryPath) -> Result<File> {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let found =
            Self::lookup(self, path)?.ok_or_else(|| crate::Error::io("open", path)(missing()))?;
        self.open_file(&found)
    }
}
