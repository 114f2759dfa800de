//! /dev of a container: the seven devices every program may expect, terminals, shared memory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;

use crate::error::{At, Failure, Stage};
use crate::in_root;
use crate::mounts::{self, HARDENED};
use crate::plan::Plan;

/// Name, major and minor number.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
    ("/proc/kcore", "core"),
];

/// Docker's size of /dev.
const DEV_SIZE_BYTES: u64 = 64 << 20;

/// The group `tty` of nearly every image; terminals belong to it so that `write` and `mesg` work.
const TTY_GROUP_OPTION: (&str, &str) = ("gid", "5");

/// Both sides of the container's terminal.
pub(crate) struct Console {
    /// For the caller.
    pub(crate) outer: OwnedFd,
    /// For the program.
    pub(crate) inner: OwnedFd,
}

/// The host's devices, to be mounted where the kernel lets us make none.
pub(crate) struct HostDevices(Vec<(&'static str, io::Result<OwnedFd>)>);

impl HostDevices {
    /// Opens them as locations; must happen before the root changes.
    pub(crate) fn open() -> Self {
        let open = |(name, ..): (&'static str, u32, u32)| {
            let path = Path::new("/dev").join(name);
            let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            (name, opened.map_err(io::Error::from))
        };
        Self(DEVICES.into_iter().map(open).collect())
    }
}

/// Mounts and fills /dev; makes the terminal, if one is wanted.
pub(crate) fn fill(
    plan: &Plan,
    root: &OwnedFd,
    host: HostDevices,
    created: &mut Vec<PathBuf>,
) -> Result<Option<Console>, Failure> {
    let place = in_root::open_top_directory(root, "dev", created)?;
    let dev = mounts::new_tmpfs(Some(DEV_SIZE_BYTES), 0o755, libc::MOUNT_ATTR_NOSUID)
        .at(Stage::Mount, "/dev")?;
    mounts::attach(&dev, place).at(Stage::Mount, "/dev")?;
    make_nodes(&dev, host)?;
    for (target, name) in LINKS {
        in_root::symlink(target, &dev, name).at(Stage::Device, name)?;
    }
    let shm = mounts::new_tmpfs(Some(plan.shm_size_bytes), 0o1777, HARDENED);
    mount_below(&dev, "shm", shm)?;
    // Not every kernel has it, and nearly no program needs it.
    if let Ok(mqueue) = mounts::new_filesystem("mqueue", &[], HARDENED) {
        mount_below(&dev, "mqueue", Ok(mqueue))?;
    }
    let terminals = new_devpts().at(Stage::Mount, "/dev/pts")?;
    let terminals = mount_below(&dev, "pts", Ok(terminals))?;
    if !plan.process.terminal {
        return Ok(None);
    }
    let console = open_console(plan, &terminals).at(Stage::Terminal, "/dev/pts/ptmx")?;
    let place = in_root::create_file(&dev, "console").at(Stage::Device, "/dev/console")?;
    let node = mounts::clone_tree(&console.inner, "").at(Stage::Terminal, "/dev/console")?;
    mounts::attach(node, place).at(Stage::Terminal, "/dev/console")?;
    Ok(Some(console))
}

fn new_devpts() -> io::Result<OwnedFd> {
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    // Every devpts is an instance of its own since Linux 4.7.
    let (ptmx_mode, mode) = (("ptmxmode", "0666"), ("mode", "0620"));
    let options = [ptmx_mode, mode, TTY_GROUP_OPTION];
    let with_group = mounts::new_filesystem("devpts", &options, attributes);
    // In a namespace of a single ID there is no group 5.
    with_group.or_else(|_| mounts::new_filesystem("devpts", &[ptmx_mode, mode], attributes))
}

fn mount_below(dev: &OwnedFd, name: &str, mount: io::Result<OwnedFd>) -> Result<OwnedFd, Failure> {
    let path = Path::new("/dev").join(name);
    let mount = mount.at(Stage::Mount, &path)?;
    let place = in_root::create_directory(dev, name, 0o755).at(Stage::MountPoint, &path)?;
    mounts::attach(&mount, place).at(Stage::Mount, &path)?;
    Ok(mount)
}

/// Device nodes where the kernel lets us make them, else the host's, mounted.
fn make_nodes(dev: &OwnedFd, host: HostDevices) -> Result<(), Failure> {
    let mut may_make = true;
    for ((name, major, minor), (_, host_device)) in DEVICES.into_iter().zip(host.0) {
        if may_make {
            let number = rustix::fs::makedev(major, minor);
            match rustix::fs::mknodat(
                dev,
                name,
                FileType::CharacterDevice,
                Mode::from(0o666),
                number,
            ) {
                Ok(()) => continue,
                Err(Errno::PERM) => may_make = false,
                Err(error) => return Err(error).at(Stage::Device, name),
            }
        }
        let device = host_device.at(Stage::Device, name)?;
        let mount = mounts::clone_tree(device, "").at(Stage::Device, name)?;
        let place = in_root::create_file(dev, name).at(Stage::Device, name)?;
        mounts::attach(mount, place).at(Stage::Device, name)?;
    }
    Ok(())
}

/// Opens a new terminal of the container's own devpts, through its mount: no path is involved.
fn open_console(plan: &Plan, terminals: impl AsFd) -> io::Result<Console> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let outer = rustix::fs::openat(terminals, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&outer)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags)?;
    if let Some((rows, columns)) = plan.terminal_size {
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&outer, size)?;
    }
    Ok(Console { outer, inner })
}
