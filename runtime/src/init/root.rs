//! From the host's file systems to the container's.
//!
//! ```text
//! /                 the host's root, until pivot_root
//! └─ proc           over it a tmpfs that nobody else sees: generated files, the empty directory
//!    └─ root        the container's root, with all its mounts, made through descriptors only
//! ```
//! What can only be refused by the machine (a fresh /proc) comes first, before the root file system
//! is attached, so that the launcher can try again without it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::cgroup;
use crate::error::{At, Failure, Refusal, Stage};
use crate::in_root::{self, Kind};
use crate::init::devices::{self, Console, Devices};
use crate::init::monitor::Descriptors;
use crate::mounts;
use crate::plan::{Plan, PlannedMount, PlannedRoot, PlannedSource};

/// What the rest of the way needs of the new root.
pub(crate) struct Entered {
    /// The working directory.
    pub(crate) cwd: OwnedFd,
    /// What had to be made of it.
    pub(crate) made_for_cwd: Vec<PathBuf>,
    /// The terminal, where one is wanted.
    pub(crate) console: Option<Console>,
}

/// Things of the host and of our own that get mounted inside.
struct Sources {
    /// An empty directory, which hides directories.
    empty: OwnedFd,
    /// Generated files, then extra mounts, each detached.
    mounts: Vec<Source>,
}

/// A mount that is still to get its place.
struct Source {
    mount: OwnedFd,
    target: PathBuf,
    /// Its root takes the mode of what it covers.
    takes_mode: bool,
}

/// Builds the container's root and enters it. Mount points that had to be made are added to
/// `created`.
pub(crate) fn enter(
    plan: &Plan,
    mut descriptors: Descriptors,
    created: &mut Vec<PathBuf>,
) -> Result<Entered, Failure> {
    // Nothing we mount may appear outside, whatever the host's mounts propagate.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).at(Stage::Root, "/")?;
    let proc = open_proc(plan)?;
    let opened = open_mounts(plan, &mut descriptors)?;
    let root = open_root(plan, &mut descriptors)?;
    // From here on no path of the host is opened but /sys and those of devices.
    let scratch = attach_scratch()?;
    let devices = Devices::prepare(&scratch)?;
    let sources = open_sources(plan, opened, &scratch)?;
    let place = in_root::create_directory(&scratch, "root", 0o755).at(Stage::Root, "root")?;
    mounts::attach(&root, place).at(Stage::Root, "/")?;
    drop(descriptors);
    let place = in_root::open_top_directory(&root, "proc")?;
    mounts::attach(proc, place).at(Stage::Mount, "/proc")?;
    mount_sys(plan, &root)?;
    let console = devices::fill(plan, &root, &devices)?;
    for source in sources.mounts {
        let target = &source.target;
        let kind = Kind::of(&source.mount).at(Stage::MountPoint, target)?;
        let known = created.len();
        let place = in_root::open_or_create(&root, target, kind, created)?;
        if source.takes_mode && created.len() == known {
            mounts::take_mode(&source.mount, &place).at(Stage::Mount, target)?;
        }
        mounts::attach(source.mount, place).at(Stage::Mount, target)?;
    }
    for path in &plan.masked_paths {
        mask(&root, path.as_path(), &devices, &sources.empty)?;
    }
    for path in &plan.read_only_paths {
        make_read_only(&root, path.as_path())?;
    }
    // A directory made here is the image's business, not a mount point.
    let cwd = plan.process.cwd.as_path();
    let mut made_for_cwd = Vec::new();
    let cwd = in_root::open_or_create(&root, cwd, Kind::Directory, &mut made_for_cwd).map_err(
        |failure| Failure {
            stage: Stage::WorkingDirectory,
            ..failure
        },
    )?;
    if plan.read_only_root {
        mounts::add_attributes_here(&root, libc::MOUNT_ATTR_RDONLY).at(Stage::Root, "/")?;
    }
    pivot(&root)?;
    Ok(Entered {
        cwd,
        made_for_cwd,
        console,
    })
}

fn open_host(path: impl AsRef<Path>) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path.as_ref(),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn open_proc(plan: &Plan) -> Result<OwnedFd, Failure> {
    if plan.own_pids {
        mounts::new_filesystem("proc", &[], mounts::HARDENED).at(Stage::MountProc, "/proc")
    } else {
        mounts::clone_tree(CWD, "/proc").at(Stage::Mount, "/proc")
    }
}

/// Mounts the scratch over /proc: a directory that is there, that we need no longer, and not the
/// root, so that one unmount takes the host's root away with all below it.
fn attach_scratch() -> Result<OwnedFd, Failure> {
    let scratch = mounts::new_tmpfs(None, 0o700, mounts::HARDENED).at(Stage::Root, "tmpfs")?;
    let place = open_host("/proc").at(Stage::Root, "/proc")?;
    mounts::attach(&scratch, place).at(Stage::Root, "/proc")?;
    Ok(scratch)
}

/// What a mount needs, before there is a scratch to make files in.
enum Ready {
    Mount(OwnedFd),
    /// The bytes of a file to be made.
    File(OwnedFd),
}

fn open_mounts(plan: &Plan, descriptors: &mut Descriptors) -> Result<Vec<Ready>, Failure> {
    let open = |mount: &PlannedMount| match &mount.source {
        PlannedSource::File { content, .. } => descriptors.take(*content).map(Ready::File),
        _ => open_source(plan, mount, descriptors).map(Ready::Mount),
    };
    plan.mounts.iter().map(open).collect()
}

fn open_sources(plan: &Plan, opened: Vec<Ready>, scratch: &OwnedFd) -> Result<Sources, Failure> {
    let empty = in_root::create_directory(scratch, "empty", 0o755).at(Stage::Root, "empty")?;
    let mut mounts = Vec::with_capacity(plan.files.len() + opened.len());
    for (index, file) in plan.files.iter().enumerate() {
        let name = format!("file{index}");
        let target = file.target.as_path();
        let written = in_root::create_file(scratch, &name).at(Stage::MountSource, target)?;
        File::from(written)
            .write_all(file.content.as_bytes())
            .at(Stage::MountSource, target)?;
        let mount = mounts::clone_tree(scratch, &name).at(Stage::MountSource, target)?;
        mounts.push(Source {
            mount,
            target: target.to_path_buf(),
            takes_mode: false,
        });
    }
    let mut files = None;
    for (index, (mount, ready)) in plan.mounts.iter().zip(opened).enumerate() {
        let source = match ready {
            Ready::Mount(source) => source,
            Ready::File(content) => {
                let files = match &files {
                    Some(files) => files,
                    None => files.insert(attach_files(scratch)?),
                };
                make_file(mount, content, files, &format!("mount{index}"))?
            }
        };
        mounts.push(Source {
            mount: source,
            target: mount.target.as_path().to_path_buf(),
            takes_mode: matches!(mount.source, PlannedSource::Tmpfs { mode: None, .. })
                && !mount.read_only,
        });
    }
    Ok(Sources { empty, mounts })
}

/// A tmpfs of its own for files of mounts: unlike the scratch, what is in it may be executed.
fn attach_files(scratch: &OwnedFd) -> Result<OwnedFd, Failure> {
    let place = in_root::create_directory(scratch, "files", 0o700).at(Stage::Root, "files")?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let files = mounts::new_tmpfs(None, 0o700, attributes).at(Stage::Root, "tmpfs")?;
    mounts::attach(&files, place).at(Stage::Root, "files")?;
    Ok(files)
}

/// A file with this content, owner and mode, as a mount of its own.
fn make_file(
    mount: &PlannedMount,
    content: OwnedFd,
    files: &OwnedFd,
    name: &str,
) -> Result<OwnedFd, Failure> {
    let target = mount.target.as_path();
    let PlannedSource::File { mode, uid, gid, .. } = mount.source else {
        let stage = Stage::MountSource;
        return Err(Failure::refused(stage, target, Refusal::Malformed));
    };
    let mut written = File::from(in_root::create_file(files, name).at(Stage::MountSource, target)?);
    std::io::copy(&mut File::from(content), &mut written).at(Stage::MountSource, target)?;
    if (uid, gid) != (0, 0) {
        let owner = rustix::fs::Uid::from_raw(uid);
        let group = rustix::fs::Gid::from_raw(gid);
        match rustix::fs::fchown(&written, Some(owner), Some(group)) {
            // Not an ID of this user namespace: where there is only one, the container's
            // processes are that one too.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error).at(Stage::MountSource, target),
        }
    }
    // After the owner: changing that takes bits away.
    let mode = Mode::from(mode & 0o7777);
    rustix::fs::fchmod(&written, mode).at(Stage::MountSource, target)?;
    drop(written);
    let source = mounts::clone_tree(files, name).at(Stage::MountSource, target)?;
    if mount.read_only {
        mounts::add_attributes(&source, libc::MOUNT_ATTR_RDONLY).at(Stage::Mount, target)?;
    }
    Ok(source)
}

fn open_source(
    plan: &Plan,
    mount: &PlannedMount,
    descriptors: &mut Descriptors,
) -> Result<OwnedFd, Failure> {
    let target = mount.target.as_path();
    let source = match &mount.source {
        PlannedSource::Bind(path) => {
            mounts::clone_tree(CWD, path.as_os_str()).at(Stage::MountSource, path.as_path())?
        }
        PlannedSource::Detached(slot) => {
            let source = descriptors.take(*slot)?;
            mounts::make_private(&source).at(Stage::MountSource, target)?;
            source
        }
        PlannedSource::Image(slot) => {
            let source = descriptors.take(*slot)?;
            mounts::make_private(&source).at(Stage::MountSource, target)?;
            match mounts::trust(&source) {
                // What was mounted where we have no say stays as it is.
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
                Err(error) => return Err(error).at(Stage::MountSource, target),
            }
            source
        }
        PlannedSource::Tmpfs {
            size_bytes,
            mode,
            may_execute,
        } => {
            let mut attributes = mounts::HARDENED;
            if *may_execute {
                attributes &= !libc::MOUNT_ATTR_NOEXEC;
            }
            let mode = mode.unwrap_or(0o1777);
            mounts::new_tmpfs(*size_bytes, mode, attributes).at(Stage::Mount, target)?
        }
        PlannedSource::File { .. } => {
            return Err(Failure::refused(
                Stage::MountSource,
                target,
                Refusal::Malformed,
            ));
        }
    };
    // A single device that the user mounts is meant to be used.
    if Kind::of(&source).at(Stage::MountSource, target)? == Kind::Directory {
        disable_devices(plan, &source).at(Stage::Mount, target)?;
    }
    if mount.read_only {
        mounts::add_attributes(&source, libc::MOUNT_ATTR_RDONLY).at(Stage::Mount, target)?;
    }
    Ok(source)
}

/// Switches off the device files of a mount and all below it: root may make and name any, and
/// nothing else keeps it from the host's disks where there is no user namespace. Not for who may
/// mount, to whom it would be no obstacle.
fn disable_devices(plan: &Plan, mount: &OwnedFd) -> std::io::Result<()> {
    if plan
        .process
        .capabilities
        .contains(caps::Capability::CAP_SYS_ADMIN)
    {
        return Ok(());
    }
    mounts::add_attributes(mount, libc::MOUNT_ATTR_NODEV)
}

fn open_root(plan: &Plan, descriptors: &mut Descriptors) -> Result<OwnedFd, Failure> {
    let root = match &plan.root {
        PlannedRoot::Detached(slot) => {
            let root = descriptors.take(*slot)?;
            mounts::make_private(&root).at(Stage::Root, "/")?;
            root
        }
        PlannedRoot::Directory(path) => {
            mounts::clone_tree(CWD, path.as_os_str()).at(Stage::Root, path.as_path())?
        }
    };
    if Kind::of(&root).at(Stage::Root, "/")? != Kind::Directory {
        return Err(Failure::refused(Stage::Root, "/", Refusal::KindMismatch));
    }
    disable_devices(plan, &root).at(Stage::Root, "/")?;
    Ok(root)
}

fn mount_sys(plan: &Plan, root: &OwnedFd) -> Result<(), Failure> {
    let place = in_root::open_top_directory(root, "sys")?;
    let read_only = mounts::HARDENED | libc::MOUNT_ATTR_RDONLY;
    let attributes = if plan.privileged {
        mounts::HARDENED
    } else {
        read_only
    };
    // A fresh one shows the devices of the network namespace it is made in, so it needs one of our
    // own; and it is refused where parts of the host's are hidden from us.
    let fresh = plan
        .own_network
        .then(|| mounts::new_filesystem("sysfs", &[], attributes));
    let sys = match fresh {
        Some(Ok(sys)) => sys,
        _ => {
            let sys = mounts::clone_tree(CWD, "/sys").at(Stage::MountSource, "/sys")?;
            mounts::add_attributes(&sys, read_only).at(Stage::Mount, "/sys")?;
            if plan.privileged {
                // What else the host has mounted there stays as it is now. Refused where the
                // outer one is read-only to us for good.
                let _ = mounts::make_writable_here(&sys);
            }
            sys
        }
    };
    mounts::attach(sys, &place).at(Stage::Mount, "/sys")?;
    if let Some(view) = cgroup::own_view(plan.privileged) {
        let path = Path::new("/sys/fs/cgroup");
        let place = in_root::open(root, path).at(Stage::MountPoint, path)?;
        mounts::attach(view, place).at(Stage::Mount, path)?;
    }
    Ok(())
}

/// Hides a path, if it exists.
fn mask(root: &OwnedFd, path: &Path, devices: &Devices, empty: &OwnedFd) -> Result<(), Failure> {
    let Some(place) = open_existing(root, path)? else {
        return Ok(());
    };
    let cover = match Kind::of(&place).at(Stage::ProtectPath, path)? {
        Kind::File => devices.mount_null().at(Stage::ProtectPath, path)?,
        Kind::Directory => {
            let cover = mounts::clone_tree(empty, "").at(Stage::ProtectPath, path)?;
            mounts::add_attributes(&cover, libc::MOUNT_ATTR_RDONLY).at(Stage::ProtectPath, path)?;
            cover
        }
    };
    mounts::attach(cover, place).at(Stage::ProtectPath, path)
}

/// Makes a path read-only, if it exists.
fn make_read_only(root: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let Some(place) = open_existing(root, path)? else {
        return Ok(());
    };
    let copy = mounts::clone_tree(&place, "").at(Stage::ProtectPath, path)?;
    mounts::add_attributes(&copy, libc::MOUNT_ATTR_RDONLY).at(Stage::ProtectPath, path)?;
    mounts::attach(copy, place).at(Stage::ProtectPath, path)
}

fn open_existing(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Failure> {
    match in_root::open(root, path) {
        Ok(place) => Ok(Some(place)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            Ok(None)
        }
        Err(error) => Err(error).at(Stage::ProtectPath, path),
    }
}

/// Makes `root` the root of this mount namespace and lets go of the host's.
fn pivot(root: impl AsFd) -> Result<(), Failure> {
    rustix::process::fchdir(&root).at(Stage::Pivot, "/")?;
    // With both names the same, the old root ends up on top of the new one, where it can be
    // unmounted without a directory for it (pivot_root(2), NOTES).
    rustix::process::pivot_root(".", ".").at(Stage::Pivot, "/")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).at(Stage::Pivot, "/")?;
    rustix::process::chdir("/").at(Stage::Pivot, "/")?;
    // Had anything else lain on the host's root, that would have gone in its place and the
    // host were still in reach. `..` of the root is
    // what is mounted on top of it.
    let inside = mount_id(&root, "").at(Stage::Pivot, "/")?;
    let above = mount_id(rustix::fs::CWD, "/..").at(Stage::Pivot, "/")?;
    if inside != above {
        return Err(Failure::refused(Stage::Pivot, "/", Refusal::OutsideRoot));
    }
    Ok(())
}

fn mount_id(directory: impl AsFd, path: &str) -> std::io::Result<u64> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    let mask = rustix::fs::StatxFlags::MNT_ID;
    Ok(rustix::fs::statx(directory, path, flags, mask)?.stx_mnt_id)
}
