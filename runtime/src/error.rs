//! Everything that can go wrong in this crate.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::text::OsText;
use crate::userns::NoUserNamespace;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in this crate. Each message is of its own level only; the cause
/// is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation on a file or descriptor failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `create`, …
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A bundle asks for something that cannot be.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The process could not be started.
    #[error("cannot start {program:?} in the container")]
    Launch {
        /// The program.
        program: String,
        /// What failed on the way.
        #[source]
        failure: Failure,
    },
    /// The launcher's process died before it could say how the program ended.
    #[error("the process that watches over the container was killed")]
    LauncherDied,
    /// The machine allows no user namespaces, and this is not root.
    #[error("this machine does not let an ordinary user isolate processes")]
    NoUserNamespaces(#[source] NoUserNamespace),
    /// The user namespace was asked for too late.
    #[error("a user namespace can only be entered before the first thread starts")]
    ThreadsExist,
    /// A network of a container's own cannot reach the outside here.
    #[error("a network of its own cannot reach the outside here")]
    NoOutside(#[source] crate::network::NoOutside),
    /// A user or group name is not in the image.
    #[error(transparent)]
    User(#[from] crate::passwd::UserError),
}

impl Error {
    /// An I/O error, with what was tried and on what.
    pub(crate) fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// The exit code a command line should end with, as Docker has it: 126 the program is not
    /// executable, 127 it does not exist, 125 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Launch { failure, .. } => failure.exit_code(),
            _ => 125,
        }
    }

    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoUserNamespaces(reason) => reason.hint().map(str::to_owned),
            Self::NoOutside(reason) => reason.hint().map(str::to_owned),
            Self::Launch { failure, .. } => failure.hint(),
            _ => None,
        }
    }
}

/// Why a bundle is not valid; nothing has been touched then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// No program.
    #[error("there is no command to run")]
    NoCommand,
    /// A string that a system call cannot take.
    #[error("the {what} {value:?} contains a NUL byte")]
    NulByte {
        /// Argument, variable, path, …
        what: &'static str,
        /// The string.
        value: String,
    },
    /// A path that must start with `/` does not.
    #[error("the {what} {} is not absolute", path.display())]
    NotAbsolute {
        /// Working directory, mount target, …
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A mount over the root directory itself.
    #[error("nothing can be mounted on / of a container")]
    MountOnRoot,
    /// Not a name that a host can have.
    #[error("{0:?} is not a host name")]
    Hostname(String),
    /// Not a variable's name.
    #[error("{0:?} is not the name of an environment variable")]
    VariableName(String),
    /// An unknown capability.
    #[error("{0:?} is not a capability")]
    Capability(String),
    /// An unknown resource limit.
    #[error("{0:?} is not a resource limit")]
    Rlimit(String),
    /// More mounts from descriptors than one message can carry.
    #[error("{0} mounts are more than a container can have")]
    TooManyMounts(usize),
}

/// What the starting process was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Stage {
    /// Receiving the plan.
    #[error("read the plan")]
    Plan,
    /// Making the namespaces.
    #[error("create the namespaces")]
    Namespaces,
    /// Forking the container's first process.
    #[error("create the container's first process")]
    Fork,
    /// Setting the host name.
    #[error("set the host name")]
    Hostname,
    /// Bringing the loopback device up.
    #[error("bring the loopback device up")]
    Network,
    /// Mounting a fresh /proc.
    #[error("mount /proc")]
    MountProc,
    /// Attaching the root file system.
    #[error("attach the root file system")]
    Root,
    /// Opening what a volume is to show.
    #[error("open the mount source")]
    MountSource,
    /// Finding or making the place a mount goes to.
    #[error("find or create the mount point")]
    MountPoint,
    /// Mounting.
    #[error("mount")]
    Mount,
    /// Filling /dev.
    #[error("create the device")]
    Device,
    /// Hiding or protecting a path.
    #[error("protect")]
    ProtectPath,
    /// Changing the root directory.
    #[error("change the root directory")]
    Pivot,
    /// Looking the user up.
    #[error("find the user")]
    FindUser,
    /// Becoming the user.
    #[error("become the user")]
    SetUser,
    /// Giving up privileges.
    #[error("set the capabilities")]
    Capabilities,
    /// Installing the system call filter.
    #[error("install the system call filter")]
    Seccomp,
    /// Setting a resource limit.
    #[error("set the resource limit")]
    Rlimit,
    /// Making the terminal.
    #[error("create the terminal")]
    Terminal,
    /// Entering the working directory.
    #[error("enter the working directory")]
    WorkingDirectory,
    /// Starting the program.
    #[error("execute")]
    Execute,
}

/// A failure inside the starting process, as it crosses the socket: stage, error number, subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done.
    pub stage: Stage,
    /// The kernel's error number; `None` when the launcher itself refused.
    pub errno: Option<i32>,
    /// On what: a path, a name. May be empty.
    pub subject: OsText,
    /// Why the launcher itself refused.
    pub refusal: Option<Refusal>,
}

/// What the launcher refuses of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An image whose /proc, /sys or /dev is a link to somewhere else.
    #[error("the image has a symbolic link there")]
    SymbolicLink,
    /// Symbolic links that lead to each other.
    #[error("too many symbolic links")]
    LinkLoop,
    /// The working directory is not below the container's root.
    #[error("it lies outside the container")]
    OutsideRoot,
    /// A file where a directory is needed, or the other way round.
    #[error("a file cannot be mounted on a directory, nor a directory on a file")]
    KindMismatch,
    /// The image's passwd or group file is not a regular file.
    #[error("it is not a regular file")]
    NotRegular,
    /// The image's passwd or group file is too large to be one.
    #[error("it is too large")]
    TooLarge,
    /// The image has no such user.
    #[error("the image has no such user")]
    NoSuchUser,
    /// The image has no such group.
    #[error("the image has no such group")]
    NoSuchGroup,
    /// A program for another machine, and no emulator that the kernel knows of.
    #[error("it is a program for {0}")]
    Foreign(Machine),
    /// An ID outside the user namespace.
    #[error("the ID is not mapped into the user namespace")]
    UnmappedId,
    /// Something that no well-formed plan has.
    #[error("the plan is malformed")]
    Malformed,
}

impl Failure {
    pub(crate) fn system(stage: Stage, subject: impl Into<OsText>, error: &io::Error) -> Self {
        // An error without a number comes from our own decoding.
        let errno = error.raw_os_error();
        let refusal = errno.is_none().then_some(Refusal::Malformed);
        Self {
            stage,
            errno,
            subject: subject.into(),
            refusal,
        }
    }

    pub(crate) fn refused(stage: Stage, subject: impl Into<OsText>, refusal: Refusal) -> Self {
        Self {
            stage,
            errno: None,
            subject: subject.into(),
            refusal: Some(refusal),
        }
    }

    /// See [`Error::exit_code`].
    pub fn exit_code(&self) -> u8 {
        match (self.stage, self.errno) {
            (Stage::Execute, Some(libc::ENOENT | libc::ENOTDIR)) => 127,
            (Stage::Execute, _) => 126,
            _ => 125,
        }
    }

    fn hint(&self) -> Option<String> {
        match (self.stage, self.errno, self.refusal) {
            (Stage::SetUser, _, Some(Refusal::UnmappedId)) => Some(
                "give your user ranges in /etc/subuid and /etc/subgid and install newuidmap, or \
                 run as the image's root user"
                    .into(),
            ),
            (Stage::Execute, errno, Some(Refusal::Foreign(machine))) => {
                Some(emulation_hint(machine, errno == Some(libc::ENOENT)))
            }
            (Stage::Execute, Some(libc::ENOEXEC), _) => {
                Some("the file is no program this machine can run, or a script without #!".into())
            }
            _ => None,
        }
    }
}

/// How programs of another machine can be run. Where the kernel knows an emulator by a path only,
/// it looks for it in the container.
fn emulation_hint(machine: Machine, is_registered: bool) -> String {
    let emulator = machine.emulator();
    let emulator = emulator.as_deref().unwrap_or("an emulator");
    if is_registered {
        return format!(
            "{emulator} is registered with the kernel (/proc/sys/fs/binfmt_misc) without the flag \
             F, so it is looked for in the container: register it with F, as the package \
             qemu-user-static does"
        );
    }
    format!(
        "install qemu-user-static, which registers {emulator} with the kernel, or build on a \
         {machine} machine"
    )
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}", self.stage)?;
        if !self.subject.as_bytes().is_empty() {
            write!(f, " {}", self.subject.as_path().display())?;
        }
        if let Some(refusal) = self.refusal {
            write!(f, ": {refusal}")?;
        }
        if let Some(errno) = self.errno {
            // The number alone crossed the socket; its words belong to this level.
            write!(f, ": {}", nix::errno::Errno::from_raw(errno).desc())?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Attaches stage and subject to what a system call returned.
pub(crate) trait At<T> {
    fn at(self, stage: Stage, subject: impl Into<OsText>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, stage: Stage, subject: impl Into<OsText>) -> Result<T, Failure> {
        self.map_err(|error| Failure::system(stage, subject, &error.into()))
    }
}
