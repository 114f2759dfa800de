//! The two places that files are read from: a context, and the layers of a stage or image.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use wythe_layers::layer::LayerStack;
use wythe_layers::tree::{Entry, EntryKind, EntryPath};

use super::Found;
use crate::context::{Context, Item, ItemKind};
use crate::path::display;
use crate::view::Content;
use crate::{Error, Result};

/// Where files are read from.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Context(Arc<Context>),
    /// All layers of a stage or image, and what to call it.
    Layers(Arc<LayerStack>, String),
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

    /// What is at exactly this path, no link followed.
    pub(super) fn entry(&self, path: &EntryPath) -> Result<Option<Found>> {
        match self {
            Self::Context(context) => match context.entry(path)? {
                Some(item) => from_item(context, &item, Special::Skip),
                None => Ok(None),
            },
            Self::Layers(stack, _) => {
                let found = stack.lookup(path)?;
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
    pub(super) fn below(&self, top: &EntryPath) -> Result<Vec<(EntryPath, Found)>> {
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

    pub(super) fn missing(&self, text: &str, path: &EntryPath) -> Error {
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
        ItemKind::Fifo => EntryKind::Fifo,
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
