//! What a stage's files look like in the middle of a step: finished layers below, and on top the
//! entries of the layer that is being made.
//!
//! Nothing here touches the disk except through [`LayerStack`]. Layers that were written straight
//! into a blob have no tree; they take part with their entry list.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use wythe_layers::layer::{Found, LayerStack};
use wythe_layers::tree::{Entry, EntryKind, EntryList, EntryPath, Timestamp};

use crate::path::{clean_in_root, display};
use crate::{Error, Result};

/// As the kernel: more links than this are a loop.
const MAX_LINKS: usize = 40;

/// Where the bytes of a new file come from.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Not a regular file.
    None,
    /// A file of a context, by its number in the step's list of items.
    Context {
        /// Which context.
        context: Arc<crate::context::Context>,
        /// The file.
        item: Arc<crate::context::Item>,
    },
    /// A file of another stage or image.
    Layer {
        /// All its layers.
        stack: Arc<LayerStack>,
        /// The file.
        found: Arc<Found>,
    },
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A part of a file into which an archive was unpacked, which is not complete yet.
    Spool {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
    /// A part of a complete one.
    Part {
        /// The file.
        file: Arc<File>,
        /// Where it begins.
        offset: u64,
        /// How long it is.
        length: u64,
    },
}

/// An entry of the layer being made.
#[derive(Debug, Clone)]
pub(crate) struct New {
    pub(crate) entry: Entry,
    pub(crate) content: Content,
    /// Entries of the same group, which the view gave out, are names of one file.
    pub(crate) group: Option<u64>,
}

impl New {
    /// An entry without content.
    pub(crate) fn plain(entry: Entry) -> Self {
        Self {
            entry,
            content: Content::None,
            group: None,
        }
    }
}

/// Who owns a new entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// How directories are made that nobody described.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewDirectory {
    pub(crate) mode: u32,
    pub(crate) owner: Owner,
    pub(crate) mtime: Timestamp,
}

/// Whether a layer hides everything that lower ones have at `path`.
fn hides(list: &EntryList, path: &EntryPath) -> bool {
    path.ancestors().any(|up| {
        let covered = list
            .get(&up)
            .is_some_and(|entry| !entry.is_plain_directory());
        covered || list.is_opaque(&up)
    })
}

trait PlainDirectory {
    fn is_plain_directory(&self) -> bool;
}

impl PlainDirectory for Entry {
    fn is_plain_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }
}

/// The merged view.
#[derive(Debug)]
pub(crate) struct View {
    stack: Arc<LayerStack>,
    /// On top of `stack`, bottom first.
    lists: Vec<Arc<EntryList>>,
    new: BTreeMap<EntryPath, New>,
    groups: u64,
}

impl View {
    pub(crate) fn new(stack: Arc<LayerStack>, lists: Vec<Arc<EntryList>>) -> Self {
        Self {
            stack,
            lists,
            new: BTreeMap::new(),
            groups: 0,
        }
    }

    /// A group that no entry has yet.
    pub(crate) fn new_group(&mut self) -> u64 {
        self.groups += 1;
        self.groups
    }

    /// The entry of exactly this path; nothing is followed.
    pub(crate) fn lookup(&self, path: &EntryPath) -> Result<Option<Entry>> {
        if path.is_root() {
            let mut root = Entry::new(EntryPath::ROOT, EntryKind::Directory);
            root.mode = 0o755;
            return Ok(Some(root));
        }
        if let Some(new) = self.new.get(path) {
            return Ok(Some(new.entry.clone()));
        }
        let covered = |up: EntryPath| {
            let new = self.new.get(&up);
            new.is_some_and(|new| !new.entry.is_plain_directory())
        };
        if path.ancestors().any(covered) {
            return Ok(None);
        }
        for list in self.lists.iter().rev() {
            match list.get(path) {
                Some(entry) if entry.kind == EntryKind::Whiteout => return Ok(None),
                Some(entry) => return Ok(list.without_link(entry)),
                None if hides(list, path) => return Ok(None),
                None => {}
            }
        }
        Ok(self.stack.lookup(path)?.map(|found| found.entry))
    }

    /// Resolves symlinks as `chroot` would; what comes after the last existing part stays as it is.
    pub(crate) fn resolve(&self, path: &EntryPath, follow_last: bool) -> Result<EntryPath> {
        self.resolve_in(&EntryPath::ROOT, path, follow_last)
    }

    /// [`resolve`](Self::resolve), as if `root` (which is resolved) was the root.
    pub(crate) fn resolve_in(
        &self,
        root: &EntryPath,
        path: &EntryPath,
        follow_last: bool,
    ) -> Result<EntryPath> {
        let mut todo: Vec<Vec<u8>> = path.parts().rev().map(<[u8]>::to_vec).collect();
        let mut done = root.clone();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            let next = done.join(&part).map_err(|_| too_long(path))?;
            let follow = follow_last || !todo.is_empty();
            let target = match self.lookup(&next)?.map(|entry| entry.kind) {
                Some(EntryKind::Symlink { target }) if follow => target,
                _ => {
                    done = next;
                    continue;
                }
            };
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::LinkLoop { path: path.clone() });
            }
            let mut whole = Vec::new();
            if !target.starts_with(b"/") {
                let above = done.strip_prefix(root).unwrap_or_default();
                whole.extend_from_slice(above.as_bytes());
            }
            whole.push(b'/');
            whole.extend_from_slice(&target);
            let target = clean_in_root(&whole).ok_or_else(|| too_long(path))?;
            todo.extend(target.parts().rev().map(<[u8]>::to_vec));
            done = root.clone();
        }
        Ok(done)
    }

    /// Makes a directory and what is missing above it; gives its resolved path.
    pub(crate) fn make_directory(
        &mut self,
        path: &EntryPath,
        new: NewDirectory,
    ) -> Result<EntryPath> {
        let resolved = self.resolve(path, true)?;
        let all: Vec<EntryPath> = resolved.ancestors().chain([resolved.clone()]).collect();
        for directory in all {
            match self.lookup(&directory)? {
                Some(entry) if entry.is_plain_directory() => {}
                Some(_) => {
                    return Err(Error::NotADirectory {
                        path: display(&directory),
                    });
                }
                None => {
                    let mut entry = Entry::new(directory, EntryKind::Directory);
                    entry.mode = new.mode;
                    entry.uid = new.owner.uid;
                    entry.gid = new.owner.gid;
                    entry.mtime = new.mtime;
                    self.put(New::plain(entry));
                }
            }
        }
        Ok(resolved)
    }

    /// Sets an entry. What was there goes, with everything below it unless both are directories.
    pub(crate) fn put(&mut self, new: New) {
        let path = new.entry.path.clone();
        if !new.entry.is_plain_directory() {
            let below: Vec<EntryPath> = self
                .new
                .range(path.clone()..)
                .skip_while(|(other, _)| **other == path)
                .take_while(|(other, _)| other.starts_with(&path))
                .map(|(other, _)| other.clone())
                .collect();
            for other in below {
                self.new.remove(&other);
            }
        }
        self.new.insert(path, new);
    }

    /// What was made at exactly this path.
    pub(crate) fn new_entry(&self, path: &EntryPath) -> Option<&New> {
        self.new.get(path)
    }

    /// What was made at exactly this path, to be changed.
    pub(crate) fn new_entry_mut(&mut self, path: &EntryPath) -> Option<&mut New> {
        self.new.get_mut(path)
    }

    /// Gives the content of an archive, now complete, to the entries that have a part of it.
    pub(crate) fn attach_spool(&mut self, spool: Arc<File>) {
        for new in self.new.values_mut() {
            if let Content::Spool { offset, length } = new.content {
                new.content = Content::Part {
                    file: Arc::clone(&spool),
                    offset,
                    length,
                };
            }
        }
    }

    /// Whether nothing was made.
    pub(crate) fn is_unchanged(&self) -> bool {
        self.new.is_empty()
    }

    /// The new layer in canonical order: what was made, and every directory above it with the
    /// metadata that it has (decision 1: a layer should be self-contained).
    pub(crate) fn into_layer(mut self) -> Result<Vec<New>> {
        let mut above = Vec::new();
        for path in self.new.keys() {
            // Sorted, so once an ancestor is there its own ancestors are too.
            let missing = path.ancestors().filter(|up| !up.is_root());
            above.extend(missing.filter(|up| !self.new.contains_key(up)));
            above.dedup();
        }
        above.sort();
        above.dedup();
        for path in above {
            if let Some(entry) = self.lookup(&path)? {
                self.put(New::plain(entry));
            }
        }
        let mut first: BTreeMap<u64, EntryPath> = BTreeMap::new();
        let mut layer: Vec<New> = self.new.into_values().collect();
        for new in &mut layer {
            let Some(group) = new.group else {
                continue;
            };
            match first.get(&group) {
                Some(target) => {
                    new.entry.kind = EntryKind::HardLink {
                        target: target.clone(),
                    };
                    new.content = Content::None;
                }
                None => {
                    first.insert(group, new.entry.path.clone());
                }
            }
        }
        Ok(layer)
    }
}

fn too_long(path: &EntryPath) -> Error {
    Error::BadPath {
        path: display(path),
    }
}

impl Content {
    /// Opens it for reading from the start; `None` for what has no content.
    pub(crate) fn open(&self) -> Result<Option<File>> {
        let memory = |source: io::Error| Error::Io {
            operation: "open",
            path: "(content in memory)".into(),
            source,
        };
        match self {
            Self::Context { context, item } => context.open_file(item).map(Some),
            Self::Layer { stack, found } => Ok(Some(stack.open_file(found)?)),
            Self::Bytes(bytes) => in_memory(bytes).map(Some).map_err(memory),
            Self::None | Self::Spool { .. } | Self::Part { .. } => Ok(None),
        }
    }

    /// A reader of the whole content; an empty one for what has none.
    pub(crate) fn reader(&self) -> Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Bytes(bytes) => Box::new(io::Cursor::new(Arc::clone(bytes))),
            Self::Part {
                file,
                offset,
                length,
            } => Box::new(Part {
                file: Arc::clone(file),
                offset: *offset,
                left: *length,
            }),
            other => match other.open()? {
                Some(file) => Box::new(file),
                None => Box::new(io::empty()),
            },
        })
    }
}

/// Reads a part of a file without moving its position, which others share.
struct Part {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        let window = buffer.get_mut(..length).unwrap_or_default();
        let count = self.file.read_at(window, self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    use std::io::{Seek, Write};
    let descriptor = rustix::fs::memfd_create("content", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = File::from(descriptor);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
