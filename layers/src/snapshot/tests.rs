//! Snapshots, from random changes to the same files elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, XattrFlags};

use super::*;
use crate::layer::{self, LayerWriter, Purpose, compress, unpack};
use crate::progress::Silent;
use crate::spec::DiffId;
use crate::stream::Compression;
use crate::testing::{self, dir, file, privileged};
use crate::tree::{Flavour, Timestamp};

/// A path to the files of a snapshot, attached or not.
fn files(root: &Root) -> PathBuf {
    match root {
        Root::Detached(mount) => PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd())),
        Root::Directory(path) => path.clone(),
    }
}

/// Everything that can be seen of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    content: Vec<u8>,
    xattrs: Vec<(String, Vec<u8>)>,
    same_as: Option<PathBuf>,
}

/// All files below `root`. The root's own time is left out: it is nobody's business.
fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut inodes = HashMap::new();
    look_below(root, Path::new(""), &mut seen, &mut inodes);
    seen
}

fn look_below(
    root: &Path,
    path: &Path,
    seen: &mut BTreeMap<PathBuf, Seen>,
    inodes: &mut HashMap<u64, PathBuf>,
) {
    let whole = root.join(path);
    let metadata = fs::symlink_metadata(&whole).unwrap();
    let content = if metadata.is_file() {
        fs::read(&whole).unwrap()
    } else if metadata.is_symlink() {
        fs::read_link(&whole).unwrap().into_os_string().into_vec()
    } else {
        Vec::new()
    };
    let mut same_as = None;
    if metadata.is_file() && metadata.nlink() > 1 {
        let first = inodes
            .entry(metadata.ino())
            .or_insert_with(|| path.to_owned());
        same_as = (first != path).then(|| first.clone());
    }
    let is_root = path.as_os_str().is_empty();
    let this = Seen {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        mtime: if is_root {
            (0, 0)
        } else {
            (metadata.mtime(), metadata.mtime_nsec())
        },
        content,
        xattrs: xattrs(&whole),
        same_as,
    };
    seen.insert(path.to_owned(), this);
    if metadata.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&whole)
            .unwrap()
            .map(|child| child.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            look_below(root, &path.join(name), seen, inodes);
        }
    }
}

fn xattrs(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap();
    names.truncate(length);
    let mut all: Vec<_> = names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .filter(|(name, _)| !name.contains(".overlay."))
        .collect();
    all.sort();
    all
}

/// `O_NOFOLLOW | O_NONBLOCK`: no pipe is waited for, no link leads out.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW
    .union(rustix::fs::OFlags::NONBLOCK)
    .bits() as i32;

/// What a process may do to its files. Paths are of a small set, so that they meet.
#[derive(Debug, Clone)]
enum Change {
    Write(PathBuf, Vec<u8>),
    Append(PathBuf),
    MakeDir(PathBuf),
    Symlink(PathBuf, PathBuf),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Renew(PathBuf),
    Chmod(PathBuf, u32),
    Xattr(PathBuf, u8),
    Touch(PathBuf, i64),
    Pipe(PathBuf),
    Chown(PathBuf, u32),
}

impl Change {
    /// Does it, if it can be done.
    fn make(&self, root: &Path) {
        let at = |path: &PathBuf| root.join(path);
        if let Self::Write(path, _) | Self::Append(path) = self
            && fs::metadata(at(path)).is_ok_and(|metadata| !metadata.is_file())
        {
            // Opening a pipe would wait for its other end; following a link leads out of `root`.
            return;
        }
        // What cannot be done (there is no such file, a directory is not empty) is a change too:
        // none.
        let _ = match self {
            Self::Write(path, content) => fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .custom_flags(NO_FOLLOW)
                .open(at(path))
                .and_then(|mut file| std::io::Write::write_all(&mut file, content)),
            Self::Append(path) => fs::OpenOptions::new()
                .custom_flags(NO_FOLLOW)
                .append(true)
                .open(at(path))
                .and_then(|mut file| std::io::Write::write_all(&mut file, b"more")),
            Self::MakeDir(path) => fs::create_dir_all(at(path)),
            Self::Symlink(path, target) => std::os::unix::fs::symlink(target, at(path)),
            Self::Link(path, other) => fs::hard_link(at(other), at(path)),
            Self::Rename(from, to) => fs::rename(at(from), at(to)),
            Self::Remove(path) => remove(&at(path)),
            Self::Renew(path) => remove(&at(path)).and_then(|()| fs::create_dir(at(path))),
            Self::Chmod(path, mode) => match fs::symlink_metadata(at(path)) {
                Ok(metadata) if !metadata.is_symlink() => {
                    fs::set_permissions(at(path), fs::Permissions::from_mode(*mode))
                }
                _ => Ok(()),
            },
            Self::Xattr(path, value) => match fs::symlink_metadata(at(path)) {
                Ok(metadata) if metadata.is_file() || metadata.is_dir() => {
                    rustix::fs::lsetxattr(at(path), c"user.colour", &[*value], XattrFlags::empty())
                        .map_err(Into::into)
                }
                _ => Ok(()),
            },
            Self::Touch(path, seconds) => {
                let time = rustix::fs::Timespec {
                    tv_sec: *seconds,
                    tv_nsec: 5,
                };
                let times = rustix::fs::Timestamps {
                    last_access: time,
                    last_modification: time,
                };
                rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(Into::into)
            }
            Self::Pipe(path) => {
                rustix::fs::mkfifoat(CWD, at(path), rustix::fs::Mode::RWXU).map_err(Into::into)
            }
            Self::Chown(path, id) => std::os::unix::fs::lchown(at(path), Some(*id), Some(*id)),
        };
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

fn some_path() -> impl Strategy<Value = PathBuf> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just(".d")];
    proptest::collection::vec(name, 1..4).prop_map(|parts| parts.iter().collect())
}

fn some_change() -> impl Strategy<Value = Change> {
    let path = some_path;
    let content = || proptest::collection::vec(any::<u8>(), 0..20);
    prop_oneof![
        4 => (path(), content()).prop_map(|(path, content)| Change::Write(path, content)),
        1 => path().prop_map(Change::Append),
        4 => path().prop_map(Change::MakeDir),
        1 => (path(), path()).prop_map(|(path, target)| Change::Symlink(path, target)),
        2 => (path(), path()).prop_map(|(path, other)| Change::Link(path, other)),
        3 => (path(), path()).prop_map(|(from, to)| Change::Rename(from, to)),
        2 => path().prop_map(Change::Remove),
        2 => path().prop_map(Change::Renew),
        2 => (path(), prop_oneof![Just(0o700), Just(0o755), Just(0o4711), Just(0o1777)])
            .prop_map(|(path, mode)| Change::Chmod(path, mode)),
        1 => (path(), any::<u8>()).prop_map(|(path, value)| Change::Xattr(path, value)),
        1 => (path(), -5..5_000_000_000_i64).prop_map(|(path, time)| Change::Touch(path, time)),
        1 => path().prop_map(Change::Pipe),
        1 => (path(), 0..3_u32).prop_map(|(path, id)| Change::Chown(path, id)),
    ]
}

/// Rounds of changes: each is made in a snapshot on the layers of those before.
fn some_rounds() -> impl Strategy<Value = Vec<Vec<Change>>> {
    proptest::collection::vec(proptest::collection::vec(some_change(), 1..25), 1..4)
}

/// Changes → layers → blobs → another store: every time the same files.
fn check_round_trip(snapshotter: impl Fn(&Store) -> Box<dyn Snapshotter>, rounds: &[Vec<Change>]) {
    let (_temp, store) = testing::store();
    let (_temp, other) = testing::store();
    let snapshots = snapshotter(&store);
    let mut stack = LayerStack::default();
    let mut diff_ids: Vec<DiffId> = Vec::new();
    for changes in rounds {
        let snapshot = snapshots.prepare(&store, &stack).unwrap();
        let root = snapshot.root().unwrap();
        for change in changes {
            change.make(&files(&root));
        }
        // An overlay that copied a file up to give it another name shows two inode numbers for it
        // until it is mounted anew, so what is one file cannot be compared with a live one.
        let live = unlinked(look(&files(&root)));
        drop(root);
        let Some(record) = snapshot.commit(&CommitOptions::default()).unwrap() else {
            assert_eq!(
                live,
                unlinked(view(snapshots.as_ref(), &store, &stack)),
                "nothing was committed"
            );
            continue;
        };
        diff_ids.push(record.diff_id.clone());
        stack = LayerStack::open(&store, &diff_ids).unwrap().unwrap();
        let committed = view(snapshots.as_ref(), &store, &stack);
        assert_eq!(live, unlinked(committed.clone()), "committed");
        check_merged_view(&live, &stack);

        let gzip = Some(Compression::Gzip);
        let blob = compress(&store, &record.diff_id, gzip, 1, &Silent).unwrap();
        let mut body = store.blobs().get(&blob).unwrap().unwrap();
        let unpacked = unpack(&other, &blob, &record.diff_id, &mut body).unwrap();
        assert!(
            matches!(unpacked, layer::Unpacked::Tree(_)),
            "a commit is self-contained"
        );
        let there = LayerStack::open(&other, &diff_ids).unwrap().unwrap();
        assert_eq!(
            committed,
            view(snapshotter(&other).as_ref(), &other, &there),
            "unpacked"
        );
    }
    drop((stack, snapshots));
    let left = fs::read_dir(store.root().join("snapshots")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "snapshots leave nothing");
}

fn unlinked(mut seen: BTreeMap<PathBuf, Seen>) -> BTreeMap<PathBuf, Seen> {
    for file in seen.values_mut() {
        file.same_as = None;
    }
    seen
}

fn view(snapshots: &dyn Snapshotter, store: &Store, stack: &LayerStack) -> BTreeMap<PathBuf, Seen> {
    let view = snapshots.view(store, stack).unwrap();
    let root = view.root().unwrap();
    look(&files(&root))
}

/// What the stack says without a mount is what a mount shows.
fn check_merged_view(live: &BTreeMap<PathBuf, Seen>, stack: &LayerStack) {
    for (path, seen) in live {
        let path = EntryPath::parse(path.as_os_str().as_bytes()).unwrap();
        let found = stack.lookup(&path).unwrap().unwrap();
        assert_eq!(found.entry.mode, seen.mode & 0o7777, "{path}");
        if testing::flavour() != Flavour::SingleId {
            assert_eq!((found.entry.uid, found.entry.gid), seen.owner, "{path}");
        }
        let children = stack.read_dir(&path).unwrap().len();
        let expected = live
            .keys()
            .filter(|below| below.parent() == Some(path.as_path()))
            .count();
        assert_eq!(children, expected, "{path}");
    }
}

fn overlay(store: &Store) -> Box<dyn Snapshotter> {
    Box::new(OverlaySnapshotter::probe(store).unwrap())
}

fn copy(_store: &Store) -> Box<dyn Snapshotter> {
    Box::new(CopySnapshotter)
}

/// So many cases, or as many as `PROPTEST_CASES` says.
fn cases(count: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default.cases,
        None => count,
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn priv_random_changes_in_an_overlay_survive_the_whole_way(rounds in some_rounds()) {
        if privileged("priv_random_changes_in_an_overlay_survive_the_whole_way", "root") {
            check_round_trip(overlay, &rounds);
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn random_changes_in_a_copy_survive_the_whole_way(rounds in some_rounds()) {
        check_round_trip(copy, &rounds);
    }
}

/// A stack of one layer with these files.
fn stack_with(store: &Store, entries: &[(crate::tree::Entry, &str)]) -> LayerStack {
    let temp = tempfile::tempdir().unwrap();
    let mut writer = LayerWriter::new(store, Purpose::Tree, None, 1).unwrap();
    for (entry, content) in entries {
        let path = temp.path().join("content");
        fs::write(&path, content).unwrap();
        writer
            .add(entry.clone(), Some(fs::File::open(&path).unwrap()))
            .unwrap();
    }
    let record = writer.finish().unwrap();
    LayerStack::open(store, &[record.diff_id]).unwrap().unwrap()
}

/// The snapshotters that can be had here.
fn snapshotters(store: &Store) -> Vec<Box<dyn Snapshotter>> {
    match OverlaySnapshotter::probe(store) {
        Ok(overlay) => vec![Box::new(overlay), Box::new(CopySnapshotter)],
        Err(_) => vec![Box::new(CopySnapshotter)],
    }
}

fn entry_path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

#[test]
fn a_step_that_changes_nothing_makes_no_layer() {
    let (_temp, store) = testing::store();
    let below = stack_with(
        &store,
        &[(dir("etc", 0o755), ""), (file("etc/f", 0o644, "x"), "x")],
    );
    for snapshots in snapshotters(&store) {
        for stack in [&LayerStack::default(), &below] {
            let snapshot = snapshots.prepare(&store, stack).unwrap();
            let root = snapshot.root().unwrap();
            // Comes and goes: only the time of the root changes.
            fs::write(files(&root).join("temporary"), "x").unwrap();
            fs::remove_file(files(&root).join("temporary")).unwrap();
            drop(root);
            assert_eq!(snapshot.commit(&CommitOptions::default()).unwrap(), None);
        }
    }
}

#[test]
fn mount_points_of_the_runtime_do_not_become_part_of_a_layer() {
    let (_temp, store) = testing::store();
    let below = stack_with(
        &store,
        &[(dir("etc", 0o755), ""), (file("etc/f", 0o644, "x"), "x")],
    );
    let options = CommitOptions {
        ignore: ["proc", "sys", "etc/resolv.conf", "data"]
            .map(entry_path)
            .into(),
        ..CommitOptions::default()
    };
    for snapshots in snapshotters(&store) {
        let make = |with_changes: bool| {
            let snapshot = snapshots.prepare(&store, &below).unwrap();
            let root = snapshot.root().unwrap();
            let at = |name: &str| files(&root).join(name);
            for name in ["proc", "sys", "data"] {
                fs::create_dir(at(name)).unwrap();
            }
            fs::write(at("etc/resolv.conf"), "").unwrap();
            if with_changes {
                fs::write(at("data/result"), "x").unwrap();
            }
            drop(root);
            snapshot.commit(&options).unwrap()
        };
        assert_eq!(make(false), None);
        let record = make(true).unwrap();
        let list = layer::entries(&store, &record.diff_id).unwrap().unwrap();
        let paths: Vec<_> = list
            .entries()
            .iter()
            .map(|entry| entry.path.to_string())
            .collect();
        assert_eq!(paths, ["data", "data/result"]);
        let tree = below
            .with(&store, &record.diff_id)
            .unwrap()
            .unwrap()
            .trees()[1]
            .clone();
        assert!(!tree.fs().join("proc").exists() && !tree.fs().join("etc").exists());
    }
}

#[test]
fn late_times_are_clamped_in_the_layer_and_steps_see_them_as_they_were() {
    let (_temp, store) = testing::store();
    let clamp = Timestamp::from_seconds(1_000);
    for (number, snapshots) in snapshotters(&store).into_iter().enumerate() {
        let snapshot = snapshots.prepare(&store, &LayerStack::default()).unwrap();
        let root = snapshot.root().unwrap();
        fs::create_dir(files(&root).join("d")).unwrap();
        // Of two layers that are the same the first one's tree stays.
        fs::write(files(&root).join("d/f"), number.to_string()).unwrap();
        std::os::unix::fs::symlink("f", files(&root).join("d/l")).unwrap();
        let time_of = |path: PathBuf| {
            let metadata = fs::symlink_metadata(path).unwrap();
            (metadata.mtime(), metadata.mtime_nsec())
        };
        let names = ["d", "d/f", "d/l"];
        let before = names.map(|name| time_of(files(&root).join(name)));
        drop(root);
        let options = CommitOptions {
            clamp: Some(clamp),
            ..CommitOptions::default()
        };
        let record = snapshot.commit(&options).unwrap().unwrap();
        let stack = LayerStack::open(&store, &[record.diff_id])
            .unwrap()
            .unwrap();
        let list = stack.trees()[0].entries().unwrap();
        assert!(list.iter().all(|entry| entry.mtime == clamp));
        assert_eq!(
            names.map(|name| time_of(stack.trees()[0].fs().join(name))),
            before
        );
        let mtime = |stack: &LayerStack, name: &str| {
            let found = stack.lookup(&EntryPath::check(name.as_bytes()).unwrap());
            found.unwrap().unwrap().entry.mtime
        };
        let in_layers = stack.clone().with_times(layer::Times::Layers);
        for (name, (seconds, _)) in names.into_iter().zip(before) {
            assert_eq!(mtime(&stack, name).seconds, seconds, "{name}");
            assert_eq!(mtime(&in_layers, name), clamp, "{name}");
        }
    }
}

#[test]
fn the_root_directory_keeps_its_mode_through_all_layers() {
    let (_temp, store) = testing::store();
    let below = stack_with(
        &store,
        &[(dir("", 0o711), ""), (file("f", 0o644, "x"), "x")],
    );
    for snapshots in snapshotters(&store) {
        let view = snapshots.view(&store, &below).unwrap();
        let mode = |root: &Root| fs::metadata(files(root)).unwrap().mode() & 0o777;
        let shown = 0o711;
        assert_eq!(mode(&view.root().unwrap()), shown);
        let snapshot = snapshots.prepare(&store, &below).unwrap();
        let root = snapshot.root().unwrap();
        assert_eq!(mode(&root), shown);
        fs::set_permissions(files(&root), fs::Permissions::from_mode(0o755)).unwrap();
        drop(root);
        let record = snapshot.commit(&CommitOptions::default()).unwrap().unwrap();
        let list = layer::entries(&store, &record.diff_id).unwrap().unwrap();
        assert_eq!(list.entries().len(), 1);
        assert_eq!(list.get(&EntryPath::ROOT).unwrap().mode, 0o755);
    }
}

#[test]
fn priv_views_of_no_one_and_many_layers_are_read_only() {
    if !privileged("priv_views_of_no_one_and_many_layers_are_read_only", "root") {
        return;
    }
    let (_temp, store) = testing::store();
    let snapshots = overlay(&store);
    let mut stack = LayerStack::default();
    for round in 0..3 {
        let view = snapshots.view(&store, &stack).unwrap();
        let root = view.root().unwrap();
        let error = fs::write(files(&root).join("new"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(fs::read_dir(files(&root)).unwrap().count(), round);
        assert_eq!(view.commit(&CommitOptions::default()).unwrap(), None);
        stack = add_file(snapshots.as_ref(), &store, &stack, &format!("f{round}"));
    }
}

/// One more layer, with one file.
fn add_file(
    snapshots: &dyn Snapshotter,
    store: &Store,
    stack: &LayerStack,
    name: &str,
) -> LayerStack {
    let snapshot = snapshots.prepare(store, stack).unwrap();
    let root = snapshot.root().unwrap();
    fs::write(files(&root).join(name), name).unwrap();
    drop(root);
    let record = snapshot.commit(&CommitOptions::default()).unwrap().unwrap();
    stack.with(store, &record.diff_id).unwrap().unwrap()
}

#[test]
fn priv_two_hundred_layers_make_one_root() {
    if !privileged("priv_two_hundred_layers_make_one_root", "root") {
        return;
    }
    let (_temp, store) = testing::store();
    let snapshots = overlay(&store);
    let mut stack = LayerStack::default();
    for number in 0..200 {
        stack = add_file(snapshots.as_ref(), &store, &stack, &format!("f{number}"));
    }
    let snapshot = snapshots.prepare(&store, &stack).unwrap();
    let root = snapshot.root().unwrap();
    assert_eq!(fs::read_dir(files(&root)).unwrap().count(), 200);
    let target = tempfile::tempdir().unwrap();
    let Root::Detached(mount) = root else {
        panic!("an overlay is a mount");
    };
    // Seen through the descriptor only: the test's own mount namespace stays as it is.
    drop(target);
    assert!(rustix::fs::statat(&mount, c"f0", AtFlags::empty()).is_ok());
}

#[test]
fn one_layer_committed_twice_at_once_is_one_layer() {
    let (_temp, store) = testing::store();
    for snapshots in snapshotters(&store) {
        let snapshots = &snapshots;
        let ids: Vec<DiffId> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let snapshot = snapshots.prepare(&store, &LayerStack::default()).unwrap();
                        let root = snapshot.root().unwrap();
                        fs::write(files(&root).join("f"), "same").unwrap();
                        drop(root);
                        let clamp = Some(Timestamp::from_seconds(0));
                        let options = CommitOptions {
                            clamp,
                            ..CommitOptions::default()
                        };
                        snapshot.commit(&options).unwrap().unwrap().diff_id
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
    }
    assert_eq!(
        fs::read_dir(store.root().join("snapshots"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn choosing_sweeps_what_a_killed_process_left() {
    let (_temp, store) = testing::store();
    let left = store.root().join("snapshots/0123456789abcdef");
    fs::create_dir_all(left.join("work/work")).unwrap();
    fs::set_permissions(left.join("work/work"), fs::Permissions::from_mode(0o000)).unwrap();
    let snapshots = choose(&store).unwrap();
    assert!(!left.exists());
    snapshots.prepare(&store, &LayerStack::default()).unwrap();
}

/// Runs these tests again inside a user namespace.
fn run_in_user_namespace(test: &str, flavour: &str, options: &[&str]) {
    if testing::inside_user_namespace().is_some() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Where everybody may reach it.
    let program = temp.path().join("tests");
    // Copied by a process of its own: what is open for writing cannot be run, and what another test
    // is just starting has copies of all that is open here.
    let mut copy = std::process::Command::new("install");
    copy.arg("-m755").arg(std::env::current_exe().unwrap());
    assert!(copy.arg(&program).status().unwrap().success());
    let mut words: Vec<String> = ordinary_user().unwrap_or_default();
    words.extend(["unshare", "--user", "--mount", "--map-root-user"].map(String::from));
    words.extend(options.iter().map(|&option| option.to_owned()));
    let run = |arguments: &[&str]| {
        std::process::Command::new(&words[0])
            .args(&words[1..])
            .args(arguments)
            .current_dir(temp.path())
            .env("TMPDIR", temp.path())
            .env(testing::NAMESPACE_VARIABLE, flavour)
            .env_remove("WYTHE_REQUIRE")
            .output()
    };
    let able = run(&["true"]).is_ok_and(|output| output.status.success());
    if !able {
        let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
        assert!(!required.contains("priv"), "{test} needs {words:?}");
        eprintln!("SKIPPED {test}: needs {words:?}");
        return;
    }
    let program = program.to_str().unwrap();
    let output = run(&[program, "layer::", "snapshot::"]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("priv_random_changes_in_an_overlay_survive_the_whole_way ... ok"),
        "{text}"
    );
}

/// How root becomes somebody who has sub-ids, if there is somebody.
fn ordinary_user() -> Option<Vec<String>> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let sub_ids = fs::read_to_string("/etc/subuid").ok()?;
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let (uid, gid) = sub_ids.lines().find_map(|line| {
        let user = line.split(':').next()?;
        let account = users
            .lines()
            .find(|line| line.split(':').next() == Some(user))?;
        let mut fields = account.split(':').skip(2);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    })?;
    Some(vec![
        "setpriv".into(),
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        "--clear-groups".into(),
    ])
}

#[test]
fn priv_all_of_this_holds_in_a_user_namespace_of_one_id() {
    let test = "priv_all_of_this_holds_in_a_user_namespace_of_one_id";
    run_in_user_namespace(test, "single-id", &[]);
}

#[test]
fn priv_all_of_this_holds_in_a_user_namespace_with_sub_ids() {
    let test = "priv_all_of_this_holds_in_a_user_namespace_with_sub_ids";
    run_in_user_namespace(test, "sub-ids", &["--map-auto"]);
}

#[test]
fn a_layer_that_is_in_a_stack_twice_counts_where_it_is_topmost() {
    let (_temp, store) = testing::store();
    let twice = stack_with(
        &store,
        &[(dir("d", 0o755), ""), (file("d/f", 0o644, "x"), "x")],
    );
    let twice = twice.trees()[0].diff_id().clone();
    let between = stack_with(
        &store,
        &[(dir("d", 0o700), ""), (testing::whiteout("d/f"), "")],
    );
    let between = between.trees()[0].diff_id().clone();
    for snapshots in snapshotters(&store) {
        let stack = [twice.clone(), between.clone(), twice.clone()];
        let stack = LayerStack::open(&store, &stack).unwrap().unwrap();
        let seen = view(snapshots.as_ref(), &store, &stack);
        assert_eq!(seen[Path::new("d/f")].content, b"x");
        assert_eq!(seen[Path::new("d")].mode & 0o777, 0o755);
        assert_eq!(stack.read_dir(&entry_path("d")).unwrap().len(), 1);
        drop(snapshots.prepare(&store, &stack).unwrap().root().unwrap());
    }
}
