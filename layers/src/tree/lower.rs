//! [`LowerView`]: what applying and diffing need to know of the layers below.

use std::fs::File;

use crate::Result;

use super::{Entry, EntryPath};

/// The merged view of the layers below one, read-only.
///
/// All paths are exact: no symbolic link is followed, neither in the last place nor before it, so
/// what lies "below" a symbolic link does not exist. Whiteouts and opaque directories have been
/// honoured, and marks never come out.
///
/// **Hard links never come out either.** The entry of such a name is that of the file: its kind
/// is [`super::EntryKind::File`] with the size (or whatever the target is), found in *the layer
/// that the link is in*, since another layer may have replaced the target's own name
/// ([`super::EntryList::without_link`] does it).
///
/// The root itself may be absent (`None`) when no layer lists it.
pub trait LowerView {
    /// The entry of exactly this path.
    fn lookup(&self, path: &EntryPath) -> Result<Option<Entry>>;

    /// What lies directly in a directory, in canonical order; empty when it is no directory.
    fn children(&self, path: &EntryPath) -> Result<Vec<Entry>>;

    /// The content of the regular file that [`LowerView::lookup`] found at this path.
    fn open(&self, path: &EntryPath) -> Result<File>;
}

/// Nothing below: what the first layer lies on.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLower;

impl LowerView for NoLower {
    fn lookup(&self, _path: &EntryPath) -> Result<Option<Entry>> {
        Ok(None)
    }

    fn children(&self, _path: &EntryPath) -> Result<Vec<Entry>> {
        Ok(Vec::new())
    }

    fn open(&self, path: &EntryPath) -> Result<File> {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        Err(crate::Error::io("open", path)(missing))
    }
}
