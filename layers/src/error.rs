//! Everything that can go wrong in this crate.

use std::io;
use std::path::{Path, PathBuf};

use crate::spec::{Digest, SpecError};

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
    /// A document of the specifications is not what it should be.
    #[error(transparent)]
    Spec(#[from] SpecError),
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
}
