//! The machine's devices that a privileged container gets beside the usual ones: BuildKit's list
//! for `RUN --security=insecure`.
//!
//! Root makes them in the container's own /dev. In a user namespace nobody can make any: there the
//! host's are shown, as far as they exist, and the kernel decides who may open them.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{At, Failure, Stage};
use crate::{in_root, mounts, sys};

/// Name below /dev, major and minor number.
const CHARACTER_DEVICES: [(&str, u32, u32); 6] = [
    ("kmsg", 1, 11),
    ("cuse", 10, 203),
    ("fuse", 10, 229),
    ("kvm", 10, 232),
    ("net/tun", 10, 200),
    ("loop-control", 10, 237),
];

/// Folders that those lie in.
const FOLDERS: [&str; 1] = ["net"];

/// The major number of loop devices.
const LOOP_MAJOR: u32 = 7;

/// How many loop devices there are beyond the first free one.
const SPARE_LOOP_DEVICES: u32 = 7;

/// A bound on loop devices, far above what machines have.
const MAX_LOOP_DEVICES: u32 = 4096;

/// Puts them into a container's /dev.
pub(super) fn fill(dev: &OwnedFd) -> Result<(), Failure> {
    for name in FOLDERS {
        in_root::create_directory(dev, name, 0o755).at(Stage::Device, name)?;
    }
    for (name, major, minor) in CHARACTER_DEVICES {
        match make(dev, name, FileType::CharacterDevice, major, minor) {
            Ok(()) => {}
            Err(Errno::PERM) => show_hosts(dev, name),
            Err(error) => return Err(error).at(Stage::Device, name),
        }
    }
    let first_free = sys::free_loop_device("/dev/loop-control").unwrap_or(0);
    let end = first_free.saturating_add(SPARE_LOOP_DEVICES);
    for number in 0..=end.min(MAX_LOOP_DEVICES) {
        let name = format!("loop{number}");
        match make(dev, &name, FileType::BlockDevice, LOOP_MAJOR, number) {
            Ok(()) => {}
            // They would be of no use: only root of the machine may attach files to them.
            Err(Errno::PERM) => break,
            Err(error) => return Err(error).at(Stage::Device, name),
        }
    }
    Ok(())
}

fn make(dev: &OwnedFd, name: &str, kind: FileType, major: u32, minor: u32) -> Result<(), Errno> {
    let number = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(dev, name, kind, Mode::from(0o666), number)
}

/// Mounts the host's device of this name, if there is one.
fn show_hosts(dev: &OwnedFd, name: &str) {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let shown = rustix::fs::open(Path::new("/dev").join(name), flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|device| {
            let mount = mounts::clone_tree(&device, "")?;
            mounts::attach(mount, in_root::create_file(dev, name)?)
        });
    if let Err(error) = shown {
        tracing::debug!(name, %error, "a device of the machine is not shown");
    }
}
