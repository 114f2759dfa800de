//! The directory of a stack that was looked into last, kept open.
//!
//! Names are looked up in the order of an archive, one directory's after the other; without this
//! each would cost a walk from the root of every layer. Trees never change, so neither does what
//! is kept. It is one directory a stack, and none that merges many layers: descriptors are few.

use std::sync::{Arc, Mutex, PoisonError};

use super::merged::Merged;
use crate::tree::EntryPath;

/// Layers that a directory may merge to be kept open, a descriptor each.
const MAX_LEVELS: usize = 16;

/// What is remembered. A clone remembers nothing: it is about to become another stack.
#[derive(Debug, Default)]
pub(super) struct Recent {
    last: Mutex<Option<(EntryPath, Option<Arc<Merged>>)>>,
}

impl Clone for Recent {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Recent {
    /// The directory of this path: `Some(None)` when there is none, `None` when it is not known.
    pub(super) fn get(&self, path: &EntryPath) -> Option<Option<Arc<Merged>>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, directory)) if known == path => Some(directory.clone()),
            // Nothing lies below what is not there.
            Some((known, None)) if path.starts_with(known) => Some(None),
            _ => None,
        }
    }

    pub(super) fn set(&self, path: EntryPath, directory: Option<Arc<Merged>>) {
        let few = |merged: &Arc<Merged>| merged.levels.len() <= MAX_LEVELS;
        if directory.as_ref().is_none_or(few) {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some((path, directory));
        }
    }
}
