//! File locks: `flock` with a time limit, naming the holder where it can.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::temp::make_dir;
use crate::{Error, Result};

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Beside others that share it.
    Shared,
    /// Alone.
    Exclusive,
}

/// A held lock; released when dropped, and by the kernel when the process ends in any way.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    /// Takes the lock on the file `path`, made if it is not there; waits for `patience` at most.
    pub(crate) fn acquire(path: &Path, mode: Mode, patience: Duration) -> Result<Self> {
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
        };
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    make_dir(parent, 0o700)?;
                }
                open()
            }
            other => other,
        }
        .map_err(Error::write("open lock", path))?;
        let lock = Self {
            file,
            path: path.to_owned(),
        };
        lock.change(mode, patience)?;
        Ok(lock)
    }

    /// Takes a lock on what exists and may be read-only (a lock file, or a directory).
    pub(crate) fn acquire_existing(path: &Path, mode: Mode, patience: Duration) -> Result<Self> {
        let lock = Self {
            file: File::open(path).map_err(Error::io("open lock", path))?,
            path: path.to_owned(),
        };
        lock.change(mode, patience)?;
        Ok(lock)
    }

    /// Changes the mode. This is not atomic (flock(2)): another process may come between, and
    /// after an error nothing is held.
    pub(crate) fn change(&self, mode: Mode, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut pause = Duration::from_millis(1);
        loop {
            let tried = match mode {
                Mode::Shared => self.file.try_lock_shared(),
                Mode::Exclusive => self.file.try_lock(),
            };
            match tried {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => {
                    return Err(Error::io("lock", &self.path)(error));
                }
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(Error::Locked {
                        path: self.path.clone(),
                        holder: self.holder(),
                    });
                }
                Err(TryLockError::WouldBlock) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(50));
                }
            }
        }
        if mode == Mode::Exclusive {
            // For `holder`; only a convenience, so a failure (a directory, no space) is nothing.
            let _ = self.file.set_len(0);
            let _ = self
                .file
                .write_all_at(std::process::id().to_string().as_bytes(), 0);
        }
        Ok(())
    }

    /// Changes from exclusive to shared, so that others may share it.
    pub(crate) fn downgrade(&self, patience: Duration) -> Result<()> {
        let _ = self.file.set_len(0);
        self.change(Mode::Shared, patience)
    }

    /// Who held it exclusively last, as far as one can tell.
    fn holder(&self) -> String {
        let mut text = String::new();
        let read = File::open(&self.path).and_then(|file| file.take(20).read_to_string(&mut text));
        match (read, text.trim().parse::<u32>()) {
            (Ok(_), Ok(pid)) if pid != std::process::id() && process_lives(pid) => {
                format!("process {pid}")
            }
            _ => "another process".to_owned(),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Closing would not do: a child that another thread is just starting has a copy of the
        // descriptor until it executes, and would hold the lock until then.
        let _ = self.file.unlock();
    }
}

fn process_lives(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
