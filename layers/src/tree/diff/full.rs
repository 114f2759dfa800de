//! Diff of a whole directory against the lower layers that it is a copy of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use crate::{Error, Result};

use super::super::dir::{Dir, Name, Stat};
use super::super::overlay_marks;
use super::super::{
    Entry, EntryKind, EntryList, EntryPath, Flavour, LowerView, RootDir, Timestamp,
};
use super::{Reader, Seen, changed_root, child_path, inode_of, into_list};

/// Bytes compared at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// What a step has changed in the directory `root`, which was a copy of `lower` before.
///
/// A file of the same size and time may still have other content: builds that pin times do that.
/// So the content is compared too, unless nothing about the file changed after the copy was made:
/// files whose change time (which no process can set) is before `copied_at` are as they were.
/// Take `copied_at` from the change time of a file made after the copy, on the same file system;
/// without it every file is read.
///
/// Not seen: that two names are no longer one file while neither's content or metadata changed.
pub(crate) fn diff_full(
    root: &RootDir,
    flavour: Flavour,
    lower: &dyn LowerView,
    copied_at: Option<Timestamp>,
) -> Result<EntryList> {
    let mut walk = Walk {
        reader: Reader { flavour },
        lower,
        copied_at,
        seen: Vec::new(),
        whiteouts: Vec::new(),
        todo: vec![(EntryPath::ROOT, true)],
    };
    let changed_root = changed_root(walk.reader, &root.open_dir(&EntryPath::ROOT)?, lower)?;
    while let Some((path, merged)) = walk.todo.pop() {
        let dir = root.open_dir(&path)?;
        walk.directory(&dir, &path, merged)?;
    }
    walk.whiteouts.extend(changed_root);
    Ok(into_list(walk.seen, walk.whiteouts))
}

struct Walk<'a> {
    reader: Reader,
    lower: &'a dyn LowerView,
    copied_at: Option<Timestamp>,
    seen: Vec<Seen>,
    whiteouts: Vec<Entry>,
    /// Directories to be read, and whether the lower layers have a directory there.
    todo: Vec<(EntryPath, bool)>,
}

impl Walk<'_> {
    fn directory(&mut self, dir: &Dir, path: &EntryPath, merged: bool) -> Result<()> {
        let mut below = BTreeMap::new();
        if merged {
            for entry in self.lower.children(path)? {
                below.insert(entry.path.clone(), entry);
            }
        }
        for bytes in dir.read()? {
            let Some(name) = Name::new(&bytes) else {
                continue;
            };
            let child = child_path(path, &bytes)?;
            let Some(stat) = dir.stat(name)? else {
                continue;
            };
            // A device 0/0 would come out as a whiteout wherever the layer is mounted.
            if !stat.is_whiteout() && self.present(dir, name, &child, &stat, below.get(&child))? {
                below.remove(&child);
            }
        }
        for entry in below.into_values() {
            // Devices that were never made are not gone.
            if self.reader.flavour == Flavour::Root || !entry.kind.is_device() {
                self.whiteouts
                    .push(Entry::new(entry.path, EntryKind::Whiteout));
            }
        }
        Ok(())
    }

    /// Takes note of `name`; `false` when it is something that no layer holds.
    fn present(
        &mut self,
        dir: &Dir,
        name: Name<'_>,
        path: &EntryPath,
        stat: &Stat,
        below: Option<&Entry>,
    ) -> Result<bool> {
        let mut xattrs = dir.xattrs(name)?;
        overlay_marks::strip(&mut xattrs);
        let Some(mut entry) = self.reader.entry(dir, name, path.clone(), stat, xattrs)? else {
            return Ok(false);
        };
        let inherits = self.reader.restore_truth(&mut entry, below);
        let changed = match below {
            None => true,
            Some(below) => {
                entry.kind != below.kind
                    || entry.mtime != below.mtime
                    || !entry.same_access(below)
                    || (matches!(entry.kind, EntryKind::File { .. })
                        && self.content_differs(dir, name, path, stat)?)
            }
        };
        if entry.kind.is_directory() {
            let merged = below.is_some_and(|below| below.kind.is_directory());
            self.todo.push((path.clone(), merged));
        }
        self.seen.push(Seen {
            entry,
            inode: inode_of(stat),
            inherits,
            changed,
        });
        Ok(true)
    }

    fn content_differs(
        &self,
        dir: &Dir,
        name: Name<'_>,
        path: &EntryPath,
        stat: &Stat,
    ) -> Result<bool> {
        // The clock of change times is coarse: the same tick counts as after.
        if self
            .copied_at
            .is_some_and(|copied_at| stat.ctime < copied_at)
        {
            return Ok(false);
        }
        let here = dir.open_file(name)?;
        let below = self.lower.open(path)?;
        differ(here, below).map_err(Error::io("compare", dir.path().join(path)))
    }
}

fn differ(mut left: File, mut right: File) -> std::io::Result<bool> {
    let mut buffers = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    loop {
        let length = left.read(&mut buffers.0)?;
        if length == 0 {
            return Ok(right.read(&mut buffers.1)? != 0);
        }
        let (here, below) = (buffers.0.get(..length), buffers.1.get_mut(..length));
        let (Some(here), Some(below)) = (here, below) else {
            return Ok(true);
        };
        match right.read_exact(below) {
            Ok(()) if here == below => {}
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
            _ => return Ok(true),
        }
    }
}
