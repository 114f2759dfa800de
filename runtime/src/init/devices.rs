//! /dev of a container: the seven devices every program may expect, terminals, shared memory.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;

use crate::error::{At, Failure, Stage};
use crate::in_root;
use crate::init::machine_devices;
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

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// The machine's memory, and its link, on kernels that show it.
const CORE: &str = "/proc/kcore";

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

/// The devices a container gets, as places to mount from.
pub(crate) struct Devices(Vec<Device>);

struct Device {
    name: &'static str,
    place: OwnedFd,
    /// Made by us, where devices are switched off.
    is_own: bool,
}

impl Devices {
    /// Makes them in `scratch` where the kernel lets us, else takes the host's: that is in a user
    /// namespace, whose root cannot change them. The real root could: its `chmod` in a container
    /// must not reach the host's `/dev/null`.
    pub(crate) fn prepare(scratch: &OwnedFd) -> Result<Self, Failure> {
        let mut devices = Vec::with_capacity(DEVICES.len());
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        for (name, major, minor) in DEVICES {
            let number = rustix::fs::makedev(major, minor);
            let kind = FileType::CharacterDevice;
            let made = rustix::fs::mknodat(scratch, name, kind, Mode::from(0o666), number);
            let (is_own, place) = match made {
                Ok(()) => (
                    true,
                    rustix::fs::openat(scratch, name, flags, Mode::empty()),
                ),
                Err(Errno::PERM) => {
                    let path = Path::new("/dev").join(name);
                    (false, rustix::fs::open(path, flags, Mode::empty()))
                }
                Err(error) => (true, Err(error)),
            };
            let place = place.at(Stage::Device, name)?;
            let device = Device {
                name,
                place,
                is_own,
            };
            devices.push(device);
        }
        Ok(Self(devices))
    }

    /// A mount of what hides files: nothing can be read from it.
    pub(crate) fn mount_null(&self) -> io::Result<OwnedFd> {
        let null = self.0.iter().find(|device| device.name == "null");
        null.ok_or(Errno::NODEV)?.mount()
    }
}

impl Device {
    /// A new mount of it.
    fn mount(&self) -> io::Result<OwnedFd> {
        let mount = mounts::clone_tree(&self.place, "")?;
        if self.is_own {
            mounts::enable_devices(&mount)?;
        }
        Ok(mount)
    }
}

/// Mounts and fills /dev; makes the terminal, if one is wanted.
pub(crate) fn fill(
    plan: &Plan,
    root: &OwnedFd,
    devices: &Devices,
) -> Result<Option<Console>, Failure> {
    let place = in_root::open_top_directory(root, "dev")?;
    // Its devices are mounts of their own, so that what a program makes here is none.
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    if plan.privileged {
        attributes &= !libc::MOUNT_ATTR_NODEV;
    }
    let dev =
        mounts::new_tmpfs(Some(DEV_SIZE_BYTES), 0o755, attributes).at(Stage::Mount, "/dev")?;
    mounts::attach(&dev, place).at(Stage::Mount, "/dev")?;
    for device in &devices.0 {
        let name = device.name;
        let place = in_root::create_file(&dev, name).at(Stage::Device, name)?;
        let mount = device.mount().at(Stage::Device, name)?;
        mounts::attach(mount, place).at(Stage::Device, name)?;
    }
    if plan.privileged {
        machine_devices::fill(&dev)?;
    }
    for (target, name) in LINKS {
        in_root::symlink(target, &dev, name).at(Stage::Device, name)?;
    }
    if in_root::open(root, Path::new(CORE)).is_ok() {
        in_root::symlink(CORE, &dev, "core").at(Stage::Device, "core")?;
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
