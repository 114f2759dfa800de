//! File trees: their entries, and the only door from an untrusted path to the disk.
//!
//! Knows nothing of tar: applying consumes entries, a diff yields them.

mod entry;
mod path;

pub use entry::{Entry, EntryKind, Flavour, MODE_BITS, Timestamp};
pub use path::{EntryPath, MAX_PART_BYTES, MAX_PATH_BYTES, PathError};
