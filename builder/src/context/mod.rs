//! The build context: a directory that may be hostile, seen through one door.
//!
//! Every access goes through a file descriptor of the context's root, with symlinks refused by the
//! kernel (`openat2`) or resolved here inside the root. What the ignore file excludes is not there.
//! Entries are listed when a `COPY` asks for them, hashed when a key needs them, and each at most
//! once per build.

mod door;
mod memo;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wythe_layers::spec::{Algorithm, Digest, Hasher};
use wythe_layers::tree::{EntryPath, Timestamp};

pub(crate) use memo::Stamp;

use self::memo::Memo;
use crate::cache::Index;
use crate::ignore::{IgnoreRules, ParentMatches};
use crate::path::clean_in_root;
use crate::{Error, Result};

/// As the kernel: more links than this are a loop.
const MAX_LINKS: usize = 40;
/// Below this many bytes, starting threads costs more than hashing.
const PARALLEL_HASH_BYTES: u64 = 4 << 20;
/// Bytes read at once.
const BUFFER_BYTES: usize = 128 << 10;

/// A file, directory or symlink of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) path: EntryPath,
    pub(crate) kind: ItemKind,
    /// Permission bits, `0o7777` at most.
    pub(crate) mode: u32,
    pub(crate) stamp: Stamp,
    /// It has several names, here or elsewhere.
    pub(crate) has_other_names: bool,
}

impl Item {
    pub(crate) fn is_directory(&self) -> bool {
        self.kind == ItemKind::Directory
    }

    pub(crate) fn mtime(&self) -> Timestamp {
        let (seconds, nanoseconds) = self.stamp.mtime;
        Timestamp {
            seconds,
            nanoseconds,
        }
    }
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Directory,
    File,
    Symlink(Vec<u8>),
    /// A named pipe: copied as one, never opened.
    Fifo,
    /// A socket or device: in a context by accident or by malice, never copied.
    Special(&'static str),
}

/// A build context.
#[derive(Debug)]
pub(crate) struct Context {
    /// `None`: there are no files at all.
    root: Option<OwnedFd>,
    directory: PathBuf,
    ignore: IgnoreRules,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    memo: Memo,
    /// Listings by directory, so that a second `COPY` of the same one costs nothing.
    walked: BTreeMap<EntryPath, Arc<Vec<Item>>>,
    digests: BTreeMap<EntryPath, Digest>,
}

impl Context {
    /// Opens a directory as context.
    pub(crate) fn open(directory: &Path, ignore: IgnoreRules, index: &Index) -> Result<Self> {
        let real = std::fs::canonicalize(directory).map_err(Error::io("open", directory))?;
        let root = door::open_root(&real)?;
        Ok(Self {
            root: Some(root),
            ignore,
            state: Mutex::new(State {
                memo: Memo::load(&index.context_memo(&real)),
                walked: BTreeMap::new(),
                digests: BTreeMap::new(),
            }),
            directory: real,
        })
    }

    /// A context without files.
    pub(crate) fn empty() -> Self {
        Self {
            root: None,
            directory: PathBuf::from("(empty)"),
            ignore: IgnoreRules::default(),
            state: Mutex::new(State {
                memo: Memo::default(),
                walked: BTreeMap::new(),
                digests: BTreeMap::new(),
            }),
        }
    }

    /// The directory, for messages.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether something of this path is there but excluded by the ignore file.
    pub(crate) fn is_ignored(&self, path: &EntryPath) -> bool {
        self.ignore.is_ignored(path.as_bytes())
    }

    /// Resolves symlinks inside the context, the last one too, and stats what is there. `None`
    /// when there is nothing, or when it is excluded.
    pub(crate) fn lookup(&self, path: &EntryPath) -> Result<Option<Item>> {
        let mut todo: Vec<Vec<u8>> = path.parts().rev().map(<[u8]>::to_vec).collect();
        let mut done = EntryPath::ROOT;
        let mut links = 0;
        let mut found = self.stat(&done)?;
        while let Some(part) = todo.pop() {
            let Ok(next) = done.join(&part) else {
                return Ok(None);
            };
            let Some(item) = self.stat(&next)? else {
                return Ok(None);
            };
            let ItemKind::Symlink(target) = &item.kind else {
                if !item.is_directory() && !todo.is_empty() {
                    return Ok(None);
                }
                done = next;
                found = Some(item);
                continue;
            };
            // A link that is excluded is not there, whatever it leads to.
            if !self.is_visible(&item)? {
                return Ok(None);
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::LinkLoop { path: path.clone() });
            }
            // `..` counts from where the link stands, and stops at the root.
            let mut whole = if target.starts_with(b"/") {
                Vec::new()
            } else {
                done.as_bytes().to_vec()
            };
            whole.push(b'/');
            whole.extend_from_slice(target);
            let Some(target) = clean_in_root(&whole) else {
                return Ok(None);
            };
            todo.extend(target.parts().rev().map(<[u8]>::to_vec));
            done = EntryPath::ROOT;
            found = self.stat(&done)?;
        }
        match found {
            Some(item) if self.is_visible(&item)? => Ok(Some(item)),
            _ => Ok(None),
        }
    }

    /// What is at exactly this path, no link followed. `None` when there is nothing, or when it is
    /// excluded.
    pub(crate) fn entry(&self, path: &EntryPath) -> Result<Option<Item>> {
        match self.stat(path)? {
            Some(item) if self.is_visible(&item)? => Ok(Some(item)),
            _ => Ok(None),
        }
    }

    /// The children of a directory that are not excluded, sorted by name.
    pub(crate) fn children(&self, directory: &EntryPath) -> Result<Vec<Item>> {
        let mut children = Vec::new();
        let above = self.matches_at(directory);
        for item in self.list(directory)? {
            let path = item.path.as_bytes();
            let (verdict, matches) = self.ignore.descend(path, &above);
            // An excluded directory is there if something below it is.
            let visible = !verdict.ignored
                || (item.is_directory()
                    && !self.ignore.can_prune(path, &matches)
                    && self.walk(&item.path)?.len() > 1);
            if visible {
                children.push(item);
            }
        }
        children.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(children)
    }

    /// `top` itself and everything below it that is not excluded, parents before children.
    /// `top` is not resolved: its parents are real directories.
    pub(crate) fn walk(&self, top: &EntryPath) -> Result<Arc<Vec<Item>>> {
        if let Some(walked) = self.walked(top) {
            return Ok(walked);
        }
        let mut items = Vec::new();
        let mut directories = Vec::new();
        if let Some(item) = self.stat(top)? {
            if item.is_directory() {
                directories.push((top.clone(), self.matches_at(top)));
            }
            items.push(item);
        }
        let mut needed = BTreeSet::new();
        while let Some((directory, above)) = directories.pop() {
            for item in self.list(&directory)? {
                let path = item.path.as_bytes();
                let (verdict, matches) = self.ignore.descend(path, &above);
                if item.is_directory() {
                    if verdict.ignored && self.ignore.can_prune(path, &matches) {
                        continue;
                    }
                    directories.push((item.path.clone(), matches));
                    if verdict.ignored {
                        // It is there only if something below it is.
                        needed.insert(item.path.clone());
                    }
                } else if verdict.ignored {
                    continue;
                }
                items.push(item);
            }
        }
        items.sort_by(|left, right| left.path.cmp(&right.path));
        if !needed.is_empty() {
            drop_empty(&mut items, &needed);
        }
        let items = Arc::new(items);
        self.lock().walked.insert(top.clone(), Arc::clone(&items));
        Ok(items)
    }

    fn list(&self, directory: &EntryPath) -> Result<Vec<Item>> {
        match &self.root {
            Some(root) => door::list(root, &self.directory, directory),
            None => Ok(Vec::new()),
        }
    }

    /// What the ignore rules have matched on the way down to a directory.
    fn matches_at(&self, directory: &EntryPath) -> ParentMatches {
        let down = directory.ancestors().chain([directory.clone()]);
        let named = down.filter(|path| !path.is_root());
        named.fold(self.ignore.root(), |above, path| {
            self.ignore.descend(path.as_bytes(), &above).1
        })
    }

    fn walked(&self, top: &EntryPath) -> Option<Arc<Vec<Item>>> {
        let state = self.lock();
        if let Some(walked) = state.walked.get(top) {
            return Some(Arc::clone(walked));
        }
        let above = top.ancestors().find_map(|up| state.walked.get(&up))?;
        let below: Vec<Item> = above
            .iter()
            .filter(|item| item.path.starts_with(top))
            .cloned()
            .collect();
        Some(Arc::new(below))
    }

    /// The digests of files, in their order; read from disk only where they changed.
    ///
    /// `None` when more than `limit_bytes` would have to be read.
    pub(crate) fn digests(
        &self,
        files: &[&Item],
        jobs: usize,
        limit_bytes: Option<u64>,
    ) -> Result<Option<Vec<Digest>>> {
        let unknown: Vec<&Item> = {
            let state = self.lock();
            let known = |item: &Item| {
                state.digests.contains_key(&item.path)
                    || state.memo.get(&item.path, &item.stamp).is_some()
            };
            files.iter().copied().filter(|item| !known(item)).collect()
        };
        let bytes: u64 = unknown.iter().map(|item| item.stamp.size).sum();
        if limit_bytes.is_some_and(|limit| bytes > limit) {
            return Ok(None);
        }
        let jobs = if bytes < PARALLEL_HASH_BYTES { 1 } else { jobs };
        let hashed_at = memo::now();
        let fresh = self.hash_all(&unknown, jobs)?;
        let mut state = self.lock();
        for (item, digest) in unknown.iter().zip(fresh) {
            let path = &item.path;
            state.memo.put(path, item.stamp, digest.clone(), hashed_at);
            state.digests.insert(path.clone(), digest);
        }
        let digest = |item: &&Item| {
            let session = state.digests.get(&item.path).cloned();
            session.or_else(|| state.memo.get(&item.path, &item.stamp))
        };
        // Every file is in one of the two by now.
        Ok(files.iter().map(digest).collect())
    }

    fn hash_all(&self, files: &[&Item], jobs: usize) -> Result<Vec<Digest>> {
        if jobs <= 1 || files.len() <= 1 {
            return files.iter().map(|item| self.hash(item)).collect();
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let worker = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(item) = files.get(at) else {
                    return done;
                };
                done.push((at, self.hash(item)));
            }
        };
        let mut all: Vec<(usize, Result<Digest>)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs.min(files.len()))
                .map(|_| scope.spawn(worker))
                .collect();
            let joined = workers.into_iter().map(|thread| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.flatten().collect()
        });
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, digest)| digest).collect()
    }

    fn hash(&self, item: &Item) -> Result<Digest> {
        let mut file = self.open_file(item)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = file
                .read(&mut buffer)
                .map_err(Error::io("read", self.directory.join(item.path.as_path())))?;
            match buffer.get(..count) {
                Some([]) | None => break,
                Some(bytes) => hasher.update(bytes),
            }
        }
        self.check_unchanged(item, &file)?;
        Ok(hasher.finish())
    }

    /// Opens a file's content.
    ///
    /// # Errors
    /// [`Error::ContextChanged`] when it is not the file that was listed any more.
    pub(crate) fn open_file(&self, item: &Item) -> Result<File> {
        let Some(root) = &self.root else {
            return Err(Error::ContextChanged {
                path: self.directory.clone(),
            });
        };
        let file = door::open_file(root, &self.directory, &item.path)?;
        self.check_unchanged(item, &file)?;
        Ok(file)
    }

    /// Whether an open file is still as it was listed: to be asked after its content was used.
    pub(crate) fn check_unchanged(&self, item: &Item, file: &File) -> Result<()> {
        let now = door::stamp_of(file, &self.directory.join(item.path.as_path()))?;
        if now == item.stamp {
            return Ok(());
        }
        Err(Error::ContextChanged {
            path: self.directory.join(item.path.as_path()),
        })
    }

    /// Writes what was learned about the files, if anything.
    pub(crate) fn save(&self) -> Result<()> {
        let mut state = self.lock();
        let State { memo, walked, .. } = &mut *state;
        if !memo.is_changed() {
            return Ok(());
        }
        // Files that a walk did not meet any more are gone.
        memo.retain(|path| {
            let mut above = path.ancestors().filter_map(|up| walked.get(&up));
            above
                .next()
                .is_none_or(|items| items.binary_search_by(|item| item.path.cmp(path)).is_ok())
        });
        memo.save()
    }

    fn stat(&self, path: &EntryPath) -> Result<Option<Item>> {
        match &self.root {
            Some(root) => door::stat(root, &self.directory, path),
            None => Ok(None),
        }
    }

    fn is_visible(&self, item: &Item) -> Result<bool> {
        if item.path.is_root() || !self.is_ignored(&item.path) {
            return Ok(true);
        }
        let matches = self.matches_at(&item.path);
        Ok(item.is_directory()
            && !self.ignore.can_prune(item.path.as_bytes(), &matches)
            && self.walk(&item.path)?.len() > 1)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops directories of `needed` below which nothing is left.
fn drop_empty(items: &mut Vec<Item>, needed: &BTreeSet<EntryPath>) {
    let mut kept: Vec<Item> = Vec::with_capacity(items.len());
    // Backwards: what follows a directory and lies below it was decided before it.
    for item in items.drain(..).rev() {
        let wanted = !needed.contains(&item.path)
            || kept
                .last()
                .is_some_and(|next| next.path.starts_with(&item.path));
        if wanted {
            kept.push(item);
        }
    }
    kept.reverse();
    *items = kept;
}
