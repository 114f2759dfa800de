//! Mounts as descriptors: made detached, adjusted, then attached to a place that is itself a
//! descriptor. No path of an image is ever given to a mount call.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::sys::{self, MountAttributes};

/// The three attributes that everything but a root file system gets.
pub(crate) const HARDENED: u64 =
    libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;

/// A new file system of this type, mounted nowhere yet.
pub(crate) fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    // Only a name to show in the mount table, but "none" helps nobody.
    fsconfig_set_string(&context, "source", kind)?;
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or(0));
    Ok(fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// A new tmpfs.
pub(crate) fn new_tmpfs(
    size_bytes: Option<u64>,
    mode: u32,
    attributes: u64,
) -> io::Result<OwnedFd> {
    let mode = format!("{mode:o}");
    let size = size_bytes.map(|bytes| bytes.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    new_filesystem("tmpfs", &options, attributes)
}

/// Gives the root of a mount the mode of another directory.
pub(crate) fn take_mode(mount: impl AsFd, like: impl AsFd) -> io::Result<()> {
    let mode = rustix::fs::fstat(like)?.st_mode;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(mount, ".", flags, Mode::empty())?;
    Ok(rustix::fs::fchmod(root, Mode::from_raw_mode(mode))?)
}

/// A copy of the tree at `path` (relative to `dir`; empty is `dir` itself) with everything mounted
/// below it, mounted nowhere yet and cut off from the propagation of the original.
pub(crate) fn clone_tree(dir: impl AsFd, path: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(dir, Path::new(path.as_ref()), flags)?;
    make_private(&mount)?;
    Ok(mount)
}

/// Cuts a detached mount, and all below it, off from the propagation of what it was copied from:
/// else what is attached inside it would appear outside.
pub(crate) fn make_private(mount: impl AsFd) -> io::Result<()> {
    let attributes = MountAttributes {
        propagation: libc::MS_PRIVATE,
        recursive: true,
        ..MountAttributes::default()
    };
    sys::mount_setattr(mount, attributes)
}

/// Adds attributes to a mount and all below it.
pub(crate) fn add_attributes(mount: impl AsFd, set: u64) -> io::Result<()> {
    sys::mount_setattr(
        mount,
        MountAttributes {
            set,
            recursive: true,
            ..MountAttributes::default()
        },
    )
}

/// Adds attributes to one mount.
pub(crate) fn add_attributes_here(mount: impl AsFd, set: u64) -> io::Result<()> {
    sys::mount_setattr(
        mount,
        MountAttributes {
            set,
            ..MountAttributes::default()
        },
    )
}

/// Takes off one mount what keeps the programs and devices of an image from the machine's users:
/// those who see it here are in the container.
pub(crate) fn trust(mount: impl AsFd) -> io::Result<()> {
    sys::mount_setattr(
        mount,
        MountAttributes {
            clear: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            ..MountAttributes::default()
        },
    )
}

/// Lets one mount be written.
pub(crate) fn make_writable_here(mount: impl AsFd) -> io::Result<()> {
    sys::mount_setattr(
        mount,
        MountAttributes {
            clear: libc::MOUNT_ATTR_RDONLY,
            ..MountAttributes::default()
        },
    )
}

/// Lets the device files of one mount be used, also to map memory that is executed.
pub(crate) fn enable_devices(mount: impl AsFd) -> io::Result<()> {
    sys::mount_setattr(
        mount,
        MountAttributes {
            clear: libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC,
            ..MountAttributes::default()
        },
    )
}

/// Attaches a detached mount to the place that `target` is a descriptor of.
pub(crate) fn attach(mount: impl AsFd, target: impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", target, "", flags)?)
}
