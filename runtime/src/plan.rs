//! What is going to happen in the new process, as data.
//!
//! A plan is made by [`Bundle::validate`](crate::Bundle::validate) before anything is touched and
//! crosses to the new process as it is. Descriptors (the root file system, prepared mounts,
//! standard streams) travel beside it and are named by their [`Slot`].

use serde::{Deserialize, Serialize};

use crate::capabilities::CapabilityMask;
use crate::passwd::UserSpec;
use crate::text::OsText;

/// The place of a descriptor in the list that accompanies the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot(pub usize);

/// Everything the new process needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The root file system.
    pub root: PlannedRoot,
    /// Whether the root file system is made read-only once everything is in place.
    pub read_only_root: bool,
    /// The name of the host inside; `None` keeps the machine's.
    pub hostname: Option<String>,
    /// A network that is not the host's: a new namespace with loopback, unless one is joined.
    pub own_network: bool,
    /// The network namespace that is joined.
    pub joined_network: Option<Slot>,
    /// A process ID namespace of its own. The launcher turns it off, and says so, where the
    /// machine allows no fresh /proc.
    pub own_pids: bool,
    /// Extra mounts, in the order in which they are attached.
    pub mounts: Vec<PlannedMount>,
    /// Files made on the spot and mounted over the image's.
    pub files: Vec<PlannedFile>,
    /// Size of /dev/shm.
    pub shm_size_bytes: u64,
    /// Whether it gets the machine's devices, and /sys and control groups that can be written.
    pub privileged: bool,
    /// Paths that become empty.
    pub masked_paths: Vec<OsText>,
    /// Paths that become read-only.
    pub read_only_paths: Vec<OsText>,
    /// The program and what it may do.
    pub process: PlannedProcess,
    /// Whether a small first process reaps orphans and forwards signals.
    pub init: bool,
    /// Standard input, output and error; with a terminal they stand for the terminal instead.
    pub stdio: Option<[Slot; 3]>,
    /// Which of the three are pipes of ours, to be owned by the container's user.
    pub owned_stdio: [bool; 3],
    /// Rows and columns of the terminal at the start.
    pub terminal_size: Option<(u16, u16)>,
    /// Whether `setgroups` is allowed in this user namespace.
    pub may_set_groups: bool,
}

/// Where the root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedRoot {
    /// A mount that hangs nowhere yet.
    Detached(Slot),
    /// A directory.
    Directory(OsText),
}

/// One extra mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMount {
    /// What.
    pub source: PlannedSource,
    /// Where, absolute in the container.
    pub target: OsText,
    /// Whether nothing can be written through it.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlannedSource {
    /// A path of the host, with everything mounted below it.
    Bind(OsText),
    /// A mount that hangs nowhere yet.
    Detached(Slot),
    /// The same, of a part of an image.
    Image(Slot),
    /// A file system in memory.
    Tmpfs {
        /// Its size; `None` is the kernel's default, half of the memory.
        size_bytes: Option<u64>,
        /// The mode of its root; `None` is that of the directory it covers.
        mode: Option<u32>,
        /// Whether what is written there can be executed.
        may_execute: bool,
    },
    /// A file in memory, made on the spot.
    File {
        /// Where its bytes are read from: they are in no plan, so no log of one shows them.
        content: Slot,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// A file made on the spot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedFile {
    /// Where, absolute in the container.
    pub target: OsText,
    /// Its bytes.
    pub content: OsText,
}

/// The program and what it may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedProcess {
    /// The program and its arguments.
    pub args: Vec<OsText>,
    /// `NAME=value`, in order, each name once.
    pub env: Vec<OsText>,
    /// The working directory, made if absent.
    pub cwd: OsText,
    /// Who.
    pub user: UserSpec,
    /// Groups beside those of the image's group file.
    pub extra_groups: Vec<u32>,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// What root may do.
    pub capabilities: CapabilityMask,
    /// Whether other users may do that too, and all that they start.
    pub capabilities_are_everybodys: bool,
    /// Whether `execve` can never give more privileges.
    pub no_new_privileges: bool,
    /// Whether the default system call filter is installed.
    pub seccomp: bool,
    /// Resource limits.
    pub rlimits: Vec<PlannedRlimit>,
    /// How soon the kernel kills it when memory runs out, -1000 (never) to 1000.
    pub oom_score_adjust: Option<i16>,
    /// The file mode creation mask.
    pub umask: u32,
    /// Whether a working directory that is made belongs to the user.
    pub cwd_is_users: bool,
}

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedRlimit {
    /// The kernel's number of the resource.
    pub resource: u32,
    /// Soft limit; `None` is unlimited.
    pub soft: Option<u64>,
    /// Hard limit; `None` is unlimited.
    pub hard: Option<u64>,
}
