//! What this module's tests share: a sandbox with something beside it that must not change.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{
    Applied, AppliedTree, Applier, ApplyOptions, Entry, EntryKind, EntryList, EntryPath, Finished,
    Flavour, LowerView, NotSelfContained, RootDir,
};

/// A directory to work in, beside one that no test may change.
pub(crate) struct Sandbox {
    dir: tempfile::TempDir,
    outside_before: BTreeMap<PathBuf, String>,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("dir")).unwrap();
        fs::write(outside.join("canary"), "alive").unwrap();
        fs::write(outside.join("dir/file"), "alive too").unwrap();
        std::os::unix::fs::symlink("canary", outside.join("link")).unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        let outside_before = dump(&outside);
        Self {
            dir,
            outside_before,
        }
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Nothing outside the root was made, changed or removed.
    pub(crate) fn assert_host_unchanged(&self, what: &str) {
        assert_eq!(dump(&self.outside()), self.outside_before, "{what}");
        let beside = fs::read_dir(self.dir.path()).unwrap().count();
        assert_eq!(beside, 2, "{what}: something appeared beside the root");
    }

    /// Applies `entries`, each with its content.
    pub(crate) fn apply(
        &self,
        flavour: Flavour,
        options: ApplyOptions<'_>,
        entries: &[(Entry, &[u8])],
    ) -> crate::Result<Result<AppliedTree, NotSelfContained>> {
        apply_to(&self.root(), flavour, options, entries)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // An ordinary user's temporary directory would otherwise keep what has mode 0.
        if let Ok(root) = RootDir::open(&self.root()) {
            let _ = root.remove_all(&EntryPath::ROOT);
        }
    }
}

pub(crate) fn apply_to(
    root: &Path,
    flavour: Flavour,
    options: ApplyOptions<'_>,
    entries: &[(Entry, &[u8])],
) -> crate::Result<Result<AppliedTree, NotSelfContained>> {
    let mut applier = Applier::new(RootDir::open(root)?, flavour, options)?;
    for (entry, content) in entries {
        if let Applied::NotSelfContained(verdict) =
            applier.apply(entry.clone(), &mut &content[..])?
        {
            assert!(matches!(applier.finish()?, Finished::NotSelfContained(_)));
            return Ok(Err(verdict));
        }
    }
    Ok(match applier.finish()? {
        Finished::Tree(tree) => Ok(tree),
        Finished::NotSelfContained(verdict) => Err(verdict),
    })
}

/// The flavours that this process can test.
pub(crate) fn flavours() -> &'static [Flavour] {
    if rustix::process::geteuid().is_root() {
        &[Flavour::Root, Flavour::SubIds, Flavour::SingleId]
    } else {
        &[Flavour::SingleId]
    }
}

pub(crate) fn path(text: &str) -> EntryPath {
    EntryPath::parse(text.as_bytes()).unwrap()
}

pub(crate) fn directory(text: &str) -> (Entry, &'static [u8]) {
    (Entry::new(path(text), EntryKind::Directory), b"")
}

pub(crate) fn file<'a>(text: &str, content: &'a str) -> (Entry, &'a [u8]) {
    let size = content.len() as u64;
    (
        Entry::new(path(text), EntryKind::File { size }),
        content.as_bytes(),
    )
}

pub(crate) fn symlink(text: &str, target: &str) -> (Entry, &'static [u8]) {
    let target = target.as_bytes().to_vec();
    (Entry::new(path(text), EntryKind::Symlink { target }), b"")
}

pub(crate) fn link(text: &str, target: &str) -> (Entry, &'static [u8]) {
    let target = path(target);
    (Entry::new(path(text), EntryKind::HardLink { target }), b"")
}

pub(crate) fn whiteout(text: &str) -> (Entry, &'static [u8]) {
    (Entry::new(path(text), EntryKind::Whiteout), b"")
}

pub(crate) fn opaque(text: &str) -> (Entry, &'static [u8]) {
    (Entry::new(path(text), EntryKind::OpaqueDirectory), b"")
}

/// Everything below `top` in words, with nothing followed.
pub(crate) fn dump(top: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(dir) = todo.pop() {
        for item in fs::read_dir(&dir).unwrap() {
            let path = item.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let kind = stat.file_type();
            let what = if kind.is_dir() {
                todo.push(path.clone());
                "directory".to_owned()
            } else if kind.is_file() {
                format!(
                    "file {:?}",
                    fs::read(&path)
                        .map(|bytes| bytes.escape_ascii().to_string())
                        .unwrap_or_default()
                )
            } else if kind.is_symlink() {
                format!("link {:?}", fs::read_link(&path).unwrap())
            } else if kind.is_fifo() {
                "fifo".to_owned()
            } else {
                format!("device {}", stat.rdev())
            };
            let mtime = if kind.is_dir() { 0 } else { stat.mtime() };
            let line = format!(
                "{what} mode {:o} owner {}:{} time {mtime} links {}",
                stat.permissions().mode() & 0o7777,
                stat.uid(),
                stat.gid(),
                stat.nlink(),
            );
            all.insert(path.strip_prefix(top).unwrap().to_owned(), line);
        }
    }
    all
}

/// A stack of layer trees, merged in memory in the plainest way there is: what other
/// implementations of [`LowerView`] can be compared with.
#[derive(Default)]
pub(crate) struct Merged {
    map: BTreeMap<EntryPath, (Entry, (usize, EntryPath))>,
    roots: Vec<PathBuf>,
}

impl Merged {
    pub(crate) fn push(&mut self, list: &EntryList, root: &Path) {
        let layer = self.roots.len();
        self.roots.push(root.to_owned());
        for entry in list.entries() {
            let path = &entry.path;
            let over_directory =
                matches!(self.map.get(path), Some((old, _)) if old.kind.is_directory());
            match &entry.kind {
                EntryKind::OpaqueDirectory => {
                    self.map
                        .retain(|old, _| old == path || !old.starts_with(path));
                    continue;
                }
                EntryKind::Directory if over_directory => {}
                _ => self.map.retain(|old, _| !old.starts_with(path)),
            }
            if entry.kind == EntryKind::Whiteout {
                continue;
            }
            let source = match &entry.kind {
                EntryKind::HardLink { target } => target.clone(),
                _ => path.clone(),
            };
            let file = list.without_link(entry).unwrap();
            self.map.insert(path.clone(), (file, (layer, source)));
        }
    }

    /// All there is, as one layer would have it.
    pub(crate) fn list(&self) -> EntryList {
        let mut firsts = BTreeMap::new();
        let entries = self.map.iter().map(|(path, (entry, source))| {
            let mut entry = entry.clone();
            let first = firsts.entry(source).or_insert_with(|| path.clone());
            if first != path {
                let target = first.clone();
                entry.kind = EntryKind::HardLink { target };
            }
            entry
        });
        EntryList::new(entries.collect())
    }
}

impl LowerView for Merged {
    fn lookup(&self, path: &EntryPath) -> crate::Result<Option<Entry>> {
        Ok(self.map.get(path).map(|(entry, _)| entry.clone()))
    }

    fn children(&self, path: &EntryPath) -> crate::Result<Vec<Entry>> {
        let child = |entry: &&Entry| entry.path.parent().as_ref() == Some(path);
        let entries = self.map.values().map(|(entry, _)| entry);
        Ok(entries.filter(child).cloned().collect())
    }

    fn open(&self, path: &EntryPath) -> crate::Result<fs::File> {
        let (_, (layer, source)) = &self.map[path];
        RootDir::open(&self.roots[*layer])?.open_file(source)
    }
}

/// A layer whose files' content lies in `from`, applied to `to`.
pub(crate) fn apply_list(list: &EntryList, from: &Path, to: &Path, flavour: Flavour) -> EntryList {
    let from = RootDir::open(from).unwrap();
    let to = RootDir::open(to).unwrap();
    let mut applier = Applier::new(to, flavour, ApplyOptions::default()).unwrap();
    for entry in list.entries() {
        let applied = match entry.kind {
            EntryKind::File { .. } => {
                let mut content = from.open_file(&entry.path).unwrap();
                applier.apply(entry.clone(), &mut content)
            }
            _ => applier.apply(entry.clone(), &mut std::io::empty()),
        };
        assert_eq!(applied.unwrap(), Applied::Done);
    }
    match applier.finish().unwrap() {
        Finished::Tree(tree) => tree.list,
        Finished::NotSelfContained(verdict) => panic!("{verdict:?}"),
    }
}

/// Something that a process does to a tree. Paths are made of few names, so that steps meet.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes into a file, through whatever names and links it has.
    Write(PathBuf, String),
    /// Makes a directory.
    Mkdir(PathBuf),
    /// Makes a symbolic link to a name.
    Symlink(PathBuf, PathBuf),
    /// Gives a file another name.
    Link(PathBuf, PathBuf),
    /// Makes a pipe.
    Fifo(PathBuf),
    /// Binds a socket.
    Socket(PathBuf),
    /// Removes whatever it is, with all that is below.
    Remove(PathBuf),
    /// Renames, replacing files.
    Rename(PathBuf, PathBuf),
    /// Changes permissions other than the owner's.
    Chmod(PathBuf, u32),
    /// Sets the time back to one of few, so that times meet too.
    Touch(PathBuf, u8),
    /// Sets an extended attribute.
    Attribute(PathBuf, u8),
    /// Gives it to someone else; needs root, and does nothing without.
    Chown(PathBuf, u32),
}

impl Step {
    /// Does it below `root`; what cannot be done is not done.
    pub(crate) fn run(&self, root: &Path) {
        let at = |path: &PathBuf| root.join(path);
        let plain = |path: &PathBuf| {
            fs::symlink_metadata(at(path)).is_ok_and(|stat| stat.is_file() || stat.is_dir())
        };
        let _ = match self {
            Self::Write(path, content) => match fs::symlink_metadata(at(path)) {
                Ok(stat) if !stat.is_file() => Ok(()),
                _ => fs::write(at(path), content),
            },
            Self::Mkdir(path) => fs::create_dir(at(path)),
            Self::Symlink(path, target) => std::os::unix::fs::symlink(target, at(path)),
            Self::Link(old, new) => fs::hard_link(at(old), at(new)),
            Self::Fifo(path) => rustix::fs::mknodat(
                rustix::fs::CWD,
                at(path),
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o640),
                0,
            )
            .map_err(Into::into),
            Self::Socket(path) => std::os::unix::net::UnixListener::bind(at(path)).map(drop),
            Self::Remove(path) => match fs::symlink_metadata(at(path)) {
                Ok(stat) if stat.is_dir() => fs::remove_dir_all(at(path)),
                _ => fs::remove_file(at(path)),
            },
            Self::Rename(old, new) => fs::rename(at(old), at(new)),
            Self::Chmod(path, bits) if plain(path) => {
                let owner = if at(path).is_dir() { 0o700 } else { 0o600 };
                fs::set_permissions(at(path), fs::Permissions::from_mode(owner | bits))
            }
            Self::Touch(path, time) if plain(path) => {
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(*time));
                fs::File::open(at(path)).and_then(|file| file.set_modified(time))
            }
            Self::Attribute(path, value) if plain(path) => rustix::fs::lsetxattr(
                at(path),
                "user.step",
                &[*value],
                rustix::fs::XattrFlags::empty(),
            )
            .map_err(Into::into),
            Self::Chown(path, id) => std::os::unix::fs::lchown(at(path), Some(*id), Some(*id)),
            _ => Ok(()),
        };
    }
}

/// Random steps.
pub(crate) fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    use proptest::prelude::*;
    let name = || proptest::sample::select(vec!["a", "b", "a.b"]);
    // Mostly shallow, or most steps would find nothing where they go.
    let path = move || {
        let depth = prop_oneof![4 => Just(1..=1), 4 => Just(2..=2), 1 => Just(3..=3_usize)];
        depth
            .prop_flat_map(move |depth| proptest::collection::vec(name(), depth))
            .prop_map(|parts| parts.iter().collect::<PathBuf>())
    };
    let step = prop_oneof![
        6 => (path(), "[xy]{0,3}").prop_map(|(path, content)| Step::Write(path, content)),
        6 => path().prop_map(Step::Mkdir),
        1 => (path(), path()).prop_map(|(path, target)| Step::Symlink(path, target)),
        6 => (path(), path()).prop_map(|(old, new)| Step::Link(old, new)),
        1 => path().prop_map(Step::Fifo),
        1 => path().prop_map(Step::Socket),
        3 => path().prop_map(Step::Remove),
        4 => (path(), path()).prop_map(|(old, new)| Step::Rename(old, new)),
        2 => (path(), prop_oneof![Just(0o044), Just(0o4055), Just(0o1077), Just(0)])
            .prop_map(|(path, bits)| Step::Chmod(path, bits)),
        3 => (path(), 0..3_u8).prop_map(|(path, time)| Step::Touch(path, time)),
        1 => (path(), 0..2_u8).prop_map(|(path, value)| Step::Attribute(path, value)),
        1 => (path(), 0..3_u32).prop_map(|(path, id)| Step::Chown(path, id)),
    ];
    proptest::collection::vec(step, 0..50)
}

/// Whether overlays can be mounted here; says so aloud when not.
pub(crate) fn can_mount(test: &str) -> bool {
    let able = rustix::process::geteuid().is_root();
    if !able {
        let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
        assert!(!required.contains("priv"), "{test} needs root");
        eprintln!("SKIPPED {test}: needs root");
    }
    able
}

/// A writable overlay mount, gone when dropped.
pub(crate) struct OverlayMount {
    _scratch: tempfile::TempDir,
    merged: PathBuf,
}

impl OverlayMount {
    /// Mounts `upper` on `lower`, with the options that wythe relies on.
    pub(crate) fn new(lower: &Path, upper: &Path, flavour: Flavour) -> Self {
        // The kernel wants `workdir` beside `upperdir`, on the same file system.
        let scratch = tempfile::tempdir_in(upper.parent().unwrap()).unwrap();
        let merged = scratch.path().join("merged");
        let work = scratch.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::create_dir(&merged).unwrap();
        // Not redirect_dir=off: where the kernel follows redirects by default, that still does.
        let mut options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=nofollow,index=off",
            lower.display(),
            upper.display(),
            work.display()
        );
        options += match flavour {
            Flavour::Root => ",metacopy=off",
            Flavour::SubIds | Flavour::SingleId => ",userxattr",
        };
        let options = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("overlay", &merged, "overlay", flags, options.as_c_str()).unwrap();
        Self {
            _scratch: scratch,
            merged,
        }
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.merged
    }
}

impl Drop for OverlayMount {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::empty();
        let _ = rustix::mount::unmount(&self.merged, flags);
    }
}
