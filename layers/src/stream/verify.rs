//! Holding a blob to its descriptor while it is read.

use std::io::{self, Read};

use crate::Error;
use crate::spec::{Descriptor, Digest, Hasher};

/// Reads a blob and holds it to its descriptor: never more bytes than `size`, and an error unless
/// size and digest are right.
///
/// A wrong digest is noticed before the last bytes are handed out; that nothing follows them is
/// known only at the `read` that returns 0, so a caller must drain it. Once it has failed it keeps
/// failing. Errors are `io::Error`s that wrap [`crate::Error`].
#[derive(Debug)]
pub struct VerifyingReader<R> {
    inner: R,
    expected: Digest,
    size: u64,
    seen: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Some bytes are still to come.
    Reading(Hasher),
    /// All bytes were handed out and are right; the end is yet to be seen.
    Right,
    /// The end was seen.
    Ended,
    WrongDigest(Digest),
    WrongSize {
        actual: u64,
        at_least: bool,
    },
    /// The inner reader failed; the state of its stream is unknown.
    Broken(io::ErrorKind),
}

impl<R: Read> VerifyingReader<R> {
    /// Verifies what `inner` yields against `descriptor`.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        let hasher = Hasher::new(descriptor.digest.algorithm());
        let mut reader = Self {
            inner,
            expected: descriptor.digest.clone(),
            size: descriptor.size,
            seen: 0,
            state: State::Reading(hasher),
        };
        if reader.size == 0 {
            reader.check_digest();
        }
        reader
    }

    /// Called when all bytes have been hashed.
    fn check_digest(&mut self) {
        if let State::Reading(hasher) = &self.state {
            let actual = hasher.clone().finish();
            self.state = if actual == self.expected {
                State::Right
            } else {
                State::WrongDigest(actual)
            };
        }
    }

    fn verdict(&self) -> io::Result<usize> {
        let error = match &self.state {
            State::Reading(_) | State::Right | State::Ended => return Ok(0),
            State::WrongDigest(actual) => Error::DigestMismatch {
                expected: self.expected.clone(),
                actual: actual.clone(),
            },
            State::WrongSize { actual, at_least } => Error::SizeMismatch {
                digest: self.expected.clone(),
                expected: self.size,
                actual: *actual,
                at_least: *at_least,
            },
            State::Broken(kind) => {
                return Err(io::Error::new(*kind, "reading this blob failed before"));
            }
        };
        Err(error.into_stream())
    }

    fn read_inner(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.state = State::Broken(error.kind());
            }
        })
    }

    fn read_content(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.seen).unwrap_or(usize::MAX);
        let limit = left.min(buffer.len());
        let (window, _) = buffer.split_at_mut(limit);
        let count = self.read_inner(window)?;
        if count == 0 {
            self.state = State::WrongSize {
                actual: self.seen,
                at_least: false,
            };
            return self.verdict();
        }
        self.seen += count as u64;
        if let State::Reading(hasher) = &mut self.state {
            hasher.update(window.get(..count).unwrap_or_default());
        }
        if self.seen == self.size {
            self.check_digest();
            self.verdict()?;
        }
        Ok(count)
    }

    /// Nothing may follow the last byte.
    fn read_end(&mut self) -> io::Result<usize> {
        if self.read_inner(&mut [0])? == 0 {
            self.state = State::Ended;
        } else {
            self.state = State::WrongSize {
                actual: self.size + 1,
                at_least: true,
            };
        }
        self.verdict()
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        match self.state {
            State::Reading(_) => self.read_content(buffer),
            State::Right => self.read_end(),
            _ => self.verdict(),
        }
    }
}
