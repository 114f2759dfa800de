//! The disk's side of applying: makes exactly what it is told, with as few system calls as it can.
//!
//! An archive lists a directory's files one after the other, so the last few directories stay
//! open and most files cost: create, write, mode, time, close. Owners are set only where they
//! differ from what new files get anyway.

use std::os::fd::AsFd;

use rustix::fs::Mode;
use rustix::io::Errno;
use tracing::debug;

use crate::spec::Digest;
use crate::{Error, Result};

use super::super::dir::{Dir, Name, Node, WHITEOUT, raw_owner, raw_times};
use super::super::overlay_marks::opaque_xattr;
use super::super::{Entry, EntryKind, EntryPath, Flavour, RootDir, xattr};
use super::content::{Content, Copier};
use super::{ApplyStatistics, ContentDigests};

/// Directories kept open.
const MAX_OPEN_DIRS: usize = 32;

/// What the owner needs on disk to read a file back; see the flavours' table.
pub(crate) const OWNER_FILE_BITS: u32 = 0o400;

/// What the owner needs on disk to enter, list and empty a directory.
pub(crate) const OWNER_DIR_BITS: u32 = 0o700;

#[derive(Debug)]
pub(crate) struct Disk {
    pub(super) root: RootDir,
    flavour: Flavour,
    /// The last directories used, each below the one before it.
    open: Vec<(EntryPath, Dir)>,
    /// Who new files belong to, once one has been made.
    new_owner: Option<(u32, u32)>,
    pub(super) copier: Copier,
    pub(super) statistics: ApplyStatistics,
}

impl Disk {
    pub(crate) fn new(root: RootDir, flavour: Flavour) -> Result<Self> {
        let top = root.open_dir(&EntryPath::ROOT)?;
        // A setgid root would hand its group down to everything made below.
        rustix::fs::fchmod(top.as_fd(), Mode::RWXU).map_err(top.own_error("set the mode of"))?;
        Ok(Self {
            root,
            flavour,
            open: Vec::new(),
            new_owner: None,
            copier: Copier::new(),
            statistics: ApplyStatistics::default(),
        })
    }

    pub(super) fn statistics(&self) -> ApplyStatistics {
        self.statistics
    }

    /// Whether such a thing is on disk in this flavour, or only in the list.
    pub(super) fn holds(&self, kind: &EntryKind) -> bool {
        self.flavour == Flavour::Root || !kind.is_device()
    }

    /// The open directory at `path`.
    fn dir(&mut self, path: &EntryPath) -> Result<&Dir> {
        while self
            .open
            .last()
            .is_some_and(|(open, _)| !path.starts_with(open))
        {
            self.open.pop();
        }
        if self.open.last().is_none_or(|(open, _)| open != path) {
            let dir = match self.open.last() {
                Some((above, dir)) => {
                    let tail = path.tail_below(above).unwrap_or_default();
                    self.root.open_dir_below(dir.as_fd(), tail, path)?
                }
                None => self.root.open_dir(path)?,
            };
            if self.open.len() >= MAX_OPEN_DIRS {
                self.open.remove(0);
            }
            self.open.push((path.clone(), dir));
        }
        match self.open.last() {
            Some((_, dir)) => Ok(dir),
            None => Err(Error::io("open", path)(Errno::NOENT.into())),
        }
    }

    fn parent<'p>(&mut self, path: &'p EntryPath) -> Result<(&Dir, Name<'p>)> {
        let (Some(parent), Some(name)) = (path.parent(), Name::of(path)) else {
            return Err(Error::io("replace", self.root.path())(Errno::BUSY.into()));
        };
        Ok((self.dir(&parent)?, name))
    }

    /// Forgets open directories at and below `path`.
    fn forget(&mut self, path: &EntryPath) {
        self.open.retain(|(open, _)| !open.starts_with(path));
    }

    pub(super) fn remove(&mut self, path: &EntryPath) -> Result<()> {
        self.forget(path);
        let (dir, name) = self.parent(path)?;
        dir.remove_all(name)
    }

    pub(super) fn whiteout(&mut self, path: &EntryPath) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        let result = dir.make_node(WHITEOUT, name);
        self.mark_result(result)
    }

    /// A mark that the disk under the tree will not hold stays in the list only. So it is where
    /// the tree itself lies on an overlay mount, whose own marks these are.
    fn mark_result(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Err(Error::Io { path, source, .. })
                if matches!(
                    Errno::from_io_error(&source),
                    Some(Errno::PERM | Errno::NOTSUP)
                ) =>
            {
                debug!(path = %path.display(), %source, "overlay mark cannot be made");
                self.statistics.unmade_marks += 1;
                Ok(())
            }
            result => result,
        }
    }

    /// Makes a directory; its metadata comes with [`Disk::finish_directory`].
    pub(super) fn directory(&mut self, path: &EntryPath) -> Result<()> {
        let (dir, name) = self.parent(path)?;
        dir.create_dir(name)
    }

    pub(super) fn hard_link(&mut self, target: &EntryPath, path: &EntryPath) -> Result<()> {
        // Two directories at once, so the cache cannot lend both.
        let Some((target_dir, target_name)) = self.root.open_parent(target)? else {
            return Err(Error::io("link", self.root.path())(Errno::BUSY.into()));
        };
        let (dir, name) = self.parent(path)?;
        dir.hard_link(&target_dir, target_name, name)
    }

    /// Makes anything that is neither a directory, nor a link, nor a mark.
    pub(super) fn file(
        &mut self,
        entry: &Entry,
        content: Content<'_>,
        digests: ContentDigests,
    ) -> Result<Option<Digest>> {
        match &entry.kind {
            EntryKind::File { size } => return self.regular(entry, *size, content, digests),
            EntryKind::Symlink { target } => {
                let (dir, name) = self.parent(&entry.path)?;
                dir.symlink(target, name)?;
                self.finish_special(entry)?;
            }
            EntryKind::Fifo => self.node(entry, Node::Fifo)?,
            EntryKind::CharDevice { major, minor } => {
                self.node(entry, Node::CharDevice(*major, *minor))?;
            }
            EntryKind::BlockDevice { major, minor } => {
                self.node(entry, Node::BlockDevice(*major, *minor))?;
            }
            EntryKind::Directory
            | EntryKind::HardLink { .. }
            | EntryKind::Whiteout
            | EntryKind::OpaqueDirectory => {}
        }
        Ok(None)
    }

    fn regular(
        &mut self,
        entry: &Entry,
        size: u64,
        content: Content<'_>,
        digests: ContentDigests,
    ) -> Result<Option<Digest>> {
        let (dir, name) = self.parent(&entry.path)?;
        let file = dir.create_file(name)?;
        let digest = self.copy(entry, size, content, &file, digests)?;
        let path = self.root.path().join(&entry.path);
        let error = |operation| {
            let path = &path;
            move |errno: Errno| Error::io(operation, path)(errno.into())
        };
        let stat = || {
            let raw = rustix::fs::fstat(&file).map_err(error("stat"))?;
            Ok((raw.st_uid, raw.st_gid))
        };
        if self.wants_owner(entry, stat)? {
            let (uid, gid) = raw_owner(entry.uid, entry.gid);
            let result = rustix::fs::fchown(&file, uid, gid);
            self.owner_result(result.map_err(error("set the owner of")))?;
        }
        // Before the mode: without write permission an ordinary user may set no attributes.
        for (attribute, value) in &entry.xattrs {
            let result = xattr::set_fd(file.as_fd(), attribute, value);
            self.xattr_result(attribute, result)
                .map_err(error("set an extended attribute of"))?;
        }
        let mode = match self.flavour {
            Flavour::SingleId => entry.mode | OWNER_FILE_BITS,
            Flavour::Root | Flavour::SubIds => entry.mode,
        };
        if mode != 0o600 {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))
                .map_err(error("set the mode of"))?;
        }
        rustix::fs::futimens(&file, &raw_times(entry.mtime)).map_err(error("set the time of"))?;
        Ok(digest)
    }

    fn node(&mut self, entry: &Entry, node: Node) -> Result<()> {
        if !self.holds(&entry.kind) {
            self.statistics.only_listed += 1;
            return Ok(());
        }
        let (dir, name) = self.parent(&entry.path)?;
        dir.make_node(node, name)?;
        self.finish_special(entry)
    }

    /// Metadata of what is not opened: links, pipes, devices.
    fn finish_special(&mut self, entry: &Entry) -> Result<()> {
        let (parent, name) = self.parent(&entry.path)?;
        // Borrowed from the cache no longer than a call; a duplicate keeps the borrow checker out
        // of the way for one cheap system call on a rare kind of entry.
        let fd = parent
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| Error::io("open", parent.path())(source))?;
        let dir = Dir::from_fd(fd, parent.path().to_owned());
        let stat = || match dir.stat(name)? {
            Some(stat) => Ok((stat.uid, stat.gid)),
            None => Err(dir.error("stat", name)(Errno::NOENT)),
        };
        if self.wants_owner(entry, stat)? {
            self.owner_result(dir.set_owner(name, entry.uid, entry.gid))?;
        }
        for (attribute, value) in &entry.xattrs {
            let result = dir.set_xattr_raw(name, attribute, value);
            self.xattr_result(attribute, result)
                .map_err(dir.error("set an extended attribute of", name))?;
        }
        if !matches!(entry.kind, EntryKind::Symlink { .. }) && entry.mode != 0o600 {
            dir.set_mode(name, entry.mode)?;
        }
        dir.set_mtime(name, entry.mtime)
    }

    /// Gives a directory its metadata, once nothing more will be put into it.
    pub(crate) fn finish_directory(
        &mut self,
        path: &EntryPath,
        entry: &Entry,
        hides_lower: bool,
    ) -> Result<()> {
        self.open.clear();
        let dir = self.root.open_dir(path)?;
        let stat = || dir.stat_self().map(|stat| (stat.uid, stat.gid));
        if self.wants_owner(entry, stat)? {
            let (uid, gid) = raw_owner(entry.uid, entry.gid);
            let result = rustix::fs::fchown(dir.as_fd(), uid, gid);
            self.owner_result(result.map_err(dir.own_error("set the owner of")))?;
        }
        for (attribute, value) in &entry.xattrs {
            let result = xattr::set_fd(dir.as_fd(), attribute, value);
            self.xattr_result(attribute, result)
                .map_err(dir.own_error("set an extended attribute of"))?;
        }
        if hides_lower {
            let result = xattr::set_fd(dir.as_fd(), opaque_xattr(self.flavour), b"y");
            self.mark_result(result.map_err(dir.own_error("mark as opaque")))?;
        }
        let mode = match self.flavour {
            Flavour::SingleId => entry.mode | OWNER_DIR_BITS,
            Flavour::Root | Flavour::SubIds => entry.mode,
        };
        if mode != 0o700 {
            rustix::fs::fchmod(dir.as_fd(), Mode::from_raw_mode(mode))
                .map_err(dir.own_error("set the mode of"))?;
        }
        rustix::fs::futimens(dir.as_fd(), &raw_times(entry.mtime))
            .map_err(dir.own_error("set the time of"))
    }

    /// Whether the owner has to be set: the flavour does so, and new files do not have it anyway.
    fn wants_owner(
        &mut self,
        entry: &Entry,
        stat: impl FnOnce() -> Result<(u32, u32)>,
    ) -> Result<bool> {
        if self.flavour == Flavour::SingleId {
            return Ok(false);
        }
        let new_owner = match self.new_owner {
            Some(owner) => owner,
            // Asked of the disk and not of the process: mount options have a say in it.
            None => *self.new_owner.insert(stat()?),
        };
        Ok(new_owner != (entry.uid, entry.gid))
    }

    /// An id that a user namespace does not map (`EINVAL`) stays in the list only.
    fn owner_result(&mut self, result: Result<()>) -> Result<()> {
        match result {
            Err(Error::Io { path, source, .. })
                if self.flavour == Flavour::SubIds
                    && source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) =>
            {
                debug!(path = %path.display(), "owner is not mapped here; kept in the list only");
                self.statistics.only_listed += 1;
                Ok(())
            }
            result => result,
        }
    }

    /// What the kernel or the file system will not hold stays in the list only; but real root
    /// losing a security attribute (file capabilities) for want of permission is an error.
    fn xattr_result(&mut self, name: &[u8], result: Result<(), Errno>) -> Result<(), Errno> {
        match result {
            Err(Errno::PERM | Errno::ACCESS)
                if self.flavour == Flavour::Root && name.starts_with(b"security.") =>
            {
                result
            }
            // EINVAL: a value of security.* or system.* that is not valid in this namespace.
            Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL) => {
                let name = name.escape_ascii();
                debug!(%name, "extended attribute cannot be set; kept in the list only");
                self.statistics.only_listed += 1;
                Ok(())
            }
            result => result,
        }
    }
}

/// Whether the kernel has room for such a device number: 12 bits and 20 bits.
pub(super) fn is_device_number(major: u32, minor: u32) -> bool {
    major < 1 << 12 && minor < 1 << 20
}
