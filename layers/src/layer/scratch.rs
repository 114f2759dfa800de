//! Directories for work in progress: gone when dropped, and swept when their owner was killed.
//!
//! Every scratch directory is held by an exclusive `flock` on the directory itself, so whether its
//! owner lives needs no process ids and no extra file: a lock that can be had means rubbish. The
//! lock is close-on-exec; a container started from it does not hold it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::store::Store;
use crate::tree::{EntryPath, RootDir};
use crate::{Error, Result};

/// A private directory for work in progress.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    // Holds the lock; dropped after the directory was removed.
    _lock: OwnedFd,
}

impl Scratch {
    /// A new directory in the store's place for them.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn in_store(store: &Store) -> Result<Self> {
        Self::new(&parent(store))
    }

    /// A new directory below `parent`, which is made when it is not there.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        loop {
            let path = parent.join(unique_name());
            match fs::mkdir(&path, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => continue,
                Err(Errno::NOENT) => {
                    std::fs::create_dir_all(parent)
                        .map_err(Error::write("create directory", parent))?;
                    continue;
                }
                Err(errno) => return Err(Error::write("create directory", &path)(errno.into())),
            }
            if let Some(lock) = lock_new(&path)? {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "scratch directory is left for the next sweep");
        }
    }
}

/// Where a store's scratch directories are.
pub(crate) fn parent(store: &Store) -> PathBuf {
    store.root().join("snapshots")
}

/// Locks a directory just made; `None` when a sweeper was faster and took it for rubbish.
fn lock_new(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let lock = match fs::open(path, flags, Mode::empty()) {
        Ok(lock) => lock,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Error::io("open", path)(errno.into())),
    };
    match fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(Error::io("lock", path)(errno.into())),
    }
    let stat = fs::fstat(&lock).map_err(|errno| Error::io("stat", path)(errno.into()))?;
    Ok((stat.st_nlink > 0).then_some(lock))
}

/// Removes what killed processes left in a store. What cannot be removed (made in another
/// user namespace, say) stays for whoever can.
pub(crate) fn sweep(store: &Store) {
    sweep_in(&parent(store));
}

fn sweep_in(parent: &Path) {
    let Ok(children) = std::fs::read_dir(parent) else {
        return;
    };
    for child in children.flatten() {
        let path = child.path();
        if !child.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if let Ok(Some(_lock)) = lock_new(&path) {
            // `wythe mount` is gone while what it mounted stays; an overlay whose lower directory
            // is removed shows an empty root.
            if is_mounted(&child.file_name()) {
                continue;
            }
            match remove(&path) {
                Ok(()) => {
                    tracing::debug!(path = %path.display(), "removed a dead process's scratch")
                }
                Err(error) => {
                    tracing::debug!(path = %path.display(), %error, "cannot remove scratch")
                }
            }
        }
    }
}

/// Whether a mount that this process can see uses the scratch directory of this name.
fn is_mounted(name: &std::ffi::OsStr) -> bool {
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .windows(name.len())
        .any(|window| window == name.as_bytes())
}

/// 64 random bits: every `RandomState` is keyed anew.
fn unique_name() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

fn remove(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    match EntryPath::parse(name.as_bytes()) {
        Some(name) => RootDir::open(parent)?.remove_all(&name),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_dropped_scratch_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let parent = temp.path().join("not/yet/there");
        let scratch = Scratch::new(&parent).unwrap();
        let sealed = scratch.path().join("work/work");
        std::fs::create_dir_all(sealed.join("inner")).unwrap();
        std::fs::set_permissions(&sealed, Permissions::from_mode(0o000)).unwrap();
        drop(scratch);
        assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0);
    }

    #[test]
    fn sweeping_removes_dead_scratches_and_no_others() {
        let temp = tempfile::tempdir().unwrap();
        let alive = Scratch::new(temp.path()).unwrap();
        let dead = temp.path().join("0123456789abcdef");
        std::fs::create_dir_all(dead.join("upper/etc")).unwrap();
        sweep_in(temp.path());
        assert!(alive.path().exists());
        assert!(!dead.exists());
    }
}
