use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::spec::{Digest, Hasher, MediaType};

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store"), Flavour::SingleId).unwrap();
    (dir, store)
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::LAYER, bytes)
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn temps(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with(temp::PREFIX))
        .collect()
}

#[test]
fn a_new_store_is_a_private_layout() {
    let (_dir, store) = store();
    let mode = fs::metadata(store.root()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(
        fs::read_to_string(store.root().join("oci-layout")).unwrap(),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );
    assert!(store.tags().unwrap().is_empty());
    assert!(store.root().join("blobs/sha256").is_dir());
    assert_eq!(temps(store.root()), [""; 0]);
}

#[test]
fn what_is_no_layout_is_refused_and_not_changed() {
    type Prepare = fn(&Path);
    let cases: [(&str, Prepare, &str); 4] = [
        (
            "foreign files",
            |root| fs::write(root.join("thesis.tex"), "x").unwrap(),
            "not empty",
        ),
        (
            "version 2",
            |root| fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap(),
            "only 1.0.x",
        ),
        (
            "not JSON",
            |root| fs::write(root.join("oci-layout"), "hello").unwrap(),
            "oci-layout",
        ),
        (
            "layout file is a fifo",
            |root| {
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                let path = root.join("oci-layout");
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            },
            "oci-layout",
        ),
    ];
    for (name, prepare, expected) in cases {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let before = fs::read_dir(dir.path()).unwrap().count();
        let error = Store::open(dir.path(), Flavour::SingleId).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(BlobStore::create(dir.path()).is_err(), "{name}");
        assert!(BlobStore::open(dir.path()).is_err(), "{name}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), before, "{name}");
    }
}

#[test]
fn an_empty_directory_and_an_existing_layout_become_stores() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    drop(Store::open(dir.path(), Flavour::SingleId).unwrap());
    let foreign = BlobStore::create(&dir.path().join("a/b")).unwrap();
    let digest = foreign.put(b"x").unwrap();
    let store = Store::open(foreign.root(), Flavour::SingleId).unwrap();
    assert_eq!(store.blobs().stat(&digest).unwrap(), Some(1));
}

#[test]
fn racing_creators_all_get_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    std::thread::scope(|scope| {
        let tag = |n: usize| {
            let store = Store::open(&root, Flavour::SingleId).unwrap();
            let digest = store.blobs().put(b"same").unwrap();
            let target = Descriptor::new(MediaType::MANIFEST, digest, 4);
            store.set_tag(&reference(&format!("app:{n}")), &target)
        };
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || tag(n))).collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    });
    let store = Store::open(&root, Flavour::SingleId).unwrap();
    assert_eq!(store.tags().unwrap().len(), 8);
    assert_eq!(store.blobs().list().unwrap().len(), 1);
    assert_eq!(temps(&root.join("ingest")), [""; 0]);
}

#[test]
fn blobs_come_back_as_they_went_in() {
    let (_dir, store) = store();
    let blobs = store.blobs();
    let content = vec![7; 300_000];
    let mut writer = blobs.ingest().unwrap();
    for part in content.chunks(1000) {
        writer.write_all(part).unwrap();
    }
    let descriptor = blob(&content);
    let committed = writer.commit(Some(&descriptor)).unwrap();
    assert_eq!(committed, (descriptor.digest.clone(), 300_000));
    let mut read = Vec::new();
    let mut reader = blobs.get(&descriptor).unwrap().unwrap();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    assert_eq!(blobs.read(&descriptor, 300_000).unwrap(), content);
    assert_eq!(
        blobs.list().unwrap(),
        [(descriptor.digest.clone(), 300_000)]
    );
    assert!(blobs.remove(&descriptor.digest).unwrap());
    assert!(!blobs.remove(&descriptor.digest).unwrap());
    assert!(blobs.get(&descriptor).unwrap().is_none());
    assert!(matches!(
        blobs.read(&descriptor, 300_000),
        Err(Error::BlobMissing { .. })
    ));
}

#[test]
fn sha512_blobs_are_kept_under_their_own_name() {
    let (_dir, store) = store();
    let mut hasher = Hasher::new(crate::spec::Algorithm::Sha512);
    hasher.update(b"x");
    let expected = Descriptor::new(MediaType::LAYER, hasher.finish(), 1);
    for by_size in [true, false] {
        let mut writer = if by_size {
            store.blobs().ingest_for(&expected).unwrap()
        } else {
            store.blobs().ingest().unwrap()
        };
        writer.write_all(b"x").unwrap();
        writer.commit(Some(&expected)).unwrap();
        assert!(
            store
                .root()
                .join("blobs/sha512")
                .join(expected.digest.hex())
                .is_file()
        );
        assert!(store.blobs().remove(&expected.digest).unwrap());
    }
    store.blobs().put_as(&expected, b"x").unwrap();
    assert_eq!(store.blobs().read(&expected, 1).unwrap(), b"x");
}

#[test]
fn what_is_not_as_announced_is_refused_and_leaves_nothing() {
    let (_dir, store) = store();
    let cases: [(&str, Descriptor, &[u8]); 3] = [
        ("other bytes", blob(b"abc"), b"abd"),
        ("too short", blob(b"abc"), b"ab"),
        ("too long", blob(b"abc"), b"abcd"),
    ];
    for (name, expected, content) in &cases {
        let mut early = store.blobs().ingest_for(expected).unwrap();
        let result = early.write_all(content).map_err(Error::read("body"));
        let result = result.and_then(|()| early.commit(Some(expected)));
        let mut late = store.blobs().ingest().unwrap();
        late.write_all(content).unwrap();
        for result in [result, late.commit(Some(expected))] {
            let error = result.unwrap_err();
            assert!(
                matches!(
                    error,
                    Error::SizeMismatch { .. } | Error::DigestMismatch { .. }
                ),
                "{name}: {error}"
            );
        }
        assert!(store.blobs().list().unwrap().is_empty(), "{name}");
        assert_eq!(temps(&store.root().join("ingest")), [""; 0], "{name}");
    }
}

#[test]
fn a_damaged_blob_is_noticed_and_one_of_wrong_size_replaced() {
    let (_dir, store) = store();
    let digest = store.blobs().put(b"good").unwrap();
    let descriptor = Descriptor::new(MediaType::CONFIG, digest.clone(), 4);
    fs::write(store.blobs().path(&digest), b"evil").unwrap();
    assert!(matches!(
        store.blobs().read(&descriptor, 100),
        Err(Error::DigestMismatch { .. })
    ));
    fs::write(store.blobs().path(&digest), b"good and more").unwrap();
    assert!(matches!(
        store.blobs().read(&descriptor, 100),
        Err(Error::SizeMismatch { .. })
    ));
    assert!(!store.blobs().has(&descriptor).unwrap());
    store.blobs().put(b"good").unwrap();
    assert_eq!(store.blobs().read(&descriptor, 100).unwrap(), b"good");
    assert!(matches!(
        store.blobs().read(&descriptor, 3),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn an_existing_blob_is_not_written_again() {
    let (_dir, store) = store();
    let digest = store.blobs().put(b"once").unwrap();
    let inode = |digest: &Digest| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(store.blobs().path(digest)).unwrap().ino()
    };
    let before = inode(&digest);
    let mut writer = store.blobs().ingest().unwrap();
    writer.write_all(b"once").unwrap();
    writer.commit(None).unwrap();
    store.blobs().put(b"once").unwrap();
    assert_eq!(inode(&digest), before);
}

#[test]
fn dropped_writers_leave_nothing_and_live_ones_survive_cleaning() {
    let (_dir, store) = store();
    let ingest = store.root().join("ingest");
    let mut live = store.blobs().ingest().unwrap();
    live.write_all(b"live").unwrap();
    drop(store.blobs().ingest().unwrap());
    fs::write(ingest.join(".wythe-1-dead"), "x").unwrap();
    fs::write(ingest.join("foreign"), "x").unwrap();
    assert_eq!(temps(&ingest).len(), 2);
    let again = Store::open(store.root(), Flavour::SingleId).unwrap();
    assert_eq!(temps(&ingest).len(), 1);
    assert!(ingest.join("foreign").exists());
    live.commit(None).unwrap();
    assert_eq!(again.blobs().list().unwrap().len(), 1);
}

#[test]
fn tags_are_set_moved_listed_and_removed() {
    let (_dir, store) = store();
    let one = Descriptor::of(MediaType::MANIFEST, b"1");
    let two = Descriptor::of(MediaType::INDEX, b"22");
    let app = reference("app");
    let other = reference("localhost:5000/x/y:v1");
    assert_eq!(store.tag(&app).unwrap(), None);
    store.set_tag(&app, &one).unwrap();
    store.set_tag(&other, &one).unwrap();
    store.set_tag(&app, &two).unwrap();
    assert_eq!(store.tag(&app).unwrap(), Some(two.clone()));
    assert_eq!(
        store.tags().unwrap(),
        [(app.clone(), two.clone()), (other.clone(), one.clone())]
    );
    let index = fs::read_to_string(store.root().join("index.json")).unwrap();
    assert!(
        index.contains(r#""org.opencontainers.image.ref.name":"docker.io/library/app:latest""#)
    );
    assert!(store.remove_tag(&app).unwrap());
    assert!(!store.remove_tag(&app).unwrap());
    assert_eq!(store.tags().unwrap(), [(other, one)]);
}

#[test]
fn a_digest_in_a_reference_decides() {
    let (_dir, store) = store();
    let one = Descriptor::of(MediaType::MANIFEST, b"1");
    let two = Descriptor::of(MediaType::MANIFEST, b"2");
    store.set_tag(&reference("app:v1"), &one).unwrap();
    let by_digest = reference("app").with_digest(one.digest.clone());
    assert_eq!(store.tag(&by_digest).unwrap(), Some(one.clone()));
    let elsewhere = reference("other").with_digest(one.digest.clone());
    assert_eq!(store.tag(&elsewhere).unwrap(), None);
    let both = reference(&format!("app:v2@{}", one.digest));
    assert_eq!(store.tag(&both).unwrap(), Some(one.clone()));
    assert!(matches!(
        store.set_tag(&both, &two),
        Err(Error::DigestMismatch { .. })
    ));
    store.set_tag(&elsewhere, &one).unwrap();
    assert_eq!(store.tag(&elsewhere).unwrap(), Some(one));
    assert_eq!(store.tags().unwrap().len(), 2);
}

#[test]
fn an_unchanged_tag_is_not_written() {
    let (_dir, store) = store();
    let one = Descriptor::of(MediaType::MANIFEST, b"1");
    store.set_tag(&reference("app"), &one).unwrap();
    let index = store.root().join("index.json");
    let spaced = fs::read_to_string(&index).unwrap().replace(',', ", ");
    fs::write(&index, &spaced).unwrap();
    store.set_tag(&reference("app"), &one).unwrap();
    assert_eq!(fs::read_to_string(&index).unwrap(), spaced);
}

#[test]
fn entries_and_fields_of_other_tools_survive() {
    let (_dir, store) = store();
    let index = store.root().join("index.json");
    let digest = Digest::of(b"x");
    let foreign = format!(
        r#"{{"schemaVersion":2,"odd":[1],"annotations":{{"a":"b"}},"manifests":[
        {{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1}},
        {{"mediaType":"text/x","digest":"blake3:zz","size":1,"annotations":{{"org.opencontainers.image.ref.name":"odd"}}}},
        {{"mediaType":"text/x","digest":"{digest}","size":1,"annotations":{{"org.opencontainers.image.ref.name":"v1.0"}},"odd":{{"x":1}}}},
        7]}}"#
    );
    fs::write(&index, foreign).unwrap();
    assert!(store.tags().unwrap().is_empty());
    assert!(store.blobs().entry("v1.0").unwrap().is_some());
    let one = Descriptor::of(MediaType::MANIFEST, b"1");
    store.set_tag(&reference("app"), &one).unwrap();
    assert_eq!(store.tags().unwrap().len(), 1);
    assert!(store.remove_tag(&reference("app")).unwrap());
    let now: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    assert_eq!(now["odd"], serde_json::json!([1]));
    assert_eq!(now["annotations"]["a"], "b");
    let entries = now["manifests"].as_array().unwrap();
    assert_eq!(entries.len(), 4);
    assert_eq!(entries[2]["odd"]["x"], 1);
    assert_eq!(entries[3], 7);
}

#[test]
fn a_corrupt_index_is_reported_and_left_alone() {
    let (_dir, store) = store();
    let index = store.root().join("index.json");
    for text in [
        "",
        "[]",
        "{\"schemaVersion\":1}",
        "{\"schemaVersion\":2,\"manifests\":3}",
        "{\"sch",
    ] {
        fs::write(&index, text).unwrap();
        let one = Descriptor::of(MediaType::MANIFEST, b"1");
        let errors = [
            store.tags().unwrap_err(),
            store.set_tag(&reference("app"), &one).unwrap_err(),
            store.remove_tag(&reference("app")).unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error, Error::CorruptIndex { .. }),
                "{text}: {error}"
            );
            assert!(error.to_string().contains("move it away"));
        }
        assert_eq!(fs::read_to_string(&index).unwrap(), text);
    }
    fs::remove_file(&index).unwrap();
    assert!(store.tags().unwrap().is_empty());
}

#[test]
fn repointing_keeps_names() {
    let (_dir, store) = store();
    let pending = Descriptor::of(MediaType::PENDING_MANIFEST, b"p");
    let real = Descriptor::of(MediaType::MANIFEST, b"r");
    for name in ["a", "b"] {
        store.set_tag(&reference(name), &pending).unwrap();
    }
    store
        .blobs()
        .repoint_entries(&pending.digest, &real)
        .unwrap();
    assert_eq!(
        store.tags().unwrap(),
        [(reference("a"), real.clone()), (reference("b"), real)]
    );
}

#[test]
fn records_are_kept_and_torn_ones_are_absent() {
    let (_dir, store) = store();
    let records = store.records::<Vec<u32>>("layers/v1");
    let key = Digest::of(b"key");
    assert_eq!(records.get(&key).unwrap(), None);
    assert!(records.keys().unwrap().is_empty());
    records.put(&key, &vec![1, 2]).unwrap();
    assert_eq!(records.get(&key).unwrap(), Some(vec![1, 2]));
    assert_eq!(records.keys().unwrap(), std::slice::from_ref(&key));
    for torn in ["", "[1,", "{}"] {
        fs::write(records.path(&key), torn).unwrap();
        assert_eq!(records.get(&key).unwrap(), None, "{torn}");
    }
    records.put(&key, &vec![3]).unwrap();
    assert_eq!(records.get(&key).unwrap(), Some(vec![3]));
    assert!(records.remove(&key).unwrap());
    assert!(!records.remove(&key).unwrap());
}

#[test]
fn holding_the_store_alone_needs_the_others_to_be_gone() {
    let (_dir, store) = store();
    let clone = store.clone();
    drop(store.exclusive(Duration::ZERO).unwrap());
    drop(clone);
    let other = Store::open(store.root(), Flavour::SingleId).unwrap();
    let error = store.exclusive(Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    drop(other);
    let held = store.exclusive(Duration::ZERO).unwrap();
    let path = store.root().join("locks/store");
    let attempt = FileLock::acquire(&path, Mode::Shared, Duration::ZERO);
    assert!(matches!(attempt, Err(Error::Locked { .. })));
    drop(held);
    FileLock::acquire(&path, Mode::Shared, Duration::ZERO).unwrap();
}

/// `true` when a test that needs `ability` may go on; skips loudly, or fails where it is required.
fn may_run(name: &str, kind: &str, is_able: bool, ability: &str) -> bool {
    if !is_able {
        eprintln!("SKIPPED {name}: needs {ability}");
        let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
        assert!(!required.contains(kind), "{name} needs {ability}");
    }
    is_able
}

/// A private mount namespace for this thread, so that no mount of a test is ever seen outside.
fn own_mounts() -> bool {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).is_ok()
        && mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .is_ok()
}

#[test]
fn priv_a_full_disk_is_reported_and_nothing_is_left() {
    use nix::mount::{MsFlags, mount};
    if !may_run("full disk", "priv", own_mounts(), "a mount namespace") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Some("size=256k,mode=700");
    mount(
        Some("t"),
        dir.path(),
        Some("tmpfs"),
        MsFlags::empty(),
        options,
    )
    .unwrap();
    let store = Store::open(dir.path(), Flavour::Root).unwrap();
    let digest = store.blobs().put(b"small").unwrap();
    let mut writer = store.blobs().ingest().unwrap();
    let result = writer
        .write_all(&vec![1; 1 << 20])
        .map_err(Error::read("body"))
        .and_then(|()| writer.commit(None));
    let error = result.unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!(temps(&dir.path().join("ingest")), [""; 0]);
    assert_eq!(store.blobs().list().unwrap().len(), 1);
    // With no block left at all the tag cannot be written, and the old one stays.
    let one = Descriptor::new(MediaType::MANIFEST, digest, 5);
    store.set_tag(&reference("app"), &one).unwrap();
    let filler = dir.path().join("filler");
    while fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&filler)
        .and_then(|mut file| file.write_all(&[0; 4096]))
        .is_ok()
    {}
    let two = Descriptor::of(MediaType::MANIFEST, b"2");
    let error = store.set_tag(&reference("app"), &two).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert_eq!(store.tag(&reference("app")).unwrap(), Some(one));
    drop(store);
    nix::mount::umount(dir.path()).unwrap();
}

fn check_read_only(root: &Path) {
    let store = Store::open(root, Flavour::SingleId).unwrap();
    let one = blob(b"old");
    assert_eq!(store.blobs().read(&one, 10).unwrap(), b"old");
    assert_eq!(store.tags().unwrap().len(), 1);
    store.blobs().put(b"old").unwrap();
    let errors = [
        store.blobs().put(b"new").unwrap_err(),
        store.set_tag(&reference("other"), &one).unwrap_err(),
        store.remove_tag(&reference("app")).unwrap_err(),
        store.blobs().remove(&one.digest).unwrap_err(),
        store
            .records::<u32>("x/v1")
            .put(&one.digest, &1)
            .unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    }
}

fn store_with_a_tag() -> (tempfile::TempDir, PathBuf) {
    let (dir, store) = store();
    store.blobs().put(b"old").unwrap();
    store.set_tag(&reference("app"), &blob(b"old")).unwrap();
    let root = store.root().to_owned();
    (dir, root)
}

#[test]
fn priv_a_read_only_disk_can_be_read() {
    use nix::mount::{MsFlags, mount};
    if !may_run("read-only disk", "priv", own_mounts(), "a mount namespace") {
        return;
    }
    let (_dir, root) = store_with_a_tag();
    let none = None::<&str>;
    mount(Some(&root), &root, none, MsFlags::MS_BIND, none).unwrap();
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(none, &root, none, read_only, none).unwrap();
    check_read_only(&root);
    nix::mount::umount(&root).unwrap();
}

#[test]
fn a_store_without_write_permission_can_be_read() {
    if rustix::process::geteuid().is_root() {
        eprintln!(
            "SKIPPED a_store_without_write_permission_can_be_read: root may write everywhere"
        );
        return;
    }
    let (_dir, root) = store_with_a_tag();
    let dirs = ["", "blobs", "blobs/sha256", "ingest", "locks"];
    let set_mode = |mode| {
        for dir in dirs {
            fs::set_permissions(root.join(dir), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set_mode(0o500);
    check_read_only(&root);
    set_mode(0o700);
}

/// Waits until something is so; only a failing test waits to the end, however busy the machine.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const CHILD_STORE: &str = "WYTHE_TEST_CHILD_STORE";

/// Not a test of its own: what the killed child of the next test does.
#[test]
#[ignore = "started by kills_at_any_moment_leave_a_sound_store"]
fn child_that_ingests_until_it_is_killed() {
    let Some(root) = std::env::var_os(CHILD_STORE) else {
        return;
    };
    let pid = std::process::id();
    for round in 0_u32.. {
        let store = Store::open(Path::new(&root), Flavour::SingleId).unwrap();
        let content = format!("{pid} {round}").repeat(3000);
        let mut writer = store.blobs().ingest().unwrap();
        for part in content.as_bytes().chunks(700) {
            writer.write_all(part).unwrap();
        }
        let (digest, size) = writer.commit(None).unwrap();
        let target = Descriptor::new(MediaType::LAYER, digest.clone(), size);
        store
            .set_tag(&reference(&format!("app:{}", round % 7)), &target)
            .unwrap();
        store
            .records::<u32>("layers/v1")
            .put(&digest, &round)
            .unwrap();
    }
}

#[test]
fn kills_at_any_moment_leave_a_sound_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    for round in 0_u64..12 {
        let children: Vec<_> = (0..2)
            .map(|_| {
                Command::new(std::env::current_exe().unwrap())
                    .args([
                        "--exact",
                        "--ignored",
                        "store::tests::child_that_ingests_until_it_is_killed",
                    ])
                    .env(CHILD_STORE, &root)
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        if round == 0 {
            // However long a process takes to start here.
            let blobs = root.join("blobs/sha256");
            eventually("the children have stored something", || {
                fs::read_dir(&blobs).is_ok_and(|mut entries| entries.next().is_some())
            });
        }
        std::thread::sleep(Duration::from_millis(20 + round * 13 % 57));
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let mut store = Store::open(&root, Flavour::SingleId).unwrap();
        // On a busy machine a lock was once seen to outlive its owner for a moment; what is left
        // is swept by a later opening then.
        eventually("nothing is left in ingest", || {
            let is_empty = temps(&root.join("ingest")).is_empty();
            store = Store::open(&root, Flavour::SingleId).unwrap();
            is_empty
        });
        assert_eq!(temps(&root), [""; 0]);
        for (digest, size) in store.blobs().list().unwrap() {
            let descriptor = Descriptor::new(MediaType::LAYER, digest, size);
            store.blobs().read(&descriptor, 1 << 20).unwrap();
        }
        for (tag, target) in store.tags().unwrap() {
            assert!(store.blobs().has(&target).unwrap(), "{tag}");
        }
    }
    let store = Store::open(&root, Flavour::SingleId).unwrap();
    assert!(
        !store.blobs().list().unwrap().is_empty(),
        "the children did something"
    );
}

#[test]
fn peer_skopeo_reads_the_store_in_place() {
    let has_skopeo = Command::new("skopeo").arg("--version").output().is_ok();
    if !may_run("skopeo", "peer", has_skopeo, "skopeo") {
        return;
    }
    let (dir, store) = store();
    let config = br#"{"architecture":"amd64","os":"linux","config":{"Labels":{"a":"b"}},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let config_descriptor = Descriptor::of(MediaType::CONFIG, config);
    store.blobs().put(config).unwrap();
    let manifest = crate::spec::Manifest::new(config_descriptor, Vec::new());
    let manifest = crate::spec::Raw::encode(manifest, "manifest").unwrap();
    store.blobs().put(manifest.bytes()).unwrap();
    let target = manifest.descriptor(MediaType::MANIFEST);
    store.set_tag(&reference("app"), &target).unwrap();
    store
        .set_tag(&reference("localhost:5000/app:v1"), &target)
        .unwrap();
    let pending = Descriptor::of(MediaType::PENDING_MANIFEST, b"p");
    store.set_tag(&reference("pending"), &pending).unwrap();
    for name in ["docker.io/library/app:latest", "localhost:5000/app:v1"] {
        let source = format!("oci:{}:{name}", store.root().display());
        let copy = format!("oci:{}/copy:x", dir.path().display());
        let commands: [&[&str]; 2] = [
            &["inspect", &source],
            &["--insecure-policy", "copy", &source, &copy],
        ];
        for arguments in commands {
            let output = Command::new("skopeo").args(arguments).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "skopeo {arguments:?}: {errors}");
        }
        let copied = BlobStore::open(&dir.path().join("copy")).unwrap();
        assert_eq!(copied.entry("x").unwrap().unwrap().digest, target.digest);
    }
    // And what skopeo puts in under a full name is a tag of ours.
    let source = format!(
        "oci:{}:docker.io/library/app:latest",
        store.root().display()
    );
    let target_name = format!("oci:{}:docker.io/library/copied:v2", store.root().display());
    let output = Command::new("skopeo")
        .args(["--insecure-policy", "copy", &source, &target_name])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(store.tags().unwrap().len(), 4);
    assert_eq!(
        store.tag(&reference("copied:v2")).unwrap().unwrap().digest,
        target.digest
    );
}
