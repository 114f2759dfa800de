//! Everything that can go wrong in this crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::spec::{DiffId, Digest, SpecError};
use crate::tar::TarProblem;
use crate::tree::{EntryPath, TreeError};

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate. Each message is of its own level only; the cause
/// is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on a file failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `rename`, …
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Reading a stream (a download, a pipe) failed.
    #[error("cannot read {what}")]
    Read {
        /// Which stream.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Writing a stream (an archive, a pipe) failed.
    #[error("cannot write {what}")]
    Write {
        /// Which stream.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A tar is wrong, hostile or not supported; or an entry cannot stand in one.
    #[error("bad tar entry \"{entry}\" near byte {offset}")]
    Tar {
        /// Its name as it stands in the archive, escaped and cut for messages; empty where none is known.
        entry: String,
        /// Where, in the uncompressed archive.
        offset: u64,
        /// Why.
        #[source]
        source: TarProblem,
    },
    /// A document of the specifications is not what it should be.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An entry, a tree or an entry list is not what it should be.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The bytes of a blob have another digest than its descriptor says.
    #[error("the content of {expected} has the digest {actual}")]
    DigestMismatch {
        /// From the descriptor.
        expected: Digest,
        /// Of the bytes.
        actual: Digest,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error("{digest} should have {expected} bytes and has {}{actual}", if *.at_least { "at least " } else { "" })]
    SizeMismatch {
        /// The blob.
        digest: Digest,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes seen.
        actual: u64,
        /// Reading stopped there; there may be more.
        at_least: bool,
    },
    /// An image source (a registry, an archive) failed.
    #[error("cannot get {what}")]
    Source {
        /// What was asked for.
        what: String,
        /// The source's own error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A blob that a document names is not in the store.
    #[error("blob {digest} is not in the store")]
    BlobMissing {
        /// The blob.
        digest: Digest,
    },
    /// A document is larger than what is read into memory.
    #[error("{digest} has {size_bytes} bytes, more than the {max_bytes} allowed here")]
    TooLarge {
        /// The blob.
        digest: Digest,
        /// Its length in bytes.
        size_bytes: u64,
        /// The limit in bytes.
        max_bytes: u64,
    },
    /// A directory is neither empty nor an image layout.
    #[error("{} is not an image layout: {reason}", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// What it lacks or has.
        reason: String,
    },
    /// The layout's `index.json` cannot be read as one.
    #[error(
        "{} is not a valid image index; the blobs beside it are not touched: restore it, or move it away and pull or tag again",
        path.display()
    )]
    CorruptIndex {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The disk, the quota or the permissions do not let the store be written.
    #[error("cannot write to {}: it is read-only for this user", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// No space is left; nothing of what was being written stays behind.
    #[error("the disk or the quota of {} is full", path.display())]
    DiskFull {
        /// What was to be written.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Another process holds a lock for longer than is waited.
    #[error("{} is in use by {holder}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// `process 123`, or `another process`.
        holder: String,
    },
    /// A layer cannot be unpacked.
    #[error("cannot unpack layer {diff_id}")]
    Unpack {
        /// The layer.
        diff_id: DiffId,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// A layer's content is not what its image says.
    #[error("layer {expected} has the diff ID {actual}")]
    DiffIdMismatch {
        /// By the image's config.
        expected: DiffId,
        /// Of the bytes.
        actual: DiffId,
    },
    /// A layer refers to files or directories that are in none of its parents.
    #[error("layer {diff_id} refers to files that neither it nor its parents have")]
    MissingParents {
        /// The layer.
        diff_id: DiffId,
    },
    /// A layer's files were changed behind the store's back.
    #[error("the files of layer {diff_id} have changed; remove {} and pull or build again", path.display())]
    TreeChanged {
        /// The layer.
        diff_id: DiffId,
        /// Its tree.
        path: PathBuf,
    },
    /// A layer of which the store has neither a blob nor a tree.
    #[error("layer {diff_id} is not in the store")]
    LayerMissing {
        /// The layer.
        diff_id: DiffId,
    },
    /// Entries for a layer came in an order that no layer has.
    #[error("the entry {path} comes out of order, twice, or before its directory")]
    EntryOrder {
        /// The entry.
        path: EntryPath,
    },
    /// Symlinks that lead in a circle, or too far.
    #[error("too many symbolic links in {path}")]
    TooManyLinks {
        /// Where it began.
        path: EntryPath,
    },
    /// A name found in one stack of layers was used with another.
    #[error("this stack has no layer {layer}")]
    NoSuchLayer {
        /// Counted from 0 at the bottom.
        layer: usize,
    },
    /// A layer that is not a file system (an artifact's blob) was to be unpacked.
    #[error("{digest} is a blob of type {media_type:?}, not a file system layer")]
    NotALayer {
        /// The blob.
        digest: Digest,
        /// What it says it is.
        media_type: String,
    },
    /// What a name leads to is an artifact of another kind.
    #[error("{digest} is an artifact of type {media_type:?}, not an image")]
    NotAnImage {
        /// Its manifest, or its config.
        digest: Digest,
        /// What it says it is.
        media_type: String,
    },
    /// The store has no image of this name.
    #[error("there is no image {reference} in the store")]
    ImageMissing {
        /// What was asked for.
        reference: String,
    },
    /// An index has no image for the platform.
    #[error("no image for {wanted}; there are images for: {offered}")]
    PlatformMissing {
        /// What was asked for.
        wanted: String,
        /// What there is, separated by commas.
        offered: String,
    },
}

impl Error {
    /// For `map_err`: an I/O error with the operation and the path.
    pub fn io(operation: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// For `map_err` after writing: a full disk and a read-only place have their own variants,
    /// because a user can do something about them.
    pub fn write(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.as_ref().to_path_buf();
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Self::DiskFull { path, source }
                }
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                    Self::ReadOnly { path, source }
                }
                _ => Self::from_stream(source).unwrap_or_else(|source| Self::Io {
                    operation,
                    path,
                    source,
                }),
            }
        }
    }

    /// For `map_err` on a stream: this crate's error where the `io::Error` wraps one (as those of
    /// [`crate::stream::VerifyingReader`] do), else [`Error::Read`] of `what`.
    pub fn read(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            Self::from_stream(source).unwrap_or_else(|source| Self::Read {
                what: what.into(),
                source,
            })
        }
    }

    /// This crate's error out of an `io::Error` that wraps one; else the `io::Error` back.
    pub(crate) fn from_stream(error: io::Error) -> std::result::Result<Self, io::Error> {
        error.downcast::<Self>()
    }

    /// This error as an `io::Error` of a stream, so that it survives `Read` and `Write`.
    pub(crate) fn into_stream(self) -> io::Error {
        io::Error::other(self)
    }

    /// For `map_err`: an error from writing a stream.
    pub(crate) fn write_stream(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            Self::from_stream(source).unwrap_or_else(|source| Self::Write {
                what: what.into(),
                source,
            })
        }
    }

    /// A problem with the tar entry called `name`.
    pub(crate) fn tar(name: &[u8], offset: u64, source: TarProblem) -> Self {
        const SHOWN_BYTES: usize = 256;
        let shown = name.get(..SHOWN_BYTES).unwrap_or(name);
        Self::Tar {
            entry: shown.escape_ascii().to_string(),
            offset,
            source,
        }
    }
}
