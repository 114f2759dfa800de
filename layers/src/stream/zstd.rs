//! zstd through the library's own worker threads.
//!
//! Its bytes depend on the threads in two cases, both kept out here: without workers (so there is
//! always at least one), and when the input ends exactly where a job does (whether that job is the
//! last one is then decided by timing). So the last bytes are held back and go in together with
//! the end of the frame, in one call.

use std::io::{self, Write};

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, get_error_name};

use super::encode::failed_before;

/// Part of the format that we write: another value gives other bytes. The library's own choice
/// (four windows, 8 MiB) would need over 100 MiB with four threads.
const JOB_BYTES: u32 = 2 << 20;
/// More workers are not used: each costs 4 to 8 MiB.
const MAX_WORKERS: usize = 8;
const BUFFER_BYTES: usize = 128 << 10;

/// A zstd writer. See the module's head.
pub(super) struct ZstdEncoder<W> {
    sink: W,
    context: CCtx<'static>,
    /// Input that waits until more comes; empty only before the first byte.
    held: Vec<u8>,
    output: Vec<u8>,
    failed: bool,
}

impl<W: Write> ZstdEncoder<W> {
    pub(super) fn new(sink: W, level: u8, threads: usize) -> io::Result<Self> {
        let mut context = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
        let workers = u32::try_from(threads.clamp(1, MAX_WORKERS)).unwrap_or(1);
        for parameter in [
            CParameter::CompressionLevel(level.into()),
            CParameter::ChecksumFlag(true),
            CParameter::NbWorkers(workers),
            CParameter::JobSize(JOB_BYTES),
        ] {
            context.set_parameter(parameter).map_err(zstd_error)?;
        }
        Ok(Self {
            sink,
            context,
            held: Vec::with_capacity(BUFFER_BYTES),
            output: Vec::with_capacity(BUFFER_BYTES),
            failed: false,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(failed_before());
        }
        if self.held.len() == BUFFER_BYTES && !bytes.is_empty() {
            self.compress(ZSTD_EndDirective::ZSTD_e_continue)?;
            self.held.clear();
        }
        let count = bytes.len().min(BUFFER_BYTES - self.held.len());
        self.held
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.failed {
            return Err(failed_before());
        }
        self.compress(ZSTD_EndDirective::ZSTD_e_end)?;
        Ok(self.sink)
    }

    /// Feeds what is held, until it is used up or (at the end) all output is out.
    fn compress(&mut self, directive: ZSTD_EndDirective) -> io::Result<()> {
        let end = directive == ZSTD_EndDirective::ZSTD_e_end;
        // Failed until it is known not to be.
        self.failed = true;
        let mut input = InBuffer::around(&self.held);
        loop {
            self.output.clear();
            let mut output = OutBuffer::around(&mut self.output);
            let left = self
                .context
                .compress_stream2(&mut output, &mut input, directive)
                .map_err(zstd_error)?;
            self.sink.write_all(&self.output)?;
            let done = if end {
                left == 0
            } else {
                input.pos() == self.held.len()
            };
            if done {
                self.failed = false;
                return Ok(());
            }
        }
    }
}

fn zstd_error(code: usize) -> io::Error {
    io::Error::other(format!("zstd: {}", get_error_name(code)))
}
