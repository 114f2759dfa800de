//! What can be wrong with an entry, a tree or an entry list, other than the disk failing.

use super::{EntryPath, PathError};

/// What is wrong with an entry, a tree or an entry list.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Bytes that should name a file in a tree do not.
    #[error("the path \"{path}\" is refused")]
    Path {
        /// What was given, cut to a printable length.
        path: String,
        /// Which rule it breaks.
        #[source]
        source: PathError,
    },
    /// An entry that no tree may have.
    #[error("the entry {path} is refused: {reason}")]
    Refused {
        /// The entry's path.
        path: EntryPath,
        /// Why.
        reason: Refusal,
    },
    /// A file's content is not as long as its entry says.
    #[error("the content of {path} has {actual} of {expected} bytes")]
    ContentLength {
        /// The file.
        path: EntryPath,
        /// Bytes that the entry promised.
        expected: u64,
        /// Bytes that came, or one more than promised when there were more.
        actual: u64,
    },
    /// An overlay mount left a mark that we never ask for, so the directory does not hold what it
    /// should.
    #[error("{path} has the overlay mark \"{mark}\", which the mount options should rule out")]
    OverlayMark {
        /// The file or directory.
        path: EntryPath,
        /// The mark's name.
        mark: &'static str,
    },
    /// An entry list has a version that this program does not know.
    #[error("the entry list has an unknown version: \"{header}\"")]
    ListVersion {
        /// Its first line, cut to a printable length.
        header: String,
    },
    /// An entry list is damaged.
    #[error("the entry list is damaged after entry {entries}: {reason}")]
    ListCorrupt {
        /// Entries that could be read before.
        entries: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl TreeError {
    /// A path that is refused.
    pub(crate) fn path(bytes: &[u8]) -> impl FnOnce(PathError) -> Self {
        const SHOWN_BYTES: usize = 120;
        let shown = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
        let path = shown.escape_ascii().to_string();
        move |source| Self::Path { path, source }
    }

    /// An entry that is refused.
    pub(crate) fn refused(path: &EntryPath, reason: Refusal) -> Self {
        Self::Refused {
            path: path.clone(),
            reason,
        }
    }
}

/// Why an entry is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The root can only be a directory.
    #[error("the root is not a directory")]
    RootNotDirectory,
    /// Something lies below what is not a directory.
    #[error("a parent of it is not a directory")]
    ParentNotDirectory,
    /// More symbolic links on the way than the kernel follows.
    #[error("too many symbolic links in its path")]
    TooManyLinks,
    /// A hard link to a directory.
    #[error("it is a hard link to a directory")]
    LinkToDirectory,
    /// A hard link to what is neither in this layer nor below it.
    #[error("it is a hard link to a file that does not exist")]
    LinkToNothing,
    /// A hard link whose own name is a parent of its target.
    #[error("it is a hard link that replaces the directory of its target")]
    LinkReplacesTarget,
    /// A character device 0/0, which overlayfs takes for a whiteout.
    #[error("it is a device with the number 0/0, which is a forged whiteout")]
    ForgedWhiteout,
    /// An empty symbolic link, or one with a NUL in it; no kernel makes such a thing.
    #[error("it is a symbolic link that no kernel can hold")]
    BadSymlink,
    /// A device number that does not exist.
    #[error("its device number is out of range")]
    BadDeviceNumber,
}
