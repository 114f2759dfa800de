//! The marks by which overlayfs knows deletions, and how they are kept from being forged.
//!
//! A layer tree is mounted as an overlayfs lower directory as it is, so it carries overlayfs's own
//! marks: a character device 0/0 for a whiteout, `*.overlay.opaque` = `y` for an opaque directory
//! (kernel `filesystems/overlayfs.rst` §whiteouts and opaque directories). The marks of a mount by
//! real root are in `trusted.overlay.*`; of one in a user namespace (`userxattr`) in
//! `user.overlay.*`.
//!
//! An image that could set such attributes itself could redirect a directory to another one or
//! bring hidden files back. So **every attribute in either name space is dropped from what comes
//! in and from what goes out**; layers in the wild do carry some, left there by leaky tools, so
//! dropping and not refusing. A device 0/0 in an archive is refused: nobody has one by mistake.

use super::xattr::Xattrs;
use super::{Flavour, TreeError};
use crate::Result;

/// Where a real root's mounts keep their marks.
const TRUSTED: &[u8] = b"trusted.overlay.";
/// Where mounts in a user namespace keep theirs.
const USER: &[u8] = b"user.overlay.";

/// Whether an attribute belongs to overlayfs.
pub(crate) fn is_overlay_xattr(name: &[u8]) -> bool {
    name.starts_with(TRUSTED) || name.starts_with(USER)
}

/// Drops overlayfs's attributes; says how many there were.
pub(crate) fn strip(xattrs: &mut Xattrs) -> usize {
    let before = xattrs.len();
    xattrs.retain(|name, _| !is_overlay_xattr(name));
    before - xattrs.len()
}

/// The attribute that makes a directory opaque.
pub(super) fn opaque_xattr(flavour: Flavour) -> &'static [u8] {
    match flavour {
        Flavour::Root => b"trusted.overlay.opaque",
        Flavour::SubIds | Flavour::SingleId => b"user.overlay.opaque",
    }
}

/// What overlayfs says about a file or directory of an upper directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The lower directories of this name are hidden.
    pub(super) opaque: bool,
    /// A regular file stands for a whiteout (Linux 6.7; where no device 0/0 can be made).
    pub(super) whiteout: bool,
}

/// Reads overlayfs's marks from `xattrs` and drops them.
///
/// # Errors
/// Marks of features that our mount options rule out: the directory does not hold what the mount
/// showed.
pub(super) fn take(
    xattrs: &mut Xattrs,
    flavour: Flavour,
    path: &super::EntryPath,
) -> Result<Marks> {
    let prefix = match flavour {
        Flavour::Root => TRUSTED,
        Flavour::SubIds | Flavour::SingleId => USER,
    };
    let mut marks = Marks::default();
    for (name, value) in xattrs.iter() {
        match name.strip_prefix(prefix) {
            // `x` only says that whiteouts of the other form may be inside.
            Some(b"opaque") => marks.opaque = value == b"y",
            Some(b"whiteout") => marks.whiteout = true,
            Some(b"redirect") => return Err(unwanted(path, "redirect")),
            Some(b"metacopy") => return Err(unwanted(path, "metacopy")),
            _ => {}
        }
    }
    strip(xattrs);
    Ok(marks)
}

fn unwanted(path: &super::EntryPath, mark: &'static str) -> crate::Error {
    let path = path.clone();
    TreeError::OverlayMark { path, mark }.into()
}
