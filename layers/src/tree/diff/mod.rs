//! Diffs: what a step has changed, as the entries of a new layer.
//!
//! Two ways, one shape of result (an [`EntryList`]):
//!
//! * [`diff_upper`] reads the *upper directory* of an overlay mount. The kernel has put exactly
//!   the changes there, so the cost is that of the change and not of the root file system.
//! * [`diff_full`] compares a whole directory, a copy of the lower layers that was written to,
//!   with those layers. It is for where overlay cannot be had.
//!
//! # What comes out
//! * Every directory on the way to a change is in the list, so the layer is self-contained.
//! * Whiteouts and opaque marks only where the lower layers have what they hide. (The kernel also
//!   marks directories that hide nothing.)
//! * Of a file with several names, the first in order is the file and the others are links to it.
//! * No attributes of overlayfs, nor labels that the host and not the image gives
//!   (`security.selinux`, `system.nfs4_acl`).
//! * No sockets: nobody listens there in the next container. A socket in place of a file is a
//!   whiteout.
//! * The root directory only when its mode, owner or attributes changed; its time alone changes
//!   with every new name and nobody means it.
//!
//! # Whose truth
//! The disk says only what the flavour lets it hold (see [`super::Applier`]). In flavour
//! `SingleId` a file that exists below at the same path keeps that one's owner, and its mode when
//! the disk's is what that mode would be made on disk; a new file belongs to root. What cannot be
//! told apart: a `chmod` that gives exactly the permissions that the owner was given anyway is not
//! seen, and a renamed file belongs to root.

mod full;
mod upper;

use std::collections::BTreeMap;

use crate::Result;

use super::apply::{Disk, OWNER_DIR_BITS, OWNER_FILE_BITS};
use super::dir::{Dir, FileType, Name, Stat};
use super::xattr::Xattrs;
use super::{Entry, EntryKind, EntryList, EntryPath, Flavour, LowerView, RootDir, TreeError};

pub(crate) use full::diff_full;
pub(crate) use upper::diff_upper;

/// Attributes that the host's file system gives to files, not the image.
const HOST_XATTRS: [&[u8]; 2] = [b"security.selinux", b"system.nfs4_acl"];

/// Gives an empty upper directory the mode, owner, attributes and time of the lower layers' root.
///
/// The root of an overlay mount is the upper directory's, not merged with anything, so without
/// this every diff would contain a changed root.
pub(crate) fn prepare_upper(root: RootDir, flavour: Flavour, lower: &dyn LowerView) -> Result<()> {
    let entry = lower_root(lower)?;
    Disk::new(root, flavour)?.finish_directory(&EntryPath::ROOT, &entry, false)
}

/// The lower layers' root; where no layer lists it, what it is then on disk.
fn lower_root(lower: &dyn LowerView) -> Result<Entry> {
    let entry = lower.lookup(&EntryPath::ROOT)?;
    Ok(entry.unwrap_or_else(|| Entry::new(EntryPath::ROOT, EntryKind::Directory)))
}

/// Something found on disk.
#[derive(Debug)]
struct Seen {
    entry: Entry,
    /// Device and inode number, where it may have other names.
    inode: Option<(u64, u64)>,
    /// Its owner and the like are those of the same path below.
    inherits: bool,
    /// It belongs into the layer.
    changed: bool,
}

/// Reads what is on disk.
#[derive(Clone, Copy)]
struct Reader {
    flavour: Flavour,
}

impl Reader {
    /// What `name` is by the disk's word; `None` for what no layer holds (sockets).
    fn entry(
        self,
        dir: &Dir,
        name: Name<'_>,
        path: EntryPath,
        stat: &Stat,
        mut xattrs: Xattrs,
    ) -> Result<Option<Entry>> {
        let kind = match stat.file_type {
            FileType::Directory => EntryKind::Directory,
            FileType::File => EntryKind::File { size: stat.size },
            FileType::Symlink => EntryKind::Symlink {
                target: dir.read_link(name)?,
            },
            FileType::Fifo => EntryKind::Fifo,
            FileType::CharDevice => EntryKind::CharDevice {
                major: stat.major,
                minor: stat.minor,
            },
            FileType::BlockDevice => EntryKind::BlockDevice {
                major: stat.major,
                minor: stat.minor,
            },
            FileType::Socket => return Ok(None),
        };
        xattrs.retain(|name, _| !HOST_XATTRS.contains(&name.as_slice()));
        Ok(Some(Entry {
            kind,
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            mtime: stat.mtime,
            xattrs,
            ..Entry::new(path, EntryKind::Directory)
        }))
    }

    /// Replaces what the disk could not hold by what is known of the same path below. Says
    /// whether it is known.
    fn restore_truth(self, entry: &mut Entry, lower: Option<&Entry>) -> bool {
        let same_kind = |lower: &&Entry| {
            std::mem::discriminant(&lower.kind) == std::mem::discriminant(&entry.kind)
        };
        let lower = lower.filter(same_kind);
        if self.flavour == Flavour::SingleId {
            (entry.uid, entry.gid) = lower.map_or((0, 0), |lower| (lower.uid, lower.gid));
        }
        let Some(lower) = lower else {
            return false;
        };
        if self.flavour == Flavour::SingleId {
            let given = match entry.kind {
                EntryKind::Directory => OWNER_DIR_BITS,
                EntryKind::File { .. } => OWNER_FILE_BITS,
                _ => 0,
            };
            if entry.mode == lower.mode | given {
                entry.mode = lower.mode;
            }
        }
        // The kernel drops file capabilities when content changes; so do we.
        let untouched = entry.kind == lower.kind && entry.mtime == lower.mtime;
        if self.flavour != Flavour::Root && (untouched || entry.kind.is_directory()) {
            for (name, value) in &lower.xattrs {
                if only_listed(name, &entry.kind) && !entry.xattrs.contains_key(name) {
                    entry.xattrs.insert(name.clone(), value.clone());
                }
            }
        }
        true
    }
}

/// Whether an attribute may be in the list only, for want of privilege.
fn only_listed(name: &[u8], kind: &EntryKind) -> bool {
    let plain = matches!(kind, EntryKind::File { .. } | EntryKind::Directory);
    !plain || !name.starts_with(b"user.")
}

/// The path of `name` in `dir`.
fn child_path(dir: &EntryPath, name: &[u8]) -> Result<EntryPath> {
    Ok(dir.join(name).map_err(TreeError::path(name))?)
}

/// Settles which names are one file: the first is the file, the others are links to it, and all
/// have the metadata of the one that is known from below, if one is.
fn settle_links(seen: &mut [Seen]) {
    let mut groups: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
    for (index, item) in seen.iter().enumerate() {
        if let Some(inode) = item.inode {
            groups.entry(inode).or_default().push(index);
        }
    }
    for group in groups.into_values().filter(|group| group.len() > 1) {
        let members = || group.iter().filter_map(|&index| seen.get(index));
        let Some(first) = members().next() else {
            continue;
        };
        let truth = members().find(|item| item.inherits).unwrap_or(first);
        let (truth, first) = (truth.entry.clone(), first.entry.path.clone());
        // To be one file with a changed name, an unchanged name has to be in the layer too.
        let changed = members().any(|item| item.changed);
        for index in group {
            let Some(item) = seen.get_mut(index) else {
                continue;
            };
            item.changed = changed;
            let path = item.entry.path.clone();
            item.entry = Entry {
                path,
                ..truth.clone()
            };
            if item.entry.path != first {
                let target = first.clone();
                item.entry.kind = EntryKind::HardLink { target };
            }
        }
    }
}

/// The inode of what may have other names.
fn inode_of(stat: &Stat) -> Option<(u64, u64)> {
    let shared = stat.nlink > 1 && stat.file_type != FileType::Directory;
    shared.then_some((stat.dev, stat.ino))
}

/// The root's entry, if it differs from the lower layers' in more than time.
fn changed_root(reader: Reader, top: &Dir, lower: &dyn LowerView) -> Result<Option<Entry>> {
    let stat = top.stat_self()?;
    let below = lower_root(lower)?;
    let mut xattrs = top.xattrs_self()?;
    super::overlay_marks::strip(&mut xattrs);
    xattrs.retain(|name, _| !HOST_XATTRS.contains(&name.as_slice()));
    let mut entry = Entry {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        xattrs,
        ..Entry::new(EntryPath::ROOT, EntryKind::Directory)
    };
    reader.restore_truth(&mut entry, Some(&below));
    Ok((!entry.same_access(&below)).then_some(entry))
}

/// The changed entries and the directories on the way to them, as a list.
fn into_list(mut seen: Vec<Seen>, marks: Vec<Entry>) -> EntryList {
    seen.sort_by(|left, right| left.entry.path.cmp(&right.entry.path));
    settle_links(&mut seen);
    let mut wanted: BTreeMap<EntryPath, ()> = BTreeMap::new();
    let changed = seen
        .iter()
        .filter(|item| item.changed)
        .map(|item| &item.entry);
    for entry in changed.chain(&marks) {
        let mut at = entry.path.parent();
        while let Some(path) = at {
            at = path.parent();
            // Whoever is wanted has wanted ancestors.
            if wanted.insert(path, ()).is_some() {
                break;
            }
        }
    }
    let kept = seen
        .into_iter()
        .filter(|item| item.changed || wanted.contains_key(&item.entry.path));
    EntryList::new(kept.map(|item| item.entry).chain(marks).collect())
}

#[cfg(test)]
mod tests;
