//! Temporary files that become real ones by rename, and never stay behind.
//!
//! Each is held under an exclusive `flock` by its owner from before its first byte until it is
//! renamed or dropped. So whoever can get the lock knows that the owner is gone (also after
//! `kill -9`, also when its process id lives again) and may remove the file.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Names of temporary files begin so; what has another name is never touched.
pub(crate) const PREFIX: &str = ".wythe-";

/// Attempts to find a free name; each is random, so more than one is a curiosity.
const NAME_ATTEMPTS: u32 = 16;

/// Whether a write must outlive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// fsync the file before the rename and its directory after it.
    Durable,
    /// Atomic only: after a loss of power the file may be missing or torn. For what can be made again.
    Cache,
}

/// A file that is being written and has no name yet that anybody looks for.
#[derive(Debug)]
pub(crate) struct TempFile {
    file: File,
    path: PathBuf,
    published: bool,
}

impl TempFile {
    /// A new file in `dir`, which is made if it is not there.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        for _ in 0..NAME_ATTEMPTS {
            // RandomState is seeded from the system once a thread and stepped for every instance.
            let number = RandomState::new().hash_one(std::process::id());
            let path = dir.join(format!("{PREFIX}{}-{number:016x}", std::process::id()));
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path);
            let file = match opened {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    make_dir(dir, 0o700)?;
                    continue;
                }
                Err(error) => return Err(Error::write("create", &path)(error)),
            };
            let temp = Self {
                file,
                path,
                published: false,
            };
            if temp.claim()? {
                return Ok(temp);
            }
        }
        Err(Error::write("create a file in", dir)(io::Error::from(
            io::ErrorKind::AlreadyExists,
        )))
    }

    /// Takes the lock; `false` when a cleaner was faster, which then removes the file.
    fn claim(&self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(false),
            // Without flock nothing is ever taken for stale either, so this is safe.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(true);
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &self.path)(error)),
        }
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|errno| Error::io("stat", &self.path)(errno.into()))?;
        Ok(stat.st_nlink > 0)
    }

    /// The file, to write to or read back.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Where it is for now; for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its real name, replacing what has that name.
    pub(crate) fn publish(mut self, target: &Path, durability: Durability) -> Result<()> {
        if durability == Durability::Durable {
            self.file
                .sync_data()
                .map_err(Error::write("sync", &self.path))?;
        }
        let renamed = match std::fs::rename(&self.path, target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = target.parent() {
                    make_dir(parent, 0o700)?;
                }
                std::fs::rename(&self.path, target)
            }
            other => other,
        };
        renamed.map_err(Error::write("rename into place", target))?;
        self.published = true;
        match target.parent() {
            Some(parent) if durability == Durability::Durable => sync_dir(parent),
            _ => Ok(()),
        }
    }
}

impl Write for TempFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.published {
            // Nothing to do about an error: the next cleaner tries again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes a directory and its parents, with `mode` for those that are new.
pub(crate) fn make_dir(dir: &Path, mode: u32) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(Error::write("create directory", dir))
}

/// Makes a rename or a removal in `dir` outlive a loss of power.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(Error::io("sync directory", dir))
}

/// Writes a whole file atomically; `temp_dir` must be on the same file system as `target`.
pub(crate) fn write_file(
    temp_dir: &Path,
    target: &Path,
    bytes: &[u8],
    durability: Durability,
) -> Result<()> {
    let mut temp = TempFile::create(temp_dir)?;
    temp.write_all(bytes)
        .map_err(Error::write("write", temp.path()))?;
    temp.publish(target, durability)
}

/// Removes the temporary files in `dir` whose owners are gone; returns how many. What cannot be
/// removed (a read-only disk, somebody else's file) stays, without an error.
pub(crate) fn remove_stale(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let removed = entries
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes())
        })
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter(|entry| {
            let path = entry.path();
            let is_stale = File::open(&path).is_ok_and(|file| {
                // Kept until after the removal, so that an owner that is just being born sees it.
                file.try_lock().is_ok() && std::fs::remove_file(&path).is_ok()
            });
            if is_stale {
                tracing::debug!(path = %path.display(), "removed what a dead process left");
            }
            is_stale
        })
        .count();
    removed as u64
}
