//! [`RootDir`]: the only door from an untrusted path to the disk.
//!
//! A path that came out of a layer, a build file or an image config is never handed to the kernel
//! as a string from the file system's root. It goes through a `RootDir`, which holds the root as a
//! file descriptor and offers two ways below it:
//!
//! * **exact** ([`RootDir::open_dir`], [`RootDir::open_file`], …): every part is taken as it is,
//!   and a symbolic link on the way is an error (`ELOOP` or `ENOTDIR`);
//! * **in root** ([`RootDir::open_dir_in_root`], …): symbolic links are followed as they would be
//!   after a `chroot`: absolute ones begin at the root, and `..` stops there.
//!
//! Both are one `openat2` call. Where a seccomp filter refuses that call (older container engines
//! answer `ENOSYS` or `EPERM`), the same is done part by part, each with its own descriptor and
//! `O_NOFOLLOW`, so that a directory swapped for a link meanwhile is still not followed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType as RawFileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Error, Result};

use super::dir::{Dir, Name, Stat, regular_file};
use super::{EntryPath, remove};

/// Symbolic links followed in one path before it is an error: what Linux does (`MAXSYMLINKS`).
pub const MAX_SYMLINKS: usize = 40;

/// Tries of one `openat2` when a rename elsewhere made the kernel unsure of `..` (`EAGAIN`).
const MAX_TRIES: usize = 128;

/// A directory that untrusted paths cannot leave.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
    path: PathBuf,
    resolver: Resolver,
}

/// Who walks a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// The kernel, with `openat2`.
    Kernel,
    /// We, one descriptor after the other.
    PartByPart,
}

impl RootDir {
    /// Opens `path`, which is trusted: its own symbolic links are followed.
    pub fn open(path: &Path) -> Result<Self> {
        let mut root = Self::open_with(path, Resolver::Kernel)?;
        let probe = root.open_beneath(root.fd.as_fd(), b"", OFlags::PATH);
        if probe.is_err() {
            root.resolver = Resolver::PartByPart;
        }
        Ok(root)
    }

    /// Opens `path` with a certain resolver; tests force the one without `openat2`.
    pub(crate) fn open_with(path: &Path, resolver: Resolver) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::io("open", path)(errno.into()))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
            resolver,
        })
    }

    /// Where it was opened; for messages, and for mounting.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, operation: &'static str, path: &EntryPath) -> impl FnOnce(Errno) -> Error {
        move |errno| Error::io(operation, self.path.join(path))(errno.into())
    }

    /// Opens a directory, exactly.
    pub(crate) fn open_dir(&self, path: &EntryPath) -> Result<Dir> {
        self.open_dir_below(self.fd.as_fd(), path.as_bytes(), path)
    }

    /// Opens a directory, exactly, going from `start`, which is `tail` above it.
    pub(super) fn open_dir_below(
        &self,
        start: BorrowedFd<'_>,
        tail: &[u8],
        path: &EntryPath,
    ) -> Result<Dir> {
        let fd = self
            .open_beneath(start, tail, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(self.error("open", path))?;
        Ok(Dir::from_fd(fd, self.path.join(path)))
    }

    /// The directory of `path`, and its last part; `None` for the root.
    pub(crate) fn open_parent<'a>(&self, path: &'a EntryPath) -> Result<Option<(Dir, Name<'a>)>> {
        let (Some(parent), Some(name)) = (path.parent(), Name::of(path)) else {
            return Ok(None);
        };
        Ok(Some((self.open_dir(&parent)?, name)))
    }

    /// [`RootDir::open_parent`] for what cannot be done to the root.
    fn parent_of<'a>(
        &self,
        operation: &'static str,
        path: &'a EntryPath,
    ) -> Result<(Dir, Name<'a>)> {
        self.open_parent(path)?
            .ok_or_else(|| self.error(operation, path)(Errno::BUSY))
    }

    /// Opens a regular file for reading, exactly.
    pub fn open_file(&self, path: &EntryPath) -> Result<File> {
        self.open_beneath(
            self.fd.as_fd(),
            path.as_bytes(),
            OFlags::RDONLY | OFlags::NONBLOCK,
        )
        .and_then(regular_file)
        .map_err(self.error("open", path))
    }

    /// Opens a directory, following symbolic links inside the root.
    pub fn open_dir_in_root(&self, path: &EntryPath) -> Result<Dir> {
        let fd = self
            .open_inside(path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(self.error("open", path))?;
        Ok(Dir::from_fd(fd, self.path.join(path)))
    }

    /// Opens a regular file for reading, following symbolic links inside the root.
    pub fn open_file_in_root(&self, path: &EntryPath) -> Result<File> {
        self.open_inside(path, OFlags::RDONLY | OFlags::NONBLOCK)
            .and_then(regular_file)
            .map_err(self.error("open", path))
    }

    /// What the disk says of `path` itself; `None` when there is nothing there.
    pub fn stat(&self, path: &EntryPath) -> Result<Option<Stat>> {
        match self.open_parent(path) {
            Ok(Some((dir, name))) => dir.stat(name),
            Ok(None) => self.open_dir(path)?.stat_self().map(Some),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The text of a symbolic link.
    pub fn read_link(&self, path: &EntryPath) -> Result<Vec<u8>> {
        let (dir, name) = self.parent_of("read the symbolic link", path)?;
        dir.read_link(name)
    }

    /// The names in a directory, sorted.
    pub fn read_dir(&self, path: &EntryPath) -> Result<Vec<Vec<u8>>> {
        self.open_dir(path)?.read()
    }

    /// Makes a directory that was not there, with mode 0700.
    pub fn create_dir(&self, path: &EntryPath) -> Result<()> {
        let (dir, name) = self.parent_of("create the directory", path)?;
        dir.create_dir(name)
    }

    /// Makes a file that was not there, open for writing, with mode 0600.
    pub fn create_file(&self, path: &EntryPath) -> Result<File> {
        let (dir, name) = self.parent_of("create", path)?;
        dir.create_file(name)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, target: &[u8], path: &EntryPath) -> Result<()> {
        let (dir, name) = self.parent_of("create the symbolic link", path)?;
        dir.symlink(target, name)
    }

    /// Makes `path` another name of `existing`, which is not followed.
    pub fn hard_link(&self, existing: &EntryPath, path: &EntryPath) -> Result<()> {
        let (from_dir, from) = self.parent_of("open", existing)?;
        let (dir, name) = self.parent_of("create the hard link", path)?;
        dir.hard_link(&from_dir, from, name)
    }

    /// Moves `from` to `to`, both exact.
    pub fn rename(&self, from: &EntryPath, to: &EntryPath) -> Result<()> {
        let (from_dir, from_name) = self.parent_of("rename", from)?;
        let (to_dir, to_name) = self.parent_of("rename", to)?;
        from_dir.rename(from_name, &to_dir, to_name)
    }

    /// Removes `path` and everything below it; see [`Dir::remove_all`]. The root itself is kept
    /// and emptied.
    pub(crate) fn remove_all(&self, path: &EntryPath) -> Result<()> {
        match self.open_parent(path)? {
            Some((dir, name)) => dir.remove_all(name),
            None => remove::empty(&self.open_dir(path)?),
        }
    }

    /// Opens `tail` below `start` with no symbolic link on the way.
    fn open_beneath(
        &self,
        start: BorrowedFd<'_>,
        tail: &[u8],
        flags: OFlags,
    ) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let tail = if tail.is_empty() { b"." } else { tail };
        if self.resolver == Resolver::Kernel {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            return openat2(start, tail, flags, resolve);
        }
        let mut parts = tail.split(|&byte| byte == b'/').peekable();
        let mut held: Option<OwnedFd> = None;
        while let Some(part) = parts.next() {
            let here = held.as_ref().map_or(start, AsFd::as_fd);
            let wanted = match parts.peek() {
                Some(_) => STEP,
                None => flags,
            };
            held = Some(rustix::fs::openat(here, part, wanted, Mode::empty())?);
        }
        held.ok_or(Errno::NOENT)
    }

    /// Opens `path`, following symbolic links as after a `chroot`.
    fn open_inside(&self, path: &EntryPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        if self.resolver == Resolver::Kernel {
            let path = if path.is_root() {
                b"."
            } else {
                path.as_bytes()
            };
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            return openat2(self.fd.as_fd(), path, flags, resolve);
        }
        self.walk_inside(path, flags | OFlags::NOFOLLOW)
    }

    /// [`RootDir::open_inside`] without `openat2`.
    fn walk_inside(&self, path: &EntryPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut todo: VecDeque<Vec<u8>> = path.parts().map(<[u8]>::to_vec).collect();
        // The directories between the root and where we are.
        let mut held: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    held.pop();
                    continue;
                }
                _ => {}
            }
            let here = held.last().map_or(self.fd.as_fd(), AsFd::as_fd);
            let pinned = rustix::fs::openat(here, &part[..], PIN, Mode::empty())?;
            let file_type = RawFileType::from_raw_mode(rustix::fs::fstat(&pinned)?.st_mode);
            match file_type {
                RawFileType::Symlink => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = rustix::fs::readlinkat(&pinned, c"", Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        held.clear();
                    }
                    for part in target.split(|&byte| byte == b'/').rev() {
                        todo.push_front(part.to_vec());
                    }
                }
                RawFileType::Directory => held.push(pinned),
                _ if todo.is_empty() => {
                    return rustix::fs::openat(here, &part[..], flags, Mode::empty());
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        let here = held.last().map_or(self.fd.as_fd(), AsFd::as_fd);
        rustix::fs::openat(here, c".", flags, Mode::empty())
    }
}

/// For a directory on the way: never a link.
const STEP: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// For anything on the way, a link included.
const PIN: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn openat2(
    start: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut tries = 1;
    loop {
        match rustix::fs::openat2(start, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < MAX_TRIES => tries += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
#[path = "root_dir_tests.rs"]
mod tests;
