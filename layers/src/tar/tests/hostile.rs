//! Archives that lie, overflow, stop short or want out.

use std::fmt::Write as _;
use std::io::{self, Read};

use super::roundtrip::{content_of, file, read, write};
use crate::Error;
use crate::tar::limits::MAX_PAX_BYTES;
use crate::tar::{TarProblem, TarReader};
use crate::tree::EntryKind;

/// A header with a right checksum, for changing first.
pub(super) fn header(
    name: &[u8],
    kind: u8,
    size: u64,
    change: impl FnOnce(&mut [u8; 512]),
) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkflag = [kind];
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    change(header.as_mut_bytes());
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// Header and content, filled up.
pub(super) fn member(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64, |_| {});
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(super) fn record(keyword: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    super::super::pax::push_record(&mut bytes, keyword.as_bytes(), value);
    bytes
}

pub(super) fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
    member(b"PaxHeaders/x", b'x', &data)
}

fn link(kind: u8, target: &[u8]) -> Vec<u8> {
    header(b"link", kind, 0, |bytes| {
        bytes[157..157 + target.len()].copy_from_slice(target)
    })
}

fn problem(bytes: &[u8]) -> TarProblem {
    match read(bytes) {
        Err(Error::Tar { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn hostile_archives_are_refused() {
    let f = member(b"f", b'0', b"");
    let with_pax = |records: &[(&str, &[u8])]| [pax(records), f.clone()].concat();
    let raw_pax = |data: &[u8]| [member(b"x", b'x', data), f.clone()].concat();
    let field = |at: usize, text: &[u8]| {
        header(b"f", b'0', 0, |bytes| {
            bytes[at..at + text.len()].copy_from_slice(text)
        })
    };
    let deep = b"d/".repeat(2000);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("leaves the root", member(b"../f", b'0', b"")),
        ("leaves the root later", member(b"a/../../f", b'0', b"")),
        ("leaves the root absolutely", member(b"/..", b'5', b"")),
        (
            "leaves the root by PAX",
            with_pax(&[("path", b"a/../../f")]),
        ),
        (
            "leaves the root by GNU name",
            [member(b"x", b'L', b"../f\0"), f.clone()].concat(),
        ),
        ("hard link out", link(b'1', b"../../etc/passwd")),
        (
            "hard link out by PAX",
            [pax(&[("linkpath", b"/../x")]), link(b'1', b"f")].concat(),
        ),
        ("hard link to the root", link(b'1', b"/")),
        ("hard link to a whiteout", link(b'1', b"a/.wh.b")),
        ("hard link to nothing", link(b'1', b"")),
        ("symlink to nothing", link(b'2', b"")),
        (
            "over-long symlink",
            [pax(&[("linkpath", &b"x".repeat(4096))]), link(b'2', b"")].concat(),
        ),
        ("over-long path", with_pax(&[("path", &b"x/".repeat(2049))])),
        ("over-long part", with_pax(&[("path", &b"x".repeat(256))])),
        ("deep path", with_pax(&[("path", &deep)])),
        ("NUL in a path", with_pax(&[("path", b"a\0b")])),
        (
            "NUL in a link",
            [pax(&[("linkpath", b"a\0b")]), link(b'2', b"")].concat(),
        ),
        ("root as a file", member(b"./", b'0', b"")),
        (
            "root as a link",
            header(b".", b'2', 0, |bytes| bytes[157] = b'x'),
        ),
        ("whiteout of nothing", member(b"a/.wh.", b'0', b"")),
        ("whiteout of itself", member(b".wh..", b'0', b"")),
        ("whiteout of the parent", member(b"a/.wh...", b'0', b"")),
        ("below a whiteout", member(b".wh.a/b", b'0', b"")),
        ("unknown type", member(b"f", b'Z', b"")),
        ("volume label", member(b"f", b'V', b"")),
        ("multi-volume", member(b"f", b'M', b"")),
        ("bad checksum", {
            let mut bytes = f.clone();
            bytes[0] = b'g';
            bytes
        }),
        ("uid not a number", field(108, b"12x4567\0")),
        ("uid of -1", field(108, &[0xff; 8])),
        ("uid too large", field(108, &[0x80, 0, 0, 1, 0, 0, 0, 0])),
        (
            "uid that is no uid",
            field(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("gid too large", with_pax(&[("gid", b"4294967296")])),
        ("gid that is no gid", with_pax(&[("gid", b"4294967295")])),
        ("gid below 0", with_pax(&[("gid", b"-2")])),
        ("size below 0", field(124, &[0xff; 12])),
        ("size beyond 64 bits", field(124, &[0xbf; 12])),
        (
            "size without end",
            field(
                124,
                &[0x80, 0, 0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255],
            ),
        ),
        (
            "PAX size lies",
            with_pax(&[("size", b"9223372036854775807")]),
        ),
        ("PAX size not a number", with_pax(&[("size", b"1e3")])),
        (
            "PAX size overflows",
            with_pax(&[("size", b"99999999999999999999")]),
        ),
        ("time not a number", with_pax(&[("mtime", b"1.5.2")])),
        (
            "time overflows",
            with_pax(&[("mtime", b"9223372036854775808")]),
        ),
        ("PAX without length", raw_pax(b"path=f\n")),
        ("PAX length too long", raw_pax(b"99 path=f\n")),
        ("PAX length of 0", raw_pax(b"0 path=f\n")),
        ("PAX length cuts itself", raw_pax(b"2 path=f\n")),
        (
            "PAX length overflows",
            raw_pax(b"99999999999999999999 path=f\n"),
        ),
        ("PAX record without end", raw_pax(b"9 path=fg")),
        ("PAX record without equals", raw_pax(b"8 pathf\n")),
        ("PAX record without keyword", raw_pax(b"5 =f\n")),
        (
            "PAX header too long",
            header(b"x", b'x', MAX_PAX_BYTES + 1, |_| {}),
        ),
        ("long name too long", header(b"x", b'L', 1 << 40, |_| {})),
        (
            "two PAX headers",
            [pax(&[("uid", b"1")]), with_pax(&[("uid", b"2")])].concat(),
        ),
        (
            "two long names",
            [
                member(b"x", b'L', b"a"),
                member(b"x", b'L', b"b"),
                f.clone(),
            ]
            .concat(),
        ),
        (
            "two names",
            [member(b"x", b'L', b"a\0"), with_pax(&[("path", b"b")])].concat(),
        ),
        ("PAX header for nothing", pax(&[("uid", b"1")])),
        (
            "PAX header before the end",
            [pax(&[("uid", b"1")]), vec![0; 1024]].concat(),
        ),
        (
            "global path",
            [member(b"g", b'g', &record("path", b"x")), f.clone()].concat(),
        ),
        (
            "global size",
            [member(b"g", b'g', &record("size", b"1")), f.clone()].concat(),
        ),
        ("xattr without name", with_pax(&[("SCHILY.xattr.", b"x")])),
        (
            "xattr too long",
            with_pax(&[("SCHILY.xattr.user.x", &[0; 65537])]),
        ),
        ("lone zero block", [vec![0; 512], f.clone()].concat()),
        ("device beyond 32 bits", {
            let device = header(b"d", b'3', 0, |_| {});
            [pax(&[("SCHILY.devmajor", b"4294967296")]), device].concat()
        }),
        ("sparse without GNU header", member(b"f", b'S', b"")),
        ("sparse directory", {
            let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"1")];
            [pax(records), member(b"d", b'5', b"")].concat()
        }),
        (
            "sparse of another version",
            with_pax(&[
                ("GNU.sparse.major", b"2"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"1"),
            ]),
        ),
        (
            "sparse without size",
            with_pax(&[("GNU.sparse.map", b"0,0")]),
        ),
        (
            "sparse offset alone",
            with_pax(&[("GNU.sparse.size", b"1"), ("GNU.sparse.offset", b"0")]),
        ),
        (
            "sparse length alone",
            with_pax(&[("GNU.sparse.numbytes", b"0")]),
        ),
        (
            "sparse map odd",
            with_pax(&[("GNU.sparse.size", b"1"), ("GNU.sparse.map", b"0,0,1")]),
        ),
        (
            "sparse map count",
            with_pax(&[
                ("GNU.sparse.size", b"1"),
                ("GNU.sparse.numblocks", b"2"),
                ("GNU.sparse.map", b"1,0"),
            ]),
        ),
        (
            "sparse map without data",
            with_pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"1"),
            ]),
        ),
        (
            "holes without end",
            with_pax(&[
                ("GNU.sparse.size", b"9223372036854775807"),
                ("GNU.sparse.map", b"9223372036854775807,0"),
            ]),
        ),
        (
            "unknown sparse record",
            with_pax(&[("GNU.sparse.shape", b"round")]),
        ),
    ];
    let mut reasons = String::new();
    for (name, mut bytes) in cases {
        bytes.extend_from_slice(&member(b"after", b'0', b"x"));
        bytes.extend_from_slice(&[0; 1024]);
        if name == "PAX header for nothing" {
            bytes = pax(&[("uid", b"1")]);
        }
        match read(&bytes) {
            Err(Error::Tar { source, .. }) => {
                writeln!(reasons, "{name}: {source}").unwrap();
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    // Each for its own reason, not for a slip in how it was made.
    assert_eq!(reasons, include_str!("hostile_reasons.txt"));
}

#[test]
fn the_message_names_the_entry_safely() {
    let bytes = member(b"ok/../../\x1b[31mx", b'0', b"");
    let error = read(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bad tar entry \"ok/../../\\x1b[31mx\" near byte 512"
    );
}

#[test]
fn every_cut_of_an_archive_is_an_error_unless_between_entries() {
    let entries = [file(b"one", 700), file(&b"long/".repeat(40), 5)];
    let bytes = write(&entries);
    let ends: &[usize] = &[
        0,
        512 + 1024,
        bytes.len() - 1024,
        bytes.len() - 512,
        bytes.len(),
    ];
    for cut in 0..=bytes.len() {
        let outcome = read(&bytes[..cut]);
        assert_eq!(outcome.is_ok(), ends.contains(&cut), "{cut}");
    }
    let in_content = problem(&bytes[..600]);
    assert_eq!(in_content, TarProblem::Truncated("a file's content"));
    let in_padding = problem(&bytes[..512 + 701]);
    assert_eq!(
        in_padding,
        TarProblem::Truncated("the padding after a file")
    );
}

#[test]
fn a_failed_archive_stays_failed() {
    let mut bytes = write(&[file(b"a", 5), file(b"b", 5)]);
    bytes[1024] ^= 1;
    let mut reader = TarReader::new(&bytes[..]);
    assert!(reader.next_entry().is_ok());
    for _ in 0..3 {
        assert!(reader.next_entry().is_err());
    }
    // In the content too.
    let bytes = &write(&[file(b"a", 5000)])[..2000];
    let mut reader = TarReader::new(bytes);
    let (_, mut content) = reader.next_entry().unwrap().unwrap();
    let error = content.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(matches!(Error::read("x")(error), Error::Tar { .. }));
    assert!(content.read(&mut [0]).is_err());
    assert!(reader.next_entry().is_err());
}

/// Yields the archive one byte at a time, interrupted now and then, and fails at its end.
#[derive(Debug)]
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let Some((first, rest)) = self.0.split_first() else {
            return Err(missing_blob());
        };
        buffer[0] = *first;
        self.0 = rest;
        Ok(1)
    }
}

#[test]
fn what_is_behind_the_end_is_drained_and_its_error_seen() {
    let bytes = [write(&[file(b"a", 700)]), b"garbage".repeat(1000)].concat();
    let entries = read(&bytes).unwrap();
    assert_eq!(entries[0].1, content_of(&entries[0].0));

    let mut reader = TarReader::new(Slow(&bytes, false));
    assert!(reader.next_entry().unwrap().is_some());
    let error = reader.next_entry().unwrap_err();
    assert!(matches!(error, Error::BlobMissing { .. }), "{error:?}");
}

#[test]
fn content_that_is_not_read_is_passed_over() {
    let bytes = write(&[file(b"a", 70_000), file(b"b", 3)]);
    let mut reader = TarReader::new(&bytes[..]);
    let (_, mut content) = reader.next_entry().unwrap().unwrap();
    content.read_exact(&mut [0; 100]).unwrap();
    let (entry, _) = reader.next_entry().unwrap().unwrap();
    assert_eq!(entry.kind, EntryKind::File { size: 3 });
    assert!(reader.next_entry().unwrap().is_none());
    assert!(reader.next_entry().unwrap().is_none());
}

/// An error of this crate, as one that comes up through a stream.
fn missing_blob() -> io::Error {
    let digest = crate::spec::Digest::of(b"");
    Error::BlobMissing { digest }.into_stream()
}
