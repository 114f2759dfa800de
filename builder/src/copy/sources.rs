//! Finding the files that a `COPY` reads, in a context or in another stage's layers.

use std::collections::BTreeMap;
use std::sync::Arc;

use wythe_layers::spec::Digest;
use wythe_layers::tree::{Entry, EntryKind, EntryPath};

use super::{Place, glob_walk};
use crate::glob::has_wildcard;
use crate::ignore::{IgnoreRules, ParentMatches};
use crate::path::{clean_in_root, display};
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

/// Something below a source.
#[derive(Debug, Clone)]
pub(crate) struct Below {
    /// Relative to the source.
    pub(crate) path: EntryPath,
    pub(crate) found: Found,
    pub(crate) role: Role,
}

/// Why something below a source is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The patterns ask for it.
    Wanted,
    /// A directory on the way to something wanted.
    OnTheWay,
}

/// One source of the instruction, found.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file or directory, and all below it that is wanted, parents first.
    Tree {
        /// The name it was found by; a symlink's own.
        name: Vec<u8>,
        top: Box<Found>,
        below: Vec<Below>,
        /// It is unpacked if it is an archive.
        unpack: bool,
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
pub(crate) fn whole(place: &Place, exclude: &[String]) -> Result<Source> {
    let exclude = exclude_rules(exclude)?;
    with_all_below(place, "/", &EntryPath::ROOT, exclude.as_ref())
}

fn inline(name: &str, content: &str) -> Source {
    let path = clean_in_root(name.as_bytes()).unwrap_or_default();
    let size = content.len() as u64;
    let mut entry = Entry::new(path, EntryKind::File { size });
    entry.mode = 0o644;
    entry.content_digest = Some(Digest::of(content.as_bytes()));
    Source::Tree {
        name: name.as_bytes().to_vec(),
        top: Box::new(Found {
            entry,
            content: Content::Bytes(Arc::from(content.as_bytes())),
            group: None,
        }),
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
    for path in tops(text, place)? {
        found.push(with_all_below(place, text, &path, exclude)?);
    }
    Ok(())
}

fn with_all_below(
    place: &Place,
    text: &str,
    path: &EntryPath,
    exclude: Option<&IgnoreRules>,
) -> Result<Source> {
    let all = Patterns {
        include: None,
        exclude,
    };
    let top = top(place, text, path)?;
    let mut below = Vec::new();
    if top.entry.kind.is_directory() {
        below = all.choose(place.below(&top.entry.path)?);
    }
    Ok(tree(path, top, below))
}

/// The paths that a source means, in order. Of a pattern there may be none: `COPY optional* ./` is
/// how people copy what may not be there.
fn tops(text: &str, place: &Place) -> Result<Vec<EntryPath>> {
    let path = clean(text)?;
    if has_wildcard(text) {
        return glob_walk::matches(place, &path);
    }
    Ok(vec![path])
}

/// What is at a source's path, links followed: also what a pattern has matched must be there.
fn top(place: &Place, text: &str, path: &EntryPath) -> Result<Found> {
    match place.lookup(path)? {
        Some(found) => Ok(found),
        None if has_wildcard(text) => Err(place.missing(&display(path), path)),
        None => Err(place.missing(text, path)),
    }
}

fn tree(path: &EntryPath, top: Found, below: Vec<Below>) -> Source {
    Source::Tree {
        name: path.file_name().unwrap_or_default().to_vec(),
        top: Box::new(top),
        below,
        unpack: false,
    }
}

/// `--parents`: what matches in a directory, with the directories between. `base/./rest` looks for
/// `rest` in `base`, anything else is looked for at the top. Below that, links are not followed,
/// and the pattern is one of an ignore file.
fn gather_parents(
    text: &str,
    place: &Place,
    exclude: Option<&IgnoreRules>,
    found: &mut Vec<Source>,
) -> Result<()> {
    let (base, pattern) = text.split_once("/./").unwrap_or(("", text));
    let pattern = clean(pattern)?;
    let pattern = String::from_utf8_lossy(pattern.as_bytes()).into_owned();
    let include =
        IgnoreRules::from_patterns([pattern.as_str()]).map_err(|source| Error::IgnoreRules {
            name: text.to_owned(),
            source,
        })?;
    let patterns = Patterns {
        include: Some(&include),
        exclude,
    };
    for path in tops(base, place)? {
        let top = top(place, base, &path)?;
        let mut below = Vec::new();
        if top.entry.kind.is_directory() {
            below = patterns.choose(candidates(place, &top.entry.path, &pattern)?);
        } else if has_wildcard(base) {
            continue;
        }
        if below.is_empty() && !has_wildcard(text) {
            let whole = path.join(pattern.as_bytes()).map_err(|_| bad_path(text))?;
            return Err(place.missing(text, &whole));
        }
        found.push(tree(&path, top, below));
    }
    Ok(())
}

/// What below `base` a pattern could match: all, but for what its plain beginning rules out. Paths
/// are relative to `base`.
fn candidates(place: &Place, base: &EntryPath, pattern: &str) -> Result<Vec<(EntryPath, Found)>> {
    let pattern = pattern.trim();
    let is_plain = |part: &&str| !part.contains(['*', '?', '[', '\\']);
    let plain: Vec<&str> = match pattern.starts_with('!') {
        true => Vec::new(),
        false => pattern.split('/').take_while(is_plain).collect(),
    };
    let mut path = EntryPath::ROOT;
    let mut candidates = Vec::new();
    for part in plain.into_iter().filter(|part| !part.is_empty()) {
        path = path.join(part.as_bytes()).map_err(|_| bad_path(pattern))?;
        let whole = base.join(path.as_bytes()).map_err(|_| bad_path(pattern))?;
        let Some(found) = place.entry(&whole)? else {
            return Ok(candidates);
        };
        let is_directory = found.entry.kind.is_directory();
        candidates.push((path.clone(), found));
        if !is_directory {
            return Ok(candidates);
        }
    }
    let whole = base.join(path.as_bytes()).map_err(|_| bad_path(pattern))?;
    for (tail, found) in place.below(&whole)? {
        let path = path.join(tail.as_bytes()).map_err(|_| bad_path(pattern))?;
        candidates.push((path, found));
    }
    Ok(candidates)
}

fn clean(text: &str) -> Result<EntryPath> {
    clean_in_root(text.as_bytes()).ok_or_else(|| bad_path(text))
}

fn bad_path(text: &str) -> Error {
    Error::BadPath {
        path: text.to_owned(),
    }
}

/// Which of the things below a source are copied.
struct Patterns<'a> {
    /// `None`: all.
    include: Option<&'a IgnoreRules>,
    exclude: Option<&'a IgnoreRules>,
}

/// What the patterns have matched down to a directory.
struct Above {
    include: Option<ParentMatches>,
    exclude: Option<ParentMatches>,
}

impl Patterns<'_> {
    /// Keeps what is wanted, and the directories on the way there. `candidates` has parents before
    /// what is in them.
    fn choose(&self, candidates: Vec<(EntryPath, Found)>) -> Vec<Below> {
        if self.include.is_none() && self.exclude.is_none() {
            let all = candidates.into_iter().map(|(path, found)| Below {
                path,
                found,
                role: Role::Wanted,
            });
            return all.collect();
        }
        let mut directories: BTreeMap<EntryPath, Above> = BTreeMap::new();
        directories.insert(
            EntryPath::ROOT,
            Above {
                include: self.include.map(IgnoreRules::root),
                exclude: self.exclude.map(IgnoreRules::root),
            },
        );
        let mut chosen = Vec::with_capacity(candidates.len());
        for (path, found) in candidates {
            let Some(above) = directories.get(&path.parent().unwrap_or_default()) else {
                continue;
            };
            let (included, include) = descend(self.include, above.include.as_ref(), &path);
            let (excluded, exclude) = descend(self.exclude, above.exclude.as_ref(), &path);
            let wanted = included.unwrap_or(true) && !excluded.unwrap_or(false);
            if found.entry.kind.is_directory() {
                directories.insert(path.clone(), Above { include, exclude });
            } else if !wanted {
                continue;
            }
            let role = if wanted { Role::Wanted } else { Role::OnTheWay };
            chosen.push(Below { path, found, role });
        }
        drop_needless(chosen)
    }
}

/// Whether rules match a path, and what to go on with below it.
fn descend(
    rules: Option<&IgnoreRules>,
    above: Option<&ParentMatches>,
    path: &EntryPath,
) -> (Option<bool>, Option<ParentMatches>) {
    match (rules, above) {
        (Some(rules), Some(above)) => {
            let (verdict, matches) = rules.descend(path.as_bytes(), above);
            (Some(verdict.ignored), Some(matches))
        }
        _ => (None, None),
    }
}

/// Drops directories that lead to nothing wanted.
fn drop_needless(chosen: Vec<Below>) -> Vec<Below> {
    let mut kept: Vec<Below> = Vec::with_capacity(chosen.len());
    for below in chosen.into_iter().rev() {
        let leads_on = || {
            kept.last()
                .is_some_and(|next| next.path.starts_with(&below.path))
        };
        if below.role == Role::Wanted || leads_on() {
            kept.push(below);
        }
    }
    kept.reverse();
    kept
}
