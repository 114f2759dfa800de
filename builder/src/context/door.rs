//! System calls on a context: each from its root's descriptor, none following a symlink.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use wythe_layers::tree::{EntryPath, MODE_BITS};

use super::{Item, ItemKind, Stamp};
use crate::{Error, Result};

/// Real directories all the way, inside the root.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens the context itself; the user named it, so links on the way are fine.
pub(super) fn open_root(directory: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|errno| Error::io("open", directory)(errno.into()))
}

fn open_at(root: &OwnedFd, path: &EntryPath, flags: OFlags) -> Result<OwnedFd, Errno> {
    let name = if path.is_root() {
        Path::new(".")
    } else {
        path.as_path()
    };
    rustix::fs::openat2(root, name, flags | OFlags::CLOEXEC, Mode::empty(), RESOLVE)
}

/// What is at `path`, itself not followed; `None` when there is nothing, or a parent is no
/// directory.
pub(super) fn stat(root: &OwnedFd, shown: &Path, path: &EntryPath) -> Result<Option<Item>> {
    let failed = |errno: Errno| Error::io("stat", shown.join(path.as_path()))(errno.into());
    let opened = match path.parent() {
        None => open_at(root, path, OFlags::PATH | OFlags::DIRECTORY),
        Some(parent) => open_at(root, &parent, OFlags::PATH | OFlags::DIRECTORY),
    };
    let directory = match opened {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(failed(errno)),
    };
    let name = path.file_name().unwrap_or(b".");
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => item(&directory, path.clone(), name, &stat)
            .map(Some)
            .map_err(failed),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// Everything directly in a directory, in the order the kernel gives.
pub(super) fn list(root: &OwnedFd, shown: &Path, directory: &EntryPath) -> Result<Vec<Item>> {
    let failed = |errno: Errno| Error::io("list", shown.join(directory.as_path()))(errno.into());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let opened = open_at(root, directory, flags).map_err(failed)?;
    let mut items = Vec::new();
    for entry in Dir::read_from(&opened).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let path = directory
            .join(name)
            .map_err(|_| failed(Errno::NAMETOOLONG))?;
        let stat = match rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // Removed since it was listed.
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(failed(errno)),
        };
        items.push(item(&opened, path, name, &stat).map_err(failed)?);
    }
    Ok(items)
}

/// Opens a regular file for reading.
pub(super) fn open_file(root: &OwnedFd, shown: &Path, path: &EntryPath) -> Result<File> {
    // NONBLOCK: should it have become a pipe, opening must not hang.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    open_at(root, path, flags)
        .map(File::from)
        .map_err(|errno| Error::io("open", shown.join(path.as_path()))(errno.into()))
}

/// The stamp of an open file.
pub(super) fn stamp_of(file: &File, shown: &Path) -> Result<Stamp> {
    rustix::fs::fstat(file)
        .map(|stat| stamp(&stat))
        .map_err(|errno| Error::io("stat", shown)(errno.into()))
}

fn item(directory: impl AsFd, path: EntryPath, name: &[u8], stat: &Stat) -> Result<Item, Errno> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => ItemKind::Directory,
        FileType::RegularFile => ItemKind::File,
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            ItemKind::Symlink(target.into_bytes())
        }
        FileType::Fifo => ItemKind::Fifo,
        FileType::Socket => ItemKind::Special("socket"),
        FileType::CharacterDevice | FileType::BlockDevice => ItemKind::Special("device"),
        FileType::Unknown => ItemKind::Special("file of unknown type"),
    };
    Ok(Item {
        path,
        kind,
        mode: stat.st_mode & MODE_BITS,
        stamp: stamp(stat),
        has_other_names: stat.st_nlink > 1,
    })
}

fn stamp(stat: &Stat) -> Stamp {
    let nanoseconds = |value| u32::try_from(value).unwrap_or(0);
    Stamp {
        device: stat.st_dev,
        inode: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
        ctime: (stat.st_ctime, nanoseconds(stat.st_ctime_nsec)),
    }
}
