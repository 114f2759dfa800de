use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::Error;
use crate::layer::LayerRecord;
use crate::progress::{Event, Observer, Outcome, Silent};
use crate::spec::{Digest, Document, MediaType};
use crate::store::{REF_NAME, Store};
use crate::tree::Flavour;

pub(super) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Flavour::SingleId).unwrap();
    (dir, store)
}

pub(super) fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// An image whose layers are arbitrary bytes: enough for everything but unpacking.
fn image_of(platform_text: &str, layers: &[Vec<u8>]) -> (Raw<ImageConfig>, Raw<Manifest>) {
    let mut config = ImageConfig::scratch(&platform(platform_text));
    config.rootfs.diff_ids = layers.iter().map(|l| DiffId(Digest::of(l))).collect();
    let config = Raw::encode(config, "config").unwrap();
    let descriptors = layers
        .iter()
        .map(|layer| Descriptor::of(MediaType::LAYER_GZIP, layer))
        .collect();
    let manifest = Manifest::new(config.descriptor(MediaType::CONFIG), descriptors);
    (config, Raw::encode(manifest, "manifest").unwrap())
}

pub(super) fn resolved(config: &Raw<ImageConfig>, manifest: &Raw<Manifest>) -> ResolvedImage {
    ResolvedImage {
        reference: reference("app"),
        index: None,
        descriptor: manifest.descriptor(MediaType::MANIFEST),
        manifest: manifest.clone(),
        config: config.clone(),
    }
}

pub(super) fn open_target_of(store: &Store, target: &Descriptor) -> StoredImage {
    open_target(store, target, &Platform::host())
        .unwrap()
        .unwrap()
}

fn put_image(store: &Store, platform_text: &str, layers: &[Vec<u8>]) -> Descriptor {
    let (config, manifest) = image_of(platform_text, layers);
    for layer in layers {
        store.blobs().put(layer).unwrap();
    }
    store.blobs().put(config.bytes()).unwrap();
    store.blobs().put(manifest.bytes()).unwrap();
    let mut descriptor = manifest.descriptor(MediaType::MANIFEST);
    descriptor.platform = Some(platform(platform_text));
    descriptor
}

fn put_index(store: &Store, children: Vec<Descriptor>) -> Descriptor {
    let index = Raw::encode(Index::new(children), "index").unwrap();
    store.blobs().put(index.bytes()).unwrap();
    index.descriptor(MediaType::INDEX)
}

#[derive(Default)]
pub(super) struct Memory {
    bodies: BTreeMap<Digest, Vec<u8>>,
    pub(super) opened: Mutex<Vec<Digest>>,
    busy: AtomicUsize,
    busiest: AtomicUsize,
    /// How many must be open at once before any goes on; 0 and 1 wait for nobody.
    meet: usize,
}

impl Memory {
    pub(super) fn of(layers: &[Vec<u8>]) -> Self {
        let bodies = layers.iter().map(|l| (Digest::of(l), l.clone())).collect();
        Self {
            bodies,
            ..Self::default()
        }
    }
}

impl ImageSource for Memory {
    fn resolve(&self, _: &Reference, _: &Platform) -> Result<ResolvedImage> {
        unreachable!("fetch gets resolved images")
    }

    fn open(&self, _: &Reference, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        self.opened.lock().unwrap().push(blob.digest.clone());
        let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
        self.busiest.fetch_max(busy, Ordering::SeqCst);
        let started = std::time::Instant::now();
        while self.busiest.load(Ordering::SeqCst) < self.meet {
            assert!(started.elapsed() < Duration::from_secs(60), "one by one");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.busy.fetch_sub(1, Ordering::SeqCst);
        match self.bodies.get(&blob.digest) {
            Some(body) => Ok(Box::new(io::Cursor::new(body.clone()))),
            None => Err(Error::BlobMissing {
                digest: blob.digest.clone(),
            }),
        }
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Observer for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

pub(super) fn layers(count: u8) -> Vec<Vec<u8>> {
    (1..=count)
        .map(|n| vec![n; usize::from(n) * 1000])
        .collect()
}

#[test]
fn an_image_is_opened_by_tag_and_its_layers_pair_up() {
    let (_dir, store) = store();
    let layers = layers(3);
    let target = put_image(&store, "linux/arm64", &layers);
    assert!(
        open(&store, &reference("app"), &Platform::host())
            .unwrap()
            .is_none()
    );
    store.set_tag(&reference("app"), &target).unwrap();
    // One image is that image, whatever its platform.
    let image = open(&store, &reference("app"), &platform("linux/amd64"))
        .unwrap()
        .unwrap();
    assert_eq!(image.config.platform(), platform("linux/arm64"));
    assert_eq!(image.id().digest(), &image.config.digest());
    let pairs: Vec<_> = image.layers();
    assert_eq!(pairs.len(), 3);
    for ((diff_id, blob), layer) in pairs.iter().zip(&layers) {
        assert_eq!(diff_id.digest(), &Digest::of(layer));
        assert_eq!(blob.as_ref().unwrap().size, layer.len() as u64);
    }
}

#[test]
fn an_index_gives_the_best_platform_that_is_here() {
    let (_dir, store) = store();
    let amd64 = put_image(&store, "linux/amd64", &layers(1));
    let arm6 = put_image(&store, "linux/arm/v6", &layers(2));
    let arm7 = put_image(&store, "linux/arm/v7", &layers(3));
    let mut absent = Descriptor::of(MediaType::MANIFEST, b"never pulled");
    absent.platform = Some(platform("linux/s390x"));
    let mut attestation = Descriptor::of(MediaType::MANIFEST, b"attestation");
    attestation.platform = Some(Platform::new("unknown", "unknown", None));
    let children = vec![
        attestation,
        amd64.clone(),
        arm6.clone(),
        arm7.clone(),
        absent,
    ];
    let inner = put_index(&store, children.clone());
    let nested = put_index(&store, vec![inner.clone()]);
    for target in [&inner, &nested] {
        let opened = |text| open_target(&store, target, &platform(text));
        for (text, expected) in [
            ("linux/amd64", &amd64),
            ("linux/arm/v7", &arm7),
            ("linux/arm/v6", &arm6),
        ] {
            let image = opened(text).unwrap().unwrap();
            assert_eq!(image.descriptor.digest, expected.digest, "{text}");
            assert!(image.index.is_some());
        }
        assert!(opened("linux/s390x").unwrap().is_none(), "not pulled");
    }
    let error = open_target(&store, &inner, &platform("linux/riscv64")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no image for linux/riscv64; there are images for: linux/amd64, linux/arm/v6, linux/arm/v7, linux/s390x"
    );
}

#[test]
fn an_index_without_platforms_is_searched_by_config() {
    let (_dir, store) = store();
    let mut children = vec![
        put_image(&store, "linux/arm64", &layers(1)),
        put_image(&store, "linux/amd64", &layers(2)),
    ];
    children.iter_mut().for_each(|child| child.platform = None);
    let index = put_index(&store, children.clone());
    let image = open_target(&store, &index, &platform("linux/amd64"))
        .unwrap()
        .unwrap();
    assert_eq!(image.descriptor.digest, children[1].digest);
    assert!(matches!(
        open_target(&store, &index, &platform("linux/s390x")),
        Err(Error::PlatformMissing { .. })
    ));
}

#[test]
fn indexes_nested_too_deep_are_refused() {
    let (_dir, store) = store();
    let mut target = put_image(&store, "linux/amd64", &layers(1));
    target.platform = None;
    for _ in 0..8 {
        target = put_index(&store, vec![target]);
    }
    let error = open_target(&store, &target, &platform("linux/amd64")).unwrap_err();
    assert!(error.to_string().contains("nested"), "{error}");
}

#[test]
fn damaged_and_foreign_documents_have_clear_errors() {
    let (_dir, store) = store();
    let put = |media_type: MediaType, bytes: &[u8]| {
        store.blobs().put(bytes).unwrap();
        Descriptor::of(media_type, bytes)
    };
    let helm = put(
        MediaType::new("application/vnd.cncf.helm.config.v1+json"),
        b"{}",
    );
    let artifact = Raw::encode(Manifest::new(helm, vec![]), "manifest").unwrap();
    let artifact = put(MediaType::MANIFEST, artifact.bytes());
    let (config, _) = image_of("linux/amd64", &layers(2));
    let config = put(MediaType::CONFIG, config.bytes());
    let short = Raw::encode(Manifest::new(config.clone(), vec![]), "manifest").unwrap();
    let short = put(MediaType::MANIFEST, short.bytes());
    let huge = Descriptor::new(MediaType::MANIFEST, Digest::of(b""), u64::MAX);
    let not_json = put(MediaType::MANIFEST, b"hello");
    let gone = Descriptor::of(MediaType::MANIFEST, b"gone");
    let pending = PendingManifest {
        config,
        diff_ids: vec![],
        blobs: vec![],
        annotations: BTreeMap::new(),
    };
    let pending = Raw::encode(pending, "pending").unwrap();
    let pending = put(MediaType::PENDING_MANIFEST, pending.bytes());
    for (target, expected) in [
        (artifact, "is an artifact of type"),
        (short, "0 layers and its config 2"),
        (pending, "0 layers and its config 2"),
        (huge, "more than"),
        (not_json, "invalid manifest"),
        (gone, "is not in the store"),
    ] {
        let error = open_target(&store, &target, &Platform::host()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn fetching_stores_everything_and_only_once() {
    let (_dir, store) = store();
    let mut layers = layers(6);
    layers.push(layers[2].clone());
    let (config, manifest) = image_of("linux/amd64", &layers);
    let image = resolved(&config, &manifest);
    let mut source = Memory::of(&layers);
    source.meet = 3;
    let recorder = Recorder::default();
    let target = fetch(&store, &source, &image, false, 3, &recorder).unwrap();
    assert_eq!(target, image.descriptor);
    assert_eq!(
        source.opened.lock().unwrap().len(),
        6,
        "the doubled layer once"
    );
    assert_eq!(source.busiest.load(Ordering::SeqCst), 3);
    // The largest first; in which order three threads open what they took is up to chance.
    let mut first = source.opened.lock().unwrap()[..3].to_vec();
    let mut largest: Vec<_> = layers[3..6].iter().map(|layer| Digest::of(layer)).collect();
    first.sort();
    largest.sort();
    assert_eq!(first, largest);
    assert!(store.tags().unwrap().is_empty());
    store.set_tag(&image.reference, &target).unwrap();
    assert!(store.verify(2).unwrap().is_empty());
    let told: u64 = recorder
        .0
        .lock()
        .unwrap()
        .iter()
        .fold(0, |sum, event| match event {
            Event::Advanced { bytes, .. } => sum + bytes,
            _ => sum,
        });
    assert_eq!(told, 21_000);
    let recorder = Recorder::default();
    fetch(&store, &source, &image, false, 3, &recorder).unwrap();
    assert_eq!(
        source.opened.lock().unwrap().len(),
        6,
        "nothing a second time"
    );
    let outcomes: Vec<_> = recorder
        .0
        .lock()
        .unwrap()
        .iter()
        .filter_map(|event| match event {
            Event::Finished { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .collect();
    assert_eq!(outcomes, [Outcome::Cached; 6]);
}

#[test]
fn an_index_is_stored_too_and_is_what_to_tag() {
    let (_dir, store) = store();
    let layers = layers(2);
    let (config, manifest) = image_of("linux/amd64", &layers);
    let mut image = resolved(&config, &manifest);
    let mut child = image.descriptor.clone();
    child.platform = Some(platform("linux/amd64"));
    let mut index = Index::new(vec![child]);
    index.media_type = Some(MediaType::DOCKER_INDEX);
    image.index = Some(Raw::encode(index, "index").unwrap());
    let target = fetch(&store, &Memory::of(&layers), &image, false, 2, &Silent).unwrap();
    assert_eq!(target.media_type, MediaType::DOCKER_INDEX);
    let opened = open_target(&store, &target, &platform("linux/amd64"))
        .unwrap()
        .unwrap();
    assert_eq!(opened.descriptor.digest, image.descriptor.digest);
}

#[test]
fn a_lying_or_failing_source_leaves_no_document() {
    let layers = layers(4);
    let victim = Digest::of(&layers[1]);
    type Spoil = fn(&mut Memory, &Digest);
    let cases: [(&str, Spoil); 4] = [
        ("other bytes", |m, d| m.bodies.get_mut(d).unwrap()[7] ^= 1),
        ("truncated", |m, d| {
            m.bodies.get_mut(d).unwrap().truncate(99)
        }),
        ("too long", |m, d| m.bodies.get_mut(d).unwrap().push(0)),
        ("absent", |m, d| drop(m.bodies.remove(d))),
    ];
    for (name, spoil) in cases {
        let (_dir, store) = store();
        let (config, manifest) = image_of("linux/amd64", &layers);
        let image = resolved(&config, &manifest);
        let mut source = Memory::of(&layers);
        spoil(&mut source, &victim);
        let error = fetch(&store, &source, &image, false, 2, &Silent).unwrap_err();
        let is_cause = matches!(
            error,
            Error::DigestMismatch { .. } | Error::SizeMismatch { .. } | Error::BlobMissing { .. }
        );
        assert!(is_cause, "{name}: {error}");
        assert_eq!(
            store.blobs().stat(&image.descriptor.digest).unwrap(),
            None,
            "{name}"
        );
        assert_eq!(store.blobs().stat(&victim).unwrap(), None, "{name}");
        assert!(store.verify(1).unwrap().is_empty(), "{name}");
        assert_eq!(store.remove_leftovers(), 0, "{name}");
        // The next try, with an honest source, takes up what is there.
        let honest = Memory::of(&layers);
        fetch(&store, &honest, &image, false, 2, &Silent).unwrap();
    }
}

#[test]
fn one_failure_stops_the_others() {
    let (_dir, store) = store();
    let layers = layers(40);
    let (config, manifest) = image_of("linux/amd64", &layers);
    let mut source = Memory::of(&layers);
    source.bodies.remove(&Digest::of(&layers[39]));
    fetch(
        &store,
        &source,
        &resolved(&config, &manifest),
        false,
        1,
        &Silent,
    )
    .unwrap_err();
    assert_eq!(source.opened.lock().unwrap().len(), 1);
}

#[test]
fn documents_that_are_not_what_the_manifest_names_are_refused() {
    let (_dir, store) = store();
    let layers = layers(2);
    let (config, manifest) = image_of("linux/amd64", &layers);
    let (other, _) = image_of("linux/arm64", &layers);
    let source = Memory::of(&layers);
    let mut image = resolved(&config, &manifest);
    image.config = other;
    fetch(&store, &source, &image, false, 1, &Silent).unwrap_err();
    let mut image = resolved(&config, &manifest);
    image.descriptor.digest = Digest::of(b"other");
    fetch(&store, &source, &image, false, 1, &Silent).unwrap_err();
    let (fewer, _) = image_of("linux/amd64", &layers[..1]);
    let mut image = resolved(&config, &manifest);
    image.config = fewer;
    let error = fetch(&store, &source, &image, false, 1, &Silent).unwrap_err();
    assert!(
        error.to_string().contains("2 layers and its config 1"),
        "{error}"
    );
    assert_eq!(store.blobs().stat(&manifest.digest()).unwrap(), None);
}

#[test]
fn an_image_whose_layers_are_all_known_is_whole_at_once() {
    let (_dir, store) = store();
    let layers = layers(2);
    put_image(&store, "linux/amd64", &layers);
    let (config, mut base) = {
        let (config, manifest) = image_of("linux/amd64", &layers);
        (config, manifest.into_value())
    };
    base.layers[0].media_type = MediaType::DOCKER_LAYER_GZIP;
    let annotations = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let target = commit(&store, &config, Some(&base), annotations).unwrap();
    assert_eq!(target.media_type, MediaType::MANIFEST);
    let Document::Manifest(manifest) = open::read_document(&store, &target).unwrap() else {
        panic!("not a manifest");
    };
    assert_eq!(manifest.annotations["a"], "b");
    assert!(
        manifest
            .layers
            .iter()
            .all(|layer| layer.media_type == MediaType::LAYER_GZIP)
    );
    assert_eq!(finalise(&store, &target, None, 1, &Silent).unwrap(), target);
}

#[test]
fn garbage_collection_keeps_what_names_lead_to() {
    let (_dir, store) = store();
    let kept = put_image(&store, "linux/amd64", &layers(2));
    let child = put_image(&store, "linux/arm64", &layers(3));
    let rooted = put_image(&store, "linux/s390x", &layers(4));
    let garbage = put_image(&store, "linux/riscv64", &layers(6));
    let index = put_index(
        &store,
        vec![
            child.clone(),
            Descriptor::of(MediaType::MANIFEST, b"absent"),
        ],
    );
    store.set_tag(&reference("kept"), &kept).unwrap();
    store.set_tag(&reference("multi"), &index).unwrap();
    let foreign = store.blobs().put(b"of another tool").unwrap();
    let entry = Descriptor::new(MediaType::new("text/x"), foreign.clone(), 15);
    store.blobs().add_entry(&entry).unwrap();
    // Layer 1 is in use, layer 9 is not; layer 1 was compressed as well.
    let compressed = store.blobs().put(b"layer 1 as zstd").unwrap();
    let records = store.records::<LayerRecord>("layers/v1");
    for (layer, blobs) in [
        (
            1,
            vec![Descriptor::new(
                MediaType::LAYER_ZSTD,
                compressed.clone(),
                15,
            )],
        ),
        (9, vec![]),
    ] {
        let content = vec![layer; usize::from(layer) * 1000];
        let record = LayerRecord {
            diff_id: DiffId(Digest::of(&content)),
            size_bytes: 1,
            blobs,
        };
        records.put(&Digest::of(&content), &record).unwrap();
    }
    let diff_ids = [Digest::of(&layers(2)[0]), Digest::of(&layers(2)[1])];
    let chain = crate::spec::ChainId::of(&diff_ids.clone().map(DiffId)).unwrap();
    let trees = store.root().join("trees/v1/singleid");
    let cached = Digest::of(b"cached");
    for name in [
        diff_ids[0].hex().to_owned(),
        format!("chain-{}", chain.digest().hex()),
        cached.hex().to_owned(),
        Digest::of(b"other").hex().to_owned(),
        format!("chain-{}", Digest::of(b"other").hex()),
    ] {
        fs::create_dir_all(trees.join(&name).join("fs/etc")).unwrap();
        fs::write(trees.join(&name).join("entries"), "").unwrap();
        fs::write(trees.join(&name).join("info.json"), "{}").unwrap();
    }
    let roots = Roots {
        descriptors: vec![
            rooted.clone(),
            Descriptor::of(MediaType::MANIFEST, b"forgotten"),
        ],
        stacks: vec![vec![DiffId(cached)]],
    };
    let collected = collect_garbage(&store, &roots, Duration::ZERO).unwrap();
    // Manifest, config and layers 5 and 6; layers 1 to 4 are in images that are kept.
    assert_eq!(
        (collected.blobs, collected.trees, collected.records),
        (4, 2, 1)
    );
    for digest in [
        kept.digest,
        child.digest,
        rooted.digest,
        index.digest,
        foreign,
        compressed,
    ] {
        assert!(store.blobs().stat(&digest).unwrap().is_some());
    }
    assert_eq!(store.blobs().stat(&garbage.digest).unwrap(), None);
    assert!(store.verify(2).unwrap().is_empty());
    let again = collect_garbage(&store, &roots, Duration::ZERO).unwrap();
    assert_eq!(again, Collected::default());
}

#[test]
fn garbage_collection_stops_at_a_document_it_cannot_read() {
    let (_dir, store) = store();
    let image = put_image(&store, "linux/amd64", &layers(2));
    store.set_tag(&reference("app"), &image).unwrap();
    let path = store.blobs().path(&image.digest);
    let mut damaged = fs::read(&path).unwrap();
    damaged[20] ^= 1;
    fs::write(&path, damaged).unwrap();
    let before = store.blobs().list().unwrap();
    collect_garbage(&store, &Roots::default(), Duration::ZERO).unwrap_err();
    assert_eq!(store.blobs().list().unwrap(), before);
    let other = Store::open(store.root(), Flavour::SingleId).unwrap();
    let error = collect_garbage(&other, &Roots::default(), Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
}

#[test]
fn verification_finds_each_kind_of_damage() {
    let (_dir, store) = store();
    let content = layers(3);
    let image = put_image(&store, "linux/amd64", &content);
    store.set_tag(&reference("app"), &image).unwrap();
    assert!(store.verify(1).unwrap().is_empty());
    fs::write(store.blobs().path(&Digest::of(&content[0])), "evil").unwrap();
    store.blobs().remove(&Digest::of(&content[1])).unwrap();
    let (config, _) = image_of("linux/amd64", &content);
    store.blobs().remove(&config.digest()).unwrap();
    let not_json = store.blobs().put(b"hello").unwrap();
    let mut entry = Descriptor::new(MediaType::MANIFEST, not_json, 5);
    entry.annotations.insert(REF_NAME.into(), "odd".into());
    store.blobs().add_entry(&entry).unwrap();
    fs::create_dir_all(store.root().join("trees/v1/root/x/fs")).unwrap();
    let problems = store.verify(2).unwrap();
    let texts: BTreeSet<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 5, "{texts:#?}");
    for expected in [
        "has the digest",
        "needed by",
        "is not valid",
        "has no entries",
    ] {
        assert!(
            texts.iter().any(|text| text.contains(expected)),
            "{expected}: {texts:#?}"
        );
    }
}

#[test]
fn the_store_is_a_source_of_its_images() {
    let (_dir, store) = store();
    let content = layers(2);
    let target = put_image(&store, "linux/amd64", &content);
    store.set_tag(&reference("app"), &target).unwrap();
    let image = store
        .resolve(&reference("app"), &platform("linux/amd64"))
        .unwrap();
    let (_other_dir, other) = self::store();
    let fetched = fetch(&other, &store, &image, false, 2, &Silent).unwrap();
    other.set_tag(&reference("copy"), &fetched).unwrap();
    assert!(other.verify(1).unwrap().is_empty());
    assert_eq!(other.blobs().list().unwrap(), store.blobs().list().unwrap());
    let error = store
        .resolve(&reference("absent"), &Platform::host())
        .unwrap_err();
    assert!(matches!(error, Error::ImageMissing { .. }));
}
