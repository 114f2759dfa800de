//! Byte streams: verification, and compression both ways.

use std::io::{self, Read, Write};

use crate::spec::{Descriptor, MediaType};

/// Reads a blob and holds it to its descriptor: never more bytes than `size`, and at the end of
/// the stream an error unless size and digest are right.
///
/// The last `read` (the one that returns 0) is the verdict, so a caller must drain it.
/// Errors are `io::Error`s that wrap [`crate::Error`].
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    // SKELETON: hasher, seen
}

impl<R: Read> VerifyingReader<R> {
    /// Verifies what `inner` yields against `descriptor`.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        let _ = descriptor;
        Self { inner }
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

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

/// A decoder that sniffs the compression from the first bytes (gzip incl. multi-member, zstd incl.
/// several and skippable frames, or plain). bzip2/xz are for ADD only and live with the builder.
pub fn decode<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(Box::new(reader))
}

/// A compressor whose bytes depend on the input, `compression` and `level` only, never on `threads`.
pub struct Encoder<W: Write> {
    inner: W,
}

impl<W: Write> Encoder<W> {
    /// `level: None` is the pinned default (gzip 6, zstd 3). `threads` >= 1.
    pub fn new(
        inner: W,
        compression: Compression,
        level: Option<u8>,
        threads: usize,
    ) -> io::Result<Self> {
        let _ = (compression, level, threads);
        Ok(Self { inner })
    }

    /// Writes the trailer and gives the sink back.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.inner)
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
