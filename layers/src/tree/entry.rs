//! [`Entry`]: what a layer says of one path, with nothing of tar and nothing of a disk in it.
//!
//! Entries have one canonical order: by path (part by part), and of two with the same path the
//! directory before its opaque mark. Lists that are kept or written are in that order.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::spec::Digest;

use super::EntryPath;

/// Permission bits that an entry may have: setuid, setgid, sticky, and rwx three times.
pub const MODE_BITS: u32 = 0o7777;

/// Seconds and nanoseconds since 1970; seconds may be negative, nanoseconds count upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// A whole second.
    pub fn from_seconds(seconds: i64) -> Self {
        Self {
            seconds,
            nanoseconds: 0,
        }
    }

    /// The time now, by the system's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 is 1970.
        let since = since.unwrap_or_default();
        Self {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: since.subsec_nanos(),
        }
    }
}

/// One entry of a layer: what a tar header says, and nothing of tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: EntryPath,
    /// What.
    pub kind: EntryKind,
    /// Permission bits incl. setuid, setgid, sticky: `0o7777` at most.
    pub mode: u32,
    /// Owner, as the image means it (not as the host maps it).
    pub uid: u32,
    /// Group, as the image means it.
    pub gid: u32,
    /// Last modification.
    pub mtime: Timestamp,
    /// Extended attributes by full name (`security.capability`, `user.x`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Digest of a regular file's content, once something had to read it.
    pub content_digest: Option<Digest>,
}

impl Entry {
    /// An entry that belongs to root, of 1970, with no extended attributes, and with the mode that
    /// is usual for its kind: 0755 for directories, 0777 for symlinks, 0 for marks, else 0644.
    pub fn new(path: EntryPath, kind: EntryKind) -> Self {
        let mode = match kind {
            EntryKind::Directory => 0o755,
            EntryKind::Symlink { .. } => 0o777,
            EntryKind::Whiteout | EntryKind::OpaqueDirectory => 0,
            _ => 0o644,
        };
        Self {
            path,
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: BTreeMap::new(),
            content_digest: None,
        }
    }

    /// The canonical order of entries; see the module's head.
    pub(crate) fn canonical_cmp(&self, other: &Self) -> Ordering {
        self.path
            .cmp(&other.path)
            .then_with(|| self.kind.is_opaque_mark().cmp(&other.kind.is_opaque_mark()))
    }

    /// Whether the other entry says the same of owner, mode and extended attributes.
    pub(crate) fn same_access(&self, other: &Self) -> bool {
        (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid)
            && self.xattrs == other.xattrs
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file of so many bytes.
    File {
        /// Length in bytes.
        size: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Its text, exactly.
        target: Vec<u8>,
    },
    /// Another name of a file in the same layer (or, where a layer is not self-contained, below it).
    HardLink {
        /// The other name.
        target: EntryPath,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// The lower layers' entry of this name is gone (image-spec `layer.md` §Whiteouts).
    Whiteout,
    /// Everything the lower layers have below this directory is gone (§Opaque Whiteout). Stands
    /// beside the directory's own entry, right after it.
    OpaqueDirectory,
}

impl EntryKind {
    /// Whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }

    /// Whether this is an opaque mark.
    pub(crate) fn is_opaque_mark(&self) -> bool {
        matches!(self, Self::OpaqueDirectory)
    }

    /// Whether this says that something of a lower layer is gone, and is nothing itself.
    pub fn is_mark(&self) -> bool {
        matches!(self, Self::Whiteout | Self::OpaqueDirectory)
    }

    /// Whether this is a character or block device.
    pub(crate) fn is_device(&self) -> bool {
        matches!(self, Self::CharDevice { .. } | Self::BlockDevice { .. })
    }
}

/// How ownership and overlay marks are kept on disk. Trees of different flavours are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// Real root: owners are set, overlay marks in `trusted.overlay.*`, devices are made.
    Root,
    /// User namespace with sub-ids: owners are set (mapped), marks in `user.overlay.*`, devices
    /// only in the entry list.
    SubIds,
    /// One id only, in a user namespace or none: owners only in the entry list, marks in
    /// `user.overlay.*`.
    SingleId,
}
