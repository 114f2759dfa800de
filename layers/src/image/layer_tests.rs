//! Images of real layers: pending ones made whole, fetched ones unpacked.

use super::tests::{Memory, layers as not_tars, open_target_of, reference, resolved, store};
use super::*;
use crate::Error;
use crate::layer::{LayerStack, LayerWriter, Purpose, TreeKey};
use crate::progress::Silent;
use crate::spec::{Digest, MediaType};
use crate::store::Store;
use crate::stream::Compression;
use crate::testing::{dir, file, tar_of};
use crate::tree::{Entry, EntryPath};
use std::fs;
use std::io::Write as _;
use std::time::Duration;

/// A layer made by a build step: a tree, and no blob.
fn built_layer(store: &Store, name: &str, content: &str) -> DiffId {
    let mut temporary = tempfile::tempfile().unwrap();
    temporary.write_all(content.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut temporary).unwrap();
    let mut writer = LayerWriter::new(store, Purpose::Tree, None, 1).unwrap();
    writer
        .add(file(name, 0o644, content), Some(temporary))
        .unwrap();
    writer.finish().unwrap().diff_id
}

fn config_of(diff_ids: &[DiffId]) -> Raw<ImageConfig> {
    let mut config = ImageConfig::scratch(&Platform::host());
    config.rootfs.diff_ids = diff_ids.to_vec();
    Raw::encode(config, "config").unwrap()
}

/// A built image of two layers, tagged `app`.
fn built_image(store: &Store) -> Descriptor {
    let diff_ids = [
        built_layer(store, "hello", "hello"),
        built_layer(store, "world", &"world".repeat(1000)),
    ];
    let target = commit(store, &config_of(&diff_ids), None, BTreeMap::new()).unwrap();
    store.set_tag(&reference("app"), &target).unwrap();
    target
}

/// An image as a registry has it: plain tars, so that their digests are easy to say.
fn remote_image(layers: &[Vec<u8>]) -> ResolvedImage {
    let diff_ids: Vec<_> = layers.iter().map(|l| DiffId(Digest::of(l))).collect();
    let config = config_of(&diff_ids);
    let blobs = layers.iter().map(|l| Descriptor::of(MediaType::LAYER, l));
    let manifest = Manifest::new(config.descriptor(MediaType::CONFIG), blobs.collect());
    resolved(&config, &Raw::encode(manifest, "manifest").unwrap())
}

fn content(stack: &LayerStack, path: &str) -> String {
    let path = EntryPath::parse(path.as_bytes()).unwrap();
    let found = stack.lookup(&path).unwrap().unwrap();
    std::io::read_to_string(stack.open_file(&found).unwrap()).unwrap()
}

fn self_contained() -> Vec<Vec<u8>> {
    let layers: [&[(Entry, &str)]; 2] = [
        &[(dir("etc", 0o755), ""), (file("etc/a", 0o644, "a"), "a")],
        &[(file("b", 0o644, "bb"), "bb")],
    ];
    layers.iter().map(|layer| tar_of(layer)).collect()
}

#[test]
fn a_built_image_is_pending_until_it_leaves() {
    let (_dir, store) = store();
    let pending = built_image(&store);
    store.set_tag(&reference("other"), &pending).unwrap();
    assert_eq!(pending.media_type, MediaType::PENDING_MANIFEST);
    assert!(store.verify(1).unwrap().is_empty());
    let image = open(&store, &reference("app"), &Platform::host())
        .unwrap()
        .unwrap();
    assert!(matches!(image.manifest, StoredManifest::Pending(_)));
    let stack = stack(&store, &image, 1, &Silent).unwrap();
    assert_eq!(content(&stack, "hello"), "hello");
    let blobs_before = store.blobs().list().unwrap().len();
    assert_eq!(blobs_before, 2, "config and pending manifest");

    let whole = finalise(&store, &pending, None, 2, &Silent).unwrap();
    assert_eq!(whole.media_type, MediaType::MANIFEST);
    assert_eq!(store.tag(&reference("app")).unwrap(), Some(whole.clone()));
    assert_eq!(store.tag(&reference("other")).unwrap(), Some(whole.clone()));
    assert_eq!(finalise(&store, &pending, None, 1, &Silent).unwrap(), whole);
    assert_eq!(finalise(&store, &whole, None, 1, &Silent).unwrap(), whole);
    assert!(store.verify(1).unwrap().is_empty());
    let image = open(&store, &reference("app"), &Platform::host())
        .unwrap()
        .unwrap();
    let types: Vec<_> = image
        .layers()
        .into_iter()
        .map(|(_, b)| b.unwrap().media_type)
        .collect();
    assert_eq!(types, [MediaType::LAYER_GZIP, MediaType::LAYER_GZIP]);
    // Built again, it is whole at once, and the same.
    let diff_ids = &image.config.rootfs.diff_ids;
    let again = commit(&store, &config_of(diff_ids), None, BTreeMap::new()).unwrap();
    assert_eq!(again, whole);
}

#[test]
fn the_wanted_compression_is_used_and_known_blobs_are_kept() {
    let (_dir, store) = store();
    let pending = built_image(&store);
    let zstd = finalise(&store, &pending, Some(Compression::Zstd), 2, &Silent).unwrap();
    let image = open_target_of(&store, &zstd);
    assert!(
        image
            .layers()
            .iter()
            .all(|(_, b)| b.as_ref().unwrap().media_type == MediaType::LAYER_ZSTD)
    );
    // One more layer on that image: its blobs are the base's.
    let StoredManifest::Whole(base) = &image.manifest else {
        panic!("not whole");
    };
    let mut diff_ids = image.config.rootfs.diff_ids.clone();
    diff_ids.push(built_layer(&store, "more", "more"));
    let child = commit(&store, &config_of(&diff_ids), Some(base), BTreeMap::new()).unwrap();
    let child = finalise(&store, &child, Some(Compression::Gzip), 2, &Silent).unwrap();
    let blobs: Vec<_> = open_target_of(&store, &child).layers();
    assert_eq!(blobs[0].1, image.layers()[0].1);
    assert_eq!(
        blobs[2].1.as_ref().unwrap().media_type,
        MediaType::LAYER_GZIP
    );
}

#[test]
fn a_pending_image_can_be_built_upon_and_copied() {
    let (_dir, store) = store();
    let pending = built_image(&store);
    let resolved = store.resolve(&reference("app"), &Platform::host()).unwrap();
    assert_eq!(resolved.descriptor, pending);
    let fetched = fetch(&store, &store, &resolved, true, 2, &Silent).unwrap();
    assert_eq!(fetched, pending);
    assert_eq!(
        store.blobs().list().unwrap().len(),
        2,
        "nothing was compressed"
    );
    let (_other_dir, other) = self::store();
    for unpack in [false, true] {
        let copied = fetch(&other, &store, &resolved, unpack, 2, &Silent).unwrap();
        assert_eq!(copied.media_type, MediaType::MANIFEST);
        other.set_tag(&reference("copy"), &copied).unwrap();
        assert!(other.verify(1).unwrap().is_empty());
    }
    let image = open(&other, &reference("copy"), &Platform::host())
        .unwrap()
        .unwrap();
    assert_eq!(
        content(&stack(&other, &image, 1, &Silent).unwrap(), "hello"),
        "hello"
    );
    // What was streamed plain is not what leaves the first store.
    let whole = finalise(&store, &pending, None, 1, &Silent).unwrap();
    let types = open_target_of(&store, &whole).layers();
    assert!(
        types
            .iter()
            .all(|(_, b)| b.as_ref().unwrap().media_type == MediaType::LAYER_GZIP)
    );
}

#[test]
fn fetched_layers_are_unpacked_and_what_is_here_is_used() {
    let (_dir, store) = store();
    let layers = self_contained();
    let image = remote_image(&layers);
    let source = Memory::of(&layers);
    let opened = || source.opened.lock().unwrap().len();
    let target = fetch(&store, &source, &image, true, 2, &Silent).unwrap();
    let stored = open_target_of(&store, &target);
    let unpacked = stack(&store, &stored, 1, &Silent).unwrap();
    assert_eq!(content(&unpacked, "etc/a"), "a");
    assert_eq!(opened(), 2);
    fetch(&store, &source, &image, true, 2, &Silent).unwrap();
    assert_eq!(opened(), 2, "everything is here");
    fs::remove_dir_all(store.root().join("trees")).unwrap();
    fetch(&store, &source, &image, true, 2, &Silent).unwrap();
    assert_eq!(opened(), 2, "unpacked from the blobs");
    assert!(
        LayerStack::open(&store, &image.config.rootfs.diff_ids)
            .unwrap()
            .is_some()
    );
    store.blobs().remove(&Digest::of(&layers[0])).unwrap();
    fetch(&store, &source, &image, true, 2, &Silent).unwrap();
    assert_eq!(opened(), 3, "only the blob that was missing");
    fs::remove_dir_all(store.root().join("trees")).unwrap();
    let again = stack(&store, &stored, 2, &Silent).unwrap();
    assert_eq!(content(&again, "b"), "bb");
    fs::remove_dir_all(store.root().join("trees")).unwrap();
    store.blobs().remove(&Digest::of(&layers[1])).unwrap();
    let error = stack(&store, &stored, 2, &Silent).unwrap_err();
    assert!(matches!(error, Error::BlobMissing { .. }), "{error}");
}

#[test]
fn layers_that_need_their_parents_are_unpacked_onto_them() {
    let (_dir, store) = store();
    let mut layers = self_contained();
    // `etc` is listed by the first layer only.
    layers.push(tar_of(&[(file("etc/c", 0o644, "ccc"), "ccc")]));
    layers.push(tar_of(&[(file("etc/d", 0o644, "dddd"), "dddd")]));
    let image = remote_image(&layers);
    let source = Memory::of(&layers);
    for _ in 0..2 {
        let target = fetch(&store, &source, &image, true, 3, &Silent).unwrap();
        let unpacked = stack(&store, &open_target_of(&store, &target), 1, &Silent).unwrap();
        assert_eq!(content(&unpacked, "etc/d"), "dddd");
        let is_chain = |n: usize| matches!(unpacked.trees()[n].key(), TreeKey::Chain(_));
        assert!(!is_chain(0) && !is_chain(1) && is_chain(2) && is_chain(3));
        assert_eq!(source.opened.lock().unwrap().len(), 4, "each once");
        store.set_tag(&reference("app"), &target).unwrap();
        let roots = Roots::default();
        let collected = collect_garbage(&store, &roots, Duration::ZERO).unwrap();
        assert_eq!(collected, Collected::default());
    }
    assert!(store.verify(2).unwrap().is_empty());
    store.remove_tag(&reference("app")).unwrap();
    let collected = collect_garbage(&store, &Roots::default(), Duration::ZERO).unwrap();
    assert_eq!(
        (collected.blobs, collected.trees, collected.records),
        (6, 4, 4)
    );
    for dir in ["snapshots", "layers/v1", "trees/v1/singleid", "ingest"] {
        let rest = fs::read_dir(store.root().join(dir)).map_or(0, Iterator::count);
        assert_eq!(rest, 0, "{dir}");
    }
}

#[test]
fn layers_that_are_not_what_the_config_says_are_refused() {
    let (_dir, store) = store();
    let layers = self_contained();
    let mut image = remote_image(&layers);
    let mut diff_ids = image.config.rootfs.diff_ids.clone();
    diff_ids.reverse();
    let config = config_of(&diff_ids);
    let mut manifest = image.manifest.value().clone();
    manifest.config = config.descriptor(MediaType::CONFIG);
    image = resolved(&config, &Raw::encode(manifest, "manifest").unwrap());
    let error = fetch(&store, &Memory::of(&layers), &image, true, 2, &Silent).unwrap_err();
    let cause = match &error {
        Error::Unpack { source, .. } => source,
        other => other,
    };
    assert!(matches!(cause, Error::DiffIdMismatch { .. }), "{cause}");
    let not_tars = not_tars(2);
    let image = remote_image(&not_tars);
    fetch(&store, &Memory::of(&not_tars), &image, true, 2, &Silent).unwrap_err();
    let mut manifest = image.manifest.value().clone();
    manifest.layers[0].media_type = MediaType::new("application/x-model");
    let artifact = resolved(&image.config, &Raw::encode(manifest, "manifest").unwrap());
    let source = Memory::of(&not_tars);
    let error = fetch(&store, &source, &artifact, true, 1, &Silent).unwrap_err();
    assert!(
        source.opened.lock().unwrap().is_empty(),
        "nothing was fetched in vain"
    );
    assert!(matches!(error, Error::NotALayer { .. }), "{error}");
    fetch(&store, &Memory::of(&not_tars), &artifact, false, 1, &Silent).unwrap();
    assert!(store.verify(1).unwrap().is_empty());
    assert_eq!(
        std::fs::read_dir(store.root().join("trees"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_layer_lost_from_a_pending_image_is_noticed() {
    let (_dir, store) = store();
    let pending = built_image(&store);
    fs::remove_dir_all(store.root().join("trees")).unwrap();
    let problems = store.verify(1).unwrap();
    assert_eq!(problems.len(), 2);
    assert!(matches!(problems[0], Problem::LayerMissing { .. }));
    finalise(&store, &pending, None, 1, &Silent).unwrap_err();
    assert_eq!(store.tag(&reference("app")).unwrap(), Some(pending));
}

#[test]
fn an_entry_list_goes_with_its_layer() {
    let (_dir, store) = store();
    let mut writer = LayerWriter::new(&store, Purpose::Blob(Compression::Gzip), None, 1).unwrap();
    writer.add(dir("a", 0o755), None).unwrap();
    let record = writer.finish().unwrap();
    let diff_ids = [record.diff_id];
    let target = commit(&store, &config_of(&diff_ids), None, BTreeMap::new()).unwrap();
    assert_eq!(target.media_type, MediaType::MANIFEST, "its blob is there");
    store.set_tag(&reference("app"), &target).unwrap();
    let files = || {
        fs::read_dir(store.root().join("layers/v1"))
            .unwrap()
            .count()
    };
    collect_garbage(&store, &Roots::default(), Duration::ZERO).unwrap();
    assert_eq!(files(), 2);
    store.remove_tag(&reference("app")).unwrap();
    collect_garbage(&store, &Roots::default(), Duration::ZERO).unwrap();
    assert_eq!(files(), 0);
}
