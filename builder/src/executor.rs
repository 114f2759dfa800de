//! Running a process, as the builder sees it: a trait that the outside implements.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wythe_layers::snapshot::Root;
use wythe_layers::tree::EntryPath;

use crate::{Agent, BoxError, Secret};

/// Runs the processes of `RUN`.
///
/// Called from several threads at once, each time with another root. An implementation waits for
/// the process and everything it left behind (its pid namespace, where there is one).
pub trait Executor: Send + Sync {
    /// Runs `process` in `root` and waits for it. A process that fails is an [`Exit`], not an error.
    ///
    /// Bind-mounts `/etc/resolv.conf` and `/etc/hosts` where the network mode needs them. Mount
    /// points that are missing are made in the root and told in [`Exit::created`]. Ends the process and returns soon once `cancel` is set.
    ///
    /// # Errors
    /// When the process could not be started.
    fn run(
        &self,
        root: &Root,
        process: &Process,
        output: &dyn OutputSink,
        cancel: &Cancel,
    ) -> Result<Exit, BoxError>;

    /// A process with this network is very likely to be run soon: what takes its time to get ready
    /// may begin. Must not block. Does nothing by default.
    fn expect(&self, network: Network) {
        let _ = network;
    }
}

/// A process to run.
#[derive(Debug, Default)]
pub struct Process {
    /// Program and arguments; the program is looked up in `PATH` of `env` inside the root.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute path inside the root; made (by root, 0755) when it is missing.
    pub cwd: String,
    /// As in an image config: `user`, `uid`, `user:group`, `uid:gid`; empty means root. Names are
    /// looked up in the root's `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Which network it sees.
    pub network: Network,
    /// How tightly it is held.
    pub security: Security,
    /// What is mounted into its root, in this order.
    pub mounts: Vec<ProcessMount>,
    /// Host name; `None`: the executor's own default.
    pub hostname: Option<String>,
    /// Additional lines of `/etc/hosts`: name, address.
    pub extra_hosts: Vec<(String, String)>,
    /// Resource limits, each `NAME=SOFT[:HARD]`; the others are the builder's.
    pub limits: Vec<String>,
    /// Size of `/dev/shm` in bytes; `None`: the executor's own default.
    pub shm_size_bytes: Option<u64>,
}

/// Which network a process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Network {
    /// What the executor gives by default.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// How tightly a process is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Security {
    /// Default capabilities and filters.
    #[default]
    Sandbox,
    /// All capabilities that the builder itself has; only where the request allows it.
    Insecure,
}

/// A mount in a process's root.
#[derive(Debug)]
pub struct ProcessMount {
    /// Absolute path inside the root; made when it is missing.
    pub target: String,
    /// What is there.
    pub source: MountSource,
    /// Whether it may be written.
    pub access: Access,
}

/// Whether a mount may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Access {
    /// No.
    #[default]
    ReadOnly,
    /// Yes.
    ReadWrite,
}

/// What a mount shows.
#[derive(Debug)]
pub enum MountSource {
    /// A directory of the host, open: whoever can write to it can no longer make its path mean
    /// another one.
    Directory(OwnedFd),
    /// Another root file system, or a part of it.
    Root {
        /// The file system.
        root: Root,
        /// The part; empty for all of it. Resolved inside `root`.
        subpath: EntryPath,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Limit in bytes; `None`: the kernel's default.
        size_bytes: Option<u64>,
    },
    /// A file with this content that is on no disk.
    File {
        /// Its content.
        content: Secret,
        /// Permission bits.
        mode: u32,
        /// Owner inside the root.
        uid: u32,
        /// Group inside the root.
        gid: u32,
    },
    /// The socket of an ssh agent.
    Agent {
        /// Who answers there.
        agent: Agent,
        /// Permission bits inside the root.
        mode: u32,
        /// Owner inside the root.
        uid: u32,
        /// Group inside the root.
        gid: u32,
    },
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its status.
    pub status: ExitStatus,
    /// Mount points (directories, empty files) that had to be made in the root. Where they are
    /// still empty they do not become part of the layer.
    pub created: Vec<EntryPath>,
}

/// An exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
}

impl ExitStatus {
    /// It returned 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Where the output of a process goes.
pub trait OutputSink: Send + Sync {
    /// Takes bytes as they come, cut anywhere. Must not block for long and must not fail.
    fn write(&self, stream: OutputStream, bytes: &[u8]);
}

/// Which output of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A flag that many threads watch; set once, never cleared. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    own: Arc<AtomicBool>,
    /// Flags that stop this one's watchers too.
    above: Vec<Arc<AtomicBool>>,
}

impl Cancel {
    /// Asks everyone who watches to stop.
    pub fn cancel(&self) {
        self.own.store(true, Ordering::Release);
    }

    /// Whether someone asked to stop.
    pub fn is_cancelled(&self) -> bool {
        let mut flags = std::iter::once(&self.own).chain(&self.above);
        flags.any(|flag| flag.load(Ordering::Acquire))
    }

    /// A flag that is set with this one, and can be set without it.
    pub(crate) fn child(&self) -> Self {
        let mut above = self.above.clone();
        above.push(Arc::clone(&self.own));
        Self {
            own: Arc::default(),
            above,
        }
    }
}
