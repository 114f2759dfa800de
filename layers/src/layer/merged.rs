//! What a stack of layers shows in one place: a name, or a directory that several layers make up.

use crate::Result;
use crate::tree::{Dir, Entry, EntryPath, TreeError};

/// A name found in a stack.
#[derive(Debug, Clone)]
pub struct Found {
    /// With true ownership; `path` is where it was found, after resolving symlinks. Hard links
    /// are regular files here.
    pub entry: Entry,
    /// Index of the layer that it comes from, 0 at the bottom.
    pub layer: usize,
}

/// A directory of the merged view: the directories that it merges, top first.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) path: EntryPath,
    pub(super) levels: Vec<Level>,
}

/// One layer's directory.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) layer: usize,
    pub(super) directory: Dir,
}

/// What a name in a merged directory turned out to be.
pub(super) enum Child {
    Directory { found: Found, merged: Merged },
    Other(Found),
}

impl Child {
    /// The name itself, of whatever kind.
    pub(super) fn into_found(self) -> Found {
        match self {
            Self::Directory { found, .. } | Self::Other(found) => found,
        }
    }
}

/// The path of a name in a directory.
pub(super) fn join(directory: &EntryPath, name: &[u8]) -> Result<EntryPath> {
    let whole = [directory.as_bytes(), b"/", name].concat();
    Ok(EntryPath::check(&whole).map_err(TreeError::path(&whole))?)
}
