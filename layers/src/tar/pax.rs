//! PAX extended headers: records `"%d %s=%s\n"` (POSIX `pax` §Extended Header).
//!
//! Values are bytes and may hold line feeds; only the length in front says where a record ends.

use std::collections::BTreeMap;

use super::TarProblem;
use super::limits::{
    MAX_RAW_NAME_BYTES, MAX_SPARSE_SEGMENTS, MAX_XATTR_NAME_BYTES, MAX_XATTR_VALUE_BYTES,
};
use super::number::{device_part, owner, parse_decimal, parse_time};
use super::sparse::Segment;
use crate::tree::Timestamp;

/// Prefix of the keyword of an extended attribute.
pub(super) const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// What the records before an entry say of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) device_major: Option<u32>,
    pub(super) device_minor: Option<u32>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: Option<SparseRecords>,
}

/// `GNU.sparse.*` (GNU tar manual, §Sparse Formats).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    pub(super) segment_count: Option<u64>,
    pub(super) map: Option<Vec<Segment>>,
    /// Format 0.0: an offset whose length has not come yet.
    pub(super) offset: Option<u64>,
}

/// Splits a header's data into keyword and value.
fn records(mut data: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), TarProblem>> {
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let record = split_record(&mut data);
        if record.is_err() {
            data = &[];
        }
        Some(record)
    })
}

fn split_record<'a>(data: &mut &'a [u8]) -> Result<(&'a [u8], &'a [u8]), TarProblem> {
    let malformed = TarProblem::Pax;
    let space = data.iter().take(21).position(|byte| *byte == b' ');
    let space = space.ok_or(malformed("a record has no length"))?;
    let (digits, _) = data.split_at(space);
    let length = parse_decimal(digits, "PAX record length")?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (record, rest) = data
        .split_at_checked(length)
        .ok_or(malformed("a record is longer than the header"))?;
    let body = record
        .get(space + 1..)
        .and_then(|body| body.strip_suffix(b"\n"))
        .ok_or(malformed("a record does not end in a line feed"))?;
    let equals = body.iter().position(|byte| *byte == b'=');
    let equals = equals.ok_or(malformed("a record has no equals sign"))?;
    let (keyword, value) = body.split_at(equals);
    if keyword.is_empty() || keyword.contains(&0) {
        return Err(malformed("a record has a bad keyword"));
    }
    *data = rest;
    Ok((keyword, value.get(1..).unwrap_or_default()))
}

/// Parses the records of one entry. Unknown keywords are of no concern to a layer; a later record
/// beats an earlier one; an empty value takes the record back.
pub(super) fn parse(data: &[u8]) -> Result<Records, TarProblem> {
    let mut parsed = Records::default();
    for record in records(data) {
        let (keyword, value) = record?;
        if let Some(name) = keyword.strip_prefix(XATTR_PREFIX) {
            let (name, value) = xattr(name, value)?;
            parsed.xattrs.insert(name, value);
        } else if let Some(rest) = keyword.strip_prefix(b"GNU.sparse.") {
            sparse_record(parsed.sparse.get_or_insert_default(), rest, value)?;
        } else {
            plain_record(&mut parsed, keyword, value)?;
        }
    }
    Ok(parsed)
}

/// Checks the records of a global header. They say nothing: no other OCI tool heeds them, so a
/// layer means the same everywhere. Those that would change what is where are refused.
pub(super) fn check_global(data: &[u8]) -> Result<(), TarProblem> {
    for record in records(data) {
        let (keyword, _) = record?;
        let moves = matches!(keyword, b"path" | b"linkpath" | b"size");
        if moves || keyword.starts_with(b"GNU.sparse.") {
            return Err(TarProblem::Pax(
                "a global header gives every entry one path, link or size",
            ));
        }
    }
    Ok(())
}

fn plain_record(parsed: &mut Records, keyword: &[u8], value: &[u8]) -> Result<(), TarProblem> {
    let some = (!value.is_empty()).then_some(value);
    match keyword {
        b"path" => parsed.path = some.map(|v| name(v, "path")).transpose()?,
        b"linkpath" => parsed.link_path = some.map(|v| name(v, "link target")).transpose()?,
        b"size" => parsed.size = some.map(|v| parse_decimal(v, "size")).transpose()?,
        b"uid" => parsed.uid = some.map(|v| id(v, "uid")).transpose()?,
        b"gid" => parsed.gid = some.map(|v| id(v, "gid")).transpose()?,
        b"mtime" => parsed.mtime = some.map(parse_time).transpose()?,
        b"SCHILY.devmajor" => {
            parsed.device_major = some.map(|v| device(v, "device major")).transpose()?;
        }
        b"SCHILY.devminor" => {
            parsed.device_minor = some.map(|v| device(v, "device minor")).transpose()?;
        }
        _ => {}
    }
    Ok(())
}

fn name(value: &[u8], what: &'static str) -> Result<Vec<u8>, TarProblem> {
    if value.len() > MAX_RAW_NAME_BYTES {
        return Err(TarProblem::TooLong {
            what,
            actual: value.len() as u64,
            limit: MAX_RAW_NAME_BYTES as u64,
        });
    }
    if value.contains(&0) {
        return Err(TarProblem::Nul(what));
    }
    Ok(value.to_vec())
}

fn id(value: &[u8], what: &'static str) -> Result<u32, TarProblem> {
    // Writers with 32-bit ids below zero exist; say it is the range that is wrong.
    if value.starts_with(b"-") {
        return Err(TarProblem::OutOfRange {
            what,
            value: value.escape_ascii().take(40).map(char::from).collect(),
        });
    }
    owner(parse_decimal(value, what)?, what)
}

fn device(value: &[u8], what: &'static str) -> Result<u32, TarProblem> {
    device_part(parse_decimal(value, what)?, what)
}

fn xattr(name: &[u8], value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), TarProblem> {
    check_xattr(name, value)?;
    Ok((name.to_vec(), value.to_vec()))
}

/// What the kernel would refuse anyway. (A keyword cannot hold NUL or `=`, see [`split_record`].)
pub(super) fn check_xattr(name: &[u8], value: &[u8]) -> Result<(), TarProblem> {
    if name.is_empty() || name.len() > MAX_XATTR_NAME_BYTES {
        let shown = name.escape_ascii().take(300).map(char::from).collect();
        return Err(TarProblem::XattrName(shown));
    }
    if value.len() > MAX_XATTR_VALUE_BYTES {
        return Err(TarProblem::TooLong {
            what: "extended attribute",
            actual: value.len() as u64,
            limit: MAX_XATTR_VALUE_BYTES as u64,
        });
    }
    Ok(())
}

fn sparse_record(
    sparse: &mut SparseRecords,
    keyword: &[u8],
    value: &[u8],
) -> Result<(), TarProblem> {
    let number = |what| parse_decimal(value, what);
    match keyword {
        b"major" => sparse.major = Some(number("sparse version")?),
        b"minor" => sparse.minor = Some(number("sparse version")?),
        b"name" => sparse.name = Some(name(value, "path")?),
        b"size" | b"realsize" => sparse.real_size = Some(number("sparse size")?),
        b"numblocks" => sparse.segment_count = Some(number("sparse segment count")?),
        b"offset" => match sparse.offset.replace(number("sparse offset")?) {
            None => {}
            Some(_) => return Err(TarProblem::SparseMap("an offset has no length")),
        },
        b"numbytes" => {
            let offset = sparse.offset.take();
            let offset = offset.ok_or(TarProblem::SparseMap("a length has no offset"))?;
            let length = number("sparse length")?;
            let map = sparse.map.get_or_insert_default();
            push_segment(map, Segment { offset, length })?;
        }
        b"map" => {
            let mut map = Vec::new();
            let mut numbers = value.split(|byte| *byte == b',');
            while let Some(offset) = numbers.next().filter(|text| !text.is_empty()) {
                let length = numbers.next();
                let length = length.ok_or(TarProblem::SparseMap("an offset has no length"))?;
                let offset = parse_decimal(offset, "sparse offset")?;
                let length = parse_decimal(length, "sparse length")?;
                push_segment(&mut map, Segment { offset, length })?;
            }
            sparse.map = Some(map);
        }
        other => {
            let shown = other.escape_ascii().take(40).map(char::from).collect();
            return Err(TarProblem::SparseFormat(shown));
        }
    }
    Ok(())
}

/// Appends within the limit.
pub(super) fn push_segment(map: &mut Vec<Segment>, segment: Segment) -> Result<(), TarProblem> {
    if map.len() == MAX_SPARSE_SEGMENTS {
        return Err(TarProblem::SparseMap("it has too many segments"));
    }
    map.push(segment);
    Ok(())
}

/// Appends a record. Its length counts its own digits.
pub(super) fn push_record(data: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    // Space, equals sign and line feed.
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + decimal_digits(length) {
        length = rest + decimal_digits(length);
    }
    data.extend_from_slice(length.to_string().as_bytes());
    data.push(b' ');
    data.extend_from_slice(keyword);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}
