//! Paths of the image: found, or made, without ever leaving its root.
//!
//! The image decides what its paths lead to, so no path of it reaches the kernel unconfined. What
//! exists is opened with `openat2(RESOLVE_IN_ROOT)`: `/` and `..` mean the container's root, and
//! the shortcuts of /proc are refused. What does not exist is made component by component, links
//! followed by hand, each step relative to a descriptor of the step before.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{At, Failure, Refusal, Stage};

/// As many links as the kernel follows in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// How often an openat2 that lost a race with a rename is repeated.
const MAX_RETRIES: usize = 32;

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
}

impl Kind {
    /// The kind of what a mount shows.
    pub(crate) fn of(mount: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(mount)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Self::Directory,
            _ => Self::File,
        })
    }
}

/// Opens (as a mere location, `O_PATH`) what `path` leads to below `root`.
pub(crate) fn open(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut retries = 0;
    loop {
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if retries < MAX_RETRIES => retries += 1,
            result => return Ok(result?),
        }
    }
}

/// Opens a directory right below `root` that must not be a link, makes it if it is absent. For the
/// places of /proc, /sys and /dev, which an honest image never makes links. What is made here is
/// no mount point to be taken away again: other builders leave these three in the layer of the
/// first `RUN` too.
pub(crate) fn open_top_directory(root: impl AsFd, name: &str) -> Result<OwnedFd, Failure> {
    let full = Path::new("/").join(name);
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let open = || rustix::fs::openat(&root, name, flags, Mode::empty());
    let place = match open() {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(&root, name, Mode::from(0o755)).at(Stage::MountPoint, &full)?;
            open()
        }
        other => other,
    }
    .at(Stage::MountPoint, &full)?;
    let stat = rustix::fs::fstat(&place).at(Stage::MountPoint, &full)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Ok(place),
        FileType::Symlink => Err(Failure::refused(
            Stage::MountPoint,
            full,
            Refusal::SymbolicLink,
        )),
        _ => Err(Failure::refused(
            Stage::MountPoint,
            full,
            Refusal::KindMismatch,
        )),
    }
}

/// Opens what `path` leads to below `root`; what is missing is made, as directories and at the end
/// as `kind`, and noted in `created`.
pub(crate) fn open_or_create(
    root: impl AsFd,
    path: &Path,
    kind: Kind,
    created: &mut Vec<PathBuf>,
) -> Result<OwnedFd, Failure> {
    let place = match open(&root, path) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Walk::new(
            root.as_fd()
                .try_clone_to_owned()
                .at(Stage::MountPoint, path)?,
            path,
        )
        .run(path, kind, created)?,
        other => other.at(Stage::MountPoint, path)?,
    };
    if Kind::of(&place).at(Stage::MountPoint, path)? != kind {
        return Err(Failure::refused(
            Stage::MountPoint,
            path,
            Refusal::KindMismatch,
        ));
    }
    Ok(place)
}

/// One component of a path that is still to be walked.
enum Step {
    Down(OsString),
    Up,
}

struct Walk {
    /// The root, then each directory entered, with its name.
    entered: Vec<(OwnedFd, OsString)>,
    ahead: VecDeque<Step>,
    links: usize,
}

impl Walk {
    fn new(root: OwnedFd, path: &Path) -> Self {
        let mut walk = Self {
            entered: vec![(root, OsString::from("/"))],
            ahead: VecDeque::new(),
            links: 0,
        };
        walk.prepend(path);
        walk
    }

    fn prepend(&mut self, path: &Path) {
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.ahead.push_front(Step::Down(name.to_owned())),
                Component::ParentDir => self.ahead.push_front(Step::Up),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }

    fn run(
        mut self,
        path: &Path,
        kind: Kind,
        created: &mut Vec<PathBuf>,
    ) -> Result<OwnedFd, Failure> {
        while let Some(step) = self.ahead.pop_front() {
            match step {
                // `..` of the root is the root.
                Step::Up if self.entered.len() > 1 => drop(self.entered.pop()),
                Step::Up => {}
                Step::Down(name) => self.descend(&name, path, kind, created)?,
            }
        }
        let malformed = Failure::refused(Stage::MountPoint, path, Refusal::Malformed);
        self.entered.pop().map(|(place, _)| place).ok_or(malformed)
    }

    fn descend(
        &mut self,
        name: &OsStr,
        path: &Path,
        kind: Kind,
        created: &mut Vec<PathBuf>,
    ) -> Result<(), Failure> {
        let Some((here, _)) = self.entered.last() else {
            return Err(Failure::refused(
                Stage::MountPoint,
                path,
                Refusal::Malformed,
            ));
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = || rustix::fs::openat(here, name, flags, Mode::empty());
        let place = match open() {
            Err(Errno::NOENT) => {
                let is_file = kind == Kind::File && self.ahead.is_empty();
                make(here, name, is_file).at(Stage::MountPoint, path)?;
                created.push(
                    self.entered
                        .iter()
                        .map(|(_, name)| name)
                        .collect::<PathBuf>()
                        .join(name),
                );
                open()
            }
            other => other,
        }
        .at(Stage::MountPoint, path)?;
        let stat = rustix::fs::fstat(&place).at(Stage::MountPoint, path)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            self.entered.push((place, name.to_owned()));
            return Ok(());
        }
        // The kernel's own links are no texts; where following one was fine, it has been followed.
        let filesystem = rustix::fs::fstatfs(&place).at(Stage::MountPoint, path)?;
        if filesystem.f_type == rustix::fs::PROC_SUPER_MAGIC {
            return Err(Failure::refused(
                Stage::MountPoint,
                path,
                Refusal::SymbolicLink,
            ));
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Failure::refused(Stage::MountPoint, path, Refusal::LinkLoop));
        }
        let target = rustix::fs::readlinkat(&place, "", Vec::new()).at(Stage::MountPoint, path)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.entered.truncate(1);
        }
        self.prepend(&target);
        Ok(())
    }
}

fn make(directory: impl AsFd, name: &OsStr, is_file: bool) -> io::Result<()> {
    if !is_file {
        return Ok(rustix::fs::mkdirat(directory, name, Mode::from(0o755))?);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(directory, name, flags, Mode::from(0o644))?;
    Ok(())
}

/// Makes a symbolic link where nothing is; leaves what is there alone.
pub(crate) fn symlink(target: &str, directory: impl AsFd, name: &str) -> io::Result<()> {
    match rustix::fs::symlinkat(target, directory, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A new empty file, open for writing.
pub(crate) fn create_file(directory: impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(
        directory,
        name,
        flags,
        Mode::from(0o644),
    )?)
}

/// A new directory, opened.
pub(crate) fn create_directory(directory: impl AsFd, name: &str, mode: u32) -> io::Result<OwnedFd> {
    rustix::fs::mkdirat(&directory, name, Mode::from(mode))?;
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    Ok(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink as link;

    struct Fixture {
        dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("root")).unwrap();
            fs::create_dir(dir.path().join("host")).unwrap();
            Self { dir }
        }

        fn root(&self) -> PathBuf {
            self.dir.path().join("root")
        }

        fn make(&self, path: &str, kind: Kind) -> Result<Vec<PathBuf>, Failure> {
            let root = rustix::fs::open(self.root(), OFlags::PATH, Mode::empty()).unwrap();
            let mut created = Vec::new();
            open_or_create(root, Path::new(path), kind, &mut created)?;
            // Nothing outside the root has changed.
            assert_eq!(
                fs::read_dir(self.dir.path().join("host")).unwrap().count(),
                0
            );
            assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), 2);
            Ok(created)
        }
    }

    #[test]
    fn what_is_missing_is_made_inside_and_reported() {
        let fixture = Fixture::new();
        let paths = |list: &[&str]| list.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            fixture.make("/a/b/file", Kind::File).unwrap(),
            paths(&["/a", "/a/b", "/a/b/file"])
        );
        assert_eq!(fixture.make("/a/b/file", Kind::File).unwrap(), paths(&[]));
        assert_eq!(
            fixture.make("/a/../c", Kind::Directory).unwrap(),
            paths(&["/c"])
        );
        assert_eq!(
            fixture.make("/../../d", Kind::Directory).unwrap(),
            paths(&["/d"])
        );
        assert!(fixture.root().join("a/b/file").is_file());
        assert!(fixture.root().join("d").is_dir());
    }

    #[test]
    fn links_lead_to_places_inside_only() {
        let fixture = Fixture::new();
        let host = fixture.dir.path().join("host");
        link(&host, fixture.root().join("absolute")).unwrap();
        link("../../host", fixture.root().join("relative")).unwrap();
        link("../run/stub", fixture.root().join("dangling")).unwrap();
        // An absolute link means a path inside, which is then made.
        let created = fixture.make("/absolute/x", Kind::Directory).unwrap();
        assert_eq!(created.last().unwrap(), &host.join("x"));
        assert_eq!(
            fixture.make("/relative/y", Kind::File).unwrap(),
            [PathBuf::from("/host"), PathBuf::from("/host/y")]
        );
        assert_eq!(
            fixture.make("/dangling", Kind::File).unwrap(),
            [PathBuf::from("/run"), PathBuf::from("/run/stub")]
        );
    }

    #[test]
    fn loops_and_wrong_kinds_are_refused() {
        let fixture = Fixture::new();
        link("two", fixture.root().join("one")).unwrap();
        link("one", fixture.root().join("two")).unwrap();
        let failure = fixture.make("/one/x", Kind::Directory).unwrap_err();
        assert_eq!(failure.errno, Some(libc::ELOOP));
        fs::write(fixture.root().join("file"), "").unwrap();
        let failure = fixture.make("/file", Kind::Directory).unwrap_err();
        assert_eq!(failure.refusal, Some(Refusal::KindMismatch));
        let failure = fixture.make("/file/x", Kind::Directory).unwrap_err();
        assert_eq!(failure.errno, Some(libc::ENOTDIR));
    }

    #[test]
    fn top_directories_must_not_be_links() {
        let fixture = Fixture::new();
        let root = || rustix::fs::open(fixture.root(), OFlags::PATH, Mode::empty()).unwrap();
        link(fixture.dir.path().join("host"), fixture.root().join("proc")).unwrap();
        let failure = open_top_directory(root(), "proc").unwrap_err();
        assert_eq!(failure.refusal, Some(Refusal::SymbolicLink));
        open_top_directory(root(), "sys").unwrap();
        assert!(fixture.root().join("sys").is_dir());
    }
}
