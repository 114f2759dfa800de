//! Archives as others write them, made by hand, and the `tar` crate beside us.

use std::io::{self, Read, Write};

use proptest::prelude::*;

use super::hostile::{header, member, pax, record};
use super::roundtrip::{any_entry, content_of, read, samples, write};
use crate::tar::{Chunk, TarReader};
use crate::tree::{Entry, EntryKind, Timestamp};

fn only(bytes: &[u8]) -> (Entry, Vec<u8>) {
    let mut entries = read(bytes).unwrap();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

#[test]
fn names_are_normalised() {
    for (name, expected) in [
        (&b"./a//b/./c"[..], &b"a/b/c"[..]),
        (b"/etc/passwd", b"etc/passwd"),
        (b"///x", b"x"),
        (b"a\\b", b"a\\b"),
        (b"...", b"..."),
        (b"a..b", b"a..b"),
    ] {
        let (entry, _) = only(&member(name, b'0', b""));
        assert_eq!(entry.path.as_bytes(), expected);
    }
    let (root, _) = only(&member(b"./", b'5', b""));
    assert!(root.path.is_root());
}

#[test]
fn whiteouts_are_understood() {
    use EntryKind::{OpaqueDirectory, Whiteout};
    for (name, path, kind) in [
        (&b"./a/.wh.b"[..], &b"a/b"[..], Whiteout),
        (b".wh.b", b"b", Whiteout),
        (b".wh.b/", b"b", Whiteout),
        (b".wh....", b"...", Whiteout),
        (b"a/.wh..b", b"a/.b", Whiteout),
        (b"a/.wh..wh..opq", b"a", OpaqueDirectory),
        (b".wh..wh..opq", b"", OpaqueDirectory),
    ] {
        let bytes = header(name, b'0', 0, |bytes| {
            bytes[100..107].copy_from_slice(b"0000444")
        });
        let (entry, _) = only(&bytes);
        assert_eq!((entry.path.as_bytes(), &entry.kind), (path, &kind));
        assert_eq!(entry.mode, 0);
        // aufs linked its whiteouts to one file.
        let linked = header(name, b'1', 0, |bytes| {
            bytes[157..167].copy_from_slice(b".wh..wh.au")
        });
        assert_eq!(only(&linked).0.kind, kind);
    }
    let aufs = [
        member(b".wh..wh.aufs", b'0', b"abc"),
        member(b"./.wh..wh.plnk/", b'5', b""),
        member(b"./.wh..wh.plnk/12.34", b'0', &[1; 600]),
        member(b"f", b'0', b"x"),
    ];
    assert_eq!(only(&aufs.concat()).1, b"x");
}

#[test]
fn old_and_odd_headers_are_understood() {
    // v7: no magic, no type, a slash for directories, blanks around octal.
    let v7 = |name: &[u8]| {
        header(name, 0, 0, |bytes| {
            bytes[257..].fill(0);
            bytes[100..108].copy_from_slice(b"   755 \0");
        })
    };
    let (entry, _) = only(&v7(b"dir/"));
    assert_eq!((entry.kind, entry.mode), (EntryKind::Directory, 0o755));
    assert_eq!(only(&v7(b"file")).0.kind, EntryKind::File { size: 0 });
    // Contiguous files are files.
    assert_eq!(only(&member(b"f", b'7', b"x")).1, b"x");
    // A size where there is no content.
    for kind in [b'1', b'2', b'5'] {
        let sized = header(b"x", kind, 9, |bytes| bytes[157] = b'y');
        only(&sized);
    }
    // Signed checksums, where a byte is above 127.
    let mut signed = header(b"na\xffme", b'0', 0, |_| {});
    let sum = u32::from_str_radix(
        str::from_utf8(&signed[148..155])
            .unwrap()
            .trim_end_matches(['\0', ' ']),
        8,
    )
    .unwrap();
    signed[148..155].copy_from_slice(format!("{:06o}\0", sum - 256).as_bytes());
    assert_eq!(only(&signed).0.path.as_bytes(), b"na\xffme");
    // star's shorter prefix.
    let star = header(b"name", b'0', 0, |bytes| {
        bytes[345..348].copy_from_slice(b"dir");
        bytes[476..488].copy_from_slice(b"00000000001\0");
        bytes[508..].copy_from_slice(b"tar\0");
    });
    assert_eq!(only(&star).0.path.as_bytes(), b"dir/name");
}

#[test]
fn numbers_in_base_256_are_understood() {
    let bytes = header(b"f", b'0', 0, |bytes| {
        bytes[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe]);
        bytes[136..148].copy_from_slice(&[0xff; 12]);
    });
    let (entry, _) = only(&bytes);
    assert_eq!(entry.uid, u32::MAX - 1);
    assert_eq!(entry.mtime.seconds, -1);
}

#[test]
fn pax_records_beat_the_header() {
    let time = |text: &str| {
        let bytes = [pax(&[("mtime", text.as_bytes())]), member(b"f", b'0', b"")].concat();
        let Timestamp {
            seconds,
            nanoseconds,
        } = only(&bytes).0.mtime;
        (seconds, nanoseconds)
    };
    for (text, expected) in [
        ("0", (0, 0)),
        ("12.5", (12, 500_000_000)),
        ("12.", (12, 0)),
        ("12.0000000019", (12, 1)),
        ("-1", (-1, 0)),
        ("-1.5", (-2, 500_000_000)),
        ("-0.25", (-1, 750_000_000)),
    ] {
        assert_eq!(time(text), expected, "{text}");
    }
    let records: &[(&str, &[u8])] = &[
        ("path", b"other"),
        ("path", b"real"),
        ("uid", b"70000"),
        ("uid", b""),
        ("size", b"3"),
        ("comment", b"\xff\n"),
        ("LIBARCHIVE.xattr.user.x", b"eA"),
        ("SCHILY.xattr.user.x", b"1 2=3\n\0"),
    ];
    let mut bytes = pax(records);
    // The header says 0 bytes; a reader that believes it would take the content for a header.
    bytes.extend(header(b"f", b'0', 0, |_| {}));
    bytes.extend(b"abc");
    bytes.resize(bytes.len() + 509, 0);
    let (entry, content) = only(&bytes);
    assert_eq!((entry.path.as_bytes(), entry.uid), (&b"real"[..], 0));
    assert_eq!(content, b"abc");
    assert_eq!(entry.xattrs[&b"user.x"[..]], b"1 2=3\n\0");
    assert_eq!(entry.xattrs.len(), 1);
}

#[test]
fn global_headers_say_nothing() {
    let global = [record("comment", b"8f4d"), record("uid", b"1000")].concat();
    let bytes = [
        member(b"pax_global_header", b'g', &global),
        member(b"f", b'0', b""),
    ]
    .concat();
    assert_eq!(only(&bytes).0.uid, 0);
}

#[test]
fn gnu_long_names_are_understood() {
    let name = b"directory/".repeat(30);
    let bytes = [
        member(
            b"././@LongLink",
            b'K',
            &[&b"t".repeat(300)[..], b"\0"].concat(),
        ),
        member(b"././@LongLink", b'L', &[&name[..], b"\0"].concat()),
        header(b"directory/", b'2', 0, |_| {}),
    ];
    let (entry, _) = only(&bytes.concat());
    assert_eq!(entry.path.as_bytes(), &name[..299]);
    assert_eq!(
        entry.kind,
        EntryKind::Symlink {
            target: b"t".repeat(300)
        }
    );
}

#[test]
fn holes_can_be_left_holes() {
    let records: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"1000000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"10"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"1000"),
        ("GNU.sparse.numbytes", b"2"),
    ];
    let bytes = [pax(records), member(b"f", b'0', b"abcde")].concat();
    let (entry, content) = only(&bytes);
    assert_eq!(entry.kind, EntryKind::File { size: 1_000_000 });
    assert_eq!(content.len(), 1_000_000);
    assert_eq!(
        (&content[10..13], &content[1000..1002]),
        (&b"abc"[..], &b"de"[..])
    );
    assert_eq!(content.iter().filter(|byte| **byte != 0).count(), 5);

    let mut reader = TarReader::new(&bytes[..]);
    let (_, mut content) = reader.next_entry().unwrap().unwrap();
    let mut chunks = Vec::new();
    while let Some(chunk) = content.next_chunk().unwrap() {
        chunks.push(match chunk {
            Chunk::Data(bytes) => Ok(bytes.to_vec()),
            Chunk::Hole(length) => Err(length),
        });
    }
    let expected = [
        Err(10),
        Ok(b"abc".to_vec()),
        Err(987),
        Ok(b"de".to_vec()),
        Err(998_998),
    ];
    assert_eq!(chunks, expected);
}

/// Path, type, link, uid and content.
type Seen = (Vec<u8>, u8, Vec<u8>, u64, Vec<u8>);

/// What the `tar` crate makes of an archive, as far as it can say it.
fn by_the_crate(bytes: &[u8]) -> io::Result<Vec<Seen>> {
    let mut archive = tar::Archive::new(bytes);
    let mut entries = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let mut path = entry.path_bytes().into_owned();
        while path.ends_with(b"/") {
            path.pop();
        }
        let header = entry.header();
        let kind = header.entry_type().as_byte();
        let link = entry.link_name_bytes().unwrap_or_default().into_owned();
        entries.push((path, kind, link, header.uid()?, content));
    }
    Ok(entries)
}

fn agree(entries: &[Entry]) {
    let bytes = write(entries);
    let others = by_the_crate(&bytes).unwrap();
    assert_eq!(others.len(), entries.len());
    for (entry, (path, kind, link, uid, content)) in entries.iter().zip(others) {
        assert_eq!(
            path,
            if entry.path.is_root() {
                b"."
            } else {
                entry.path.as_bytes()
            }
        );
        let (expected_kind, expected_link): (u8, &[u8]) = match &entry.kind {
            EntryKind::File { .. } => (b'0', b""),
            EntryKind::HardLink { target } => (b'1', target.as_bytes()),
            EntryKind::Symlink { target } => (b'2', target),
            EntryKind::CharDevice { .. } => (b'3', b""),
            EntryKind::BlockDevice { .. } => (b'4', b""),
            EntryKind::Directory => (b'5', b""),
            _ => (b'6', b""),
        };
        assert_eq!((kind, &link[..]), (expected_kind, expected_link));
        assert_eq!(content, content_of(entry));
        assert_eq!(uid, u64::from(entry.uid));
    }
}

/// It cuts PAX values at line feeds and drops records after such a value.
fn suits_the_crate(entry: &Entry) -> bool {
    let target: &[u8] = match &entry.kind {
        EntryKind::Symlink { target } => target,
        EntryKind::HardLink { target } => target.as_bytes(),
        _ => b"",
    };
    let line_feed = |bytes: &[u8]| bytes.contains(&b'\n');
    !line_feed(entry.path.as_bytes())
        && !line_feed(target)
        && !entry
            .xattrs
            .iter()
            .any(|(name, value)| line_feed(name) || line_feed(value))
}

#[test]
fn the_tar_crate_reads_what_we_write() {
    let mut entries = samples();
    entries.retain(suits_the_crate);
    agree(&entries);
}

#[test]
fn we_read_what_the_tar_crate_writes() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = "long/".repeat(50) + "name";
    for (name, content) in [
        ("plain", &b"abc"[..]),
        (&long, &[7; 2000]),
        ("umlaut-ä", b""),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o640);
        header.set_mtime(1_600_000_000);
        header.set_uid(5_000_000_000u64 & 0xffff_ffff);
        header.set_gid(0);
        builder
            .append_pax_extensions([("SCHILY.xattr.user.k", &b"v"[..])])
            .unwrap();
        builder.append_data(&mut header, name, content).unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder
        .append_link(&mut header, "link", "t".repeat(300))
        .unwrap();
    let bytes = builder.into_inner().unwrap();
    let entries = read(&bytes).unwrap();
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[1].0.path.as_bytes(), long.as_bytes());
    assert_eq!(entries[1].1, [7; 2000]);
    for (entry, _) in &entries[..3] {
        assert_eq!((entry.mode, entry.uid), (0o640, 705_032_704));
        assert_eq!(entry.xattrs[&b"user.k"[..]], b"v");
    }
    assert_eq!(
        entries[3].0.kind,
        EntryKind::Symlink {
            target: b"t".repeat(300)
        }
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tar_crate_agrees(mut entries in prop::collection::vec(any_entry(), 0..6)) {
        entries.retain(suits_the_crate);
        agree(&entries);
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        kind in any::<u8>(),
    ) {
        let mut archive = Vec::new();
        archive.write_all(&member(b"x", kind, &bytes)).unwrap();
        archive.write_all(&member(b"f", b'0', b"x")).unwrap();
        let _ = read(&bytes);
        let _ = read(&archive);
        let _ = read(&[member(b"x", b'x', &bytes), member(b"f", b'0', b"x")].concat());
    }
}
