//! Applying: the entries of one layer, in the order of its archive, become a tree on disk.
//!
//! Two things are kept in step. The [`model`] in memory is what the layer *means*: it resolves
//! paths, settles duplicates and yields the final [`EntryList`]. The [`disk`] only does what the
//! model has decided, each time exactly, with no symbolic link followed anywhere. So a path is
//! resolved by one set of rules, not by the kernel's on some occasions and ours on others, and
//! whatever an archive contains, what the disk is asked for lies below the root.
//!
//! # Rules (image-spec `layer.md`; where it is silent, what Docker and containerd do)
//! * The last of several entries for a path wins. A directory over a directory replaces only its
//!   metadata; anything else over a directory removes what was below it.
//! * A parent that is a symbolic link is followed inside the root: with `lib -> usr/lib`, the entry
//!   `lib/x` is `usr/lib/x`. `..` stops at the root, absolute links begin there.
//! * A whiteout applies to lower layers only, never to this one, whatever the order: with a file of
//!   the same name it is just the file, with a directory that directory is opaque.
//! * The metadata of a hard link's own header is ignored; a file has one set of it.
//! * Attributes of overlayfs are dropped, a device 0/0 is refused: see [`super::overlay_marks`].
//!
//! # Layers that are not self-contained
//! A tree that is to be shared whatever lies below it must not depend on what lies below it. It
//! does when a hard link's target is in a lower layer, or when something's directory is not an
//! entry of the layer, so that its mode (or that it is a symbolic link) is only known lower down.
//! Without a [`LowerView`] that is the answer ([`NotSelfContained`]); with one, directories are
//! taken from the lower view, links are followed through it and linked files copied up.
//!
//! # What is on disk and what is only in the list
//! | flavour | owner | mode | devices | other attributes |
//! | --- | --- | --- | --- | --- |
//! | `Root` | set | set | made | set |
//! | `SubIds` | set (mapped) | set | only listed | what the kernel refuses is only listed |
//! | `SingleId` | only listed | owner can read (and enter and write directories) | only listed | as above |
//!
//! Modes and times of directories are set at the very end, so a directory without write
//! permission can be filled, and filling it does not change its time.

mod content;
mod disk;
mod model;
mod parents;

use std::fs::File;
use std::io::Read;

use tracing::debug;

use crate::{Error, Result};

use super::overlay_marks;
use super::{
    Entry, EntryKind, EntryList, EntryPath, Flavour, LowerView, Refusal, RootDir, TreeError,
};

use content::Content;
pub(super) use disk::{Disk, OWNER_DIR_BITS, OWNER_FILE_BITS};
use model::{Model, Thing};

/// How to apply.
#[derive(Clone, Copy, Default)]
pub struct ApplyOptions<'a> {
    /// What lies below, for a layer that is not self-contained. Default: nothing is known of it.
    pub lower: Option<&'a dyn LowerView>,
    /// Whether files' digests go into the list; costs a pass of SHA-256. Default: no.
    pub content_digests: ContentDigests,
}

impl std::fmt::Debug for ApplyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApplyOptions")
            .field("lower", &self.lower.is_some())
            .field("content_digests", &self.content_digests)
            .finish()
    }
}

/// Whether applying hashes the content of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentDigests {
    /// Digests that entries bring are kept, none are made.
    #[default]
    Keep,
    /// Every file's SHA-256 is made.
    Compute,
}

/// Why a layer's tree cannot stand alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotSelfContained {
    /// The path that showed it.
    pub path: EntryPath,
    /// What is missing.
    pub reason: Missing,
}

/// What a layer that is not self-contained lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The target of a hard link.
    LinkTarget,
    /// The entry of a directory that something lies in.
    Directory,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It is on disk and in the list.
    Done,
    /// This layer needs to be applied with a lower view. Nothing more is written; the caller may
    /// go on reading the archive (to verify it) and need not call [`Applier::apply`] again.
    NotSelfContained(NotSelfContained),
}

/// What became of a layer.
#[derive(Debug)]
pub enum Finished {
    /// The tree is complete.
    Tree(AppliedTree),
    /// The tree is to be thrown away and the layer applied with a lower view.
    NotSelfContained(NotSelfContained),
}

/// A complete tree.
#[derive(Debug)]
pub struct AppliedTree {
    /// What it means, with true ownership.
    pub list: EntryList,
    /// What happened on the way.
    pub statistics: ApplyStatistics,
}

/// What happened while a layer was applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplyStatistics {
    /// Bytes of files' content written.
    pub content_bytes: u64,
    /// Overlay attributes that the archive tried to set and that were dropped.
    pub dropped_marks: usize,
    /// Owners (but in `SingleId`, where none is set), devices and attributes that are only in the
    /// list.
    pub only_listed: usize,
    /// Whiteouts and opaque directories that are only in the list, because the disk refused the
    /// marks. With any of these an overlay mount of the tree shows too much.
    pub unmade_marks: usize,
}

/// Applies one layer's entries to an empty directory.
#[derive(Debug)]
pub struct Applier<'a> {
    disk: Disk,
    model: Model,
    options: ApplyOptions<'a>,
    dropped_marks: usize,
    verdict: Option<NotSelfContained>,
}

impl<'a> Applier<'a> {
    /// Begins a tree in `root`, an empty directory that belongs to this process.
    pub fn new(root: RootDir, flavour: Flavour, options: ApplyOptions<'a>) -> Result<Self> {
        Ok(Self {
            disk: Disk::new(root, flavour)?,
            model: Model::new(),
            options,
            dropped_marks: 0,
            verdict: None,
        })
    }

    /// Applies the next entry of the archive. `content` is read for regular files only, exactly
    /// the entry's size.
    ///
    /// # Errors
    /// [`TreeError`] for what no layer may have; I/O errors of the disk or of `content`. The tree
    /// is then to be thrown away.
    pub fn apply(&mut self, entry: Entry, content: &mut dyn Read) -> Result<Applied> {
        self.apply_content(entry, Content::Stream(content))
    }

    /// [`Applier::apply`] with the content of a regular file being that of `file` from where it
    /// stands, which is its start; shared with it (reflink) where the file system can.
    pub fn apply_from(&mut self, entry: Entry, file: &File) -> Result<Applied> {
        self.apply_content(entry, Content::File(file))
    }

    fn apply_content(&mut self, mut entry: Entry, content: Content<'_>) -> Result<Applied> {
        if self.verdict.is_none() {
            entry.mode &= super::MODE_BITS;
            self.dropped_marks += overlay_marks::strip(&mut entry.xattrs);
            check(&entry)?;
            self.apply_checked(entry, content)?;
        }
        Ok(match &self.verdict {
            None => Applied::Done,
            Some(verdict) => Applied::NotSelfContained(verdict.clone()),
        })
    }

    fn apply_checked(&mut self, mut entry: Entry, content: Content<'_>) -> Result<()> {
        if entry.kind.is_opaque_mark() {
            // The mark is a file in the directory, so the whole path is a parent.
            let path = self.directory_of(&entry.path, &entry.path)?;
            self.model.slot(&path).opaque = true;
            return Ok(());
        }
        let Some(parent) = entry.path.parent() else {
            return self.apply_directory(entry);
        };
        if matches!(entry.kind, EntryKind::Whiteout) && self.hides_nothing(&entry.path)? {
            return Ok(());
        }
        let parent = self.directory_of(&parent, &entry.path)?;
        let name = entry.path.file_name().unwrap_or_default();
        entry.path = parent.join(name).map_err(TreeError::path(name))?;
        match &entry.kind {
            EntryKind::Whiteout => self.apply_whiteout(&entry.path),
            EntryKind::Directory => self.apply_directory(entry),
            EntryKind::HardLink { target } => {
                let target = target.clone();
                self.apply_link(&entry.path, &target)
            }
            _ => self.apply_file(entry, content),
        }
    }

    fn apply_whiteout(&mut self, path: &EntryPath) -> Result<()> {
        let slot = self.model.slot(path);
        if !slot.whiteout {
            slot.whiteout = true;
            if slot.shows_whiteout() {
                self.disk.whiteout(path)?;
            }
        }
        Ok(())
    }

    fn apply_directory(&mut self, entry: Entry) -> Result<()> {
        let path = entry.path.clone();
        if !self.model.is_directory(&path) {
            self.make_room(&path)?;
            self.disk.directory(&path)?;
        }
        self.model.slot(&path).thing = Thing::Directory {
            entry: Box::new(entry),
            implicit: false,
        };
        Ok(())
    }

    fn apply_file(&mut self, mut entry: Entry, content: Content<'_>) -> Result<()> {
        let path = entry.path.clone();
        self.make_room(&path)?;
        let digest = self
            .disk
            .file(&entry, content, self.options.content_digests)?;
        if digest.is_some() {
            entry.content_digest = digest;
        }
        self.model.add_file(&path, entry);
        Ok(())
    }

    fn apply_link(&mut self, path: &EntryPath, target: &EntryPath) -> Result<()> {
        let refused = |reason| Err(TreeError::refused(path, reason).into());
        let target = self.resolve_target(target, path)?;
        if self.model.is_directory(&target) {
            return refused(Refusal::LinkToDirectory);
        }
        if self.model.file(&target).is_none() {
            if self.options.lower.is_none() {
                self.verdict = Some(NotSelfContained {
                    path: path.clone(),
                    reason: Missing::LinkTarget,
                });
                return Ok(());
            }
            self.copy_up(&target, path)?;
        }
        if target == *path {
            return Ok(());
        }
        if target.starts_with(path) {
            return refused(Refusal::LinkReplacesTarget);
        }
        let Some((id, file)) = self.model.file(&target) else {
            return refused(Refusal::LinkToNothing);
        };
        let on_disk = self.disk.holds(&file.kind);
        self.make_room(path)?;
        if on_disk {
            self.disk.hard_link(&target, path)?;
        }
        self.model.add_link(path, id);
        Ok(())
    }

    /// Removes what this layer has at `path`, so that something else can take its place.
    fn make_room(&mut self, path: &EntryPath) -> Result<()> {
        let Some(slot) = self.model.get(path) else {
            return Ok(());
        };
        let (was_something, on_disk) = match &slot.thing {
            Thing::Nothing => (false, slot.whiteout),
            Thing::Directory { .. } => (true, true),
            Thing::File(_) => {
                let file = self.model.file(path);
                (
                    true,
                    file.is_some_and(|(_, file)| self.disk.holds(&file.kind)),
                )
            }
        };
        if on_disk {
            self.disk.remove(path)?;
        }
        self.model.clear(path);
        if was_something {
            // One after the other, what stood here had already replaced what is lower.
            self.model.slot(path).whiteout = true;
        }
        Ok(())
    }

    /// Completes the tree: directories get their modes, times and marks.
    pub fn finish(mut self) -> Result<Finished> {
        if self.verdict.is_none() && self.options.lower.is_none() {
            self.verdict = self.model.first_implicit().map(|path| NotSelfContained {
                path: path.clone(),
                reason: Missing::Directory,
            });
        }
        if let Some(verdict) = self.verdict {
            return Ok(Finished::NotSelfContained(verdict));
        }
        // Deepest first: a directory that may not be entered closes its whole subtree.
        for (path, entry, hides_lower) in self.model.directories().rev() {
            self.disk.finish_directory(path, entry, hides_lower)?;
        }
        let statistics = ApplyStatistics {
            dropped_marks: self.dropped_marks,
            ..self.disk.statistics()
        };
        debug!(?statistics, "layer applied");
        Ok(Finished::Tree(AppliedTree {
            list: self.model.into_list(),
            statistics,
        }))
    }
}

/// Refuses what no tree may have, wherever it lies.
fn check(entry: &Entry) -> Result<()> {
    let reason = match &entry.kind {
        EntryKind::Directory | EntryKind::OpaqueDirectory => return Ok(()),
        _ if entry.path.is_root() => Refusal::RootNotDirectory,
        EntryKind::CharDevice { major: 0, minor: 0 } => Refusal::ForgedWhiteout,
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor }
            if !disk::is_device_number(*major, *minor) =>
        {
            Refusal::BadDeviceNumber
        }
        EntryKind::Symlink { target } if target.is_empty() || target.contains(&0) => {
            Refusal::BadSymlink
        }
        _ => return Ok(()),
    };
    Err(Error::from(TreeError::refused(&entry.path, reason)))
}

#[cfg(test)]
mod tests;
