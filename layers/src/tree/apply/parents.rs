//! Resolving parents: which real directory an entry lies in, made if this layer does not have it.

use std::collections::VecDeque;

use crate::Result;

use super::super::{Entry, EntryKind, EntryPath, MAX_SYMLINKS, Refusal, TreeError};
use super::Applier;
use super::content::Content;
use super::model::{Slot, Thing};

/// What a path is in the layer on top of what is lower.
enum Merged {
    /// A directory of this layer.
    Directory,
    /// A directory that only the lower layers have.
    LowerDirectory(Entry),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// Anything else.
    Other,
    /// Nothing.
    Nothing,
}

/// Whether resolving may change the layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Create {
    Missing,
    Nothing,
}

impl Applier<'_> {
    /// The real directory that `path` means, for the sake of the entry `wanted_by`; directories
    /// that this layer lacks are made.
    pub(super) fn directory_of(
        &mut self,
        path: &EntryPath,
        wanted_by: &EntryPath,
    ) -> Result<EntryPath> {
        // A directory in the model has only directories above it: nothing to resolve.
        if self.model.is_directory(path) {
            return Ok(path.clone());
        }
        self.walk(path, wanted_by, Create::Missing)
    }

    /// The real path of a hard link's target; its last part is not followed.
    pub(super) fn resolve_target(
        &mut self,
        target: &EntryPath,
        wanted_by: &EntryPath,
    ) -> Result<EntryPath> {
        let Some((parent, name)) = target.parent().zip(target.file_name()) else {
            return Ok(EntryPath::ROOT);
        };
        let parent = if self.model.is_directory(&parent) {
            parent
        } else {
            self.walk(&parent, wanted_by, Create::Nothing)?
        };
        Ok(parent.join(name).map_err(TreeError::path(name))?)
    }

    fn walk(
        &mut self,
        path: &EntryPath,
        wanted_by: &EntryPath,
        create: Create,
    ) -> Result<EntryPath> {
        let refused = |reason| TreeError::refused(wanted_by, reason);
        let mut todo: VecDeque<Vec<u8>> = path.parts().map(<[u8]>::to_vec).collect();
        let mut here = EntryPath::ROOT;
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    here = here.parent().unwrap_or_default();
                    continue;
                }
                _ => {}
            }
            let next = here.join(&part).map_err(TreeError::path(&part))?;
            match self.merged(&next)? {
                Merged::Directory => here = next,
                Merged::LowerDirectory(entry) => {
                    if create == Create::Missing {
                        self.implicit_directory(&next, entry)?;
                    }
                    here = next;
                }
                Merged::Nothing => {
                    if create == Create::Missing {
                        let entry = Entry::new(next.clone(), EntryKind::Directory);
                        self.implicit_directory(&next, entry)?;
                    }
                    here = next;
                }
                Merged::Symlink(target) => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(refused(Refusal::TooManyLinks).into());
                    }
                    if target.starts_with(b"/") {
                        here = EntryPath::ROOT;
                    }
                    for part in target.split(|&byte| byte == b'/').rev() {
                        todo.push_front(part.to_vec());
                    }
                }
                Merged::Other => return Err(refused(Refusal::ParentNotDirectory).into()),
            }
        }
        Ok(here)
    }

    fn merged(&self, path: &EntryPath) -> Result<Merged> {
        match self.model.get(path).map(|slot| &slot.thing) {
            Some(Thing::Directory { .. }) => return Ok(Merged::Directory),
            Some(Thing::File(_)) => {
                let file = self.model.file(path);
                return Ok(match file.map(|(_, entry)| &entry.kind) {
                    Some(EntryKind::Symlink { target }) => Merged::Symlink(target.clone()),
                    _ => Merged::Other,
                });
            }
            Some(Thing::Nothing) | None => {}
        }
        Ok(match self.lower_entry(path)? {
            None => Merged::Nothing,
            Some(entry) => match entry.kind {
                EntryKind::Directory => Merged::LowerDirectory(entry),
                EntryKind::Symlink { target } => Merged::Symlink(target),
                _ => Merged::Other,
            },
        })
    }

    /// What the lower layers have at `path`, unless this layer hides it.
    fn lower_entry(&self, path: &EntryPath) -> Result<Option<Entry>> {
        let Some(lower) = self.options.lower else {
            return Ok(None);
        };
        let hidden = self.model.get(path).is_some_and(|slot| slot.whiteout)
            || path
                .ancestors()
                .any(|ancestor| self.model.get(&ancestor).is_some_and(Slot::hides_lower));
        if hidden {
            return Ok(None);
        }
        lower.lookup(path)
    }

    /// Whether a whiteout of `path` says nothing: the lower view is known and has no such thing.
    pub(super) fn hides_nothing(&mut self, path: &EntryPath) -> Result<bool> {
        let Some(lower) = self.options.lower else {
            return Ok(false);
        };
        let real = self.resolve_target(path, path)?;
        Ok(lower.lookup(&real)?.is_none())
    }

    fn implicit_directory(&mut self, path: &EntryPath, mut entry: Entry) -> Result<()> {
        self.make_room(path)?;
        self.disk.directory(path)?;
        entry.path = path.clone();
        let entry = Box::new(entry);
        let implicit = true;
        self.model.slot(path).thing = Thing::Directory { entry, implicit };
        Ok(())
    }

    /// Brings a lower layer's file into this layer, so that it can get another name here.
    pub(super) fn copy_up(&mut self, path: &EntryPath, wanted_by: &EntryPath) -> Result<()> {
        let refused = |reason| TreeError::refused(wanted_by, reason);
        let (Some(lower), Some(mut entry)) = (self.options.lower, self.lower_entry(path)?) else {
            return Err(refused(Refusal::LinkToNothing).into());
        };
        if let Some(parent) = path.parent() {
            self.directory_of(&parent, wanted_by)?;
        }
        entry.path = path.clone();
        match entry.kind {
            EntryKind::Directory => Err(refused(Refusal::LinkToDirectory).into()),
            EntryKind::File { .. } => {
                let content = lower.open(path)?;
                self.apply_file(entry, Content::File(&content))
            }
            _ => self.apply_file(entry, Content::Stream(&mut std::io::empty())),
        }
    }
}
