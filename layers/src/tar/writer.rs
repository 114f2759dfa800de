//! Entries → canonical bytes.
//!
//! One form for each entry, chosen by the entry alone: a ustar header where everything fits, else
//! the same header after a PAX header with just the records that do not fit, in the order of
//! their keywords. Owner names are empty, whiteouts carry nothing but their name, the archive ends
//! with two zero blocks and nothing more. The order of entries is the caller's.
//!
//! ```text
//! [ PAX header │ records ] header │ content, filled up with zeros │ … │ two zero blocks
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use super::TarProblem;
use super::limits::MAX_PAX_BYTES;
use super::names::{
    Name, OPAQUE_NAME, WHITEOUT_PREFIX, check_symlink, has_whiteout_part, parse_hard_link,
    parse_name,
};
use super::number::{format_time, owner};
use super::pax::{XATTR_PREFIX, check_xattr, push_record};
use super::source::BLOCK_BYTES;
use crate::tree::{Entry, EntryKind, Timestamp};
use crate::{Error, Result};

/// What goes to the sink at a time.
const BUFFER_BYTES: usize = 128 << 10;
/// The name in every PAX header. No reader uses it; others put a process id there.
const PAX_HEADER_NAME: &[u8] = b"PaxHeaders/entry";
/// Seven octal digits: mode, owners and device numbers of ustar.
const MAX_OCTAL_7: u64 = 0o777_7777;
/// Eleven octal digits: size and time of ustar.
const MAX_OCTAL_11: u64 = 0o777_7777_7777;

/// Writes a layer's tar canonically: the same entries give the same bytes.
///
/// Buffers, so `writer` need not. Over [`crate::stream::DigestWriter`] it makes a diff ID without
/// storing anything. After an error it keeps failing; without [`TarWriter::finish`] the archive is
/// incomplete.
#[derive(Debug)]
pub struct TarWriter<W> {
    writer: W,
    buffer: Vec<u8>,
    /// Bytes given to `writer` or in the buffer.
    offset: u64,
    failed: bool,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `writer`.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            offset: 0,
            failed: false,
        }
    }

    /// Appends an entry. For a regular file `content` yields exactly the entry's size in bytes;
    /// for anything else it is not read.
    ///
    /// # Errors
    /// [`Error::Tar`] for an entry that a layer's tar cannot hold (a file whose name begins with
    /// `.wh.`, over-long names or attributes) and for content of another length;
    /// [`Error::Read`] when `content` fails, [`Error::Write`] when the sink does.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let outcome = self.append_inner(entry, content);
        self.failed |= outcome.is_err();
        outcome
    }

    /// Writes the two final blocks, flushes, and gives the sink back.
    ///
    /// # Errors
    /// When the sink fails, or anything did before.
    pub fn finish(mut self) -> Result<W> {
        if self.failed {
            return Err(Error::tar(b"", self.offset, TarProblem::FailedBefore));
        }
        self.put(&[0; 2 * BLOCK_BYTES])?;
        self.flush_buffer()?;
        self.writer
            .flush()
            .map_err(Error::write_stream("tar stream"))?;
        Ok(self.writer)
    }

    /// Bytes of the archive so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn append_inner(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let path = entry.path.as_bytes();
        let offset = self.offset;
        let refuse = |problem| Error::tar(path, offset, problem);
        if self.failed {
            return Err(refuse(TarProblem::FailedBefore));
        }
        let (header, records) = encode(entry).map_err(refuse)?;
        if !records.is_empty() {
            let pax = pax_header(records.len());
            self.put(pax.as_bytes())?;
            self.put(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.put(header.as_bytes())?;
        if let EntryKind::File { size } = entry.kind {
            self.copy(content, size, path)?;
            self.pad(size)?;
        }
        Ok(())
    }

    fn copy(&mut self, content: &mut dyn Read, size: u64, path: &[u8]) -> Result<()> {
        let mut left = size;
        while left > 0 {
            if self.buffer.len() == BUFFER_BYTES {
                self.flush_buffer()?;
            }
            // Read straight into the buffer, behind what is there.
            let start = self.buffer.len();
            let room = (BUFFER_BYTES - start) as u64;
            self.buffer
                .resize(start + usize::try_from(room.min(left)).unwrap_or(0), 0);
            let window = self.buffer.get_mut(start..).unwrap_or_default();
            let count =
                read_retrying(content, window).map_err(|error| content_error(path, error))?;
            self.buffer.truncate(start + count);
            self.offset += count as u64;
            left -= count as u64;
            if count == 0 {
                return Err(self.wrong_length(path, size, size - left, false));
            }
        }
        // A file that grew since its size was taken has more.
        match read_retrying(content, &mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.wrong_length(path, size, size + 1, true)),
            Err(error) => Err(content_error(path, error)),
        }
    }

    fn wrong_length(&self, path: &[u8], expected: u64, actual: u64, at_least: bool) -> Error {
        let problem = TarProblem::ContentLength {
            expected,
            actual,
            at_least,
        };
        Error::tar(path, self.offset, problem)
    }

    fn pad(&mut self, length: u64) -> Result<()> {
        const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
        let used = usize::try_from(length % BLOCK_BYTES as u64).unwrap_or_default();
        match used {
            0 => Ok(()),
            used => self.put(ZEROS.get(used..).unwrap_or_default()),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush_buffer()?;
        }
        if bytes.len() > BUFFER_BYTES {
            self.writer
                .write_all(bytes)
                .map_err(Error::write_stream("tar stream"))?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn flush_buffer(&mut self) -> Result<()> {
        self.writer
            .write_all(&self.buffer)
            .map_err(Error::write_stream("tar stream"))?;
        self.buffer.clear();
        Ok(())
    }
}

fn read_retrying(content: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match content.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn content_error(path: &[u8], error: io::Error) -> Error {
    Error::read(format!("the content of {}", path.escape_ascii()))(error)
}

/// An entry's header, and the PAX records that go before it.
fn encode(entry: &Entry) -> Result<(tar::Header, Vec<u8>), TarProblem> {
    let mut records = Records::default();
    let mut header = tar::Header::new_ustar();
    let name = archive_name(entry)?;
    put_name(&mut header, &mut records, &name);
    let (kind, size, link, device) = parts_of(&entry.kind)?;
    header.set_entry_type(tar::EntryType::new(kind));
    let size = records.number("size", size, MAX_OCTAL_11);
    header.set_size(size);
    put_link(&mut header, &mut records, link);
    put_device(&mut header, &mut records, device);

    let mark = is_mark(&entry.kind);
    let (mode, uid, gid) = if mark {
        (0, 0, 0)
    } else {
        let uid = owner(entry.uid.into(), "uid")?;
        let gid = owner(entry.gid.into(), "gid")?;
        (entry.mode & 0o7777, uid, gid)
    };
    header.set_mode(mode);
    header.set_uid(records.number("uid", uid.into(), MAX_OCTAL_7));
    header.set_gid(records.number("gid", gid.into(), MAX_OCTAL_7));
    let mtime = if mark {
        Timestamp::default()
    } else {
        entry.mtime
    };
    header.set_mtime(records.time(mtime));
    if !mark {
        for (name, value) in &entry.xattrs {
            records.xattr(name, value)?;
        }
    }
    header.set_cksum();
    Ok((header, records.into_bytes()?))
}

fn is_mark(kind: &EntryKind) -> bool {
    matches!(kind, EntryKind::Whiteout | EntryKind::OpaqueDirectory)
}

/// The name as it stands in the archive, checked to be read back as the same entry.
fn archive_name(entry: &Entry) -> Result<Vec<u8>, TarProblem> {
    let path = entry.path.as_bytes();
    if has_whiteout_part(&entry.path) {
        return Err(TarProblem::WhiteoutName("path"));
    }
    let split = path.iter().rposition(|byte| *byte == b'/');
    let (parent, last) = path.split_at(split.map_or(0, |at| at + 1));
    let name = match entry.kind {
        EntryKind::Directory if path.is_empty() => b"./".to_vec(),
        EntryKind::Directory => [path, b"/"].concat(),
        EntryKind::OpaqueDirectory if path.is_empty() => OPAQUE_NAME.to_vec(),
        EntryKind::OpaqueDirectory => [path, b"/", OPAQUE_NAME].concat(),
        _ if path.is_empty() => return Err(TarProblem::RootNotDirectory),
        EntryKind::Whiteout => [parent, WHITEOUT_PREFIX, last].concat(),
        _ => path.to_vec(),
    };
    // The same limits as for reading: what we write, we can read.
    match (parse_name(&name)?, &entry.kind) {
        (Name::Whiteout(read), EntryKind::Whiteout)
        | (Name::Opaque(read), EntryKind::OpaqueDirectory)
        | (Name::Path(read), _)
            if read == entry.path =>
        {
            Ok(name)
        }
        _ => Err(TarProblem::WhiteoutName("path")),
    }
}

type Device = (u32, u32);

/// Type, size, link target and device numbers.
fn parts_of(kind: &EntryKind) -> Result<(u8, u64, &[u8], Device), TarProblem> {
    const NONE: Device = (0, 0);
    Ok(match kind {
        EntryKind::File { size } => (b'0', *size, &[], NONE),
        EntryKind::Whiteout | EntryKind::OpaqueDirectory => (b'0', 0, &[], NONE),
        EntryKind::HardLink { target } => {
            parse_hard_link(target.as_bytes())?;
            (b'1', 0, target.as_bytes(), NONE)
        }
        EntryKind::Symlink { target } => {
            check_symlink(target)?;
            (b'2', 0, target, NONE)
        }
        EntryKind::CharDevice { major, minor } => (b'3', 0, &[], (*major, *minor)),
        EntryKind::BlockDevice { major, minor } => (b'4', 0, &[], (*major, *minor)),
        EntryKind::Directory => (b'5', 0, &[], NONE),
        EntryKind::Fifo => (b'6', 0, &[], NONE),
    })
}

fn put_name(header: &mut tar::Header, records: &mut Records, name: &[u8]) {
    let Some(ustar) = header.as_ustar_mut() else {
        return;
    };
    match split_name(name, ustar.name.len(), ustar.prefix.len()) {
        Some((prefix, rest)) => {
            put_bytes(&mut ustar.prefix, prefix);
            put_bytes(&mut ustar.name, rest);
        }
        None => {
            records.name("path", name);
            put_bytes(&mut ustar.name, name);
        }
    }
}

/// Splits at a slash so that both sides fit, as far right as the prefix reaches.
fn split_name(name: &[u8], name_max: usize, prefix_max: usize) -> Option<(&[u8], &[u8])> {
    if name.len() <= name_max {
        return Some((&[], name));
    }
    // The last byte is left out: the slash at the end of a directory's name is no place to split.
    let candidates = name.get(..(name.len() - 1).min(prefix_max + 1))?;
    let at = candidates.iter().rposition(|byte| *byte == b'/')?;
    let (prefix, rest) = (name.get(..at)?, name.get(at + 1..)?);
    (!prefix.is_empty() && rest.len() <= name_max).then_some((prefix, rest))
}

fn put_link(header: &mut tar::Header, records: &mut Records, link: &[u8]) {
    let field = &mut header.as_old_mut().linkname;
    if link.len() > field.len() {
        records.name("linkpath", link);
    }
    put_bytes(field, link);
}

fn put_device(header: &mut tar::Header, records: &mut Records, (major, minor): Device) {
    let major = records.number("SCHILY.devmajor", major.into(), MAX_OCTAL_7);
    let minor = records.number("SCHILY.devminor", minor.into(), MAX_OCTAL_7);
    if let Some(ustar) = header.as_ustar_mut() {
        // Both fit into 32 bits: they came from there.
        ustar.set_device_major(u32::try_from(major).unwrap_or_default());
        ustar.set_device_minor(u32::try_from(minor).unwrap_or_default());
    }
}

/// As much as fits; the rest of the field stays zero.
fn put_bytes(field: &mut [u8], bytes: &[u8]) {
    for (place, byte) in field.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

/// PAX records, in the order of their keywords.
#[derive(Default)]
struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    /// The value for the header field; a record if it does not fit there.
    fn number(&mut self, keyword: &str, value: u64, max: u64) -> u64 {
        if value <= max {
            return value;
        }
        self.0.insert(keyword.into(), value.to_string().into());
        0
    }

    /// The value for the header field; a record if it is not whole, before 1970 or too far away.
    fn time(&mut self, time: Timestamp) -> u64 {
        let seconds = u64::try_from(time.seconds).ok();
        match seconds.filter(|seconds| *seconds <= MAX_OCTAL_11) {
            Some(seconds) if time.nanoseconds == 0 => seconds,
            near => {
                self.0.insert(b"mtime".to_vec(), format_time(time).into());
                near.unwrap_or(0)
            }
        }
    }

    fn name(&mut self, keyword: &str, value: &[u8]) {
        if str::from_utf8(value).is_err() {
            // POSIX `pax`: without it, names are UTF-8.
            self.0.insert(b"hdrcharset".to_vec(), b"BINARY".to_vec());
        }
        self.0.insert(keyword.into(), value.to_vec());
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), TarProblem> {
        check_xattr(name, value)?;
        if name.contains(&b'=') || name.contains(&0) {
            return Err(TarProblem::XattrName(name.escape_ascii().to_string()));
        }
        self.0.insert([XATTR_PREFIX, name].concat(), value.to_vec());
        Ok(())
    }

    fn into_bytes(self) -> Result<Vec<u8>, TarProblem> {
        let mut bytes = Vec::new();
        for (keyword, value) in &self.0 {
            push_record(&mut bytes, keyword, value);
        }
        if bytes.len() as u64 > MAX_PAX_BYTES {
            return Err(TarProblem::TooLong {
                what: "PAX header",
                actual: bytes.len() as u64,
                limit: MAX_PAX_BYTES,
            });
        }
        Ok(bytes)
    }
}

fn pax_header(length: usize) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    put_bytes(&mut header.as_old_mut().name, PAX_HEADER_NAME);
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(length as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
    }
    header.set_cksum();
    header
}
