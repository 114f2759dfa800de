//! Bytes → entries.

use std::borrow::Cow;
use std::io::{self, Read};

use super::TarProblem;
use super::header::{
    check_sum, device, header_name, header_size, mark, only_one, padding, until_nul, with_metadata,
};
use super::limits::{MAX_HEADERS, MAX_HOLE_BYTES, MAX_PAX_BYTES, MAX_RAW_NAME_BYTES};
use super::names::{Name, check_symlink, parse_hard_link, parse_name};
use super::pax::{self, Records};
use super::source::{BLOCK_BYTES, Fault, Source};
use super::sparse::{self, Layout, Piece};
use crate::tree::{Entry, EntryKind, without_parents};
use crate::{Error, Result};

/// Reads a layer's tar (already decompressed) entry by entry.
///
/// Whiteouts come out as [`EntryKind::Whiteout`] / `OpaqueDirectory`, with no owner, mode or time
/// of their own; names that aufs kept for itself are passed over. Paths come out normalised
/// (`./a//b/` is `a/b`), and one with a `..` is refused. Sparse files come out whole. Duplicate
/// entries, their order and missing parents are left to the caller.
///
/// At the end (two zero blocks, or the end of the stream between two entries) the rest of the
/// stream is drained. After an error it keeps failing.
#[derive(Debug)]
pub struct TarReader<R> {
    source: Source<R>,
    body: Body,
    /// For messages: the name in the entry that is being read, as it stands there.
    name: Vec<u8>,
    headers: u64,
    hole_bytes: u64,
    state: State,
    parents: Parents,
}

/// What becomes of `..` in names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parents {
    Refused,
    StopAtRoot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Failed,
}

/// What is left of the current entry's content.
#[derive(Debug, Default)]
struct Body {
    current: Option<Piece>,
    rest: std::vec::IntoIter<Piece>,
    /// Bytes left in the archive.
    stored: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

/// Extension headers that wait for the entry they belong to.
#[derive(Default)]
struct Extensions {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    /// Reads from `reader`; no buffering is needed around it.
    pub fn new(reader: R) -> Self {
        Self {
            source: Source::new(reader),
            body: Body::default(),
            name: Vec::new(),
            headers: 0,
            hole_bytes: 0,
            state: State::Reading,
            parents: Parents::Refused,
        }
    }

    /// Takes names with `..` in them: as in `chroot`, they stop at the archive's root. For archives
    /// of any origin; a layer has no use for such names.
    #[must_use]
    pub fn with_parents(mut self) -> Self {
        self.parents = Parents::StopAtRoot;
        self
    }

    fn inside<'n>(&self, name: &'n [u8]) -> Cow<'n, [u8]> {
        match self.parents {
            Parents::Refused => Cow::Borrowed(name),
            Parents::StopAtRoot => Cow::Owned(without_parents(name)),
        }
    }

    /// The next entry, with its content (empty for what is not a regular file); `None` at the end.
    /// Content that was not read is passed over.
    ///
    /// # Errors
    /// [`Error::Tar`] for an archive that is wrong, hostile or not supported; whatever the stream
    /// below fails with.
    pub fn next_entry(&mut self) -> Result<Option<(Entry, Content<'_, R>)>> {
        let outcome = match self.state {
            State::Reading => self.advance(),
            State::Ended => Ok(None),
            State::Failed => Err(TarProblem::FailedBefore.into()),
        };
        match outcome {
            Ok(Some(entry)) => Ok(Some((entry, Content { reader: self }))),
            Ok(None) => {
                self.state = State::Ended;
                Ok(None)
            }
            Err(fault) => Err(self.fail(fault)),
        }
    }

    /// Bytes of the archive that were read so far; all of them after the end.
    pub fn offset(&self) -> u64 {
        self.source.offset()
    }

    /// The stream below. Only after the end is its position known: at its end.
    pub fn into_inner(self) -> R {
        self.source.into_inner()
    }

    fn fail(&mut self, fault: Fault) -> Error {
        self.state = State::Failed;
        match fault {
            Fault::Io(error) => Error::read("tar stream")(error),
            Fault::Problem(problem) => Error::tar(&self.name, self.source.offset(), problem),
        }
    }

    fn advance(&mut self) -> Result<Option<Entry>, Fault> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_body()?;
            let Some(header) = self.next_header(&extensions)? else {
                self.source.drain()?;
                return Ok(None);
            };
            let kind = header.as_old().linkflag[0];
            match kind {
                b'x' | b'g' => {
                    let data = self.extension_data(&header, "PAX header", MAX_PAX_BYTES)?;
                    if kind == b'g' {
                        pax::check_global(&data)?;
                        continue;
                    }
                    let records = pax::parse(&data)?;
                    if extensions.records.replace(records).is_some() {
                        return Err(TarProblem::GivenTwice("PAX header").into());
                    }
                }
                b'L' | b'K' => {
                    let limit = MAX_RAW_NAME_BYTES as u64;
                    let mut data = self.extension_data(&header, "long name", limit)?;
                    let end = data.iter().position(|byte| *byte == 0);
                    data.truncate(end.unwrap_or(data.len()));
                    let place = match kind {
                        b'L' => &mut extensions.long_name,
                        _ => &mut extensions.long_link,
                    };
                    if place.replace(data).is_some() {
                        return Err(TarProblem::GivenTwice("long name").into());
                    }
                }
                kind => {
                    let extensions = std::mem::take(&mut extensions);
                    if let Some(entry) = self.entry(&header, kind, extensions)? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
    }

    /// The next header that says something; `None` at the end.
    fn next_header(&mut self, extensions: &Extensions) -> Result<Option<tar::Header>, Fault> {
        self.name.clear();
        let dangling = extensions.records.is_some()
            || extensions.long_name.is_some()
            || extensions.long_link.is_some();
        let block = self.source.block("a header")?;
        let Some(block) = block.filter(|block| *block != [0; BLOCK_BYTES]) else {
            if dangling {
                return Err(TarProblem::Truncated("an entry, after its extension header").into());
            }
            // The end: of the stream, or two zero blocks (one and the end of the stream will do).
            if block.is_some()
                && let Some(second) = self.source.block("the end mark")?
                && second != [0; BLOCK_BYTES]
            {
                return Err(TarProblem::LoneZeroBlock.into());
            }
            return Ok(None);
        };
        self.headers += 1;
        if self.headers > MAX_HEADERS {
            return Err(TarProblem::TooManyHeaders.into());
        }
        check_sum(&block)?;
        let mut header = tar::Header::new_old();
        *header.as_mut_bytes() = block;
        self.name = header_name(&header);
        Ok(Some(header))
    }

    fn extension_data(
        &mut self,
        header: &tar::Header,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, Fault> {
        let size = header_size(header)?;
        if size > limit {
            return Err(TarProblem::TooLong {
                what,
                actual: size,
                limit,
            }
            .into());
        }
        // Fits: the limits are below 4 GiB.
        let count = usize::try_from(size).unwrap_or(usize::MAX);
        let data = self.source.bytes(count, "an extension header")?;
        self.source.skip(padding(size), "an extension header")?;
        Ok(data)
    }

    /// Puts an entry together and makes its content ready; `None` for what is passed over.
    fn entry(
        &mut self,
        header: &tar::Header,
        kind: u8,
        extensions: Extensions,
    ) -> Result<Option<Entry>, Fault> {
        let mut records = extensions.records.unwrap_or_default();
        let long_name = extensions.long_name;
        let pax_name = records.path.take();
        // In formats 0.1 and 1.0 the path is a made-up one.
        let sparse_name = records
            .sparse
            .as_mut()
            .and_then(|sparse| sparse.name.take());
        if sparse_name.is_none() {
            only_one("path", pax_name.as_ref(), long_name.as_ref())?;
        }
        if let Some(name) = sparse_name.or(pax_name).or(long_name) {
            self.name = name;
        }
        let pax_link = records.link_path.take();
        only_one(
            "link target",
            pax_link.as_ref(),
            extensions.long_link.as_ref(),
        )?;
        let link = pax_link.or(extensions.long_link);
        let link = link.unwrap_or_else(|| until_nul(&header.as_old().linkname).to_vec());

        let name = parse_name(&self.inside(&self.name))?;
        let size = self.open_body(header, kind, &mut records)?;
        let (path, kind) = match name {
            Name::AufsMetadata => return Ok(None),
            Name::Whiteout(path) => return Ok(Some(mark(path, EntryKind::Whiteout))),
            Name::Opaque(path) => return Ok(Some(mark(path, EntryKind::OpaqueDirectory))),
            Name::Path(path) => (path, self.entry_kind(header, kind, size, link, &records)?),
        };
        if path.as_bytes().is_empty() && kind != EntryKind::Directory {
            return Err(TarProblem::RootNotDirectory.into());
        }
        Ok(Some(with_metadata(header, path, kind, records)?))
    }

    fn entry_kind(
        &self,
        header: &tar::Header,
        kind: u8,
        size: u64,
        link: Vec<u8>,
        records: &Records,
    ) -> Result<EntryKind, TarProblem> {
        Ok(match kind {
            // Before ustar there was no type for directories.
            0 if self.name.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::File { size },
            b'1' => EntryKind::HardLink {
                target: parse_hard_link(&self.inside(&link))?,
            },
            b'2' => {
                check_symlink(&link)?;
                EntryKind::Symlink { target: link }
            }
            b'3' => {
                let (major, minor) = device(header, records)?;
                EntryKind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = device(header, records)?;
                EntryKind::BlockDevice { major, minor }
            }
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => return Err(TarProblem::EntryType(other)),
        })
    }

    /// Makes the content ready and gives its length as it will be read.
    fn open_body(
        &mut self,
        header: &tar::Header,
        kind: u8,
        records: &mut Records,
    ) -> Result<u64, Fault> {
        let sparse = records.sparse.take();
        if !matches!(kind, 0 | b'0' | b'7' | b'S') {
            if !matches!(kind, b'1'..=b'6') {
                return Err(TarProblem::EntryType(kind).into());
            }
            if sparse.is_some() {
                return Err(TarProblem::SparseMap("this is no regular file").into());
            }
            // Some writers record a size here but never content.
            return Ok(0);
        }
        let stored = match records.size {
            Some(size) => size,
            None => header_size(header)?,
        };
        let padding = padding(stored);
        let (layout, stored) = match (kind, sparse) {
            (b'S', Some(_)) => return Err(TarProblem::GivenTwice("sparse map").into()),
            (b'S', None) => {
                let layout = sparse::read_old_gnu(&mut self.source, header, stored)?;
                (layout, stored)
            }
            (_, Some(sparse)) => {
                let (layout, used) = sparse::read_pax(&mut self.source, sparse, stored)?;
                (layout, stored - used)
            }
            (_, None) => {
                self.body = Body {
                    current: Some(Piece::Data(stored)),
                    stored,
                    padding,
                    ..Body::default()
                };
                return Ok(stored);
            }
        };
        self.open_sparse(layout, stored, padding)
    }

    fn open_sparse(&mut self, layout: Layout, stored: u64, padding: u64) -> Result<u64, Fault> {
        self.hole_bytes = self.hole_bytes.saturating_add(layout.holes);
        if self.hole_bytes > MAX_HOLE_BYTES {
            return Err(TarProblem::TooLong {
                what: "sum of all holes",
                actual: self.hole_bytes,
                limit: MAX_HOLE_BYTES,
            }
            .into());
        }
        let mut rest = layout.pieces.into_iter();
        self.body = Body {
            current: rest.next(),
            rest,
            stored,
            padding,
        };
        Ok(layout.size)
    }

    fn skip_body(&mut self) -> Result<(), Fault> {
        let body = std::mem::take(&mut self.body);
        self.source.skip(body.stored, "a file's content")?;
        self.source.skip(body.padding, "the padding after a file")
    }

    /// The next piece of content, at most `limit` bytes of it.
    fn next_chunk(&mut self, limit: u64) -> Result<Option<Chunk<'_>>, Fault> {
        if self.state == State::Failed {
            return Err(TarProblem::FailedBefore.into());
        }
        loop {
            match &mut self.body.current {
                None => return Ok(None),
                Some(Piece::Data(0) | Piece::Hole(0)) => {
                    self.body.current = self.body.rest.next();
                }
                Some(Piece::Hole(left)) => {
                    let count = limit.min(*left);
                    *left -= count;
                    return Ok(Some(Chunk::Hole(count)));
                }
                Some(Piece::Data(left)) => {
                    let available = self.source.fill()?.len();
                    if available == 0 {
                        return Err(TarProblem::Truncated("a file's content").into());
                    }
                    let count = (available as u64).min(limit).min(*left);
                    *left -= count;
                    self.body.stored -= count;
                    let count = usize::try_from(count).unwrap_or(available);
                    return Ok(Some(Chunk::Data(self.source.take(count))));
                }
            }
        }
    }
}

/// Part of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// These bytes; never empty.
    Data(&'a [u8]),
    /// So many zeros that the archive does not store: a hole of a sparse file.
    Hole(u64),
}

/// The content of the entry that was read last.
///
/// [`Read`] fills holes with zeros; [`Content::next_chunk`] lends the reader's own buffer and
/// leaves holes be, so that a file can be written without a copy and with its holes.
#[derive(Debug)]
pub struct Content<'a, R> {
    reader: &'a mut TarReader<R>,
}

impl<R: Read> Content<'_, R> {
    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// An `io::Error` that wraps an [`Error::Tar`] when the archive ends too early; whatever the
    /// stream below fails with.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk<'_>>> {
        self.chunk_of(u64::MAX)
    }

    fn chunk_of(&mut self, limit: u64) -> io::Result<Option<Chunk<'_>>> {
        // Looked at first, as the borrow of a chunk would outlive the error's handling.
        if let Err(fault) = self.reader.next_chunk(0) {
            self.reader.state = State::Failed;
            return Err(match fault {
                Fault::Io(error) => error,
                fault => self.reader.fail(fault).into_stream(),
            });
        }
        match self.reader.next_chunk(limit) {
            Ok(chunk) => Ok(chunk),
            Err(Fault::Io(error)) => Err(error),
            Err(Fault::Problem(problem)) => Err(io::Error::other(problem)),
        }
    }
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = match self.chunk_of(buffer.len() as u64)? {
            None => 0,
            Some(Chunk::Data(mut bytes)) => bytes.read(buffer)?,
            Some(Chunk::Hole(count)) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let window = buffer.get_mut(..count).unwrap_or_default();
                window.fill(0);
                window.len()
            }
        };
        Ok(length)
    }
}
