//! Layers through the whole module: made, unpacked, looked at, compressed.

use std::fs;
use std::io::Cursor;

use super::*;
use crate::Error;
use crate::progress::Silent;
use crate::spec::{Descriptor, DiffId, Digest, MediaType};
use crate::store::Store;
use crate::stream::Compression;
use crate::testing::{self, dir, file, link, opaque, symlink, tar_of, whiteout};
use crate::tree::{Entry, EntryKind, EntryPath, LowerView, Timestamp};

fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

/// A layer's tar as a plain blob: its descriptor, its diff ID, its bytes.
fn blob_of(entries: &[(Entry, &str)]) -> (Descriptor, DiffId, Vec<u8>) {
    let bytes = tar_of(entries);
    let descriptor = Descriptor::of(MediaType::LAYER, &bytes);
    (descriptor, DiffId(Digest::of(&bytes)), bytes)
}

fn unpack_entries(store: &Store, entries: &[(Entry, &str)]) -> (DiffId, Unpacked) {
    let (blob, diff_id, bytes) = blob_of(entries);
    let unpacked = unpack(store, &blob, &diff_id, &mut Cursor::new(bytes)).unwrap();
    (diff_id, unpacked)
}

/// A stack of self-contained layers, bottom first.
fn stack_of(store: &Store, layers: &[&[(Entry, &str)]]) -> LayerStack {
    let diff_ids: Vec<DiffId> = layers
        .iter()
        .map(|layer| unpack_entries(store, layer).0)
        .collect();
    LayerStack::open(store, &diff_ids).unwrap().unwrap()
}

/// What lies in the store's places for work in progress.
fn leftovers(store: &Store) -> Vec<String> {
    ["snapshots", "ingest"]
        .iter()
        .filter_map(|name| fs::read_dir(store.root().join(name)).ok())
        .flat_map(|children| children.map(|child| child.unwrap().path().display().to_string()))
        .collect()
}

fn content(stack: &LayerStack, name: &str) -> String {
    let found = stack.lookup(&path(name)).unwrap().unwrap();
    std::io::read_to_string(stack.open_file(&found).unwrap()).unwrap()
}

#[test]
fn an_unpacked_layer_is_tree_blob_list_and_record() {
    let (_temp, store) = testing::store();
    let entries = [
        (dir("etc", 0o755), ""),
        (file("etc/hosts", 0o644, "hello"), "hello"),
        (link("etc/same", "etc/hosts"), ""),
        (symlink("etc/link", "hosts"), ""),
    ];
    let (blob, diff_id, bytes) = blob_of(&entries);
    let unpacked = unpack(&store, &blob, &diff_id, &mut Cursor::new(bytes)).unwrap();
    let Unpacked::Tree(tree) = unpacked else {
        panic!("not self-contained");
    };
    assert_eq!(tree.key(), &TreeKey::Diff(diff_id.clone()));
    assert_eq!(
        fs::read_to_string(tree.fs().join("etc/same")).unwrap(),
        "hello"
    );
    assert_eq!(tree.entries().unwrap().len(), 4);
    let record = record(&store, &diff_id).unwrap().unwrap();
    assert_eq!(record.size_bytes, blob.size);
    assert_eq!(record.blobs, std::slice::from_ref(&blob));
    assert!(store.blobs().has(&blob).unwrap());
    assert!(LayerStack::open(&store, &[diff_id]).unwrap().is_some());
    assert_eq!(leftovers(&store), [""; 0]);
}

#[test]
fn every_compression_unpacks_to_the_same_tree() {
    let entries = [
        (dir("d", 0o700), ""),
        (file("d/f", 0o600, "content"), "content"),
    ];
    let (_, diff_id, plain) = blob_of(&entries);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let (_temp, store) = testing::store();
        let mut encoder = crate::stream::Encoder::new(Vec::new(), compression, None, 1).unwrap();
        std::io::Write::write_all(&mut encoder, &plain).unwrap();
        let body = encoder.finish().unwrap();
        let blob = Descriptor::of(compression.layer_media_type(), &body);
        unpack(&store, &blob, &diff_id, &mut Cursor::new(body)).unwrap();
        let stack = LayerStack::open(&store, std::slice::from_ref(&diff_id))
            .unwrap()
            .unwrap();
        assert_eq!(content(&stack, "d/f"), "content");
    }
}

#[test]
fn bad_bodies_leave_nothing_and_say_what_is_wrong() {
    let good = blob_of(&[(file("f", 0o644, "x"), "x")]);
    let other = blob_of(&[(file("g", 0o644, "x"), "x")]);
    let garbage = vec![7u8; 2048];
    let mut truncated = good.2.clone();
    truncated.truncate(700);
    let garbage_blob = Descriptor::of(MediaType::LAYER, &garbage);
    let garbage_id = DiffId(Digest::of(&garbage));
    type Check = fn(&Error) -> bool;
    let cases: [(&str, &Descriptor, &DiffId, &[u8], Check); 5] = [
        ("another blob", &good.0, &good.1, &other.2, |error| {
            matches!(error, Error::DigestMismatch { .. })
        }),
        ("truncated", &good.0, &good.1, &truncated, |error| {
            matches!(
                error,
                Error::SizeMismatch {
                    at_least: false,
                    ..
                }
            )
        }),
        ("garbage for a layer", &good.0, &good.1, &garbage, |error| {
            matches!(
                error,
                Error::DigestMismatch { .. } | Error::SizeMismatch { .. }
            )
        }),
        (
            "a right blob of another layer",
            &good.0,
            &other.1,
            &good.2,
            |error| matches!(error, Error::Unpack { source, .. } if matches!(**source, Error::DiffIdMismatch { .. })),
        ),
        (
            "a right blob that is no tar",
            &garbage_blob,
            &garbage_id,
            &garbage,
            |error| matches!(error, Error::Unpack { .. }),
        ),
    ];
    for (name, blob, diff_id, body, check) in cases {
        let (_temp, store) = testing::store();
        let error = unpack(&store, blob, diff_id, &mut Cursor::new(body)).unwrap_err();
        assert!(check(&error), "{name}: {error:?}");
        assert_eq!(leftovers(&store), [""; 0], "{name}");
        assert!(store.blobs().list().unwrap().is_empty(), "{name}");
        assert!(record(&store, diff_id).unwrap().is_none(), "{name}");
        assert!(
            LayerStack::open(&store, std::slice::from_ref(diff_id))
                .unwrap()
                .is_none()
        );
    }
}

#[test]
fn bytes_after_the_archive_belong_to_the_diff_id() {
    let (_temp, store) = testing::store();
    let mut bytes = tar_of(&[(file("f", 0o644, "x"), "x")]);
    bytes.extend([0u8; 9 * 1024]);
    let blob = Descriptor::of(MediaType::LAYER, &bytes);
    let diff_id = DiffId(Digest::of(&bytes));
    unpack(&store, &blob, &diff_id, &mut Cursor::new(bytes)).unwrap();
}

#[test]
fn a_hard_link_into_a_lower_layer_gets_a_tree_keyed_by_chain() {
    let (_temp, store) = testing::store();
    let (base, _) = unpack_entries(&store, &[(file("original", 0o640, "below"), "below")]);
    let linking = [(link("second", "original"), "")];
    let (diff_id, unpacked) = unpack_entries(&store, &linking);
    assert!(matches!(unpacked, Unpacked::NeedsParents));
    let both = [base.clone(), diff_id.clone()];
    assert!(LayerStack::open(&store, &both).unwrap().is_none());

    let parents = LayerStack::open(&store, std::slice::from_ref(&base))
        .unwrap()
        .unwrap();
    let (blob, ..) = blob_of(&linking);
    let tree = unpack_onto(&store, &blob, &diff_id, &parents).unwrap();
    assert!(matches!(tree.key(), TreeKey::Chain(_)));
    let stack = LayerStack::open(&store, &both).unwrap().unwrap();
    assert_eq!(content(&stack, "second"), "below");
    assert_eq!(
        stack.lookup(&path("second")).unwrap().unwrap().entry.mode,
        0o640
    );
    // It is this chain's only.
    let (elsewhere, _) = unpack_entries(&store, &[(file("original", 0o644, "else"), "else")]);
    assert!(
        LayerStack::open(&store, &[elsewhere, diff_id])
            .unwrap()
            .is_none()
    );
}

#[test]
fn an_unlisted_directory_keeps_the_mode_it_has_below() {
    let (_temp, store) = testing::store();
    let (base, _) = unpack_entries(&store, &[(dir("secret", 0o700), "")]);
    let implicit = [(file("secret/new", 0o644, "x"), "x")];
    let (diff_id, unpacked) = unpack_entries(&store, &implicit);
    assert!(matches!(unpacked, Unpacked::NeedsParents));
    let parents = LayerStack::open(&store, std::slice::from_ref(&base))
        .unwrap()
        .unwrap();
    unpack_onto(&store, &blob_of(&implicit).0, &diff_id, &parents).unwrap();
    let stack = LayerStack::open(&store, &[base, diff_id]).unwrap().unwrap();
    let secret = stack.lookup(&path("secret")).unwrap().unwrap();
    assert_eq!((secret.entry.mode, secret.layer), (0o700, 1));
    assert_eq!(content(&stack, "secret/new"), "x");
}

#[test]
fn what_is_missing_from_a_stack_is_found_in_a_longer_one() {
    let (_temp, store) = testing::store();
    let lower = stack_of(
        &store,
        &[&[(dir("a", 0o755), ""), (file("a/x", 0o644, "1"), "1")]],
    );
    for missing in ["b", "b/c", "b/c/d", "a/y", "a/x/z"] {
        assert!(lower.lookup(&path(missing)).unwrap().is_none(), "{missing}");
    }
    let upper = stack_of(
        &store,
        &[&[
            (dir("a", 0o755), ""),
            (file("a/y", 0o644, "2"), "2"),
            (dir("b", 0o755), ""),
            (dir("b/c", 0o755), ""),
            (file("b/c/d", 0o644, "2"), "2"),
        ]],
    );
    let diff_id = upper.trees().first().unwrap().diff_id();
    let both = lower.with(&store, diff_id).unwrap().unwrap();
    for (name, layer) in [("b/c/d", 1), ("b/c", 1), ("a/y", 1), ("a/x", 0), ("a", 1)] {
        let found = both.lookup(&path(name)).unwrap();
        assert_eq!(found.map(|found| found.layer), Some(layer), "{name}");
    }
    assert!(lower.lookup(&path("b/c/d")).unwrap().is_none());
}

#[test]
fn the_merged_view_is_that_of_overlayfs() {
    let (_temp, store) = testing::store();
    let stack = stack_of(
        &store,
        &[
            &[
                (dir("a", 0o755), ""),
                (file("a/gone", 0o644, "1"), "1"),
                (file("a/kept", 0o644, "1"), "1"),
                (file("a/replaced", 0o644, "1"), "1"),
                (dir("b", 0o755), ""),
                (file("b/hidden", 0o644, "1"), "1"),
                (dir("dir-to-file", 0o755), ""),
                (file("dir-to-file/x", 0o644, "1"), "1"),
                (file("file-to-dir", 0o644, "1"), "1"),
                (dir("w", 0o755), ""),
                (file("w/x", 0o644, "1"), "1"),
            ],
            &[
                (dir("a", 0o711), ""),
                (whiteout("a/gone"), ""),
                (file("a/replaced", 0o600, "22"), "22"),
                (dir("b", 0o755), ""),
                (opaque("b"), ""),
                (file("b/new", 0o644, "2"), "2"),
                (file("dir-to-file", 0o644, "2"), "2"),
                (dir("file-to-dir", 0o755), ""),
                (file("file-to-dir/y", 0o644, "2"), "2"),
                (whiteout("w"), ""),
            ],
            &[
                (dir("file-to-dir", 0o755), ""),
                (file("file-to-dir/z", 0o644, "3"), "3"),
                (dir("w", 0o755), ""),
            ],
        ],
    );
    let names = |directory: &str| -> Vec<String> {
        let children = stack.read_dir(&path(directory)).unwrap();
        children
            .iter()
            .map(|found| {
                String::from_utf8_lossy(found.entry.path.file_name().unwrap()).into_owned()
            })
            .collect()
    };
    assert_eq!(names(""), ["a", "b", "dir-to-file", "file-to-dir", "w"]);
    assert_eq!(names("a"), ["kept", "replaced"]);
    assert_eq!(names("b"), ["new"]);
    assert_eq!(names("file-to-dir"), ["y", "z"]);
    assert_eq!(
        names("w"),
        [""; 0],
        "a whiteout in the middle cuts what is below it"
    );
    assert_eq!(names("dir-to-file"), [""; 0]);
    assert_eq!(names("missing"), [""; 0]);
    let layer_of = |name: &str| stack.lookup(&path(name)).unwrap().map(|found| found.layer);
    assert_eq!(layer_of("a"), Some(1));
    assert_eq!(layer_of("a/kept"), Some(0));
    assert_eq!(layer_of("a/replaced"), Some(1));
    for missing in ["a/gone", "b/hidden", "dir-to-file/x", "w/x", "a/kept/x"] {
        assert_eq!(layer_of(missing), None, "{missing}");
    }
    assert_eq!(content(&stack, "a/replaced"), "22");
    assert_eq!(stack.lookup(&path("a")).unwrap().unwrap().entry.mode, 0o711);
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    let (_temp, store) = testing::store();
    let stack = stack_of(
        &store,
        &[
            &[(file("old", 0o644, "1"), "1")],
            &[
                (dir("", 0o750), ""),
                (opaque(""), ""),
                (file("new", 0o644, "2"), "2"),
            ],
            &[(file("newer", 0o644, "3"), "3")],
        ],
    );
    let children = stack.read_dir(&EntryPath::ROOT).unwrap();
    assert_eq!(children.len(), 2);
    assert!(stack.lookup(&path("old")).unwrap().is_none());
    assert_eq!(stack.mounted().len(), 2);
    assert_eq!(stack.root().unwrap().entry.mode, 0o750);
}

#[test]
fn symlinks_resolve_inside_the_stack() {
    let (_temp, store) = testing::store();
    let stack = stack_of(
        &store,
        &[
            &[
                (symlink("bin", "usr/bin"), ""),
                (dir("usr", 0o755), ""),
                (dir("usr/bin", 0o755), ""),
                (file("usr/bin/sh", 0o755, "x"), "x"),
            ],
            &[
                (symlink("absolute", "/usr/./bin//sh"), ""),
                (symlink("circle", "circle"), ""),
                (symlink("escape", "../../../../etc"), ""),
                (symlink("nowhere", "not/there"), ""),
                (symlink("through", "bin/../../bin/sh"), ""),
            ],
        ],
    );
    for (given, follow, resolved) in [
        ("bin/sh", true, "usr/bin/sh"),
        ("bin", true, "usr/bin"),
        ("bin", false, "bin"),
        ("absolute", true, "usr/bin/sh"),
        ("absolute", false, "absolute"),
        ("escape/passwd", true, "etc/passwd"),
        ("nowhere/file", true, "not/there/file"),
        ("nowhere/../x", true, "not/x"),
        ("through", true, "usr/bin/sh"),
        ("bin/new/deeper", true, "usr/bin/new/deeper"),
        ("", true, ""),
    ] {
        // `..` cannot stand in an entry path; it can in a link's text.
        let Some(given_path) = EntryPath::parse(given.as_bytes()) else {
            continue;
        };
        assert_eq!(
            stack.resolve(&given_path, follow).unwrap(),
            path(resolved),
            "{given}"
        );
    }
    let error = stack.resolve(&path("circle/x"), true).unwrap_err();
    assert!(matches!(error, Error::TooManyLinks { .. }));
}

#[test]
fn a_written_layer_is_the_same_for_both_purposes() {
    let temp = tempfile::tempdir().unwrap();
    let large = "large ".repeat(100_000);
    fs::write(temp.path().join("large"), &large).unwrap();
    let late = Timestamp::from_seconds(2_000_000_000);
    let clamp = Timestamp::from_seconds(1_000_000_000);
    let mut records = Vec::new();
    for purpose in [Purpose::Tree, Purpose::Blob(Compression::Gzip)] {
        let (_temp, store) = testing::store();
        let mut writer = LayerWriter::new(&store, purpose, Some(clamp), 2).unwrap();
        let mut entry = dir("d", 0o755);
        entry.mtime = late;
        writer.add(entry, None).unwrap();
        let source = fs::File::open(temp.path().join("large")).unwrap();
        let mut entry = file("d/large", 0o644, &large);
        entry.uid = 33;
        writer.add(entry, Some(source)).unwrap();
        writer.add(link("d/link", "d/large"), None).unwrap();
        let made = writer.finish().unwrap();
        assert_eq!(leftovers(&store), [""; 0]);
        let list = entries(&store, &made.diff_id).unwrap().unwrap();
        assert_eq!(list.get(&path("d")).unwrap().mtime, clamp);
        let listed = list.get(&path("d/large")).unwrap();
        assert_eq!(
            (listed.uid, &listed.content_digest),
            (33, &Some(Digest::of(large.as_bytes())))
        );
        let stack = LayerStack::open(&store, std::slice::from_ref(&made.diff_id)).unwrap();
        assert_eq!(stack.is_some(), purpose == Purpose::Tree);
        if let Some(stack) = stack {
            assert_eq!(content(&stack, "d/link"), large);
            assert_eq!(
                stack.lookup(&path("d/large")).unwrap().unwrap().entry.uid,
                33
            );
        }
        // Whatever it was written for, its blob can be had, and unpacks to the same diff ID.
        let gzip = Some(Compression::Gzip);
        let blob = compress(&store, &made.diff_id, gzip, 2, &Silent).unwrap();
        let (_temp, other) = testing::store();
        let mut body = store.blobs().get(&blob).unwrap().unwrap();
        unpack(&other, &blob, &made.diff_id, &mut body).unwrap();
        records.push((made.diff_id, made.size_bytes, blob));
    }
    assert_eq!(records[0], records[1]);
}

#[test]
fn layers_are_written_in_order_only() {
    let (_temp, store) = testing::store();
    let cases: [(&str, Vec<Entry>); 5] = [
        ("twice", vec![dir("a", 0o755), dir("a", 0o755)]),
        ("backwards", vec![dir("b", 0o755), dir("a", 0o755)]),
        ("no directory", vec![symlink("a/b", "x")]),
        ("below a file", vec![symlink("a", "x"), symlink("a/b", "x")]),
        ("link to nothing", vec![link("b", "a")]),
    ];
    for (name, entries) in cases {
        for purpose in [Purpose::Tree, Purpose::Blob(Compression::Zstd)] {
            let mut writer = LayerWriter::new(&store, purpose, None, 1).unwrap();
            let error = entries
                .iter()
                .find_map(|entry| writer.add(entry.clone(), None).err());
            assert!(
                matches!(error, Some(Error::EntryOrder { .. })),
                "{name}: {error:?}"
            );
        }
    }
    assert_eq!(leftovers(&store), [""; 0]);
}

#[test]
fn compressing_again_finds_the_blob_and_other_compressions_keep_the_diff_id() {
    let (_temp, store) = testing::store();
    let (diff_id, _) = unpack_entries(&store, &[(file("f", 0o644, "x"), "x")]);
    let any = compress(&store, &diff_id, None, 1, &Silent).unwrap();
    assert_eq!(any.media_type, MediaType::LAYER);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let made = compress(&store, &diff_id, Some(compression), 1, &Silent).unwrap();
        assert_eq!(made.media_type, compression.layer_media_type());
        assert_eq!(
            compress(&store, &diff_id, Some(compression), 1, &Silent).unwrap(),
            made
        );
    }
    assert_eq!(record(&store, &diff_id).unwrap().unwrap().blobs.len(), 3);
}

#[test]
fn a_tree_that_was_changed_is_not_shipped() {
    let (_temp, store) = testing::store();
    let mut writer = LayerWriter::new(&store, Purpose::Tree, None, 1).unwrap();
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("f"), "right").unwrap();
    let content = fs::File::open(temp.path().join("f")).unwrap();
    writer
        .add(file("f", 0o644, "right"), Some(content))
        .unwrap();
    let made = writer.finish().unwrap();
    let stack = LayerStack::open(&store, std::slice::from_ref(&made.diff_id))
        .unwrap()
        .unwrap();
    let victim = stack.trees()[0].fs().join("f");
    for changed in [Some("wrong"), Some("longer than it was"), None] {
        match changed {
            Some(text) => fs::write(&victim, text).unwrap(),
            None => fs::remove_file(&victim).unwrap(),
        }
        let error = compress(&store, &made.diff_id, None, 1, &Silent).unwrap_err();
        assert!(
            matches!(error, Error::TreeChanged { .. }),
            "{changed:?}: {error:?}"
        );
        assert!(store.blobs().list().unwrap().is_empty());
    }
}

#[test]
fn the_stack_is_a_lower_view_without_hard_links() {
    let (_temp, store) = testing::store();
    let stack = stack_of(
        &store,
        &[&[(file("a", 0o644, "x"), "x"), (link("b", "a"), "")]],
    );
    let entry = LowerView::lookup(&stack, &path("b")).unwrap().unwrap();
    assert_eq!(entry.kind, EntryKind::File { size: 1 });
    assert_eq!(
        LowerView::children(&stack, &EntryPath::ROOT).unwrap().len(),
        2
    );
}

#[test]
fn a_torn_tree_counts_as_absent_and_is_replaced() {
    let (_temp, store) = testing::store();
    let entries = [(file("f", 0o644, "x"), "x")];
    let (diff_id, unpacked) = unpack_entries(&store, &entries);
    let Unpacked::Tree(tree) = unpacked else {
        panic!("not self-contained");
    };
    fs::write(tree.fs().parent().unwrap().join("info.json"), "").unwrap();
    let ids = [diff_id];
    assert!(LayerStack::open(&store, &ids).unwrap().is_none());
    unpack_entries(&store, &entries);
    assert!(LayerStack::open(&store, &ids).unwrap().is_some());
}

#[test]
fn several_threads_unpacking_one_layer_all_get_it() {
    let (_temp, store) = testing::store();
    let entries = [(dir("d", 0o755), ""), (file("d/f", 0o644, "x"), "x")];
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| unpack_entries(&store, &entries).1))
            .collect();
        for handle in handles {
            assert!(matches!(handle.join().unwrap(), Unpacked::Tree(_)));
        }
    });
    assert_eq!(leftovers(&store), [""; 0]);
}

#[test]
fn marks_that_are_only_listed_hide_all_the_same() {
    let (_temp, store) = testing::store();
    let below = [
        (dir("d", 0o755), ""),
        (file("d/f", 0o644, "1"), "1"),
        (file("gone", 0o644, "1"), "1"),
    ];
    let above = [
        (dir("d", 0o755), ""),
        (opaque("d"), ""),
        (whiteout("gone"), ""),
    ];
    let stack = stack_of(&store, &[&below, &above]);
    // As on a disk that refuses marks.
    let tree = &stack.trees()[1];
    fs::remove_file(tree.fs().join("gone")).unwrap();
    fs::remove_dir(tree.fs().join("d")).unwrap();
    fs::create_dir(tree.fs().join("d")).unwrap();
    let path_of_info = tree.fs().parent().unwrap().join("info.json");
    let text = fs::read_to_string(&path_of_info).unwrap();
    let text = text.replace(r#""unmadeMarks":false"#, r#""unmadeMarks":true"#);
    fs::write(&path_of_info, text).unwrap();

    let ids = [stack.trees()[0].diff_id().clone(), tree.diff_id().clone()];
    let stack = LayerStack::open(&store, &ids).unwrap().unwrap();
    assert!(!stack.is_mountable());
    let names: Vec<_> = stack.read_dir(&EntryPath::ROOT).unwrap();
    assert_eq!(names.len(), 1);
    assert!(stack.lookup(&path("gone")).unwrap().is_none());
    assert!(stack.lookup(&path("d/f")).unwrap().is_none());
    assert!(stack.read_dir(&path("d")).unwrap().is_empty());
}
