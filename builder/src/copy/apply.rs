//! Where copied files go: Docker's rules, as BuildKit's file operations carry them out.
//!
//! - A directory as source stands for its contents.
//! - A file goes into a destination that is a directory (or ends with `/`), else it becomes it.
//! - Links on the way to the destination are followed inside the image; below it they are not: a
//!   file replaces a link, a directory over a link is an error.
//! - Directories that are missing are made with mode 0755 (or `--chmod`), owned as `--chown` says.
//! - A directory that exists keeps its metadata if it is the destination, else takes the source's.

use std::collections::BTreeMap;

use wythe_layers::tree::{Entry, EntryPath, Timestamp};

use super::archive;
use super::sources::{Below, Role};
use super::{Found, Source};
use crate::path::{clean_in_root, display};
use crate::plan::Chmod;
use crate::view::{New, NewDirectory, Owner, View};
use crate::{Error, Result};

/// Bits of an octal `--chmod` that directories get which have to be made.
const PERMISSIONS: u32 = 0o777;

/// How files are written.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Absolute; a final slash means that it is a directory.
    pub(crate) destination: String,
    /// `None`: as at the source.
    pub(crate) owner: Option<Owner>,
    pub(crate) chmod: Option<Chmod>,
    /// Time of directories that had to be made.
    pub(crate) new_mtime: Timestamp,
    /// For what an archive has to keep on disk meanwhile.
    pub(crate) scratch: std::path::PathBuf,
}

impl Settings {
    pub(super) fn new_directory(&self) -> NewDirectory {
        NewDirectory {
            mode: match self.chmod {
                Some(Chmod::Octal(mode)) => mode & PERMISSIONS,
                _ => 0o755,
            },
            owner: self.owner.unwrap_or_default(),
            mtime: self.new_mtime,
        }
    }

    fn entry(&self, mut entry: Entry, path: EntryPath) -> Entry {
        entry.path = path;
        if let Some(owner) = self.owner {
            entry.uid = owner.uid;
            entry.gid = owner.gid;
        }
        let is_link = matches!(entry.kind, wythe_layers::tree::EntryKind::Symlink { .. });
        match &self.chmod {
            Some(_) if is_link => {}
            Some(Chmod::Octal(mode)) => entry.mode = *mode,
            Some(Chmod::Symbolic(mode)) => {
                entry.mode = mode.apply(entry.mode, entry.kind.is_directory());
            }
            None => {}
        }
        entry
    }

    fn path(&self) -> Result<EntryPath> {
        clean_in_root(self.destination.as_bytes()).ok_or_else(|| Error::BadPath {
            path: self.destination.clone(),
        })
    }
}

/// Puts the sources into the view, in their order.
pub(crate) fn apply(view: &mut View, sources: Vec<Source>, settings: &Settings) -> Result<()> {
    let mut single: Option<EntryPath> = None;
    for source in sources {
        match source {
            Source::Tree {
                name,
                top,
                below,
                unpack,
            } => {
                if unpack && archive::unpack(view, &name, &top, settings)? {
                    continue;
                }
                let is_directory = top.entry.kind.is_directory();
                let target = prepare(view, is_directory, &name, settings)?;
                if !is_directory && target == view.resolve(&settings.path()?, true)? {
                    if single.as_ref() == Some(&target) {
                        let path = display(&target);
                        tracing::warn!(path, "several sources have this name; the last one stays");
                    }
                    single = Some(target.clone());
                }
                copy_tree(view, &target, *top, below, settings)?;
            }
            Source::Http { url, .. } => return Err(Error::NoRemote { url }),
            Source::Git(source) => {
                let url = source.place.repository.to_string();
                return Err(Error::NoRemote { url });
            }
        }
    }
    Ok(())
}

/// Makes what must be there, and says where a source goes.
fn prepare(
    view: &mut View,
    is_directory: bool,
    name: &[u8],
    settings: &Settings,
) -> Result<EntryPath> {
    let new = settings.new_directory();
    let path = settings.path()?;
    if settings.destination.ends_with('/') {
        view.make_directory(&path, new)?;
    } else if let Some(parent) = path.parent() {
        view.make_directory(&parent, new)?;
    }
    let destination = view.resolve(&path, true)?;
    let there = view.lookup(&destination)?;
    let into = !is_directory
        && there
            .as_ref()
            .is_some_and(|entry| entry.kind.is_directory());
    let target = if into {
        let bad = |_| Error::BadPath {
            path: String::from_utf8_lossy(name).into_owned(),
        };
        destination.join(name).map_err(bad)?
    } else {
        destination
    };
    if is_directory && there.is_none() {
        view.make_directory(&target, new)?;
    } else if let Some(parent) = target.parent() {
        view.make_directory(&parent, new)?;
    }
    Ok(target)
}

/// What happens to the metadata of a directory that exists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Keep,
    /// It takes the source's mode, and nothing else.
    TakeMode,
    Overwrite,
}

fn copy_tree(
    view: &mut View,
    target: &EntryPath,
    top: Found,
    below: Vec<Below>,
    settings: &Settings,
) -> Result<()> {
    // Names of one file stay so within a source, not between sources.
    let mut groups: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    copy_one(
        view,
        target.clone(),
        top,
        settings,
        Existing::Keep,
        &mut groups,
    )?;
    for Below { path, found, role } in below {
        let path = target.join(path.as_bytes()).map_err(|_| Error::BadPath {
            path: display(&path),
        })?;
        let existing = match role {
            Role::Wanted => Existing::Overwrite,
            Role::OnTheWay => Existing::TakeMode,
        };
        copy_one(view, path, found, settings, existing, &mut groups)?;
    }
    Ok(())
}

fn copy_one(
    view: &mut View,
    path: EntryPath,
    found: Found,
    settings: &Settings,
    existing: Existing,
    groups: &mut BTreeMap<(u64, u64), u64>,
) -> Result<()> {
    let there = view.lookup(&path)?;
    match (found.entry.kind.is_directory(), there) {
        (true, Some(there)) if !there.kind.is_directory() => {
            return Err(Error::DirectoryOverFile {
                path: display(&path),
            });
        }
        (true, Some(_)) if existing == Existing::Keep || path.is_root() => return Ok(()),
        (true, Some(mut there)) if existing == Existing::TakeMode => {
            there.mode = found.entry.mode;
            view.put(New::plain(there));
            return Ok(());
        }
        (false, Some(there)) if there.kind.is_directory() => {
            return Err(Error::FileOverDirectory {
                path: display(&path),
            });
        }
        _ => {}
    }
    let group = found
        .group
        .map(|group| *groups.entry(group).or_insert_with(|| view.new_group()));
    view.put(New {
        entry: settings.entry(found.entry, path),
        content: found.content,
        group,
    });
    Ok(())
}
