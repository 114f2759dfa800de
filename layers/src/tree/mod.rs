//! File trees: their entries, and the only door from an untrusted path to the disk.
//!
//! Knows nothing of tar: applying consumes entries, a diff yields them.

mod apply;
mod diff;
mod dir;
mod entry;
mod error;
mod list;
mod lower;
mod overlay_marks;
mod path;
mod remove;
mod root_dir;
#[cfg(test)]
pub(crate) mod testutil;
mod xattr;

pub use apply::{
    Applied, AppliedTree, Applier, ApplyOptions, ApplyStatistics, ContentDigests, Finished,
    Missing, NotSelfContained,
};
pub(crate) use diff::{diff_full, diff_upper, prepare_upper};
pub use dir::{Dir, FileType, Name, Node, Stat};
pub use entry::{Entry, EntryKind, Flavour, MODE_BITS, Timestamp};
pub use error::{Refusal, TreeError};
pub use list::{EntryList, LIST_HEADER, MAX_LIST_BYTES};
pub use lower::{LowerView, NoLower};
pub use path::{EntryPath, MAX_PART_BYTES, MAX_PATH_BYTES, PathError, without_parents};
pub use root_dir::{MAX_SYMLINKS, RootDir};
pub use xattr::{MAX_XATTR_BYTES, MAX_XATTR_LIST_BYTES, Xattrs};
