//! Byte streams: verification, digests on the way through, reading ahead, and compression both ways.
//!
//! A layer's way in, each stage a plain [`Read`](std::io::Read):
//!
//! ```text
//! body → VerifyingReader (compressed digest) → ReadAhead → decode → DigestReader (diff ID) → tar
//! ```
//!
//! A stage's own failure travels as an `io::Error` that wraps a [`crate::Error`];
//! [`crate::Error::read`] unwraps it again.

mod decode;
mod digest;
mod encode;
mod gzip;
mod read_ahead;
#[cfg(test)]
mod tests;
mod verify;
mod zstd;

pub use decode::{SNIFF_BYTES, decode};
pub use digest::{DigestReader, DigestWriter};
pub use encode::Encoder;
pub use gzip::MAX_GZIP_THREADS;
pub use read_ahead::ReadAhead;
pub use verify::VerifyingReader;

use crate::spec::MediaType;

/// How a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Compression {
    /// Plain tar.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// zstd.
    Zstd,
}

impl Compression {
    /// The OCI media type of a layer compressed so.
    pub fn layer_media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::LAYER,
            Self::Gzip => MediaType::LAYER_GZIP,
            Self::Zstd => MediaType::LAYER_ZSTD,
        }
    }
}
