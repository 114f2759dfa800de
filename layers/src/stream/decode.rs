//! Decompression, by content and never by name or media type.
//!
//! Invariant: at its end a decoder has drained its source, so a [`super::VerifyingReader`] below
//! it has given its verdict.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::Compression;

/// So many first bytes are enough for [`Compression::sniff`].
pub const SNIFF_BYTES: usize = 4;

/// What is read from the source at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// The largest zstd window a stream may ask memory for: 128 MiB, what the format's reference
/// decoder allows by default and `zstd --ultra -22` needs.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

impl Compression {
    /// Judges by the first [`SNIFF_BYTES`] bytes of a stream (fewer if it is shorter); what is
    /// neither gzip (RFC 1952) nor zstd (RFC 8878, §3.1.1 frame or §3.1.2 skippable frame) is
    /// taken as plain.
    pub fn sniff(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A decoder that sniffs the compression from the first bytes: gzip incl. several members, zstd
/// incl. several and skippable frames (so zstd:chunked too), or plain. bzip2 and xz are for `ADD`
/// only and live with the builder.
///
/// # Errors
/// When the first bytes cannot be read.
pub fn decode<'a>(mut reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut first = Vec::with_capacity(SNIFF_BYTES);
    reader
        .by_ref()
        .take(SNIFF_BYTES as u64)
        .read_to_end(&mut first)?;
    let compression = Compression::sniff(&first);
    let whole = Cursor::new(first).chain(reader);
    if compression == Compression::None {
        return Ok(Box::new(whole));
    }
    let buffered = BufReader::with_capacity(BUFFER_BYTES, whole);
    Ok(match compression {
        Compression::Gzip => Box::new(Sticky::new(MultiGzDecoder::new(buffered))),
        _ => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(Sticky::new(decoder))
        }
    })
}

/// Keeps what has failed or ended so: a decoder would go on with whatever follows.
struct Sticky<R> {
    inner: R,
    ended: Option<Result<(), io::ErrorKind>>,
}

impl<R> Sticky<R> {
    fn new(inner: R) -> Self {
        Self { inner, ended: None }
    }
}

impl<R: Read> Read for Sticky<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.ended {
            None => {}
            Some(Ok(())) => return Ok(0),
            Some(Err(kind)) => return Err(io::Error::new(kind, "decoding failed before")),
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let outcome = self.inner.read(buffer);
        match &outcome {
            Ok(0) => self.ended = Some(Ok(())),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                self.ended = Some(Err(error.kind()));
            }
            _ => {}
        }
        outcome
    }
}
