//! [`Dir`]: one open directory, and what can be done to one name in it.
//!
//! Every call takes a [`Name`], a single part of a path, and none follows a symbolic link in that
//! place. So nothing that is done here can reach outside the directory, whatever lies in it and
//! whoever changes it meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType as RawFileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use crate::{Error, Result};

use super::{EntryPath, MAX_PART_BYTES, Timestamp};

/// One part of a path: not empty, not `.` or `..`, no slash, no NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Checks that `bytes` are one part of a path.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let bad = matches!(bytes, b"" | b"." | b"..")
            || bytes.len() > MAX_PART_BYTES
            || bytes.iter().any(|byte| matches!(byte, b'/' | 0));
        (!bad).then_some(Self(bytes))
    }

    /// The last part of `path`; `None` for the root.
    pub fn of(path: &'a EntryPath) -> Option<Self> {
        path.file_name().map(Self)
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// What kind of thing a name is, as the disk says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A socket, or what we do not know.
    Socket,
}

/// What the disk says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its kind.
    pub file_type: FileType,
    /// Permission bits incl. setuid, setgid, sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last modification of its content.
    pub mtime: Timestamp,
    /// Last change of anything about it; cannot be set by its owner.
    pub ctime: Timestamp,
    /// The file system it is on.
    pub dev: u64,
    /// Its number there.
    pub ino: u64,
    /// How many names it has.
    pub nlink: u64,
    /// Major number, of a device.
    pub major: u32,
    /// Minor number, of a device.
    pub minor: u32,
}

impl Stat {
    #[expect(
        clippy::unnecessary_cast,
        reason = "the types of struct stat differ between architectures"
    )]
    fn from_raw(raw: &rustix::fs::Stat) -> Self {
        let nanoseconds = |value: u64| u32::try_from(value).unwrap_or(0);
        Self {
            file_type: match RawFileType::from_raw_mode(raw.st_mode) {
                RawFileType::Directory => FileType::Directory,
                RawFileType::RegularFile => FileType::File,
                RawFileType::Symlink => FileType::Symlink,
                RawFileType::Fifo => FileType::Fifo,
                RawFileType::CharacterDevice => FileType::CharDevice,
                RawFileType::BlockDevice => FileType::BlockDevice,
                _ => FileType::Socket,
            },
            mode: raw.st_mode & super::MODE_BITS,
            uid: raw.st_uid,
            gid: raw.st_gid,
            size: u64::try_from(raw.st_size).unwrap_or(0),
            mtime: Timestamp {
                seconds: raw.st_mtime as i64,
                nanoseconds: nanoseconds(raw.st_mtime_nsec as u64),
            },
            ctime: Timestamp {
                seconds: raw.st_ctime as i64,
                nanoseconds: nanoseconds(raw.st_ctime_nsec as u64),
            },
            dev: raw.st_dev as u64,
            ino: raw.st_ino as u64,
            nlink: raw.st_nlink as u64,
            major: rustix::fs::major(raw.st_rdev),
            minor: rustix::fs::minor(raw.st_rdev),
        }
    }

    /// Whether this is what overlayfs takes for a whiteout.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.file_type == FileType::CharDevice && (self.major, self.minor) == (0, 0)
    }
}

/// What [`Dir::make_node`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A named pipe.
    Fifo,
    /// A character device of this major and minor number.
    CharDevice(u32, u32),
    /// A block device of this major and minor number.
    BlockDevice(u32, u32),
}

/// The mark that overlayfs takes for a deleted name.
pub(crate) const WHITEOUT: Node = Node::CharDevice(0, 0);

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// Only for messages.
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    pub(super) fn from_fd(fd: OwnedFd, path: PathBuf) -> Self {
        Self { fd, path }
    }

    /// Where it was opened; for messages only.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error of an operation on a name in this directory.
    pub(super) fn error(
        &self,
        operation: &'static str,
        name: Name<'_>,
    ) -> impl FnOnce(Errno) -> Error {
        move |errno| {
            let path = self.path.join(OsStr::from_bytes(name.0));
            Error::io(operation, path)(errno.into())
        }
    }

    /// The error of an operation on this directory.
    pub(super) fn own_error(&self, operation: &'static str) -> impl FnOnce(Errno) -> Error {
        move |errno| Error::io(operation, &self.path)(errno.into())
    }

    /// A path by which the kernel finds `name` here with calls that have no `*at` form.
    pub(super) fn proc_path(&self, name: Name<'_>) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", self.fd.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.0);
        path
    }

    /// What the disk says of `name`; `None` when there is no such name.
    pub fn stat(&self, name: Name<'_>) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name.0, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(raw) => Ok(Some(Stat::from_raw(&raw))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("stat", name)(errno)),
        }
    }

    /// What the disk says of this directory itself.
    pub(crate) fn stat_self(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd)
            .map(|raw| Stat::from_raw(&raw))
            .map_err(self.own_error("stat"))
    }

    /// All names in it but `.` and `..`, sorted.
    pub fn read(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let entries = rustix::fs::Dir::read_from(&self.fd).map_err(self.own_error("read"))?;
        for entry in entries {
            let entry = entry.map_err(self.own_error("read"))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Opens a directory in it.
    pub(crate) fn open_dir(&self, name: Name<'_>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name.0, flags, Mode::empty())
            .map_err(self.error("open", name))?;
        Ok(Self::from_fd(fd, self.path.join(OsStr::from_bytes(name.0))))
    }

    /// Opens a regular file in it for reading. Never waits for the other end of a pipe; what is
    /// not a regular file is refused with `EINVAL`.
    pub fn open_file(&self, name: Name<'_>) -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name.0, flags, Mode::empty())
            .map_err(self.error("open", name))?;
        regular_file(fd).map_err(self.error("open", name))
    }

    /// Makes a file that was not there, open for writing, with mode 0600.
    pub fn create_file(&self, name: Name<'_>) -> Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.fd, name.0, flags, Mode::RUSR | Mode::WUSR)
            .map(File::from)
            .map_err(self.error("create", name))
    }

    /// Makes a directory that was not there, with mode 0700.
    pub fn create_dir(&self, name: Name<'_>) -> Result<()> {
        rustix::fs::mkdirat(&self.fd, name.0, Mode::RWXU)
            .map_err(self.error("create the directory", name))
    }

    /// Makes a symbolic link. Its text is not looked at.
    pub fn symlink(&self, target: &[u8], name: Name<'_>) -> Result<()> {
        rustix::fs::symlinkat(target, &self.fd, name.0)
            .map_err(self.error("create the symbolic link", name))
    }

    /// Makes `name` here another name of `other` in `directory`; a symbolic link there is itself
    /// linked, not followed.
    pub fn hard_link(&self, directory: &Self, other: Name<'_>, name: Name<'_>) -> Result<()> {
        rustix::fs::linkat(&directory.fd, other.0, &self.fd, name.0, AtFlags::empty())
            .map_err(self.error("create the hard link", name))
    }

    /// Makes a pipe or a device, with mode 0600. A whiteout is `Node::CharDevice(0, 0)`, which
    /// needs no privilege since Linux 5.8.
    pub(crate) fn make_node(&self, node: Node, name: Name<'_>) -> Result<()> {
        let (file_type, dev) = match node {
            Node::Fifo => (RawFileType::Fifo, 0),
            Node::CharDevice(major, minor) => (
                RawFileType::CharacterDevice,
                rustix::fs::makedev(major, minor),
            ),
            Node::BlockDevice(major, minor) => {
                (RawFileType::BlockDevice, rustix::fs::makedev(major, minor))
            }
        };
        rustix::fs::mknodat(&self.fd, name.0, file_type, Mode::RUSR | Mode::WUSR, dev)
            .map_err(self.error("create the special file", name))
    }

    /// The text of a symbolic link.
    pub fn read_link(&self, name: Name<'_>) -> Result<Vec<u8>> {
        rustix::fs::readlinkat(&self.fd, name.0, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(self.error("read the symbolic link", name))
    }

    /// Moves `from` here to `to` in `directory`, replacing a file there.
    pub fn rename(&self, from: Name<'_>, directory: &Self, to: Name<'_>) -> Result<()> {
        rustix::fs::renameat(&self.fd, from.0, &directory.fd, to.0)
            .map_err(self.error("rename", from))
    }

    /// Removes a name that is not a directory.
    pub fn unlink(&self, name: Name<'_>) -> Result<()> {
        rustix::fs::unlinkat(&self.fd, name.0, AtFlags::empty()).map_err(self.error("remove", name))
    }

    /// Sets the owner; of a symbolic link its own.
    ///
    /// Clears setuid, setgid and file capabilities, so it comes before mode and attributes.
    pub fn set_owner(&self, name: Name<'_>, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = raw_owner(uid, gid);
        rustix::fs::chownat(&self.fd, name.0, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.error("set the owner of", name))
    }

    /// Sets the mode; a symbolic link has none to set and is an error.
    pub fn set_mode(&self, name: Name<'_>, mode: u32) -> Result<()> {
        // fchmodat cannot but follow links before Linux 6.6, so the file is pinned first.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name.0, flags, Mode::empty())
            .map_err(self.error("open", name))?;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())
            .map_err(self.error("set the mode of", name))
    }

    /// Sets the time of last modification (and access); of a symbolic link its own.
    pub fn set_mtime(&self, name: Name<'_>, mtime: Timestamp) -> Result<()> {
        let times = raw_times(mtime);
        rustix::fs::utimensat(&self.fd, name.0, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(self.error("set the time of", name))
    }
}

/// `fd` as a file if it is a regular one.
pub(super) fn regular_file(fd: OwnedFd) -> Result<File, Errno> {
    let raw = rustix::fs::fstat(&fd)?;
    match RawFileType::from_raw_mode(raw.st_mode) {
        RawFileType::RegularFile => Ok(File::from(fd)),
        RawFileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn raw_owner(uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

pub(super) fn raw_times(mtime: Timestamp) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: i64::from(mtime.nanoseconds),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
