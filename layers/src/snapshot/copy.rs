//! Snapshots by copying: for where overlayfs cannot be had (no user namespace, a file system that
//! it refuses). Slow to make, but any process may, and it runs anywhere.
//!
//! ```text
//! snapshots/<random>/root   the merged view's files
//!                   /mark   made after them: files that changed later are newer
//! ```

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::{CommitOptions, Root, Snapshot, Snapshotter, commit};
use crate::layer::scratch::Scratch;
use crate::layer::{LayerRecord, LayerStack, LayerWriter, Purpose};
use crate::store::Store;
use crate::tree::{Applier, ApplyOptions, EntryKind, EntryPath, RootDir, Timestamp, diff_full};
use crate::{Error, Result};

/// Makes snapshots by copying.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopySnapshotter;

impl Snapshotter for CopySnapshotter {
    fn prepare(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(CopySnapshot::new(store, stack)?))
    }

    /// A copy like any other: nothing forbids writing to it, but what is written is lost.
    fn view(&self, store: &Store, stack: &LayerStack) -> Result<Box<dyn Snapshot>> {
        self.prepare(store, stack)
    }
}

#[derive(Debug)]
struct CopySnapshot {
    store: Store,
    stack: LayerStack,
    copied_at: Timestamp,
    scratch: Scratch,
}

impl CopySnapshot {
    fn new(store: &Store, stack: &LayerStack) -> Result<Self> {
        let scratch = Scratch::in_store(store)?;
        let snapshot = Self {
            store: store.clone(),
            stack: stack.clone(),
            copied_at: Timestamp::default(),
            scratch,
        };
        let files = snapshot.files();
        std::fs::create_dir(&files).map_err(Error::write("create directory", &files))?;
        copy(store, stack, RootDir::open(&files)?)?;
        let mark = snapshot.scratch.path().join("mark");
        let made = File::create(&mark).and_then(|mark| mark.metadata());
        let metadata = made.map_err(Error::write("create", &mark))?;
        let copied_at = Timestamp {
            seconds: metadata.ctime(),
            nanoseconds: u32::try_from(metadata.ctime_nsec()).unwrap_or_default(),
        };
        Ok(Self {
            copied_at,
            ..snapshot
        })
    }

    fn files(&self) -> PathBuf {
        self.scratch.path().join("root")
    }
}

impl Snapshot for CopySnapshot {
    fn root(&self) -> Result<Root> {
        Ok(Root::Directory(self.files()))
    }

    fn commit(self: Box<Self>, options: &CommitOptions) -> Result<Option<LayerRecord>> {
        let root = RootDir::open(&self.files())?;
        let list = diff_full(
            &root,
            self.store.flavour(),
            &self.stack,
            Some(self.copied_at),
        )?;
        let pruned = commit::prune(list.into_entries(), &options.ignore, &self.stack)?;
        if pruned.kept.is_empty() {
            return Ok(None);
        }
        let mut writer = LayerWriter::new(&self.store, Purpose::Tree, options.clamp, 1)?;
        for entry in pruned.kept {
            let content = match entry.kind {
                EntryKind::File { .. } => Some(root.open_file(&entry.path)?),
                _ => None,
            };
            writer.add(entry, content)?;
        }
        writer.finish().map(Some)
    }
}

/// Copies the merged view of `stack` into an empty directory.
fn copy(store: &Store, stack: &LayerStack, root: RootDir) -> Result<()> {
    let mut applier = Applier::new(root, store.flavour(), ApplyOptions::default())?;
    applier.apply(stack.root()?.entry, &mut io::empty())?;
    // First names of files that have several, by layer and inode.
    let mut names: HashMap<(usize, u64), EntryPath> = HashMap::new();
    let mut todo = vec![EntryPath::ROOT];
    while let Some(directory) = todo.pop() {
        for found in stack.read_dir(&directory)? {
            let mut entry = found.entry.clone();
            if entry.kind.is_directory() {
                todo.push(entry.path.clone());
            }
            let EntryKind::File { .. } = entry.kind else {
                applier.apply(entry, &mut io::empty())?;
                continue;
            };
            let content = stack.open_file(&found)?;
            let metadata = content
                .metadata()
                .map_err(Error::io("stat", entry.path.as_path()))?;
            if metadata.nlink() > 1 {
                let key = (found.layer, metadata.ino());
                if let Some(target) = names.get(&key) {
                    let target = target.clone();
                    entry.kind = EntryKind::HardLink { target };
                    applier.apply(entry, &mut io::empty())?;
                    continue;
                }
                names.insert(key, entry.path.clone());
            }
            applier.apply_from(entry, &content)?;
        }
    }
    applier.finish()?;
    Ok(())
}
