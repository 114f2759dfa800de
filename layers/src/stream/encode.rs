//! The compressor: one type for all compressions, whose bytes do not depend on the number of threads.

use std::fmt;
use std::io::{self, Write};

use super::Compression;
use super::gzip::GzipEncoder;
use super::zstd::ZstdEncoder;

/// The gzip level where none is asked for: what everyone's layers have.
const GZIP_DEFAULT_LEVEL: u8 = 6;
/// The zstd level where none is asked for: the library's own default, pinned.
const ZSTD_DEFAULT_LEVEL: u8 = 3;

/// A compressor whose bytes depend on the input, `compression` and `level` only: not on `threads`,
/// not on how the input is cut into writes, not on `flush`.
///
/// Dropped without [`Encoder::finish`], it stops its threads and the output is incomplete. After
/// an error it keeps failing.
pub struct Encoder<W: Write> {
    inner: Inner<W>,
}

enum Inner<W: Write> {
    Plain(W),
    Gzip(GzipEncoder<W>),
    Zstd(ZstdEncoder<W>),
}

impl<W: Write> Encoder<W> {
    /// `level: None` is the pinned default (gzip 6, zstd 3). `threads` is at least 1 and is capped
    /// where more would only cost memory.
    ///
    /// # Errors
    /// `InvalidInput` for a level that the format does not have (gzip 0 to 9, zstd 1 to 22) and
    /// for no threads; else when threads or memory cannot be had.
    pub fn new(
        inner: W,
        compression: Compression,
        level: Option<u8>,
        threads: usize,
    ) -> io::Result<Self> {
        if threads == 0 {
            return Err(invalid("compressing needs at least one thread".into()));
        }
        let inner = match compression {
            Compression::None => Inner::Plain(inner),
            Compression::Gzip => {
                let level = level.unwrap_or(GZIP_DEFAULT_LEVEL);
                if level > 9 {
                    return Err(invalid(format!("gzip has the levels 0 to 9, not {level}")));
                }
                Inner::Gzip(GzipEncoder::new(inner, level, threads)?)
            }
            Compression::Zstd => {
                let level = level.unwrap_or(ZSTD_DEFAULT_LEVEL);
                if !(1..=22).contains(&level) {
                    return Err(invalid(format!("zstd has the levels 1 to 22, not {level}")));
                }
                Inner::Zstd(ZstdEncoder::new(inner, level, threads)?)
            }
        };
        Ok(Self { inner })
    }

    /// Writes what is left and the trailer, flushes, and gives the sink back.
    ///
    /// # Errors
    /// When the sink or a compressing thread fails, or did before.
    pub fn finish(self) -> io::Result<W> {
        let mut sink = match self.inner {
            Inner::Plain(sink) => sink,
            Inner::Gzip(encoder) => encoder.finish()?,
            Inner::Zstd(encoder) => encoder.finish()?,
        };
        sink.flush()?;
        Ok(sink)
    }
}

impl<W: Write> fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.inner {
            Inner::Plain(_) => "Encoder::Plain",
            Inner::Gzip(_) => "Encoder::Gzip",
            Inner::Zstd(_) => "Encoder::Zstd",
        })
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(sink) => sink.write(bytes),
            Inner::Gzip(encoder) => encoder.write(bytes),
            Inner::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does not end a block (that would show in the bytes), so compressed data may stay inside.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Plain(sink) => sink.flush(),
            Inner::Gzip(_) | Inner::Zstd(_) => Ok(()),
        }
    }
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// What an encoder answers after it has failed once.
pub(super) fn failed_before() -> io::Error {
    io::Error::other("compressing failed before")
}
