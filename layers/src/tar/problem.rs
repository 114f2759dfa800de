//! Why an archive is refused.

use super::limits;
use crate::tree::PathError;

/// Why an archive, or an entry for an archive, is refused. The source of [`crate::Error::Tar`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TarProblem {
    /// The archive ends inside an entry.
    #[error("the archive ends in the middle of {0}")]
    Truncated(&'static str),
    /// One zero block where the end has two.
    #[error("a zero block stands in the middle of the archive")]
    LoneZeroBlock,
    /// The header's checksum is wrong.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// A numeric field cannot be read.
    #[error("the header's {0} is not a number")]
    Number(&'static str),
    /// A number is outside what the field may hold.
    #[error("the {what} {value} is out of range")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// As the archive has it.
        value: String,
    },
    /// An entry type that a layer cannot hold.
    #[error("the entry type {:?} is not supported", char::from(*.0))]
    EntryType(u8),
    /// A PAX header that is not a list of records.
    #[error("the PAX header is malformed: {0}")]
    Pax(&'static str),
    /// An extension header stands twice before an entry, or two of them disagree.
    #[error("the {0} is given twice")]
    GivenTwice(&'static str),
    /// More headers than [`limits::MAX_HEADERS`].
    #[error("the archive has more than {} headers", limits::MAX_HEADERS)]
    TooManyHeaders,
    /// Something is longer than its limit.
    #[error("the {what} has {actual} bytes, more than {limit}")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its length in bytes.
        actual: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A path has more than [`limits::MAX_PATH_PARTS`] parts.
    #[error("the path is deeper than {} directories", limits::MAX_PATH_PARTS)]
    TooDeep,
    /// A path that leads out of the root, has a NUL or is too long.
    #[error("the {what} is not allowed")]
    Path {
        /// Which path.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// A NUL where none can be.
    #[error("the {0} has a NUL byte")]
    Nul(&'static str),
    /// A link without a target.
    #[error("the link has no target")]
    NoTarget,
    /// The root of the tree can only be a directory.
    #[error("the root is not a directory")]
    RootNotDirectory,
    /// `.wh.` with nothing, `.` or `..` behind it.
    #[error("the whiteout names nothing")]
    WhiteoutOfNothing,
    /// A name that begins with `.wh.` where a whiteout cannot stand.
    #[error("the {0} has a part with the prefix of a whiteout")]
    WhiteoutName(&'static str),
    /// A sparse file's map contradicts itself or the sizes.
    #[error("the sparse file's map is wrong: {0}")]
    SparseMap(&'static str),
    /// A sparse format that is not known.
    #[error("the sparse format {0} is not supported")]
    SparseFormat(String),
    /// The name of an extended attribute cannot be, or cannot stand in a tar.
    #[error("the extended attribute's name {0:?} is not allowed")]
    XattrName(String),
    /// The content given for a file has another length than its entry says.
    #[error("the content has {}{actual} bytes instead of {expected}", if *.at_least { "at least " } else { "" })]
    ContentLength {
        /// Bytes by the entry.
        expected: u64,
        /// Bytes there were.
        actual: u64,
        /// Reading stopped there; there may be more.
        at_least: bool,
    },
    /// Asked to go on after an error.
    #[error("the archive failed before")]
    FailedBefore,
}
