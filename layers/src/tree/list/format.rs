//! How an entry list lies on disk; the drawing is in `docs/formats.md` §Entry list.
//!
//! Built for one thing: being read whole, quickly. Each path is stored as what differs from the
//! path before; numbers are variable-length. A checksum at the end tells a damaged list from a
//! good one before anything is believed; all the same nothing in it is trusted with a panic or
//! with an allocation, for whoever can write the store could also write the checksum.

use std::io::{Read, Write};

use crate::spec::{Algorithm, Digest};
use crate::{Error, Result};

use super::super::{
    Entry, EntryKind, EntryPath, MAX_PATH_BYTES, MAX_XATTR_BYTES, MAX_XATTR_LIST_BYTES, MODE_BITS,
    Timestamp, TreeError, Xattrs,
};

/// The first line of every list, with the version of the format.
pub const LIST_HEADER: &[u8] = b"wythe-entries 1\n";

/// Largest list that is read, in bytes: 256 MiB, some eight million entries.
pub const MAX_LIST_BYTES: u64 = 256 << 20;

/// Fewest bytes that an entry takes.
const MIN_ENTRY_BYTES: usize = 8;

/// Longest symbolic link's text: Linux `PATH_MAX` without the closing NUL.
const MAX_TARGET_BYTES: usize = 4095;

// What the first byte of an entry says: the low four bits are its kind …
const DIRECTORY: u8 = 0;
const FILE: u8 = 1;
const SYMLINK: u8 = 2;
const HARD_LINK: u8 = 3;
const FIFO: u8 = 4;
const CHAR_DEVICE: u8 = 5;
const BLOCK_DEVICE: u8 = 6;
const WHITEOUT: u8 = 7;
const OPAQUE: u8 = 8;
const KIND_BITS: u8 = 0x0f;
// … and the others what follows it.
const HAS_XATTRS: u8 = 0x10;
const HAS_SHA256: u8 = 0x20;
const HAS_SHA512: u8 = 0x40;

pub(super) fn write(entries: &[Entry], writer: &mut dyn Write) -> std::io::Result<()> {
    let mut out = Vec::with_capacity(64 + entries.len() * 40);
    out.extend_from_slice(LIST_HEADER);
    put_number(&mut out, entries.len() as u64);
    let mut previous = &EntryPath::ROOT;
    for entry in entries {
        put_entry(&mut out, entry, previous);
        previous = &entry.path;
    }
    let checksum = crc32fast::hash(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    writer.write_all(&out)
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry, previous: &EntryPath) {
    let kind = match entry.kind {
        EntryKind::Directory => DIRECTORY,
        EntryKind::File { .. } => FILE,
        EntryKind::Symlink { .. } => SYMLINK,
        EntryKind::HardLink { .. } => HARD_LINK,
        EntryKind::Fifo => FIFO,
        EntryKind::CharDevice { .. } => CHAR_DEVICE,
        EntryKind::BlockDevice { .. } => BLOCK_DEVICE,
        EntryKind::Whiteout => WHITEOUT,
        EntryKind::OpaqueDirectory => OPAQUE,
    };
    let xattrs = if entry.xattrs.is_empty() {
        0
    } else {
        HAS_XATTRS
    };
    let digest = match entry.content_digest.as_ref().map(Digest::algorithm) {
        None => 0,
        Some(Algorithm::Sha256) => HAS_SHA256,
        Some(Algorithm::Sha512) => HAS_SHA512,
    };
    out.push(kind | xattrs | digest);
    let shared = previous.shared_prefix(&entry.path);
    put_number(out, shared as u64);
    put_bytes(out, entry.path.as_bytes().get(shared..).unwrap_or_default());
    put_number(out, u64::from(entry.mode & MODE_BITS));
    put_number(out, u64::from(entry.uid));
    put_number(out, u64::from(entry.gid));
    // Zigzag: small negative numbers are short too.
    let seconds = entry.mtime.seconds;
    put_number(out, ((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
    put_number(out, u64::from(entry.mtime.nanoseconds));
    match &entry.kind {
        EntryKind::File { size } => put_number(out, *size),
        EntryKind::Symlink { target } => put_bytes(out, target),
        EntryKind::HardLink { target } => put_bytes(out, target.as_bytes()),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            put_number(out, u64::from(*major));
            put_number(out, u64::from(*minor));
        }
        _ => {}
    }
    if xattrs != 0 {
        put_number(out, entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            put_bytes(out, name);
            put_bytes(out, value);
        }
    }
    if let Some(digest) = &entry.content_digest {
        let digits = digest.hex().as_bytes();
        out.extend(digits.chunks(2).map(|pair| {
            pair.iter()
                .fold(0, |byte, &digit| byte << 4 | hex_value(digit))
        }));
    }
}

fn hex_value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => 0,
    }
}

pub(super) fn read(reader: &mut dyn Read) -> Result<Vec<Entry>> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_LIST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| Error::Read {
            what: "the entry list".to_owned(),
            source,
        })?;
    Ok(parse(&bytes)?)
}

fn parse(bytes: &[u8]) -> Result<Vec<Entry>, TreeError> {
    let corrupt = |entries, reason| TreeError::ListCorrupt { entries, reason };
    let Some(body) = bytes.strip_prefix(LIST_HEADER) else {
        let line = bytes
            .split(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        let shown = line.get(..40).unwrap_or(line);
        return Err(TreeError::ListVersion {
            header: shown.escape_ascii().to_string(),
        });
    };
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(corrupt(0, "it is longer than 256 MiB"));
    }
    let Some((body, checksum)) = body.split_last_chunk::<4>() else {
        return Err(corrupt(0, "it is cut off"));
    };
    let summed = bytes.get(..bytes.len() - 4).unwrap_or_default();
    if crc32fast::hash(summed) != u32::from_le_bytes(*checksum) {
        return Err(corrupt(0, "its checksum is wrong"));
    }
    let mut cursor = Cursor { rest: body };
    let count = cursor.length().map_err(|reason| corrupt(0, reason))?;
    if count > body.len() / MIN_ENTRY_BYTES {
        return Err(corrupt(0, "it is too short for its number of entries"));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    for index in 0..count {
        let entry = cursor
            .entry(entries.last())
            .map_err(|reason| corrupt(index, reason))?;
        entries.push(entry);
    }
    if !cursor.rest.is_empty() {
        return Err(corrupt(count, "there is more than its number of entries"));
    }
    Ok(entries)
}

type Parsed<T> = std::result::Result<T, &'static str>;

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Parsed<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or("it is cut off")?;
        self.rest = rest;
        Ok(byte)
    }

    fn number(&mut self) -> Parsed<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    fn number_u32(&mut self) -> Parsed<u32> {
        u32::try_from(self.number()?).map_err(|_| "a number is too large")
    }

    fn length(&mut self) -> Parsed<usize> {
        usize::try_from(self.number()?).map_err(|_| "a length is too large")
    }

    fn bytes(&mut self, max: usize) -> Parsed<&'a [u8]> {
        let length = self.length()?;
        if length > max {
            return Err("a length is too large");
        }
        self.take(length)
    }

    fn path(&mut self, previous: &EntryPath) -> Parsed<EntryPath> {
        let shared = self.length()?;
        let shared = previous.as_bytes().get(..shared);
        let shared = shared.ok_or("a path shares more than there is")?;
        let rest = self.bytes(MAX_PATH_BYTES)?;
        normal_path([shared, rest].concat())
    }

    fn entry(&mut self, previous: Option<&Entry>) -> Parsed<Entry> {
        let first = self.byte()?;
        let path = self.path(previous.map_or(&EntryPath::ROOT, |entry| &entry.path))?;
        let mode = self.number_u32()?;
        if mode & !MODE_BITS != 0 {
            return Err("a mode has bits that no mode has");
        }
        let uid = self.number_u32()?;
        let gid = self.number_u32()?;
        let zigzag = self.number()?;
        let seconds = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        let nanoseconds = self.number_u32()?;
        if nanoseconds > 999_999_999 {
            return Err("a time has too many nanoseconds");
        }
        let entry = Entry {
            path,
            kind: self.kind(first & KIND_BITS)?,
            mode,
            uid,
            gid,
            mtime: Timestamp {
                seconds,
                nanoseconds,
            },
            xattrs: match first & HAS_XATTRS {
                0 => Xattrs::new(),
                _ => self.xattrs()?,
            },
            content_digest: self.digest(first & !KIND_BITS & !HAS_XATTRS)?,
        };
        if previous.is_some_and(|previous| previous.canonical_cmp(&entry).is_ge()) {
            return Err("the entries are not in order");
        }
        Ok(entry)
    }

    fn kind(&mut self, kind: u8) -> Parsed<EntryKind> {
        Ok(match kind {
            DIRECTORY => EntryKind::Directory,
            FILE => EntryKind::File {
                size: self.number()?,
            },
            SYMLINK => EntryKind::Symlink {
                target: self.bytes(MAX_TARGET_BYTES)?.to_vec(),
            },
            HARD_LINK => EntryKind::HardLink {
                target: normal_path(self.bytes(MAX_PATH_BYTES)?.to_vec())?,
            },
            FIFO => EntryKind::Fifo,
            CHAR_DEVICE => EntryKind::CharDevice {
                major: self.number_u32()?,
                minor: self.number_u32()?,
            },
            BLOCK_DEVICE => EntryKind::BlockDevice {
                major: self.number_u32()?,
                minor: self.number_u32()?,
            },
            WHITEOUT => EntryKind::Whiteout,
            OPAQUE => EntryKind::OpaqueDirectory,
            _ => return Err("an entry is of a kind that does not exist"),
        })
    }

    fn xattrs(&mut self) -> Parsed<Xattrs> {
        let count = self.length()?;
        let mut xattrs = Xattrs::new();
        for _ in 0..count {
            let name = self.bytes(MAX_XATTR_LIST_BYTES)?.to_vec();
            let value = self.bytes(MAX_XATTR_BYTES)?.to_vec();
            xattrs.insert(name, value);
        }
        if xattrs.len() != count || count == 0 {
            return Err("extended attributes are doubled or missing");
        }
        Ok(xattrs)
    }

    fn digest(&mut self, flags: u8) -> Parsed<Option<Digest>> {
        let (name, length) = match flags {
            0 => return Ok(None),
            HAS_SHA256 => ("sha256:", 32),
            HAS_SHA512 => ("sha512:", 64),
            _ => return Err("an entry has flags that do not exist"),
        };
        let mut text = String::with_capacity(name.len() + 2 * length);
        text.push_str(name);
        for byte in self.take(length)? {
            for half in [byte >> 4, byte & 15] {
                text.extend(char::from_digit(u32::from(half), 16));
            }
        }
        text.parse().map(Some).map_err(|_| "a digest is damaged")
    }
}

/// `bytes` as a path if they are one as it is always written.
fn normal_path(bytes: Vec<u8>) -> Parsed<EntryPath> {
    EntryPath::from_normal(bytes).ok_or("a path is not normal")
}
