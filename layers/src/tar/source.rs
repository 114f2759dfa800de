//! The archive's bytes, buffered, in blocks.

use std::io::{self, Read};

use super::TarProblem;

/// Length of a tar block in bytes.
pub(super) const BLOCK_BYTES: usize = 512;
const BUFFER_BYTES: usize = 128 << 10;

/// A block of the archive.
pub(super) type Block = [u8; BLOCK_BYTES];

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Fault {
    /// The stream failed.
    Io(io::Error),
    /// The archive is wrong.
    Problem(TarProblem),
}

impl From<TarProblem> for Fault {
    fn from(problem: TarProblem) -> Self {
        Self::Problem(problem)
    }
}

/// Bytes from `reader`, counted.
#[derive(Debug)]
pub(super) struct Source<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    offset: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER_BYTES].into(),
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    /// Bytes handed out so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The reader, with what was buffered lost.
    pub(super) fn into_inner(self) -> R {
        self.reader
    }

    /// Buffered bytes; empty at the end only.
    pub(super) fn fill(&mut self) -> Result<&[u8], Fault> {
        while self.start == self.end {
            match self.reader.read(&mut self.buffer) {
                Ok(count) => {
                    self.start = 0;
                    self.end = count;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
        Ok(self.buffered())
    }

    /// What is in the buffer now.
    pub(super) fn buffered(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Marks `count` buffered bytes as handed out.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.offset += count as u64;
    }

    /// Marks `count` buffered bytes as handed out and gives them.
    pub(super) fn take(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.consume(count);
        self.buffer.get(from..self.start).unwrap_or_default()
    }

    /// Fills `target`, and says how much there was: less at the end only.
    fn read_up_to(&mut self, target: &mut [u8]) -> Result<usize, Fault> {
        let mut done = 0;
        while let Some(window @ [_, ..]) = target.get_mut(done..) {
            let mut available = self.fill()?;
            let count = available.read(window).map_err(Fault::Io)?;
            if count == 0 {
                break;
            }
            self.consume(count);
            done += count;
        }
        Ok(done)
    }

    /// The next block; `None` at the end of the stream.
    pub(super) fn block(&mut self, what: &'static str) -> Result<Option<Block>, Fault> {
        let mut block = [0; BLOCK_BYTES];
        match self.read_up_to(&mut block)? {
            0 => Ok(None),
            BLOCK_BYTES => Ok(Some(block)),
            _ => Err(TarProblem::Truncated(what).into()),
        }
    }

    /// The next `count` bytes. The caller has checked that so many may be held.
    pub(super) fn bytes(&mut self, count: usize, what: &'static str) -> Result<Vec<u8>, Fault> {
        let mut bytes = vec![0; count];
        if self.read_up_to(&mut bytes)? < count {
            return Err(TarProblem::Truncated(what).into());
        }
        Ok(bytes)
    }

    /// Passes over `count` bytes.
    pub(super) fn skip(&mut self, mut count: u64, what: &'static str) -> Result<(), Fault> {
        while count > 0 {
            let available = self.fill()?.len();
            if available == 0 {
                return Err(TarProblem::Truncated(what).into());
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(available);
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    /// Passes over all the rest.
    pub(super) fn drain(&mut self) -> Result<(), Fault> {
        loop {
            let available = self.fill()?.len();
            if available == 0 {
                return Ok(());
            }
            self.consume(available);
        }
    }
}
