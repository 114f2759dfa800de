//! Finding the files that a `COPY` reads, in a context or in another stage's layers.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use wythe_layers::layer::LayerStack;
use wythe_layers::spec::{Algorithm, Digest, Hasher};
use wythe_layers::tree::{Entry, EntryKind, EntryPath};

use super::glob_walk;
use crate::cache::KeyBuilder;
use crate::context::{Context, Item, ItemKind};
use crate::glob::has_wildcard;
use crate::ignore::IgnoreRules;
use crate::path::{clean_in_root, display};
use crate::plan::{CopySource, CopyStep};
use crate::view::Content;
use crate::{Error, Result};

/// Where files are read from.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Context(Arc<Context>),
    /// All layers of a stage or image, and what to call it.
    Layers(Arc<LayerStack>, String),
}

/// A file, directory or link that will be copied.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// As it is at its source (owner and all).
    pub(crate) entry: Entry,
    pub(crate) content: Content,
    /// Names of one file have the same group.
    pub(crate) group: Option<(u64, u64)>,
}

/// One source of the instruction, found.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file or directory, and all below it (paths relative to it, parents first).
    Tree {
        /// The name it was found by; a symlink's own.
        name: Vec<u8>,
        top: Found,
        below: Vec<(EntryPath, Found)>,
        /// It is unpacked if it is an archive.
        unpack: bool,
    },
    /// A single file whose path below the destination is given, with its source's directories
    /// (`--parents`).
    Below {
        /// Directories above it, outermost first, and their paths.
        above: Vec<(EntryPath, Found)>,
        path: EntryPath,
        top: Found,
        below: Vec<(EntryPath, Found)>,
    },
    /// A file over http.
    Http { url: String, unpack: bool },
}

/// Finds everything that `step` reads.
///
/// # Errors
/// [`Error::SourceMissing`] with near names, when a source that is no pattern is not there.
pub(crate) fn gather(step: &CopyStep, place: &Place) -> Result<Vec<Source>> {
    let exclude = if step.exclude.is_empty() {
        None
    } else {
        let patterns = step.exclude.iter().map(String::as_str);
        let rules = IgnoreRules::from_patterns(patterns);
        Some(rules.map_err(|source| Error::IgnoreRules {
            name: "--exclude".to_owned(),
            source,
        })?)
    };
    let mut found = Vec::new();
    for source in &step.sources {
        match source {
            CopySource::Http { url, unpack } => found.push(Source::Http {
                url: url.clone(),
                unpack: *unpack,
            }),
            CopySource::Inline { name, content } => found.push(inline(name, content)),
            CopySource::Path { text, .. } if step.parents => {
                gather_parents(text, place, exclude.as_ref(), &mut found)?;
            }
            CopySource::Path { text, .. } => {
                let before = found.len();
                gather_path(text, place, exclude.as_ref(), &mut found)?;
                for source in found.iter_mut().skip(before) {
                    if let Source::Tree { unpack, .. } = source {
                        *unpack = step.unpack;
                    }
                }
            }
        }
    }
    Ok(found)
}

fn inline(name: &str, content: &str) -> Source {
    let path = clean_in_root(name.as_bytes()).unwrap_or_default();
    let size = content.len() as u64;
    let mut entry = Entry::new(path, EntryKind::File { size });
    entry.mode = 0o644;
    entry.content_digest = Some(Digest::of(content.as_bytes()));
    Source::Tree {
        name: name.as_bytes().to_vec(),
        top: Found {
            entry,
            content: Content::Bytes(Arc::from(content.as_bytes())),
            group: None,
        },
        below: Vec::new(),
        unpack: false,
    }
}

fn gather_path(
    text: &str,
    place: &Place,
    exclude: Option<&IgnoreRules>,
    found: &mut Vec<Source>,
) -> Result<()> {
    if has_wildcard(text) {
        // No match is no error: `COPY optional* ./` is how people copy what may not be there.
        for path in glob_walk::matches(place, &clean(text)?)? {
            if let Some(source) = tree(place, &path, exclude)? {
                found.push(source);
            }
        }
        return Ok(());
    }
    let path = clean(text)?;
    match tree(place, &path, exclude)? {
        Some(source) => {
            found.push(source);
            Ok(())
        }
        None => Err(place.missing(text, &path)),
    }
}

/// `--parents`: `base/./rest` keeps `rest`, else the whole path.
fn gather_parents(
    text: &str,
    place: &Place,
    exclude: Option<&IgnoreRules>,
    found: &mut Vec<Source>,
) -> Result<()> {
    let (base, pattern) = text.split_once("/./").unwrap_or(("", text));
    let base = clean(base)?;
    let base = match place.lookup(&base)? {
        Some(found) if found.entry.kind.is_directory() => found.entry.path,
        _ => return Err(place.missing(text, &base)),
    };
    let pattern = clean(pattern)?;
    let is_pattern = has_wildcard(text);
    let matches = if is_pattern {
        let whole = base.join(pattern.as_bytes()).map_err(|_| bad_path(text))?;
        glob_walk::matches(place, &whole)?
    } else {
        vec![base.join(pattern.as_bytes()).map_err(|_| bad_path(text))?]
    };
    for path in matches {
        let Some(below_base) = path.strip_prefix(&base) else {
            continue;
        };
        let excluded = exclude.is_some_and(|rules| rules.is_ignored(below_base.as_bytes()));
        if excluded {
            continue;
        }
        let Some(Source::Tree { top, below, .. }) = tree(place, &path, exclude)? else {
            if is_pattern {
                continue;
            }
            return Err(place.missing(text, &path));
        };
        let mut above = Vec::new();
        for up in below_base.ancestors().filter(|up| !up.is_root()) {
            let whole = base.join(up.as_bytes()).map_err(|_| bad_path(text))?;
            if let Some(directory) = place.lookup(&whole)? {
                above.push((up, directory));
            }
        }
        found.push(Source::Below {
            above,
            path: below_base,
            top,
            below,
        });
    }
    Ok(())
}

fn clean(text: &str) -> Result<EntryPath> {
    clean_in_root(text.as_bytes()).ok_or_else(|| bad_path(text))
}

fn bad_path(text: &str) -> Error {
    Error::BadPath {
        path: text.to_owned(),
    }
}

/// A source with everything below it; `None` when nothing is there.
fn tree(place: &Place, path: &EntryPath, exclude: Option<&IgnoreRules>) -> Result<Option<Source>> {
    let Some(top) = place.lookup(path)? else {
        return Ok(None);
    };
    let mut below = Vec::new();
    if top.entry.kind.is_directory() {
        below = place.below(&top.entry.path)?;
        if let Some(rules) = exclude {
            drop_excluded(&mut below, rules);
        }
    }
    Ok(Some(Source::Tree {
        name: path.file_name().unwrap_or_default().to_vec(),
        top,
        below,
        unpack: false,
    }))
}

/// Drops what `--exclude` matches, but for directories in which something stays.
fn drop_excluded(below: &mut Vec<(EntryPath, Found)>, rules: &IgnoreRules) {
    let mut kept: Vec<(EntryPath, Found)> = Vec::with_capacity(below.len());
    for (path, found) in below.drain(..).rev() {
        let needed = || kept.last().is_some_and(|(next, _)| next.starts_with(&path));
        if !rules.is_ignored(path.as_bytes()) || (found.entry.kind.is_directory() && needed()) {
            kept.push((path, found));
        }
    }
    kept.reverse();
    *below = kept;
}

impl Place {
    /// As people call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Context(context) => {
                format!("the build context {}", context.directory().display())
            }
            Self::Layers(_, name) => format!("stage or image {name:?}"),
        }
    }

    /// What is at a path, links followed, the last one too.
    pub(crate) fn lookup(&self, path: &EntryPath) -> Result<Option<Found>> {
        match self {
            Self::Context(context) => match context.lookup(path)? {
                Some(item) => from_item(context, &item, Special::Refuse),
                None => Ok(None),
            },
            Self::Layers(stack, _) => {
                let path = stack.resolve(path, true)?;
                let found = if path.is_root() {
                    Some(stack.root()?)
                } else {
                    stack.lookup(&path)?
                };
                found.map(|found| from_layers(stack, found)).transpose()
            }
        }
    }

    /// Names right in a directory, sorted; whether each is a directory.
    pub(crate) fn children(&self, directory: &EntryPath) -> Result<Vec<(EntryPath, bool)>> {
        Ok(match self {
            Self::Context(context) => context
                .children(directory)?
                .into_iter()
                .map(|item| (item.path.clone(), item.is_directory()))
                .collect(),
            Self::Layers(stack, _) => stack
                .read_dir(directory)?
                .into_iter()
                .map(|found| {
                    let is_directory = found.entry.kind.is_directory();
                    (found.entry.path, is_directory)
                })
                .collect(),
        })
    }

    /// Everything below a directory, by path relative to it, parents first.
    fn below(&self, top: &EntryPath) -> Result<Vec<(EntryPath, Found)>> {
        let mut below = Vec::new();
        match self {
            Self::Context(context) => {
                for item in context.walk(top)?.iter().filter(|item| item.path != *top) {
                    let Some(path) = item.path.strip_prefix(top) else {
                        continue;
                    };
                    if let Some(found) = from_item(context, item, Special::Skip)? {
                        below.push((path, found));
                    }
                }
            }
            Self::Layers(stack, _) => {
                let mut directories = vec![top.clone()];
                while let Some(directory) = directories.pop() {
                    for found in stack.read_dir(&directory)? {
                        if found.entry.kind.is_directory() {
                            directories.push(found.entry.path.clone());
                        }
                        if let Some(path) = found.entry.path.strip_prefix(top) {
                            below.push((path, from_layers(stack, found)?));
                        }
                    }
                }
                below.sort_by(|(left, _), (right, _)| left.cmp(right));
            }
        }
        Ok(below)
    }

    fn missing(&self, text: &str, path: &EntryPath) -> Error {
        let parent = path.parent().unwrap_or_default();
        let children = self.children(&parent).unwrap_or_default();
        let names: Vec<String> = children
            .iter()
            .map(|(child, _)| String::from_utf8_lossy(child.as_bytes()).into_owned())
            .collect();
        let wanted = String::from_utf8_lossy(path.as_bytes());
        let near = crate::parse::suggest::near(&wanted, names.iter().map(String::as_str));
        let ignored = match self {
            Self::Context(context) => context.is_ignored(path),
            Self::Layers(..) => false,
        };
        let hint = if ignored {
            Some(format!("{} is excluded by the ignore file", display(path)))
        } else {
            near.map(|near| format!("did you mean `{near}`?"))
        };
        Error::SourceMissing {
            path: text.to_owned(),
            place: self.name(),
            hint,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    Refuse,
    Skip,
}

fn from_item(context: &Arc<Context>, item: &Item, special: Special) -> Result<Option<Found>> {
    let kind = match &item.kind {
        ItemKind::Directory => EntryKind::Directory,
        ItemKind::File => EntryKind::File {
            size: item.stamp.size,
        },
        ItemKind::Symlink(target) => EntryKind::Symlink {
            target: target.clone(),
        },
        ItemKind::Special(kind) if special == Special::Refuse => {
            return Err(Error::SourceSpecial {
                path: display(&item.path),
                kind,
            });
        }
        ItemKind::Special(kind) => {
            tracing::warn!(path = %display(&item.path), kind, "left out of the copy");
            return Ok(None);
        }
    };
    let is_file = item.kind == ItemKind::File;
    let mut entry = Entry::new(item.path.clone(), kind);
    // Whoever owns it on this machine, and whatever attributes it has here, is not the image's
    // business: another machine would give other bytes.
    entry.mode = item.mode;
    entry.mtime = item.mtime();
    Ok(Some(Found {
        entry,
        content: if is_file {
            Content::Context {
                context: Arc::clone(context),
                item: Arc::new(item.clone()),
            }
        } else {
            Content::None
        },
        group: (is_file && item.has_other_names).then_some((item.stamp.device, item.stamp.inode)),
    }))
}

fn from_layers(stack: &Arc<LayerStack>, found: wythe_layers::layer::Found) -> Result<Found> {
    let entry = found.entry.clone();
    let is_file = matches!(
        entry.kind,
        EntryKind::File { .. } | EntryKind::HardLink { .. }
    );
    if !is_file {
        return Ok(Found {
            entry,
            content: Content::None,
            group: None,
        });
    }
    let file = stack.open_file(&found)?;
    let metadata = file
        .metadata()
        .map_err(Error::io("stat", found.entry.path.as_path()))?;
    let mut entry = entry;
    // A hard link's other name may be outside of what is copied.
    entry.kind = EntryKind::File {
        size: metadata.len(),
    };
    Ok(Found {
        entry,
        content: Content::Layer {
            stack: Arc::clone(stack),
            found: Arc::new(found),
        },
        group: (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino())),
    })
}

/// Gives the key everything that was found, and the entries their digests. `false` when more
/// bytes than `limit_bytes` would have to be read for it.
pub(crate) fn inputs(
    sources: &mut [Source],
    key: &mut KeyBuilder,
    jobs: usize,
    limit_bytes: Option<u64>,
) -> Result<bool> {
    if !fill_digests(sources, jobs, limit_bytes)? {
        return Ok(false);
    }
    let mut groups: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for source in sources.iter() {
        match source {
            Source::Tree {
                name,
                top,
                below,
                unpack,
            } => {
                key.push("source", String::from_utf8_lossy(name));
                if *unpack {
                    key.push("unpack", "archives");
                }
                describe(&EntryPath::ROOT, top, &mut groups, key);
                for (path, found) in below {
                    describe(path, found, &mut groups, key);
                }
            }
            Source::Below {
                above,
                path,
                top,
                below,
            } => {
                key.push("source below", display(path));
                for (path, found) in above {
                    describe(path, found, &mut groups, key);
                }
                describe(path, top, &mut groups, key);
                for (path, found) in below {
                    describe(path, found, &mut groups, key);
                }
            }
            Source::Http { url, .. } => key.push("source", url.as_str()),
        }
    }
    Ok(true)
}

/// One line a file: what would change the layer if it changed. Not the time, which is clamped.
fn describe(
    path: &EntryPath,
    found: &Found,
    groups: &mut BTreeMap<(u64, u64), usize>,
    key: &mut KeyBuilder,
) {
    let entry = &found.entry;
    let what = match &entry.kind {
        EntryKind::Directory => "directory".to_owned(),
        EntryKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
        EntryKind::File { .. } | EntryKind::HardLink { .. } => match &entry.content_digest {
            Some(digest) => digest.to_string(),
            None => "unread".to_owned(),
        },
        EntryKind::Fifo => "named pipe".to_owned(),
        EntryKind::CharDevice { major, minor } => format!("c {major}:{minor}"),
        EntryKind::BlockDevice { major, minor } => format!("b {major}:{minor}"),
        EntryKind::Whiteout | EntryKind::OpaqueDirectory => "mark".to_owned(),
    };
    let mut line = format!(
        "{} {:o} {}:{} {what}",
        escape(path.as_bytes()),
        entry.mode,
        entry.uid,
        entry.gid
    );
    for (name, value) in &entry.xattrs {
        line.push_str(&format!(" {}={}", escape(name), Digest::of(value)));
    }
    if let Some(group) = found.group {
        let next = groups.len();
        let number = *groups.entry(group).or_insert(next);
        line.push_str(&format!(" link {number}"));
    }
    key.push("file", line);
}

/// Unambiguous text of any bytes.
fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn fill_digests(sources: &mut [Source], jobs: usize, limit_bytes: Option<u64>) -> Result<bool> {
    let mut founds: Vec<&mut Found> = Vec::new();
    for source in sources.iter_mut() {
        match source {
            Source::Tree { top, below, .. } => {
                founds.push(top);
                founds.extend(below.iter_mut().map(|(_, found)| found));
            }
            Source::Below { top, below, .. } => {
                founds.push(top);
                founds.extend(below.iter_mut().map(|(_, found)| found));
            }
            Source::Http { .. } => {}
        }
    }
    let mut waiting = Vec::new();
    for found in founds {
        match &found.content {
            _ if found.entry.content_digest.is_some() => {}
            Content::Context { context, item } => {
                waiting.push((Arc::clone(context), Arc::clone(item), found));
            }
            Content::Layer { .. } => found.entry.content_digest = Some(hash(&found.content)?),
            Content::None | Content::Bytes(_) | Content::Spool { .. } | Content::Part { .. } => {}
        }
    }
    let Some((context, ..)) = waiting.first() else {
        return Ok(true);
    };
    let context = Arc::clone(context);
    let items: Vec<&Item> = waiting.iter().map(|(_, item, _)| item.as_ref()).collect();
    let Some(digests) = context.digests(&items, jobs, limit_bytes)? else {
        return Ok(false);
    };
    for ((_, _, found), digest) in waiting.into_iter().zip(digests) {
        found.entry.content_digest = Some(digest);
    }
    Ok(true)
}

fn hash(content: &Content) -> Result<Digest> {
    use std::io::Read;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 128 << 10];
    if let Some(mut file) = content.open()? {
        loop {
            let count = file
                .read(&mut buffer)
                .map_err(Error::io("read", "a file of a layer"))?;
            match buffer.get(..count) {
                Some([]) | None => break,
                Some(bytes) => hasher.update(bytes),
            }
        }
    }
    Ok(hasher.finish())
}
