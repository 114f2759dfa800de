//! Symbolic links within a stack: followed as a process would whose root directory it is.

use super::merged::{Child, Found, Merged, join};
use super::stack::LayerStack;
use crate::Result;
use crate::tree::{Entry, EntryKind, EntryPath};

/// Symlinks followed in one resolution, as the kernel does (`MAXSYMLINKS` in `linux/namei.h`).
const MAX_LINKS: usize = 40;

impl LayerStack {
    /// Resolves symlinks inside the merged view as chroot would (absolute ones start at its root,
    /// `..` stops there, 40 links at most). The result's last parts may not exist.
    /// `follow_last`: whether a symlink in last place is followed too.
    ///
    /// # Errors
    /// [`crate::Error::TooManyLinks`] for a loop; when a tree cannot be read.
    pub fn resolve(&self, path: &EntryPath, follow_last: bool) -> Result<EntryPath> {
        let mut resolution = Resolution {
            stack: self,
            directories: vec![self.merged_root()?],
            missing: Vec::new(),
            links: 0,
        };
        let mut pending: Vec<Vec<u8>> = parts_reversed(path.as_bytes());
        while let Some(part) = pending.pop() {
            let follow = follow_last || !pending.is_empty();
            if let Some(target) = resolution.enter(&part, follow)? {
                if resolution.links > MAX_LINKS {
                    return Err(crate::Error::TooManyLinks { path: path.clone() });
                }
                pending.extend(parts_reversed(&target));
            }
        }
        resolution.result()
    }
}

/// A symlink resolution under way.
struct Resolution<'a> {
    stack: &'a LayerStack,
    // From the root to where it stands; never empty.
    directories: Vec<Merged>,
    // Parts after the last directory that exists.
    missing: Vec<Vec<u8>>,
    links: usize,
}

impl Resolution<'_> {
    /// Takes one part; gives the text of a symlink that is to be followed in its place.
    fn enter(&mut self, part: &[u8], follow: bool) -> Result<Option<Vec<u8>>> {
        if part == b".." {
            if self.missing.pop().is_none() && self.directories.len() > 1 {
                self.directories.pop();
            }
            return Ok(None);
        }
        let child = match self.directories.last() {
            Some(here) if self.missing.is_empty() => self.stack.child(here, part)?,
            _ => None,
        };
        match child {
            Some(Child::Directory { merged, .. }) => self.directories.push(merged),
            Some(Child::Other(Found {
                entry:
                    Entry {
                        kind: EntryKind::Symlink { target },
                        ..
                    },
                ..
            })) if follow => {
                self.links += 1;
                if target.first() == Some(&b'/') {
                    self.directories.truncate(1);
                }
                return Ok(Some(target));
            }
            _ => self.missing.push(part.to_owned()),
        }
        Ok(None)
    }

    fn result(self) -> Result<EntryPath> {
        let mut path = match self.directories.last() {
            Some(here) => here.path.clone(),
            None => EntryPath::ROOT,
        };
        for part in &self.missing {
            path = join(&path, part)?;
        }
        Ok(path)
    }
}

/// The parts of a path or a link's text, last first; `.` and empty ones are none.
fn parts_reversed(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_owned)
        .rev()
        .collect()
}
