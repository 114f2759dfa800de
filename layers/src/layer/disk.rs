//! What a layer tree on disk says of one name in one directory.

use crate::Result;
use crate::tree::{Dir, Entry, EntryKind, EntryPath, FileType, Flavour, Name, Stat, Xattrs};

/// The entry of `name`, as the disk has it; `None` for what no layer holds (a socket).
pub(crate) fn entry(
    dir: &Dir,
    name: Name<'_>,
    stat: &Stat,
    path: EntryPath,
) -> Result<Option<Entry>> {
    let (major, minor) = (stat.major, stat.minor);
    let kind = match stat.file_type {
        FileType::Directory => EntryKind::Directory,
        FileType::File => EntryKind::File { size: stat.size },
        FileType::Symlink => EntryKind::Symlink {
            target: dir.read_link(name)?,
        },
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharDevice => EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        FileType::Socket => return Ok(None),
    };
    Ok(Some(with_metadata(path, kind, stat, dir.xattrs(name)?)))
}

/// The entry of a tree's root directory.
pub(crate) fn root_entry(root: &Dir) -> Result<Entry> {
    let stat = root.stat_self()?;
    let xattrs = root.xattrs_self()?;
    Ok(with_metadata(
        EntryPath::ROOT,
        EntryKind::Directory,
        &stat,
        xattrs,
    ))
}

fn with_metadata(path: EntryPath, kind: EntryKind, stat: &Stat, mut xattrs: Xattrs) -> Entry {
    xattrs.retain(|name, _| !is_overlay_mark(name));
    Entry {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        xattrs,
        ..Entry::new(path, kind)
    }
}

/// Whether an attribute is overlayfs's own: never part of a layer.
pub(crate) fn is_overlay_mark(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Whether nothing of the layers below shows through this directory.
pub(crate) fn is_opaque(dir: &Dir, flavour: Flavour) -> Result<bool> {
    let name: &[u8] = match flavour {
        Flavour::Root => b"trusted.overlay.opaque",
        Flavour::SubIds | Flavour::SingleId => b"user.overlay.opaque",
    };
    Ok(dir
        .xattrs_self()?
        .get(name)
        .is_some_and(|value| value == b"y"))
}
