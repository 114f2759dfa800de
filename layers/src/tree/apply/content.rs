//! A regular file's content on its way to the disk.

use std::fs::File;
use std::io::{self, Read, Write};

use tracing::debug;

use crate::spec::{Algorithm, Digest, Hasher};
use crate::{Error, Result};

use super::super::{Entry, TreeError};
use super::ContentDigests;
use super::disk::Disk;

/// Bytes written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Where a file's content comes from.
pub(super) enum Content<'a> {
    /// Out of an archive.
    Stream(&'a mut dyn Read),
    /// From the start of a file, which may be on a file system that can share it (reflink).
    File(&'a File),
}

/// What copying needs and what it has learnt.
#[derive(Debug)]
pub(super) struct Copier {
    buffer: Vec<u8>,
    /// Whether sharing has not failed yet; it is either possible for a whole tree or not at all.
    may_share: bool,
}

impl Copier {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES],
            may_share: true,
        }
    }

    /// Lets `to` share the content of `from` if the file system can and the length fits.
    fn share(&mut self, from: &File, to: &File, size: u64) -> Result<bool> {
        let length = |file: &File| file.metadata().map(|stat| stat.len());
        if !self.may_share || size == 0 || !length(from).is_ok_and(|length| length == size) {
            return Ok(false);
        }
        if let Err(errno) = rustix::fs::ioctl_ficlone(to, from) {
            debug!(%errno, "content cannot be shared; copying");
            self.may_share = false;
            return Ok(false);
        }
        Ok(length(to).is_ok_and(|length| length == size))
    }
}

impl Disk {
    /// Writes `size` bytes of content to `file`.
    pub(super) fn copy(
        &mut self,
        entry: &Entry,
        size: u64,
        content: Content<'_>,
        file: &File,
        digests: ContentDigests,
    ) -> Result<Option<Digest>> {
        match content {
            Content::Stream(stream) => self.write(entry, size, stream, file, digests),
            Content::File(from) => {
                if digests == ContentDigests::Keep && self.copier.share(from, file, size)? {
                    self.statistics.content_bytes += size;
                    return Ok(None);
                }
                let mut from = from;
                self.write(entry, size, &mut from, file, digests)
            }
        }
    }

    fn write(
        &mut self,
        entry: &Entry,
        size: u64,
        content: &mut dyn Read,
        mut file: &File,
        digests: ContentDigests,
    ) -> Result<Option<Digest>> {
        let compute = digests == ContentDigests::Compute;
        let mut hasher = compute.then(|| Hasher::new(Algorithm::Sha256));
        let mut written = 0;
        // One byte more than promised is asked for, so that too much is noticed too.
        let mut content = content.take(size.saturating_add(1));
        let buffer = &mut self.copier.buffer;
        loop {
            let length = fill(&mut content, buffer).map_err(|source| Error::Read {
                what: format!("the content of {}", entry.path),
                source,
            })?;
            written += length as u64;
            if written > size || (length == 0 && written < size) {
                return Err(TreeError::ContentLength {
                    path: entry.path.clone(),
                    expected: size,
                    actual: written,
                }
                .into());
            }
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
            file.write_all(bytes)
                .map_err(|source| Error::io("write", self.root.path().join(&entry.path))(source))?;
            if length < buffer.len() && written == size {
                break;
            }
        }
        self.statistics.content_bytes += written;
        Ok(hasher.map(Hasher::finish))
    }
}

/// Reads until `buffer` is full or nothing more comes.
fn fill(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match content.read(rest) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
