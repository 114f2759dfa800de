use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::spec::Digest;
use crate::tree::{Timestamp, TreeError};

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

fn directory(text: &str) -> Entry {
    Entry::new(path(text), EntryKind::Directory)
}

fn file(text: &str, size: u64) -> Entry {
    Entry::new(path(text), EntryKind::File { size })
}

fn one_of_each() -> EntryList {
    let mut rich = file("dir/rich", 5_000_000_000);
    rich.mode = 0o4755;
    rich.uid = 1000;
    rich.gid = u32::MAX;
    rich.mtime = Timestamp {
        seconds: -1,
        nanoseconds: 999_999_999,
    };
    rich.xattrs.insert(b"user.a".to_vec(), vec![0, 255]);
    rich.xattrs.insert(b"user.b".to_vec(), Vec::new());
    rich.content_digest = Some(Digest::of(b"content"));
    let mut sha512 = file("dir/sha512", 0);
    let digits = format!("sha512:{}", "0f".repeat(64));
    sha512.content_digest = Some(digits.parse().unwrap());
    let entry = |text, kind| Entry::new(path(text), kind);
    let device = (1, 0xf_ffff);
    EntryList::new(vec![
        directory(""),
        directory("dir"),
        entry("dir", EntryKind::OpaqueDirectory),
        entry(
            "dir/block",
            EntryKind::BlockDevice {
                major: device.0,
                minor: device.1,
            },
        ),
        entry(
            "dir/char",
            EntryKind::CharDevice {
                major: device.0,
                minor: 3,
            },
        ),
        entry("dir/fifo", EntryKind::Fifo),
        entry(
            "dir/link",
            EntryKind::Symlink {
                target: b"../\xff".to_vec(),
            },
        ),
        rich,
        entry(
            "dir/same",
            EntryKind::HardLink {
                target: path("dir/rich"),
            },
        ),
        sha512,
        entry("gone", EntryKind::Whiteout),
    ])
}

fn written(list: &EntryList) -> Vec<u8> {
    let mut bytes = Vec::new();
    list.write(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<EntryList> {
    EntryList::read(&mut &*bytes)
}

/// With a checksum that fits, so that what comes after it is tested.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 4);
    let checksum = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn what_is_written_is_read_back() {
    for list in [EntryList::default(), one_of_each()] {
        assert_eq!(read(&written(&list)).unwrap(), list);
    }
}

/// Writes the golden file of a *new* version; by hand, once.
#[test]
#[ignore = "only for a new version of the format"]
fn write_golden() {
    std::fs::write("src/tree/list/version-1.golden", written(&one_of_each())).unwrap();
}

/// Version 1 as it was first written. It must be readable for as long as stores may hold it; a
/// change of the bytes is a new version.
#[test]
fn version_1_stays_as_it_is() {
    let golden = include_bytes!("version-1.golden");
    assert_eq!(
        written(&one_of_each()).escape_ascii().to_string(),
        golden.escape_ascii().to_string()
    );
    assert_eq!(read(golden).unwrap(), one_of_each());
}

#[test]
fn other_versions_are_named() {
    let bytes = b"wythe-entries 2\nwhatever";
    let error = read(bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the entry list has an unknown version: \"wythe-entries 2\""
    );
    assert!(read(b"").is_err());
}

#[test]
fn damage_is_an_error_whatever_the_checksum_says() {
    let good = written(&one_of_each());
    for cut in 0..good.len() {
        assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        if cut > LIST_HEADER.len() + 4 {
            assert!(
                read(&sealed(good[..cut].to_vec())).is_err(),
                "sealed at {cut}"
            );
        }
    }
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(read(&bad).is_err(), "bit {bit} of byte {at}");
            // With a good checksum it may be another valid list, but nothing worse.
            if let Ok(list) = read(&sealed(bad.clone())) {
                assert_eq!(read(&written(&list)).unwrap(), list);
            }
        }
    }
}

#[test]
fn a_lying_count_allocates_nothing() {
    let mut bytes = LIST_HEADER.to_vec();
    bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    bytes.extend_from_slice(&[0; 4]);
    let error = read(&sealed(bytes)).unwrap_err();
    assert!(matches!(
        error,
        crate::Error::Tree(TreeError::ListCorrupt { entries: 0, .. })
    ));
}

#[test]
fn entries_out_of_order_or_twice_are_corrupt() {
    for entries in [
        vec![file("b", 1), file("a", 1)],
        vec![file("a", 1), file("a", 1)],
        vec![file("a.b", 1), file("a/b", 1)],
    ] {
        let list = EntryList { entries };
        assert!(read(&written(&list)).is_err());
    }
}

#[test]
fn the_last_of_several_is_kept() {
    let list = EntryList::new(vec![
        file("a", 1),
        directory("b"),
        file("a", 2),
        file("a", 3),
    ]);
    assert_eq!(list.entries(), [file("a", 3), directory("b")]);
}

#[test]
fn looking_up_and_listing() {
    let list = one_of_each();
    assert_eq!(list.get(&path("dir")).unwrap().kind, EntryKind::Directory);
    assert!(list.is_opaque(&path("dir")));
    assert!(!list.is_opaque(&path("")));
    assert!(list.get(&path("dir/nothing")).is_none());
    let names = |at: &str| {
        let names = list.children(&path(at)).map(|entry| entry.path.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(""), ["dir", "gone"]);
    assert_eq!(names("dir").len(), 7);
    assert_eq!(names("dir/fifo").len(), 0);
    assert_eq!(names("nothing").len(), 0);
    let same = list.get(&path("dir/same")).unwrap();
    let file = list.without_link(same).unwrap();
    assert_eq!((file.path, file.mode), (path("dir/same"), 0o4755));
}

#[test]
fn children_without_their_directory_are_not_the_grandparents() {
    let list = EntryList::new(vec![file("a/b/c", 1), file("a/d", 1), file("e/f", 1)]);
    assert_eq!(list.children(&path("a")).count(), 1);
    assert_eq!(list.children(&path("a/b")).count(), 1);
    assert_eq!(list.children(&path("")).count(), 0);
}

/// What this thread has spent of the processor: unlike the clock's, no matter of what else runs.
fn spent() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(spent).unwrap()
}

#[test]
fn a_large_list_loads_in_no_time() {
    let mut entries = Vec::new();
    for package in 0..790 {
        entries.push(directory(&format!("usr/share/doc/package-{package}")));
        for number in 0..99 {
            entries.push(file(
                &format!("usr/share/doc/package-{package}/file-{number}.txt"),
                1234,
            ));
        }
    }
    let bytes = written(&EntryList::new(entries));
    let start = spent();
    let list = read(&bytes).unwrap();
    let took = spent() - start;
    eprintln!(
        "{} entries in {} bytes read in {took:?}",
        list.entries().len(),
        bytes.len()
    );
    // The aim is 30 ms optimised; this is a debug build.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut whole = LIST_HEADER.to_vec();
        whole.extend_from_slice(&bytes);
        whole.extend_from_slice(&[0; 4]);
        let whole = sealed(whole);
        if let Ok(list) = read(&whole) {
            prop_assert_eq!(written(&list).len() <= whole.len(), true);
        }
    }
}
