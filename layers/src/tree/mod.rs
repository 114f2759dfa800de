//! File trees: their entries, and the only door from an untrusted path to the disk.
//!
//! Knows nothing of tar: [`apply`] consumes entries, [`diff`] yields them.

use std::collections::BTreeMap;

use crate::spec::Digest;

/// A path inside a tree: relative, normalised, no `.`, no `..`, no empty part, no NUL; bytes, not
/// text. The tree's root itself is the empty path. Ordered part by part (`a/b` before `a.b`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryPath(Vec<u8>);

impl EntryPath {
    /// Parses and normalises (leading and doubled slashes and `.` vanish; `..` and NUL are refused).
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let _ = bytes;
        todo!()
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Seconds and nanoseconds since 1970; seconds may be negative, nanoseconds count upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
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
