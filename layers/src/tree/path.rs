//! [`EntryPath`]: a path inside a tree, checked once and safe from then on.
//!
//! Whoever holds an `EntryPath` holds a relative path with no `.`, no `..`, no empty part and no
//! NUL, whose parts and whole length the kernel accepts. It is bytes, not text: file names on
//! Linux need not be UTF-8.
//!
//! The order is part by part, so that a directory is directly followed by everything below it
//! (`a`, `a/b`, `a.b`), which plain byte order does not give (`a`, `a.b`, `a/b`). Sorted lists rely
//! on it: the entries below a directory are one contiguous range.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest part of a path in bytes: Linux `NAME_MAX`, what every file system we write to allows.
pub const MAX_PART_BYTES: usize = 255;

/// Longest path in bytes: Linux `PATH_MAX` (4096) without the closing NUL.
pub const MAX_PATH_BYTES: usize = 4095;

/// A path inside a tree: relative, normalised, no `.`, no `..`, no empty part, no NUL; bytes, not
/// text. The tree's root itself is the empty path. Ordered part by part (`a/b` before `a.b`).
///
/// ```
/// use wythe_layers::tree::EntryPath;
/// let path = EntryPath::parse(b"./usr//bin/").unwrap();
/// assert_eq!(path.as_bytes(), b"usr/bin");
/// assert!(EntryPath::parse(b"usr/../../etc").is_none());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EntryPath(Vec<u8>);

/// Why bytes are not an [`EntryPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// A part is `..`.
    #[error("it contains \"..\"")]
    ParentPart,
    /// It contains a NUL byte.
    #[error("it contains a NUL byte")]
    Nul,
    /// A part is longer than [`MAX_PART_BYTES`].
    #[error("a part of it is longer than {MAX_PART_BYTES} bytes")]
    PartTooLong,
    /// The whole is longer than [`MAX_PATH_BYTES`].
    #[error("it is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
}

impl EntryPath {
    /// The tree's root.
    pub const ROOT: Self = Self(Vec::new());

    /// Parses and normalises (leading and doubled slashes and `.` vanish; `..`, NUL and what the
    /// kernel finds too long are refused). [`EntryPath::check`] says why.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::check(bytes).ok()
    }

    /// [`EntryPath::parse`] with a reason.
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn check(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        let mut normal = Vec::with_capacity(bytes.len().min(MAX_PATH_BYTES));
        for part in bytes.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => continue,
                b".." => return Err(PathError::ParentPart),
                _ if part.len() > MAX_PART_BYTES => return Err(PathError::PartTooLong),
                _ => {}
            }
            if !normal.is_empty() {
                normal.push(b'/');
            }
            normal.extend_from_slice(part);
            if normal.len() > MAX_PATH_BYTES {
                return Err(PathError::TooLong);
            }
        }
        Ok(Self(normal))
    }

    /// Takes bytes that are a path exactly as [`EntryPath::as_bytes`] gives it; `None` otherwise.
    pub(crate) fn from_normal(bytes: Vec<u8>) -> Option<Self> {
        let good = |part: &[u8]| {
            !matches!(part, b"" | b"." | b"..")
                && part.len() <= MAX_PART_BYTES
                && !part.contains(&0)
        };
        let normal = bytes.is_empty()
            || (bytes.len() <= MAX_PATH_BYTES && bytes.split(|&byte| byte == b'/').all(good));
        normal.then_some(Self(bytes))
    }

    /// The bytes, without a leading slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a relative path of the standard library; empty for the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Whether this is the tree's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts, outermost first; none for the root.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
    }

    /// How many parts there are.
    pub fn depth(&self) -> usize {
        self.parts().count()
    }

    /// The last part; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.split_last().map(|(_, name)| name)
    }

    /// The path without its last part; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        self.split_last().map(|(parent, _)| Self(parent.to_vec()))
    }

    /// The bytes of the parent, and the last part; `None` for the root.
    pub(crate) fn split_last(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        Some(match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[], &self.0[..]),
        })
    }

    /// This path with `tail` below it; `tail` may have several parts and is checked as by
    /// [`EntryPath::check`].
    ///
    /// # Errors
    /// See [`PathError`].
    pub fn join(&self, tail: &[u8]) -> Result<Self, PathError> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + tail.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(tail);
        Self::check(&bytes)
    }

    /// Whether this is `ancestor` or lies below it; by whole parts (`ab` does not start with `a`).
    pub fn starts_with(&self, ancestor: &Self) -> bool {
        self.tail_below(ancestor).is_some()
    }

    /// What of this path is below `ancestor` (empty when they are the same); `None` when it does
    /// not lie there.
    pub fn strip_prefix(&self, ancestor: &Self) -> Option<Self> {
        self.tail_below(ancestor).map(|tail| Self(tail.to_vec()))
    }

    /// [`EntryPath::strip_prefix`] without a copy.
    pub(crate) fn tail_below(&self, ancestor: &Self) -> Option<&[u8]> {
        if ancestor.is_root() {
            return Some(&self.0);
        }
        match self.0.strip_prefix(ancestor.as_bytes())? {
            b"" => Some(b""),
            tail => tail.strip_prefix(b"/"),
        }
    }

    /// All proper ancestors, from the root down to the parent.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        let inner = self
            .0
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'/')
            .map(|(at, _)| Self(self.0[..at].to_vec()));
        let root = (!self.is_root()).then_some(Self::ROOT);
        root.into_iter().chain(inner)
    }

    /// How many leading bytes two paths share.
    pub(crate) fn shared_prefix(&self, other: &Self) -> usize {
        // Most sorted paths share much, and this is most of what applying computes.
        const STRIDE: usize = 8;
        let strides = self
            .0
            .chunks_exact(STRIDE)
            .zip(other.0.chunks_exact(STRIDE));
        let whole = STRIDE * strides.take_while(|(left, right)| left == right).count();
        let rest = self.0.iter().zip(&other.0).skip(whole);
        whole + rest.take_while(|(left, right)| left == right).count()
    }
}

impl Ord for EntryPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // No part holds a NUL, so ranking the slash as one puts the end of a part before any byte.
        let rank = |byte: Option<&u8>| byte.map(|&byte| if byte == b'/' { 0 } else { byte });
        let at = self.shared_prefix(other);
        rank(self.0.get(at)).cmp(&rank(other.0.get(at)))
    }
}

impl PartialOrd for EntryPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Lossy: bytes that are not UTF-8 come out as U+FFFD; the root as `/`. For people.
impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            f.write_str("/")
        } else {
            f.write_str(&String::from_utf8_lossy(&self.0))
        }
    }
}

impl fmt::Debug for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl AsRef<Path> for EntryPath {
    fn as_ref(&self) -> &Path {
        self.as_path()
    }
}

/// A path with its `.`, `..` and empty parts taken away, as a process sees it whose root directory
/// is the tree: `..` stops there. The result is relative, but need not be an [`EntryPath`]: it may be
/// too long, or hold a NUL.
pub fn without_parents(bytes: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in bytes.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntryPath {
        EntryPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn parsing_normalises() {
        for (given, normal) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            (".", ""),
            ("a", "a"),
            ("/a", "a"),
            ("./a//b/", "a/b"),
            ("a/./b/.", "a/b"),
            ("...", "..."),
            ("..a/b..", "..a/b.."),
            (".wh.a", ".wh.a"),
        ] {
            assert_eq!(path(given).as_bytes(), normal.as_bytes(), "{given}");
            let taken = EntryPath::from_normal(given.as_bytes().to_vec());
            assert_eq!(taken.is_some(), given == normal, "{given}");
        }
    }

    #[test]
    fn what_leaves_the_root_or_the_kernel_refuses_is_refused() {
        let long_part = vec![b'x'; MAX_PART_BYTES + 1];
        let long_path = b"abcdefg/".repeat(MAX_PATH_BYTES / 8 + 2);
        for (given, why) in [
            (&b".."[..], PathError::ParentPart),
            (b"a/../b", PathError::ParentPart),
            (b"/..", PathError::ParentPart),
            (b"a/..", PathError::ParentPart),
            (b"a\0b", PathError::Nul),
            (&long_part, PathError::PartTooLong),
            (&long_path, PathError::TooLong),
        ] {
            assert_eq!(
                EntryPath::check(given),
                Err(why),
                "{}",
                given.escape_ascii()
            );
        }
        assert!(EntryPath::check(&vec![b'x'; MAX_PART_BYTES]).is_ok());
    }

    #[test]
    fn order_is_part_by_part() {
        let sorted = ["", "a", "a/b", "a/b/c", "a/b.c", "a-b", "a.b", "ab", "b"].map(path);
        for (i, left) in sorted.iter().enumerate() {
            for (j, right) in sorted.iter().enumerate() {
                assert_eq!(left.cmp(right), i.cmp(&j), "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn families_are_by_whole_parts() {
        assert!(path("a/b").starts_with(&path("a")));
        assert!(path("a").starts_with(&path("a")));
        assert!(path("a").starts_with(&EntryPath::ROOT));
        assert!(!path("ab").starts_with(&path("a")));
        assert!(!path("a").starts_with(&path("a/b")));
        assert_eq!(path("a/b/c").strip_prefix(&path("a")), Some(path("b/c")));
        assert_eq!(path("a/b").parent(), Some(path("a")));
        assert_eq!(path("a").parent(), Some(EntryPath::ROOT));
        assert_eq!(EntryPath::ROOT.parent(), None);
        assert_eq!(path("a/b").file_name(), Some(&b"b"[..]));
        assert_eq!(EntryPath::ROOT.file_name(), None);
        assert_eq!(
            path("a/b/c").parts().collect::<Vec<_>>(),
            [b"a", b"b", b"c"]
        );
        assert_eq!(EntryPath::ROOT.parts().count(), 0);
        assert_eq!(
            path("a/b/c").ancestors().collect::<Vec<_>>(),
            [path(""), path("a"), path("a/b")]
        );
        assert_eq!(EntryPath::ROOT.ancestors().count(), 0);
        assert_eq!(path("a").join(b"b/./c"), Ok(path("a/b/c")));
        assert_eq!(path("a").join(b"../c"), Err(PathError::ParentPart));
    }

    #[test]
    fn shown_for_people() {
        assert_eq!(path("").to_string(), "/");
        assert_eq!(EntryPath::parse(b"a\xff").unwrap().to_string(), "a\u{fffd}");
        assert_eq!(
            format!("{:?}", EntryPath::parse(b"a\xff\n").unwrap()),
            r#""a\xff\n""#
        );
    }

    #[test]
    fn parents_stop_at_the_root() {
        for (name, expected) in [
            ("a/../b", "b"),
            ("../../a", "a"),
            ("/..//./a/b/../..", ""),
            ("a/b/", "a/b"),
            ("..a/...", "..a/..."),
        ] {
            assert_eq!(without_parents(name.as_bytes()), expected.as_bytes());
        }
    }
}
