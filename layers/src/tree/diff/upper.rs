//! Diff of an overlay mount's upper directory.

use crate::Result;

use super::super::dir::{Dir, FileType, Name, Stat};
use super::super::overlay_marks;
use super::super::{Entry, EntryKind, EntryList, EntryPath, Flavour, LowerView, RootDir};
use super::{Reader, Seen, changed_root, child_path, inode_of, into_list};

/// What a step has changed, read from the upper directory `root` of its overlay mount.
///
/// The mount has to be gone, or nothing may write to it any more.
///
/// # Errors
/// [`super::super::TreeError::OverlayMark`] when the mount used `redirect_dir` or `metacopy`,
/// which leave things elsewhere; I/O errors.
pub(crate) fn diff_upper(
    root: &RootDir,
    flavour: Flavour,
    lower: &dyn LowerView,
) -> Result<EntryList> {
    let mut walk = Walk {
        reader: Reader { flavour },
        lower,
        seen: Vec::new(),
        marks: Vec::new(),
        todo: vec![Frame {
            path: EntryPath::ROOT,
            merged: true,
        }],
    };
    let top = root.open_dir(&EntryPath::ROOT)?;
    // An opaque root, or a mark that should not be: the root is a directory like others.
    overlay_marks::take(&mut top.xattrs_self()?, flavour, &EntryPath::ROOT)?;
    let changed_root = changed_root(walk.reader, &top, lower)?;
    while let Some(frame) = walk.todo.pop() {
        // By path and not by an open parent, so that depth costs no descriptors.
        let dir = root.open_dir(&frame.path)?;
        for bytes in dir.read()? {
            if let Some(name) = Name::new(&bytes) {
                walk.name(&dir, name, &frame)?;
            }
        }
    }
    walk.marks.extend(changed_root);
    Ok(into_list(walk.seen, walk.marks))
}

/// A directory still to be read.
struct Frame {
    path: EntryPath,
    /// The lower layers' directory of the same path shows through.
    merged: bool,
}

struct Walk<'a> {
    reader: Reader,
    lower: &'a dyn LowerView,
    seen: Vec<Seen>,
    /// Whiteouts and opaque marks.
    marks: Vec<Entry>,
    todo: Vec<Frame>,
}

impl Walk<'_> {
    fn below(&self, frame: &Frame, path: &EntryPath) -> Result<Option<Entry>> {
        if frame.merged {
            self.lower.lookup(path)
        } else {
            Ok(None)
        }
    }

    fn name(&mut self, dir: &Dir, name: Name<'_>, frame: &Frame) -> Result<()> {
        let path = child_path(&frame.path, name.as_bytes())?;
        // Gone since the directory was read: not ours to report.
        let Some(stat) = dir.stat(name)? else {
            return Ok(());
        };
        if stat.is_whiteout() {
            return self.hide(frame, path);
        }
        self.present(dir, name, frame, path, &stat)
    }

    /// Something of the lower layers is gone, if they have it.
    fn hide(&mut self, frame: &Frame, path: EntryPath) -> Result<()> {
        if self.below(frame, &path)?.is_some() {
            self.marks.push(Entry::new(path, EntryKind::Whiteout));
        }
        Ok(())
    }

    fn present(
        &mut self,
        dir: &Dir,
        name: Name<'_>,
        frame: &Frame,
        path: EntryPath,
        stat: &Stat,
    ) -> Result<()> {
        let mut xattrs = dir.xattrs(name)?;
        let marks = overlay_marks::take(&mut xattrs, self.reader.flavour, &path)?;
        if marks.whiteout && stat.file_type == FileType::File && stat.size == 0 {
            return self.hide(frame, path);
        }
        let Some(mut entry) = self.reader.entry(dir, name, path.clone(), stat, xattrs)? else {
            return self.hide(frame, path);
        };
        let is_directory = entry.kind.is_directory();
        // The lower entry is only needed for what the disk does not hold, or to merge with.
        let below = if is_directory || self.reader.flavour != Flavour::Root {
            self.below(frame, &path)?
        } else {
            None
        };
        let merges = is_directory
            && below
                .as_ref()
                .is_some_and(|below| below.kind.is_directory());
        let known = if merges && marks.opaque { None } else { below };
        let inherits = self.reader.restore_truth(&mut entry, known.as_ref());
        if merges && marks.opaque {
            self.marks
                .push(Entry::new(path.clone(), EntryKind::OpaqueDirectory));
        }
        if is_directory {
            let merged = merges && !marks.opaque;
            self.todo.push(Frame { path, merged });
        }
        self.seen.push(Seen {
            entry,
            inode: inode_of(stat),
            inherits,
            changed: true,
        });
        Ok(())
    }
}
