//! What a caller asks for: a root file system, a program, and how it is to be isolated.
//!
//! [`Bundle::validate`] turns it into a [`Plan`] and a list of descriptors without touching
//! anything; [`launch`](crate::launch()) consumes the result.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::capabilities::CapabilityMask;
use crate::channel::MAX_DESCRIPTORS;
use crate::error::{BundleError, Result};
use crate::passwd::UserSpec;
use crate::plan::{
    Plan, PlannedFile, PlannedMount, PlannedProcess, PlannedRlimit, PlannedRoot, PlannedSource,
    Slot,
};
use crate::rlimit::Rlimit;
use crate::text::OsText;

/// Docker's size of /dev/shm.
const DEFAULT_SHM_BYTES: u64 = 64 << 20;

/// `HOST_NAME_MAX` of Linux.
const MAX_HOSTNAME_BYTES: usize = 64;

/// The search path where the image names none, as Docker has it.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Paths of /proc and /sys that tell about the machine, or control it, beyond the container.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of /proc that can be looked at but not written.
const READ_ONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A root file system.
#[derive(Debug)]
pub enum Rootfs {
    /// A mount that hangs nowhere yet, as `fsmount` and `open_tree` make them. It is attached in
    /// the new process only; launching consumes it.
    Detached(OwnedFd),
    /// A directory, with everything mounted below it.
    Directory(PathBuf),
}

/// Who sees which network.
#[derive(Debug, Default)]
pub enum Network {
    /// A network of its own that holds only the loopback device (default).
    #[default]
    None,
    /// The host's.
    Host,
    /// This network namespace, as a [`Lease`](crate::Lease) gives one.
    Joined(OwnedFd),
}

/// What an extra mount shows.
#[derive(Debug)]
pub enum MountSource {
    /// A file or directory of the host, with everything mounted below it.
    Bind(PathBuf),
    /// A mount that hangs nowhere yet.
    Detached(OwnedFd),
    /// A part of an image, as a mount that hangs nowhere yet: its set-user-ID programs are what
    /// they are in a root file system.
    Image(OwnedFd),
    /// A file system in memory.
    Tmpfs {
        /// Its size; `None` is the kernel's default, half of the memory.
        size_bytes: Option<u64>,
        /// The mode of its root directory. `None`: that of the directory it covers, or 1777 where
        /// there was none.
        mode: Option<u32>,
        /// Whether what is written there can be executed.
        may_execute: bool,
    },
    /// A file that is in memory only.
    File {
        /// What its bytes are read from, from the start: a memory file, a pipe.
        content: OwnedFd,
        /// Permission bits.
        mode: u32,
        /// Owner, as the container sees it. Left to root where the machine has no such ID for us.
        uid: u32,
        /// Group, likewise.
        gid: u32,
    },
}

/// One extra mount.
#[derive(Debug)]
pub struct MountSpec {
    /// What.
    pub source: MountSource,
    /// Where in the container, absolute. Made if absent; links are followed inside the container.
    pub target: PathBuf,
    /// Whether nothing can be written through it.
    pub read_only: bool,
}

/// What a container has of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Privileges {
    /// What containers have: the usual devices, and nothing of /sys or of control groups that can
    /// be written (default).
    #[default]
    Container,
    /// The machine's devices, /sys and control groups to be written, and the capabilities for
    /// whoever the user is. In a user namespace that is what the kernel leaves of it.
    Machine,
}

/// Which system calls a container may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seccomp {
    /// What Docker's default profile allows (default).
    #[default]
    Default,
    /// All.
    Unconfined,
}

/// A standard stream of the program.
#[derive(Debug, Default)]
pub enum Stream {
    /// /dev/null (default).
    #[default]
    Null,
    /// The caller's own stream of that number.
    Inherit,
    /// A pipe, whose other end the [`Container`](crate::Container) hands out.
    Pipe,
    /// This descriptor.
    Descriptor(OwnedFd),
}

/// The three standard streams. Without effect where the process has a terminal.
#[derive(Debug, Default)]
pub struct Stdio {
    /// Standard input.
    pub stdin: Stream,
    /// Standard output.
    pub stdout: Stream,
    /// Standard error.
    pub stderr: Stream,
}

/// The program and what it may do.
#[derive(Debug)]
pub struct Process {
    /// The program and its arguments. A program without `/` is looked for in `PATH`.
    pub args: Vec<OsString>,
    /// Environment, in this order; a later value of a name wins. `PATH`, `HOME` and (with a
    /// terminal) `TERM` are added where they are missing.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory, made if absent (default `/`).
    pub cwd: PathBuf,
    /// Who owns a working directory that is made (default root).
    pub cwd_owner: CwdOwner,
    /// Who, looked up in the image's own files (default root).
    pub user: UserSpec,
    /// Groups beside those of the image's group file (default none).
    pub extra_groups: Vec<u32>,
    /// Whether it gets a terminal of these rows and columns (default none).
    pub terminal: Option<TerminalSize>,
    /// What root may do (default Docker's fourteen capabilities).
    pub capabilities: CapabilityMask,
    /// Whether `execve` can never give more privileges (default false).
    pub no_new_privileges: bool,
    /// System call filter (default Docker's).
    pub seccomp: Seccomp,
    /// Resource limits; the others are the caller's.
    pub rlimits: Vec<Rlimit>,
    /// How soon the kernel kills it when memory runs out, -1000 to 1000 (default the caller's).
    pub oom_score_adjust: Option<i16>,
    /// File mode creation mask (default 022).
    pub umask: u32,
}

/// Who owns a working directory that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CwdOwner {
    /// Root, as when a container is run.
    #[default]
    Root,
    /// The user of the process, as when an image is built.
    User,
}

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Default for TerminalSize {
    fn default() -> Self {
        Self {
            rows: 24,
            columns: 80,
        }
    }
}

/// Files of /etc that are made for the container instead of being the image's. `None` leaves the
/// image's (default).
#[derive(Debug, Default, Clone)]
pub struct EtcFiles {
    /// /etc/hosts.
    pub hosts: Option<Vec<u8>>,
    /// /etc/resolv.conf.
    pub resolv_conf: Option<Vec<u8>>,
    /// /etc/hostname.
    pub hostname: Option<Vec<u8>>,
}

/// Everything about a container that is to be.
#[derive(Debug)]
pub struct Bundle {
    /// Its root file system.
    pub rootfs: Rootfs,
    /// Whether the root file system is read-only; mounts are not (default false).
    pub read_only: bool,
    /// The program.
    pub process: Process,
    /// The name of the host inside (default the machine's).
    pub hostname: Option<String>,
    /// Extra mounts; deeper targets are attached after shallower ones.
    pub mounts: Vec<MountSpec>,
    /// Network (default none).
    pub network: Network,
    /// Whether a small first process reaps orphans and forwards signals (default false).
    pub init: bool,
    /// Files of /etc.
    pub etc: EtcFiles,
    /// Standard streams.
    pub stdio: Stdio,
    /// Size of /dev/shm (default 64 MiB).
    pub shm_size_bytes: u64,
    /// What it has of the machine (default what containers have).
    pub privileges: Privileges,
    /// Paths that become empty (default Docker's list).
    pub masked_paths: Vec<PathBuf>,
    /// Paths that become read-only (default Docker's list).
    pub read_only_paths: Vec<PathBuf>,
}

impl Bundle {
    /// A bundle of `args` over `rootfs` with every default.
    pub fn new<A: Into<OsString>>(rootfs: Rootfs, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            rootfs,
            read_only: false,
            process: Process {
                args: args.into_iter().map(Into::into).collect(),
                env: Vec::new(),
                cwd: PathBuf::from("/"),
                cwd_owner: CwdOwner::default(),
                user: UserSpec::default(),
                extra_groups: Vec::new(),
                terminal: None,
                capabilities: CapabilityMask::default(),
                no_new_privileges: false,
                seccomp: Seccomp::default(),
                rlimits: Vec::new(),
                oom_score_adjust: None,
                umask: 0o022,
            },
            hostname: None,
            mounts: Vec::new(),
            network: Network::default(),
            init: false,
            etc: EtcFiles::default(),
            stdio: Stdio::default(),
            shm_size_bytes: DEFAULT_SHM_BYTES,
            privileges: Privileges::default(),
            masked_paths: MASKED_PATHS.iter().map(PathBuf::from).collect(),
            read_only_paths: READ_ONLY_PATHS.iter().map(PathBuf::from).collect(),
        }
    }

    /// Takes all walls away but the namespaces: every capability, whoever the user is, no system
    /// call filter, no hidden or protected paths, the machine's devices.
    pub fn make_privileged(&mut self) {
        self.privileges = Privileges::Machine;
        self.process.capabilities = CapabilityMask::ALL;
        self.process.seccomp = Seccomp::Unconfined;
        self.masked_paths.clear();
        self.read_only_paths.clear();
    }

    /// Checks everything that can be checked without touching anything and makes the plan.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn validate(self) -> Result<ValidBundle, BundleError> {
        let mut descriptors = Vec::new();
        let mut slot = |descriptor| {
            descriptors.push(descriptor);
            Slot(descriptors.len() - 1)
        };
        let root = match self.rootfs {
            Rootfs::Detached(mount) => PlannedRoot::Detached(slot(mount)),
            Rootfs::Directory(path) => PlannedRoot::Directory(absolute("root directory", path)?),
        };
        let mut mounts = self
            .mounts
            .into_iter()
            .map(|mount| plan_mount(mount, &mut slot))
            .collect::<Result<Vec<_>, _>>()?;
        // Stable, so of two mounts on one place the later one is seen.
        mounts.sort_by_key(|mount| mount.target.as_path().components().count());
        let own_network = !matches!(self.network, Network::Host);
        let joined_network = match self.network {
            Network::Joined(namespace) => Some(slot(namespace)),
            Network::None | Network::Host => None,
        };
        // Three more for the streams, one for the plan itself.
        if descriptors.len() + 4 > MAX_DESCRIPTORS {
            return Err(BundleError::TooManyMounts(descriptors.len()));
        }
        if let Some(hostname) = &self.hostname {
            check_hostname(hostname)?;
        }
        let targets = |paths: Vec<PathBuf>| {
            paths
                .into_iter()
                .map(|path| absolute("protected path", path))
                .collect::<Result<Vec<_>, _>>()
        };
        let plan = Plan {
            root,
            read_only_root: self.read_only,
            own_network,
            joined_network,
            own_pids: true,
            mounts,
            files: plan_files(self.etc),
            shm_size_bytes: self.shm_size_bytes,
            privileged: self.privileges == Privileges::Machine,
            masked_paths: targets(self.masked_paths)?,
            read_only_paths: targets(self.read_only_paths)?,
            init: self.init,
            stdio: None,
            owned_stdio: [false; 3],
            terminal_size: self.process.terminal.map(|size| (size.rows, size.columns)),
            may_set_groups: true,
            process: plan_process(self.process, self.privileges)?,
            hostname: self.hostname,
        };
        Ok(ValidBundle {
            plan,
            descriptors,
            stdio: self.stdio,
        })
    }
}

/// A bundle that has been checked, ready to be launched.
#[derive(Debug)]
pub struct ValidBundle {
    pub(crate) plan: Plan,
    pub(crate) descriptors: Vec<OwnedFd>,
    pub(crate) stdio: Stdio,
}

impl ValidBundle {
    /// What is going to happen.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

fn plan_mount(
    mount: MountSpec,
    slot: &mut impl FnMut(OwnedFd) -> Slot,
) -> Result<PlannedMount, BundleError> {
    let target = absolute("mount target", mount.target)?;
    // `..` may still climb to the root through links; the new process finds that out.
    let is_root = !target
        .as_path()
        .components()
        .any(|component| matches!(component, Component::Normal(_)));
    if is_root {
        return Err(BundleError::MountOnRoot);
    }
    let source = match mount.source {
        MountSource::Bind(path) => PlannedSource::Bind(absolute("mount source", path)?),
        MountSource::Detached(descriptor) => PlannedSource::Detached(slot(descriptor)),
        MountSource::Image(descriptor) => PlannedSource::Image(slot(descriptor)),
        MountSource::Tmpfs {
            size_bytes,
            mode,
            may_execute,
        } => PlannedSource::Tmpfs {
            size_bytes,
            mode,
            may_execute,
        },
        MountSource::File {
            content,
            mode,
            uid,
            gid,
        } => PlannedSource::File {
            content: slot(content),
            mode,
            uid,
            gid,
        },
    };
    Ok(PlannedMount {
        source,
        target,
        read_only: mount.read_only,
    })
}

fn plan_files(etc: EtcFiles) -> Vec<PlannedFile> {
    use std::os::unix::ffi::OsStringExt;
    [
        ("/etc/hosts", etc.hosts),
        ("/etc/resolv.conf", etc.resolv_conf),
        ("/etc/hostname", etc.hostname),
    ]
    .into_iter()
    .filter_map(|(target, content)| {
        let content = OsString::from_vec(content?).into();
        Some(PlannedFile {
            target: target.to_owned().into(),
            content,
        })
    })
    .collect()
}

fn plan_process(process: Process, privileges: Privileges) -> Result<PlannedProcess, BundleError> {
    if process
        .args
        .first()
        .is_none_or(|program| program.is_empty())
    {
        return Err(BundleError::NoCommand);
    }
    for argument in &process.args {
        check_no_nul("argument", argument)?;
    }
    Ok(PlannedProcess {
        env: plan_env(&process)?,
        args: process.args.into_iter().map(OsText::from).collect(),
        cwd: absolute("working directory", process.cwd)?,
        cwd_is_users: process.cwd_owner == CwdOwner::User,
        user: process.user,
        extra_groups: process.extra_groups,
        terminal: process.terminal.is_some(),
        capabilities: process.capabilities,
        capabilities_are_everybodys: privileges == Privileges::Machine,
        no_new_privileges: process.no_new_privileges,
        seccomp: process.seccomp == Seccomp::Default,
        rlimits: process.rlimits.iter().map(PlannedRlimit::from).collect(),
        oom_score_adjust: process.oom_score_adjust,
        umask: process.umask & 0o777,
    })
}

/// `HOME` is not here: it is known only once the image's passwd file has been read.
fn plan_env(process: &Process) -> Result<Vec<OsText>, BundleError> {
    // Name, and where it stands last.
    let mut last: BTreeMap<&OsStr, usize> = BTreeMap::new();
    for (place, (name, value)) in process.env.iter().enumerate() {
        check_no_nul("variable", name)?;
        check_no_nul("variable", value)?;
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            return Err(BundleError::VariableName(
                name.to_string_lossy().into_owned(),
            ));
        }
        last.insert(name, place);
    }
    let terminal = process.terminal.is_some().then_some(("TERM", "xterm"));
    let missing = [("PATH", DEFAULT_PATH)]
        .into_iter()
        .chain(terminal)
        .filter(|(name, _)| !last.contains_key(OsStr::new(name)))
        .map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
    let given = process.env.iter().enumerate();
    let given = given
        .filter(|(place, (name, _))| last.get(name.as_os_str()) == Some(place))
        .map(|(_, (name, value))| (name.as_os_str(), value.as_os_str()));
    let line = |(name, value): (&OsStr, &OsStr)| {
        let mut line = name.to_os_string();
        line.push("=");
        line.push(value);
        OsText::from(line)
    };
    Ok(missing.chain(given).map(line).collect())
}

fn check_no_nul(what: &'static str, text: &OsStr) -> Result<(), BundleError> {
    if text.as_bytes().contains(&0) {
        return Err(BundleError::NulByte {
            what,
            value: text.to_string_lossy().into_owned(),
        });
    }
    Ok(())
}

fn absolute(what: &'static str, path: PathBuf) -> Result<OsText, BundleError> {
    check_no_nul(what, path.as_os_str())?;
    if !Path::is_absolute(&path) {
        return Err(BundleError::NotAbsolute { what, path });
    }
    Ok(path.into())
}

fn check_hostname(name: &str) -> Result<(), BundleError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || name.len() > MAX_HOSTNAME_BYTES || !name.bytes().all(is_allowed) {
        return Err(BundleError::Hostname(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(args: &[&str]) -> Bundle {
        Bundle::new(Rootfs::Directory("/root".into()), args)
    }

    fn error(change: impl FnOnce(&mut Bundle)) -> BundleError {
        let mut bundle = bundle(&["true"]);
        change(&mut bundle);
        bundle.validate().unwrap_err()
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_happens() {
        assert_eq!(bundle(&[]).validate().unwrap_err(), BundleError::NoCommand);
        assert_eq!(
            bundle(&[""]).validate().unwrap_err(),
            BundleError::NoCommand
        );
        assert!(matches!(
            bundle(&["a\0b"]).validate(),
            Err(BundleError::NulByte { .. })
        ));
        assert!(matches!(
            error(|bundle| bundle.process.cwd = "relative".into()),
            BundleError::NotAbsolute { .. }
        ));
        for name in ["", "a b", "ä", &"x".repeat(65)] {
            let expected = BundleError::Hostname(name.to_owned());
            assert_eq!(
                error(|bundle| bundle.hostname = Some(name.to_owned())),
                expected
            );
        }
        for name in ["", "A=B"] {
            let expected = BundleError::VariableName(name.to_owned());
            let env = vec![(name.into(), "".into())];
            assert_eq!(error(|bundle| bundle.process.env = env), expected);
        }
        for target in ["/", "//", "/.", "/.."] {
            let source = MountSource::Tmpfs {
                size_bytes: None,
                mode: Some(0o755),
                may_execute: false,
            };
            let mount = MountSpec {
                source,
                target: target.into(),
                read_only: false,
            };
            assert_eq!(
                error(|bundle| bundle.mounts.push(mount)),
                BundleError::MountOnRoot
            );
        }
    }

    #[test]
    fn the_environment_has_each_name_once_and_the_last_value() {
        let mut bundle = bundle(&["true"]);
        bundle.process.env = [("B", "1"), ("A", "2"), ("B", "3")]
            .map(|(n, v)| (n.into(), v.into()))
            .to_vec();
        let valid = bundle.validate().unwrap();
        let env: Vec<_> = valid
            .plan()
            .process
            .env
            .iter()
            .map(|line| line.as_os_str().to_str().unwrap())
            .collect();
        assert_eq!(env, [&format!("PATH={DEFAULT_PATH}"), "A=2", "B=3"]);
    }

    #[test]
    fn a_plan_survives_the_way_through_json() {
        let mut bundle = bundle(&["true"]);
        bundle.etc.hosts = Some(b"\xff".to_vec());
        let plan = bundle.validate().unwrap().plan;
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
    }
}
