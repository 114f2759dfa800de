//! Extended attributes of files that are never followed.
//!
//! Files and directories are reached by descriptor. What cannot be opened without side effects
//! (links, pipes, devices) is reached as `/proc/self/fd/DIRECTORY/NAME`, where the first part is a
//! directory that we hold and the last is not followed.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::Result;

use super::dir::{Dir, Name};

/// Attributes by full name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Largest value of one attribute in bytes: Linux `XATTR_SIZE_MAX`.
pub const MAX_XATTR_BYTES: usize = 65536;

/// Largest list of names of one file in bytes: Linux `XATTR_LIST_MAX`.
pub const MAX_XATTR_LIST_BYTES: usize = 65536;

/// Bytes tried at first, before the kernel says that there are more.
const FIRST_BYTES: usize = 512;

#[derive(Clone, Copy)]
enum Target<'a> {
    Fd(BorrowedFd<'a>),
    Path(&'a [u8]),
}

impl Target<'_> {
    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Fd(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Path(path) => rustix::fs::llistxattr(path, buffer),
        }
    }

    fn get(self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Fd(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Path(path) => rustix::fs::lgetxattr(path, name, buffer),
        }
    }

    fn all(self) -> Result<Xattrs, Errno> {
        let names = match grow(MAX_XATTR_LIST_BYTES, |buffer| self.list(buffer)) {
            Ok(names) => names,
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Xattrs::new()),
            Err(errno) => return Err(errno),
        };
        let mut all = Xattrs::new();
        for name in names
            .split(|&byte| byte == 0)
            .filter(|name| !name.is_empty())
        {
            match grow(MAX_XATTR_BYTES, |buffer| self.get(name, buffer)) {
                Ok(value) => drop(all.insert(name.to_vec(), value)),
                // Gone since, or listed but not for us to read (trusted.* without privilege).
                Err(Errno::NODATA | Errno::PERM | Errno::NOTSUP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(all)
    }
}

fn grow(max: usize, read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut first = [0_u8; FIRST_BYTES];
    match read(&mut first) {
        Ok(length) => return Ok(first.get(..length).unwrap_or_default().to_vec()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut buffer = vec![0; max];
    let length = read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Sets an attribute of an open file.
pub(super) fn set_fd(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
}

impl Dir {
    /// All extended attributes of `name` that this process may read; none where the file system
    /// has no such thing.
    pub fn xattrs(&self, name: Name<'_>) -> Result<Xattrs> {
        Target::Path(&self.proc_path(name))
            .all()
            .map_err(self.error("read the extended attributes of", name))
    }

    /// All extended attributes of this directory itself.
    pub(crate) fn xattrs_self(&self) -> Result<Xattrs> {
        Target::Fd(self.as_fd())
            .all()
            .map_err(self.own_error("read the extended attributes of"))
    }

    /// Sets an attribute of `name`, which is not followed.
    pub(super) fn set_xattr_raw(
        &self,
        name: Name<'_>,
        attribute: &[u8],
        value: &[u8],
    ) -> Result<(), Errno> {
        rustix::fs::lsetxattr(self.proc_path(name), attribute, value, XattrFlags::empty())
    }
}
