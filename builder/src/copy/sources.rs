//! Finding the files that a `COPY` reads, in a context or in another stage's layers.

use std::sync::Arc;

use wythe_layers::spec::Digest;
use wythe_layers::tree::{Entry, EntryKind, EntryPath};

use super::{Place, glob_walk};
use crate::glob::has_wildcard;
use crate::ignore::IgnoreRules;
use crate::path::clean_in_root;
use crate::plan::{CopySource, CopyStep};
use crate::view::Content;
use crate::{Error, GitCommit, GitPlace, Result};

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
    /// A directory of a repository.
    Git(Box<GitSource>),
}

/// A directory of a repository, known by its commit until its files are needed.
#[derive(Debug, Clone)]
pub(crate) struct GitSource {
    pub(crate) place: GitPlace,
    /// `None`: not found out yet.
    pub(crate) commit: Option<GitCommit>,
    /// `--exclude`.
    pub(crate) exclude: Vec<String>,
}

/// Finds everything that `step` reads.
///
/// # Errors
/// [`Error::SourceMissing`] with near names, when a source that is no pattern is not there.
pub(crate) fn gather(step: &CopyStep, place: &Place) -> Result<Vec<Source>> {
    let exclude = exclude_rules(&step.exclude)?;
    let mut found = Vec::new();
    for source in &step.sources {
        match source {
            CopySource::Http { url, unpack } => found.push(Source::Http {
                url: url.clone(),
                unpack: *unpack,
            }),
            CopySource::Git(place) => found.push(Source::Git(Box::new(GitSource {
                place: place.clone(),
                commit: None,
                exclude: step.exclude.clone(),
            }))),
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

fn exclude_rules(patterns: &[String]) -> Result<Option<IgnoreRules>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let rules = IgnoreRules::from_patterns(patterns.iter().map(String::as_str));
    rules.map(Some).map_err(|source| Error::IgnoreRules {
        name: "--exclude".to_owned(),
        source,
    })
}

/// Everything in a directory, as `COPY .` would copy it.
pub(crate) fn whole(place: &Place, exclude: &[String]) -> Result<Option<Source>> {
    tree(place, &EntryPath::ROOT, exclude_rules(exclude)?.as_ref())
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
