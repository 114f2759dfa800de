//! What is written is read back the same, and by others too.

use std::collections::BTreeMap;
use std::io::{self, Read};

use proptest::prelude::*;

use crate::tar::{TarReader, TarWriter};
use crate::tree::{Entry, EntryKind, EntryPath, Timestamp};

pub(super) fn path(text: &[u8]) -> EntryPath {
    EntryPath::parse(text).unwrap()
}

pub(super) fn entry(name: &[u8], kind: EntryKind) -> Entry {
    Entry {
        path: path(name),
        // An ordinary user has to get into what is unpacked.
        mode: if kind == EntryKind::Directory {
            0o755
        } else {
            0o644
        },
        kind,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: BTreeMap::new(),
        content_digest: None,
    }
}

pub(super) fn file(name: &[u8], size: u64) -> Entry {
    entry(name, EntryKind::File { size })
}

/// Content that depends on the name, so that mix-ups show.
pub(super) fn content_of(entry: &Entry) -> Vec<u8> {
    let EntryKind::File { size } = entry.kind else {
        return Vec::new();
    };
    let name = entry.path.as_bytes();
    let endless = name.iter().cycle().copied();
    endless.take(size as usize).collect()
}

pub(super) fn write(entries: &[Entry]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for entry in entries {
        writer.append(entry, &mut &content_of(entry)[..]).unwrap();
    }
    let length = writer.offset() + 1024;
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, length);
    assert_eq!(length % 512, 0);
    bytes
}

pub(super) fn read(bytes: &[u8]) -> crate::Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = TarReader::new(bytes);
    let mut entries = Vec::new();
    while let Some((entry, mut content)) = reader.next_entry()? {
        let mut bytes = Vec::new();
        content
            .read_to_end(&mut bytes)
            .map_err(crate::Error::read("content"))?;
        entries.push((entry, bytes));
    }
    assert_eq!(reader.offset(), bytes.len() as u64);
    Ok(entries)
}

fn round_trips(entries: &[Entry]) {
    let bytes = write(entries);
    let read = read(&bytes).unwrap();
    let back: Vec<Entry> = read.iter().map(|(entry, _)| entry.clone()).collect();
    assert_eq!(back, entries);
    for (entry, content) in &read {
        assert_eq!(*content, content_of(entry));
    }
    assert_eq!(bytes, write(&back), "canonical");
}

/// One entry of each kind and each way to outgrow a header.
pub(super) fn samples() -> Vec<Entry> {
    use EntryKind::*;
    let long = [b"d".repeat(120), b"e".repeat(120)].join(&b'/');
    let mut entries = vec![
        entry(b"", Directory),
        entry(b"bin", Directory),
        Entry {
            mode: 0o4755,
            ..file(b"bin/su", 700)
        },
        entry(
            b"bin/sh",
            Symlink {
                target: b"/../a b/./c".to_vec(),
            },
        ),
        entry(
            b"bin/su2",
            HardLink {
                target: path(b"bin/su"),
            },
        ),
        entry(b"dev/null", CharDevice { major: 1, minor: 3 }),
        entry(
            b"dev/sda",
            BlockDevice {
                major: 8,
                minor: 0x0fff_ffff,
            },
        ),
        entry(b"fifo", Fifo),
        file(b"empty", 0),
        file(b"block", 512),
        file(b"na\xffme", 5),
        file(&long, 5),
        entry(&[&long[..], b"-dir"].concat(), Directory),
        entry(
            b"long-link",
            Symlink {
                target: b"x/".repeat(800),
            },
        ),
        entry(
            b"long-hard",
            HardLink {
                target: path(&long),
            },
        ),
        Entry {
            uid: 0o7_777_777,
            gid: 0o10_000_000,
            ..file(b"ids", 0)
        },
        Entry {
            uid: u32::MAX - 1,
            gid: 3_000_000_000,
            ..file(b"large-ids", 0)
        },
    ];
    for (index, (seconds, nanoseconds)) in [
        (0, 1),
        (-1, 0),
        (-1, 500_000_000),
        (-2, 999_999_999),
        (i64::MIN, 0),
        (i64::MIN, 1),
        (i64::MAX, 999_999_999),
        (0o777_7777_7777, 0),
        (0o777_7777_7777 + 1, 0),
        (1_700_000_000, 120_000_000),
    ]
    .into_iter()
    .enumerate()
    {
        entries.push(Entry {
            mtime: Timestamp {
                seconds,
                nanoseconds,
            },
            ..file(format!("time{index}").as_bytes(), 1)
        });
    }
    let mut capable = file(b"capable", 3);
    for (name, value) in [
        (&b"security.capability"[..], &b"\x01\0\0\x02\n=\n\0"[..]),
        (b"user.empty", b""),
        (b"user.\xffx y\n", b"12 a=b\n"),
    ] {
        capable.xattrs.insert(name.to_vec(), value.to_vec());
    }
    entries.push(capable);
    entries
}

fn marks() -> Vec<Entry> {
    let mark = |name: &[u8], kind| Entry {
        mode: 0,
        ..entry(name, kind)
    };
    vec![
        mark(b"gone", EntryKind::Whiteout),
        mark(b"bin/gone", EntryKind::Whiteout),
        mark(b"bin", EntryKind::OpaqueDirectory),
        mark(b"", EntryKind::OpaqueDirectory),
        mark(&b"x".repeat(251), EntryKind::Whiteout),
    ]
}

#[test]
fn every_kind_of_entry_comes_back() {
    round_trips(&[]);
    for entry in samples().into_iter().chain(marks()) {
        round_trips(&[entry]);
    }
    let mut all = samples();
    all.extend(marks());
    round_trips(&all);
}

#[test]
fn names_of_every_length_come_back() {
    for length in (1..=255).chain([300, 4000, 4095]) {
        let mut name = b"a".repeat(length);
        // A slash here and there, never at the end.
        for at in (90..length - 1).step_by(100) {
            name[at] = b'/';
        }
        if length <= 255 {
            round_trips(&[file(&b"n".repeat(length), 1)]);
            round_trips(&[entry(&b"n".repeat(length), EntryKind::Directory)]);
        }
        let target = b"t".repeat(length);
        round_trips(&[
            file(&name, 1),
            entry(&name, EntryKind::Directory),
            entry(b"l", EntryKind::Symlink { target }),
            entry(
                b"h",
                EntryKind::HardLink {
                    target: path(&name),
                },
            ),
        ]);
    }
}

#[test]
fn what_fits_ustar_has_no_pax_header() {
    for entry in samples() {
        let bytes = write(std::slice::from_ref(&entry));
        assert_eq!(&bytes[257..265], b"ustar\x0000");
    }
    assert_eq!(write(&[file(b"plain", 0)]).len(), 512 + 1024);
    assert_eq!(write(&marks()[..4]).len(), 4 * 512 + 1024);
    assert_eq!(write(&[entry(b"", EntryKind::Directory)])[..3], *b"./\0");
}

#[test]
fn files_beyond_8_gib_have_their_size_in_pax() {
    let size = 8 << 30;
    let mut zeros = io::repeat(0).take(size);
    let mut sink = HeadSink(Vec::new());
    let mut writer = TarWriter::new(&mut sink);
    // Only the headers matter; the content would take seconds.
    assert!(
        writer
            .append(&file(b"big", size), &mut zeros.by_ref().take(1 << 20))
            .is_err()
    );
    assert!(writer.finish().is_err());
    let head = &sink.0;
    assert_eq!(head[156], b'x');
    assert!(head[512..1024].starts_with(b"19 size=8589934592\n"));
}

struct HeadSink(Vec<u8>);

impl io::Write for HeadSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() < 4096 {
            self.0.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn entries_that_no_tar_can_hold_are_refused() {
    let xattr = |name: &[u8], value: Vec<u8>| {
        let mut entry = file(b"f", 0);
        entry.xattrs.insert(name.to_vec(), value);
        entry
    };
    let cases = [
        ("whiteout name", file(b".wh.x", 0)),
        ("whiteout directory", file(b"a/.wh.x/b", 0)),
        ("opaque name", file(b"a/.wh..wh..opq", 0)),
        ("root as a file", file(b"", 0)),
        ("whiteout of the root", entry(b"", EntryKind::Whiteout)),
        (
            "whiteout of a long name",
            entry(&b"x".repeat(252), EntryKind::Whiteout),
        ),
        (
            "whiteout that would be opaque",
            entry(b"a/.wh..opq", EntryKind::Whiteout),
        ),
        (
            "link to nothing",
            entry(b"l", EntryKind::Symlink { target: vec![] }),
        ),
        (
            "link with NUL",
            entry(b"l", EntryKind::Symlink { target: vec![0] }),
        ),
        (
            "link to the root",
            entry(b"l", EntryKind::HardLink { target: path(b"") }),
        ),
        ("attribute with equals", xattr(b"user.a=b", vec![])),
        ("attribute without name", xattr(b"", vec![])),
        ("attribute name too long", xattr(&b"u".repeat(256), vec![])),
        ("attribute too long", xattr(b"user.a", vec![0; 65537])),
        (
            "not an owner",
            Entry {
                uid: u32::MAX,
                ..file(b"f", 0)
            },
        ),
    ];
    for (name, entry) in cases {
        let mut writer = TarWriter::new(Vec::new());
        let outcome = writer.append(&entry, &mut io::empty());
        assert!(matches!(outcome, Err(crate::Error::Tar { .. })), "{name}");
        assert!(
            writer.append(&file(b"f", 0), &mut io::empty()).is_err(),
            "{name}"
        );
        assert!(writer.finish().is_err(), "{name}");
    }
}

#[test]
fn content_of_another_length_is_refused() {
    for (size, content) in [(5, &b"1234"[..]), (5, b"123456"), (0, b"1")] {
        let mut writer = TarWriter::new(Vec::new());
        let outcome = writer.append(&file(b"f", size), &mut &content[..]);
        // Nothing is read for an empty file but the look for more.
        assert!(matches!(outcome, Err(crate::Error::Tar { .. })), "{size}");
    }
}

fn any_path() -> impl Strategy<Value = EntryPath> {
    let part = prop_oneof![
        "[a-z.]{1,8}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 1..200),
    ];
    prop::collection::vec(part, 1..6).prop_filter_map("a path", |parts| {
        let path = EntryPath::parse(&parts.join(&b'/'))?;
        let whiteout = path.parts().any(|part| part.starts_with(b".wh."));
        (!whiteout && !path.is_root()).then_some(path)
    })
}

fn any_kind() -> impl Strategy<Value = EntryKind> {
    let target = prop::collection::vec(1..=255u8, 1..300);
    prop_oneof![
        Just(EntryKind::Directory),
        (0..2000u64).prop_map(|size| EntryKind::File { size }),
        target.prop_map(|target| EntryKind::Symlink { target }),
        any_path().prop_map(|target| EntryKind::HardLink { target }),
        Just(EntryKind::Fifo),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
    ]
}

pub(super) fn any_entry() -> impl Strategy<Value = Entry> {
    let xattr_name = prop::collection::vec(any::<u8>(), 1..40)
        .prop_filter("a name", |name| !name.contains(&b'=') && !name.contains(&0));
    let xattrs =
        prop::collection::btree_map(xattr_name, prop::collection::vec(any::<u8>(), 0..100), 0..3);
    let owner = prop_oneof![0..70_000u32, 0..u32::MAX];
    let seconds = prop_oneof![0..2_000_000_000i64, -10..10i64, any::<i64>()];
    let nanoseconds = prop_oneof![Just(0u32), 0..1_000_000_000u32];
    (
        any_path(),
        any_kind(),
        0..0o10000u32,
        (owner.clone(), owner),
        (seconds, nanoseconds),
        xattrs,
    )
        .prop_map(
            |(path, kind, mode, (uid, gid), (seconds, nanoseconds), xattrs)| Entry {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime: Timestamp {
                    seconds,
                    nanoseconds,
                },
                xattrs,
                content_digest: None,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_entries_come_back(entries in prop::collection::vec(any_entry(), 0..8)) {
        round_trips(&entries);
    }

    #[test]
    fn broken_archives_never_panic(
        entries in prop::collection::vec(any_entry(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = write(&entries);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let mut reader = TarReader::new(&bytes[..]);
        while let Ok(Some((_, mut content))) = reader.next_entry() {
            let _ = io::copy(&mut content, &mut io::sink());
        }
    }
}
