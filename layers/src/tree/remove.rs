//! Removing trees that anyone may have made: any depth, any modes, links anywhere.
//!
//! No symbolic link is followed and no mount point is crossed. Depth costs neither stack nor
//! descriptors without limit: what lies too deep is first moved up. Containers make paths far
//! longer than any path the kernel takes, so this happens.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use crate::{Error, Result};

use super::dir::{Dir, FileType, Name};

/// Directories held open at once.
const MAX_DEPTH: usize = 64;

impl Dir {
    /// Removes a name and everything below it. No such name is fine.
    pub(crate) fn remove_all(&self, name: Name<'_>) -> Result<()> {
        let Some(stat) = self.stat(name)? else {
            return Ok(());
        };
        if stat.file_type != FileType::Directory {
            return self.unlink(name);
        }
        let child = open_to_remove(self, name)?;
        empty(&child)?;
        remove_empty(self, name)
    }
}

/// Removes everything in `dir`, which stays.
pub(super) fn empty(dir: &Dir) -> Result<()> {
    let device = dir.stat_self()?.dev;
    let mut moved = 0_u64;
    empty_below(dir, dir, device, 0, &mut moved)?;
    // What was moved up has come after the listing, so it is listed again until nothing is left.
    while moved > 0 {
        moved = 0;
        empty_below(dir, dir, device, 0, &mut moved)?;
    }
    Ok(())
}

fn empty_below(top: &Dir, dir: &Dir, device: u64, depth: usize, moved: &mut u64) -> Result<()> {
    for bytes in dir.read()? {
        let Some(name) = Name::new(&bytes) else {
            return Err(dir.own_error("read")(Errno::INVAL));
        };
        match rustix::fs::unlinkat(dir.as_fd(), bytes.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            // What unlink says of directories: Linux EISDIR, POSIX EPERM.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(dir.error("remove", name)(errno)),
        }
        if depth >= MAX_DEPTH {
            move_up(top, dir, name, moved)?;
            continue;
        }
        let child = open_to_remove(dir, name)?;
        if child.stat_self()?.dev != device {
            return Err(dir.error("remove", name)(Errno::XDEV));
        }
        empty_below(top, &child, device, depth + 1, moved)?;
        remove_empty(dir, name)?;
    }
    Ok(())
}

/// Moves the directory `name` from deep below `top` right into it, under a name that is free.
fn move_up(top: &Dir, dir: &Dir, name: Name<'_>, moved: &mut u64) -> Result<()> {
    // Moving a directory changes its `..`, for which the kernel wants write permission.
    drop(open_to_remove(dir, name)?);
    loop {
        *moved += 1;
        let free = format!(".wythe-remove-{moved}");
        let Some(free) = Name::new(free.as_bytes()) else {
            return Err(top.own_error("rename")(Errno::INVAL));
        };
        if top.stat(free)?.is_none() {
            return dir.rename(name, top, free);
        }
    }
}

/// Opens a directory so that its content can be removed: an ordinary owner may have to give
/// themselves the permission first.
fn open_to_remove(dir: &Dir, name: Name<'_>) -> Result<Dir> {
    let child = match dir.open_dir(name) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            dir.set_mode(name, 0o700)?;
            dir.open_dir(name)?
        }
        other => other?,
    };
    let stat = child.stat_self()?;
    if stat.mode & 0o700 != 0o700 {
        // Root needs no permission and may not be allowed to change it; if it was needed, the
        // removal itself says so.
        let _ = rustix::fs::fchmod(child.as_fd(), Mode::RWXU);
    }
    Ok(child)
}

fn remove_empty(dir: &Dir, name: Name<'_>) -> Result<()> {
    match rustix::fs::unlinkat(dir.as_fd(), name.as_bytes(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // Only when something was moved up into `dir` itself, or someone else writes there.
        Err(errno) => Err(dir.error("remove", name)(errno)),
    }
}
