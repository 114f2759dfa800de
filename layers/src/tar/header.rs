//! What one header says: checksum, name, numbers, owner and time.

use super::TarProblem;
use super::number::{device_part, owner, parse_field, unsigned};
use super::pax::Records;
use super::source::{BLOCK_BYTES, Block};
use crate::tree::{Entry, EntryKind, EntryPath, Timestamp};

/// POSIX `pax` §ustar: the sum of all bytes, with blanks for the checksum itself. Some old writers
/// added signed bytes.
pub(super) fn check_sum(block: &Block) -> Result<(), TarProblem> {
    const FIELD: std::ops::Range<usize> = 148..156;
    let expected = parse_field(block.get(FIELD).unwrap_or_default(), "checksum")
        .map_err(|_| TarProblem::Checksum)?;
    let mut unsigned = 0i64;
    let mut signed = 0i64;
    for (index, byte) in block.iter().enumerate() {
        let byte = if FIELD.contains(&index) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(i8::from_ne_bytes([byte]));
    }
    if expected == unsigned || expected == signed {
        Ok(())
    } else {
        Err(TarProblem::Checksum)
    }
}

/// A text field, which ends early where it is short.
pub(super) fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The name in a header: with the prefix of ustar, which in star's variant is shorter.
pub(super) fn header_name(header: &tar::Header) -> Vec<u8> {
    let name = until_nul(&header.as_old().name);
    let Some(ustar) = header.as_ustar() else {
        return name.to_vec();
    };
    let star = header.as_bytes().ends_with(b"tar\0");
    let prefix = if star {
        ustar.prefix.get(..131).unwrap_or_default()
    } else {
        &ustar.prefix
    };
    let mut whole = until_nul(prefix).to_vec();
    if !whole.is_empty() {
        whole.push(b'/');
    }
    whole.extend_from_slice(name);
    whole
}

/// Bytes that follow the header, as it says.
pub(super) fn header_size(header: &tar::Header) -> Result<u64, TarProblem> {
    unsigned(parse_field(&header.as_old().size, "size")?, "size")
}

/// Bytes that fill up the last block of `size` bytes.
pub(super) fn padding(size: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    (block - size % block) % block
}

/// Two extension headers may both name an entry if they agree.
pub(super) fn only_one(
    what: &'static str,
    one: Option<&Vec<u8>>,
    other: Option<&Vec<u8>>,
) -> Result<(), TarProblem> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(TarProblem::GivenTwice(what)),
        _ => Ok(()),
    }
}

/// Major and minor of a device; of an older header, none.
pub(super) fn device(header: &tar::Header, records: &Records) -> Result<(u32, u32), TarProblem> {
    const MAJOR: &str = "device major";
    const MINOR: &str = "device minor";
    let fields = match (header.as_ustar(), header.as_gnu()) {
        (Some(ustar), _) => Some((&ustar.dev_major, &ustar.dev_minor)),
        (None, Some(gnu)) => Some((&gnu.dev_major, &gnu.dev_minor)),
        (None, None) => None,
    };
    let part = |record: Option<u32>, field: Option<&[u8; 8]>, what| match (record, field) {
        (Some(number), _) => Ok(number),
        (None, Some(field)) => device_part(unsigned(parse_field(field, what)?, what)?, what),
        (None, None) => Ok(0),
    };
    Ok((
        part(records.device_major, fields.map(|f| f.0), MAJOR)?,
        part(records.device_minor, fields.map(|f| f.1), MINOR)?,
    ))
}

/// A whiteout or opaque mark: only its name means anything.
pub(super) fn mark(path: EntryPath, kind: EntryKind) -> Entry {
    Entry {
        path,
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: Default::default(),
        content_digest: None,
    }
}

/// An entry with what header and records say of owner, mode and time; the records count.
pub(super) fn with_metadata(
    header: &tar::Header,
    path: EntryPath,
    kind: EntryKind,
    records: Records,
) -> Result<Entry, TarProblem> {
    let old = header.as_old();
    let id = |record: Option<u32>, field: &[u8], what| match record {
        Some(id) => Ok(id),
        None => owner(unsigned(parse_field(field, what)?, what)?, what),
    };
    let mtime = match records.mtime {
        Some(mtime) => mtime,
        None => Timestamp {
            seconds: parse_field(&old.mtime, "time")?,
            nanoseconds: 0,
        },
    };
    // Bits above belong to `st_mode`'s file type, which some writers put here too.
    let mode = u32::try_from(parse_field(&old.mode, "mode")? & 0o7777).unwrap_or_default();
    Ok(Entry {
        path,
        kind,
        mode,
        uid: id(records.uid, &old.uid, "uid")?,
        gid: id(records.gid, &old.gid, "gid")?,
        mtime,
        xattrs: records.xattrs,
        content_digest: None,
    })
}
