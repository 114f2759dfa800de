//! What the layer is so far, in memory: the truth that the disk follows.
//!
//! Paths in the model are *real*: no part before the last is a symbolic link, and every parent of
//! something is a directory in the model too. So one look tells whether a parent is resolved.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use super::super::{Entry, EntryKind, EntryList, EntryPath};

/// Names one file (inode); several paths may share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(usize);

/// What a path is.
#[derive(Debug)]
pub(super) enum Thing {
    /// Nothing (but perhaps a whiteout).
    Nothing,
    /// A directory. Its entry's path is the path.
    Directory {
        entry: Box<Entry>,
        /// Only seen as the parent of something so far.
        implicit: bool,
    },
    /// Anything else.
    File(FileId),
}

/// All that is known of a path.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) thing: Thing,
    /// The lower layers' entry of this name is gone.
    pub(super) whiteout: bool,
    /// The lower layers' content of this directory is gone.
    pub(super) opaque: bool,
}

impl Slot {
    fn empty() -> Self {
        Self {
            thing: Thing::Nothing,
            whiteout: false,
            opaque: false,
        }
    }

    /// Whether a whiteout is what has to be on disk.
    pub(super) fn shows_whiteout(&self) -> bool {
        self.whiteout && matches!(self.thing, Thing::Nothing)
    }

    /// Whether the directory here has to be marked opaque.
    pub(super) fn hides_lower(&self) -> bool {
        self.whiteout || self.opaque
    }
}

/// The layer so far.
#[derive(Debug)]
pub(super) struct Model {
    slots: BTreeMap<EntryPath, Slot>,
    files: Vec<Entry>,
}

impl Model {
    /// A layer with nothing but its root, which nothing has described yet.
    pub(super) fn new() -> Self {
        let mut slots = BTreeMap::new();
        let mut root = Slot::empty();
        root.thing = Thing::Directory {
            entry: Box::new(Entry::new(EntryPath::ROOT, EntryKind::Directory)),
            implicit: true,
        };
        slots.insert(EntryPath::ROOT, root);
        Self {
            slots,
            files: Vec::new(),
        }
    }

    pub(super) fn get(&self, path: &EntryPath) -> Option<&Slot> {
        self.slots.get(path)
    }

    /// The slot of `path`, made if there is none.
    pub(super) fn slot(&mut self, path: &EntryPath) -> &mut Slot {
        self.slots.entry(path.clone()).or_insert_with(Slot::empty)
    }

    pub(super) fn is_directory(&self, path: &EntryPath) -> bool {
        self.slots
            .get(path)
            .is_some_and(|slot| matches!(slot.thing, Thing::Directory { .. }))
    }

    /// The file at `path`, if it is something else than a directory.
    pub(super) fn file(&self, path: &EntryPath) -> Option<(FileId, &Entry)> {
        match self.slots.get(path)?.thing {
            Thing::File(id) => self.files.get(id.0).map(|entry| (id, entry)),
            _ => None,
        }
    }

    /// Puts a new file at `path`.
    pub(super) fn add_file(&mut self, path: &EntryPath, entry: Entry) {
        let id = FileId(self.files.len());
        self.files.push(entry);
        self.slot(path).thing = Thing::File(id);
    }

    /// Makes `path` another name of a file.
    pub(super) fn add_link(&mut self, path: &EntryPath, id: FileId) {
        self.slot(path).thing = Thing::File(id);
    }

    /// Forgets what is at and below `path`. Sequentially, what stood here had replaced what is
    /// lower, so that stays hidden.
    pub(super) fn clear(&mut self, path: &EntryPath) {
        let Some(slot) = self.slots.get_mut(path) else {
            return;
        };
        let was_directory = matches!(slot.thing, Thing::Directory { .. });
        slot.thing = Thing::Nothing;
        slot.opaque = false;
        if was_directory {
            let below: Vec<EntryPath> = self
                .after(path)
                .map(|(below, _)| below)
                .take_while(|below| below.starts_with(path))
                .cloned()
                .collect();
            for below in below {
                self.slots.remove(&below);
            }
        }
    }

    fn after(&self, path: &EntryPath) -> Range<'_, EntryPath, Slot> {
        self.slots.range((Bound::Excluded(path), Bound::Unbounded))
    }

    /// All directories, deepest last, each with whether it hides what is lower.
    pub(super) fn directories(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&EntryPath, &Entry, bool)> {
        self.slots
            .iter()
            .filter_map(|(path, slot)| match &slot.thing {
                Thing::Directory { entry, .. } => Some((path, &**entry, slot.hides_lower())),
                _ => None,
            })
    }

    /// The first directory that nothing has described; the root does not count.
    pub(super) fn first_implicit(&self) -> Option<&EntryPath> {
        let implicit = |slot: &Slot| matches!(slot.thing, Thing::Directory { implicit: true, .. });
        self.after(&EntryPath::ROOT)
            .find(|(_, slot)| implicit(slot))
            .map(|(path, _)| path)
    }

    /// The final list. Of a file's names the first in order is the file, the others are links.
    pub(super) fn into_list(self) -> EntryList {
        let mut first_names: Vec<Option<EntryPath>> = vec![None; self.files.len()];
        let mut entries = Vec::with_capacity(self.slots.len());
        for (path, slot) in self.slots {
            let hides_lower = slot.hides_lower();
            match slot.thing {
                Thing::Nothing if slot.whiteout => {
                    entries.push(Entry::new(path, EntryKind::Whiteout));
                }
                Thing::Nothing => {}
                Thing::Directory { entry, implicit } => {
                    // A root that nobody described is not part of the layer.
                    if !(implicit && path.is_root()) {
                        entries.push(*entry);
                    }
                    if hides_lower {
                        entries.push(Entry::new(path, EntryKind::OpaqueDirectory));
                    }
                }
                Thing::File(FileId(id)) => {
                    let (Some(file), Some(first)) = (self.files.get(id), first_names.get_mut(id))
                    else {
                        continue;
                    };
                    let mut entry = file.clone();
                    entry.path = path.clone();
                    match first {
                        Some(first) => {
                            let target = first.clone();
                            entry.kind = EntryKind::HardLink { target };
                        }
                        None => *first = Some(path),
                    }
                    entries.push(entry);
                }
            }
        }
        EntryList::new(entries)
    }
}
