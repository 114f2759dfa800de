//! [`EntryList`]: all entries of one layer, sorted, for looking up and for keeping on disk.
//!
//! The list is the truth about a layer tree; the files on disk are as close to it as the file
//! system and our privileges allow. In canonical order everything below a directory is one
//! contiguous range right after it, so looking up is a binary search and listing a directory
//! skips from child to child.

mod format;

use std::cmp::Ordering;
use std::io::{Read, Write};

use crate::Result;

use super::{Entry, EntryKind, EntryPath};

pub use format::{LIST_HEADER, MAX_LIST_BYTES};

/// The entries of one layer in canonical order, no two of them with the same place in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryList {
    entries: Vec<Entry>,
}

impl EntryList {
    /// Sorts `entries`; of several with the same path and kind of meaning the last is kept.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        // A stable sort of the reversed list puts the last comer first among equals.
        entries.reverse();
        entries.sort_by(Entry::canonical_cmp);
        entries.dedup_by(|later, kept| later.canonical_cmp(kept) == Ordering::Equal);
        Self { entries }
    }

    /// All entries in canonical order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All entries in canonical order.
    pub(crate) fn into_entries(self) -> Vec<Entry> {
        self.entries
    }

    fn first_at_or_after(&self, path: &EntryPath) -> usize {
        self.entries.partition_point(|entry| entry.path < *path)
    }

    /// The entry of exactly this path (a whiteout is one, an opaque mark is not).
    pub fn get(&self, path: &EntryPath) -> Option<&Entry> {
        self.entries
            .get(self.first_at_or_after(path))
            .filter(|entry| entry.path == *path && !entry.kind.is_opaque_mark())
    }

    /// Whether this path hides everything that lower layers have below it.
    pub fn is_opaque(&self, path: &EntryPath) -> bool {
        self.entries
            .iter()
            .skip(self.first_at_or_after(path))
            .take_while(|entry| entry.path == *path)
            .any(|entry| entry.kind.is_opaque_mark())
    }

    /// Everything at and below `path`.
    pub(crate) fn subtree(&self, path: &EntryPath) -> &[Entry] {
        let start = self.first_at_or_after(path);
        let rest = self.entries.get(start..).unwrap_or_default();
        let length = rest.partition_point(|entry| entry.path.starts_with(path));
        rest.get(..length).unwrap_or_default()
    }

    /// What lies directly in a directory (whiteouts included, opaque marks not), sorted by name.
    pub fn children(&self, path: &EntryPath) -> impl Iterator<Item = &Entry> + use<'_> {
        let mut rest = self.subtree(path);
        let own = rest.iter().take_while(|entry| entry.path == *path).count();
        rest = rest.get(own..).unwrap_or_default();
        let depth = path.depth() + 1;
        std::iter::from_fn(move || {
            loop {
                let (first, others) = rest.split_first()?;
                // Most entries have nothing below them, so the end is looked for from here on.
                let below = gallop(others, |entry| entry.path.starts_with(&first.path));
                rest = others.get(below..).unwrap_or_default();
                // A list may hold something whose own directory it does not hold.
                if first.path.depth() == depth && !first.kind.is_opaque_mark() {
                    return Some(first);
                }
            }
        })
    }

    /// `entry`, and when it is a hard link what it is a link to, under its own path; `None` for a
    /// link to nothing in this list.
    pub fn without_link(&self, entry: &Entry) -> Option<Entry> {
        let EntryKind::HardLink { target } = &entry.kind else {
            return Some(entry.clone());
        };
        let file = self.get(target)?;
        if matches!(file.kind, EntryKind::HardLink { .. }) {
            return None;
        }
        Some(Entry {
            path: entry.path.clone(),
            ..file.clone()
        })
    }

    /// Writes the list in the format of `docs/formats.md` §Entry list.
    pub fn write(&self, writer: &mut dyn Write) -> std::io::Result<()> {
        format::write(&self.entries, writer)
    }

    /// Reads what [`EntryList::write`] wrote.
    ///
    /// # Errors
    /// [`super::TreeError::ListVersion`], [`super::TreeError::ListCorrupt`], or
    /// [`crate::Error::Read`]. Damaged input costs no more memory than its length warrants.
    pub fn read(reader: &mut dyn Read) -> Result<Self> {
        format::read(reader).map(|entries| Self { entries })
    }
}

impl From<Vec<Entry>> for EntryList {
    fn from(entries: Vec<Entry>) -> Self {
        Self::new(entries)
    }
}

/// How many leading entries fulfil `wanted`, which is true up to somewhere and false after it.
fn gallop(entries: &[Entry], wanted: impl Fn(&Entry) -> bool) -> usize {
    let mut step = 1;
    let mut known = 0;
    while entries.get(known + step - 1).is_some_and(&wanted) {
        known += step;
        step *= 2;
    }
    let end = (known + step).min(entries.len());
    let window = entries.get(known..end).unwrap_or_default();
    known + window.partition_point(wanted)
}

#[cfg(test)]
mod tests;
