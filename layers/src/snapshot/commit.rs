//! From a snapshot's changes to a layer: decision 2 of the architecture.
//!
//! The upper directory *is* the layer's tree: it is read once, to be hashed, and renamed. What it
//! holds that the layer does not (mount points that the runtime made) is removed from it first,
//! for later steps will see it.

use std::io;

use super::CommitOptions;
use crate::Result;
use crate::layer::record::remember;
use crate::layer::scratch::Scratch;
use crate::layer::tree::{NewTree, TreeInfo, TreeKey};
use crate::layer::writer::{append, clamp};
use crate::layer::{LayerRecord, LayerStack};
use crate::spec::DiffId;
use crate::store::Store;
use crate::stream::DigestWriter;
use crate::tar::TarWriter;
use crate::tree::{
    ApplyStatistics, Entry, EntryKind, EntryList, EntryPath, LowerView, Name, RootDir, Timestamp,
    diff_upper,
};

/// Publishes the upper directory of an overlay as a layer; `None` when nothing was changed.
/// Nobody may write to the mount any more; `unmount` is called when it has to go.
pub(super) fn commit_upper(
    store: &Store,
    stack: &LayerStack,
    scratch: &Scratch,
    options: &CommitOptions,
    unmount: impl FnOnce(),
) -> Result<Option<LayerRecord>> {
    let tree = NewTree::made(scratch);
    let root = RootDir::open(&tree.fs())?;
    let list = diff_upper(&root, store.flavour(), stack)?;
    if list.entries().is_empty() {
        return Ok(None);
    }
    let Pruned { mut kept, dropped } = prune(list.into_entries(), &options.ignore, stack)?;
    if kept.is_empty() {
        return Ok(None);
    }
    // Before the files are touched, and before they can become a lower directory of another mount.
    unmount();
    for path in dropped.iter().rev() {
        root.remove_all(path)?;
    }
    settle_times(&root, &mut kept, options.clamp, &dropped)?;
    let (diff_id, size_bytes) = hash(&root, &mut kept)?;
    let list = EntryList::new(kept);
    // All of it is on disk: the container could not have made it otherwise. What was restored
    // from below is what the flavour never holds, or belongs to a layer that says so itself.
    let listed_only = stack.trees().iter().any(|tree| tree.info().listed_only);
    let statistics = ApplyStatistics {
        only_listed: usize::from(listed_only),
        ..ApplyStatistics::default()
    };
    let info = TreeInfo::new(&diff_id, &list, &statistics);
    tree.publish(store, TreeKey::Diff(diff_id.clone()), &info, &list)?;
    remember(store, &diff_id, size_bytes, None).map(Some)
}

/// What a layer keeps of a diff.
#[derive(Debug, Default)]
pub(super) struct Pruned {
    /// In canonical order.
    pub(super) kept: Vec<Entry>,
    /// In canonical order: files and directories that are on disk and not part of the layer.
    pub(super) dropped: Vec<EntryPath>,
}

/// Drops mount points that the runtime made, where nothing came to lie in them, and directories
/// that are in the diff for their sake only.
pub(super) fn prune(
    entries: Vec<Entry>,
    ignore: &std::collections::BTreeSet<EntryPath>,
    lower: &dyn LowerView,
) -> Result<Pruned> {
    if ignore.is_empty() {
        return Ok(Pruned {
            kept: entries,
            dropped: Vec::new(),
        });
    }
    let mut pruned = Pruned::default();
    // Backwards, so that all below a directory is settled before it; and since all that is below
    // it follows it directly, the last one settled tells whether there is any.
    for entry in entries.into_iter().rev() {
        let is_above =
            |path: Option<&EntryPath>| path.is_some_and(|path| path.starts_with(&entry.path));
        let is_empty = !is_above(pruned.kept.last().map(|kept| &kept.path));
        let is_placeholder = ignore.contains(&entry.path)
            && matches!(
                entry.kind,
                EntryKind::Directory | EntryKind::File { size: 0 }
            );
        let drop_it = if is_placeholder && is_empty {
            lower.lookup(&entry.path)?.is_none()
        } else if entry.kind.is_directory() && is_empty && is_above(pruned.dropped.last()) {
            lower
                .lookup(&entry.path)?
                .is_some_and(|below| is_same_but_for_time(&entry, &below))
        } else {
            false
        };
        if drop_it {
            pruned.dropped.push(entry.path);
        } else {
            pruned.kept.push(entry);
        }
    }
    pruned.kept.reverse();
    pruned.dropped.reverse();
    // The root is only listed when it changed, and then by itself.
    Ok(pruned)
}

fn is_same_but_for_time(entry: &Entry, below: &Entry) -> bool {
    entry.kind == below.kind
        && entry.mode == below.mode
        && (entry.uid, entry.gid) == (below.uid, below.gid)
        && entry.xattrs == below.xattrs
}

/// Clamps times in the list; on disk they stay as they are, and directories that lost a mount
/// point get theirs back (removing is a change of its own).
fn settle_times(
    root: &RootDir,
    entries: &mut [Entry],
    latest: Option<Timestamp>,
    dropped: &[EntryPath],
) -> Result<()> {
    let disturbed: std::collections::BTreeSet<_> =
        dropped.iter().filter_map(EntryPath::parent).collect();
    for entry in entries {
        if !entry.kind.is_mark()
            && disturbed.contains(&entry.path)
            && let (Some(directory), Some(name)) = (entry.path.parent(), Name::of(&entry.path))
        {
            root.open_dir(&directory)?.set_mtime(name, entry.mtime)?;
        }
        clamp(entry, latest);
    }
    Ok(())
}

/// Reads every file once: for the diff ID, and for the digests in the list.
fn hash(root: &RootDir, entries: &mut [Entry]) -> Result<(DiffId, u64)> {
    let mut tar = TarWriter::new(DigestWriter::new(io::sink()));
    for entry in entries {
        let digest = match entry.kind {
            EntryKind::File { .. } => append(&mut tar, entry, &mut root.open_file(&entry.path)?)?,
            _ => append(&mut tar, entry, &mut io::empty())?,
        };
        if digest.is_some() {
            entry.content_digest = digest;
        }
    }
    let (_, digest, size_bytes) = tar.finish()?.finish();
    Ok((DiffId(digest), size_bytes))
}
