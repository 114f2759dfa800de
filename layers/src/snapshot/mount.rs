//! One overlay mount, made with whatever interface the running kernel has, attached nowhere.
//!
//! | kernel | layers are given |
//! | --- | --- |
//! | 6.13 and later | `fsconfig` `lowerdir+`, one by one, by descriptor |
//! | 6.8 and later | `fsconfig` `lowerdir+`, one by one, as `/proc/self/fd/N` |
//! | 5.11 and later | one option string to `mount(2)`, of `/proc/self/fd/N`, then cloned off |
//!
//! The first two have no limit but the kernel's own (500 layers). The option string is a page,
//! which holds some 200 such names whatever the length of the store's path.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};

use crate::{Error, Result};

/// What to mount.
#[derive(Debug)]
pub(super) struct Overlay {
    /// Lower directories, the top one first; at least one, at least two without an upper.
    pub(super) lowers: Vec<PathBuf>,
    /// Where changes go; without it the mount is read-only, and its set-user-ID programs and
    /// devices are files like any other: it may be seen by others than the container's own.
    pub(super) upper: Option<Upper>,
    /// Marks in `user.overlay.*`, which is all that a user namespace may set.
    pub(super) user_xattr: bool,
}

/// The writable side.
#[derive(Debug)]
pub(super) struct Upper {
    /// The directory that receives changes.
    pub(super) upper: PathBuf,
    /// An empty directory beside it, for the kernel.
    pub(super) work: PathBuf,
}

/// How layers are handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interface {
    /// `fsconfig` with descriptors.
    Descriptors,
    /// `fsconfig` with `/proc/self/fd/N`.
    Names,
    /// `mount(2)` with one option string.
    OptionString,
}

impl Interface {
    /// Best first.
    pub(super) const ALL: [Self; 3] = [Self::Descriptors, Self::Names, Self::OptionString];
}

impl Overlay {
    /// Mounts through the best interface from `first` on, and says which it was. `spare` is a
    /// name for a directory that the oldest one needs for a moment.
    pub(super) fn mount(&self, first: Interface, spare: &Path) -> Result<(OwnedFd, Interface)> {
        let mut refusal = None;
        for interface in Interface::ALL {
            if interface < first {
                continue;
            }
            let outcome = match interface {
                Interface::Descriptors | Interface::Names => self.mount_with_fsconfig(interface),
                Interface::OptionString => self.mount_with_option_string(spare),
            };
            match outcome {
                Ok(mount) => return Ok((mount, interface)),
                // The first refusal is the one that speaks of this kernel's own ways.
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        let source = refusal.unwrap_or_else(|| io::ErrorKind::Unsupported.into());
        Err(Error::io("mount an overlay of", self.subject())(source))
    }

    /// What an error names.
    fn subject(&self) -> &Path {
        match &self.upper {
            Some(upper) => &upper.upper,
            None => self.lowers.first().map_or(Path::new("/"), PathBuf::as_path),
        }
    }

    fn mount_with_fsconfig(&self, interface: Interface) -> io::Result<OwnedFd> {
        let context = rustix::mount::fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        self.configure(&context, interface)
            .map_err(|errno| with_kernel_message(&context, errno))?;
        let attributes = match self.upper {
            Some(_) => MountAttrFlags::empty(),
            None => {
                MountAttrFlags::MOUNT_ATTR_RDONLY
                    | MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
            }
        };
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| with_kernel_message(&context, errno))
    }

    fn configure(&self, context: &OwnedFd, interface: Interface) -> rustix::io::Result<()> {
        use rustix::mount::{fsconfig_create, fsconfig_set_flag, fsconfig_set_string};

        // What `mount` shows as the device.
        fsconfig_set_string(context, c"source", c"wythe")?;
        for lower in &self.lowers {
            set_directory(context, interface, c"lowerdir+", lower)?;
        }
        if let Some(upper) = &self.upper {
            set_directory(context, interface, c"upperdir", &upper.upper)?;
            set_directory(context, interface, c"workdir", &upper.work)?;
        }
        for (key, value) in self.options() {
            match value {
                Some(value) => fsconfig_set_string(context, key, value)?,
                None => fsconfig_set_flag(context, key)?,
            }
        }
        fsconfig_create(context)
    }

    /// Options beside the directories.
    ///
    /// Redirects, metacopy and the inode index are off: with any of them an upper directory says
    /// less than all of its layer, and a layer could name files outside its own tree. `volatile`
    /// spares `fsync` and the sync at unmount: an upper directory is never mounted a second time
    /// (which `volatile` would forbid), and what a crash of the machine left of it is rubbish.
    fn options(&self) -> Vec<(&'static str, Option<&'static str>)> {
        let mut options = vec![("index", Some("off")), ("metacopy", Some("off"))];
        if self.user_xattr {
            // Turns redirects off by itself, and refuses `redirect_dir=nofollow` beside it.
            options.push(("userxattr", None));
        } else {
            options.push(("redirect_dir", Some("nofollow")));
        }
        if self.upper.is_some() {
            options.push(("volatile", None));
        }
        options
    }

    fn mount_with_option_string(&self, spare: &Path) -> io::Result<OwnedFd> {
        let mut kept_open = Vec::new();
        let mut through = |path: &Path| -> io::Result<String> {
            let directory = open_directory(path)?;
            let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
            kept_open.push(directory);
            Ok(name)
        };
        let lowers: Vec<String> = self
            .lowers
            .iter()
            .map(|lower| through(lower))
            .collect::<io::Result<_>>()?;
        let mut options = format!("lowerdir={}", lowers.join(":"));
        if let Some(upper) = &self.upper {
            let (upper, work) = (through(&upper.upper)?, through(&upper.work)?);
            options.push_str(&format!(",upperdir={upper},workdir={work}"));
        }
        for (key, value) in self.options() {
            options.push(',');
            options.push_str(key);
            if let Some(value) = value {
                options.push('=');
                options.push_str(value);
            }
        }
        let flags = match self.upper {
            Some(_) => MountFlags::empty(),
            None => MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV,
        };
        let options = CString::new(options)?;
        match std::fs::create_dir(spare) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        rustix::mount::mount(c"wythe", spare, c"overlay", flags, options.as_c_str())?;
        let clone = rustix::mount::open_tree(
            CWD,
            spare,
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
        );
        rustix::mount::unmount(spare, UnmountFlags::DETACH)?;
        Ok(clone?)
    }
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    // Not O_PATH: kernels before 6.15 refuse such descriptors as layers.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn set_directory(
    context: &OwnedFd,
    interface: Interface,
    key: &'static std::ffi::CStr,
    path: &Path,
) -> rustix::io::Result<()> {
    let directory = open_directory(path)?;
    if interface == Interface::Descriptors {
        return rustix::mount::fsconfig_set_fd(context, key, &directory);
    }
    // Names given to fsconfig end at 255 bytes; this one is always short.
    let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
    rustix::mount::fsconfig_set_string(context, key, name)
}

/// The kernel's own words, where the file system context holds some.
fn with_kernel_message(context: &OwnedFd, errno: Errno) -> io::Error {
    let mut buffer = [0u8; 512];
    let mut words = Vec::new();
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        let line = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        words.push(line.trim_start_matches("e ").trim().to_owned());
    }
    let source = io::Error::from(errno);
    if words.is_empty() {
        return source;
    }
    io::Error::new(source.kind(), format!("{source}: {}", words.join("; ")))
}

/// Attaches a detached mount at `target` in this mount namespace.
///
/// # Errors
/// When `target` is not there, or this process may not mount there.
pub fn attach(mount: &OwnedFd, target: &Path) -> Result<()> {
    rustix::mount::move_mount(
        mount,
        c"",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(|errno| Error::io("mount on", target)(errno.into()))
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
