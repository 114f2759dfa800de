//! The launcher's side: starting the new process, waiting, killing.
//!
//! ```text
//! caller ── posix_spawn ──► monitor (our binary afresh) ── fork ──► first process ── execve ──► program
//!    ▲        plan, fds         │  waits; dies with the caller          │ (pid 1)
//!    └────────── reports ───────┴───────────────────────────────────────┘
//! ```
//! The caller may have threads: it only spawns. Everything that needs a single thread happens in
//! the fresh process. If the caller goes away, however, the monitor sees its socket close and kills
//! the container; if the monitor is killed, the kernel kills the first process and with it the
//! whole process ID namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as ProcessStdio};

use rustix::mount::OpenTreeFlags;

use crate::bundle::{Stdio, Stream, ValidBundle};
use crate::channel::{self, Channel, Report};
use crate::error::{Error, Failure, Result, Stage};
use crate::plan::{Plan, Slot};
use crate::sys::{self, MountAttributes};
use crate::text::OsText;
use crate::userns::{self, Rung};

/// The name under which our binary knows that it is to be a container's first process.
pub(crate) const MONITOR_NAME: &str = "wythe-monitor";

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(u8),
    /// This signal ended it.
    Signal(i32),
}

impl ExitStatus {
    /// The code a shell or Docker shows: 128 + n for signal n.
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128_u8.saturating_add(u8::try_from(number).unwrap_or(u8::MAX)),
        }
    }

    /// Whether it returned 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Something that is not as it should be, because the machine does not allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Degradation {
    /// No process ID namespace of its own: the machine refuses a fresh /proc (as inside a
    /// container whose /proc is masked), so the outer one is shown.
    #[error("the container sees the processes outside, because /proc cannot be mounted here")]
    SharedProcesses,
    /// The outer host name: the system call filter of a container that we are in (podman's, which
    /// allows all else) refuses to set another, although the namespace is our own.
    #[error("the container keeps the outer host name, because it cannot be set here")]
    OuterHostname,
    /// A privileged container in a user namespace.
    #[error(
        "without root, a privileged container has its capabilities over what is its own: no loop \
         devices, no mounts of disks, no settings of the machine"
    )]
    PrivilegesOfNamespace,
}

/// A running container.
///
/// Dropping it kills the program and everything it started.
#[derive(Debug)]
pub struct Container {
    channel: Channel,
    monitor: Option<Child>,
    program: OwnedFd,
    created: Vec<PathBuf>,
    degradations: Vec<Degradation>,
    /// The terminal's outer side, where the process has a terminal. Taken by
    /// [`Relay`](crate::Relay).
    pub terminal: Option<OwnedFd>,
    /// The writing end of standard input, where it is a pipe.
    pub stdin: Option<File>,
    /// The reading end of standard output, where it is a pipe.
    pub stdout: Option<File>,
    /// The reading end of standard error, where it is a pipe.
    pub stderr: Option<File>,
}

/// Starts a container. Returns once the program runs (its `execve` succeeded).
///
/// # Errors
/// [`Error::Launch`] with the stage that failed; nothing is left behind then.
pub fn launch(bundle: ValidBundle) -> Result<Container> {
    let ValidBundle {
        mut plan,
        mut descriptors,
        stdio,
    } = bundle;
    plan.may_set_groups = may_set_groups();
    let pipes = connect_stdio(&mut plan, &mut descriptors, stdio)?;
    let mut degradations = Vec::new();
    if plan.privileged && userns::detect() != Rung::RootWithNamespaces {
        degradations.push(Degradation::PrivilegesOfNamespace);
    }
    loop {
        match start(&plan, &descriptors) {
            Ok(mut container) => {
                [container.stdin, container.stdout, container.stderr] = pipes;
                container.degradations = degradations;
                return Ok(container);
            }
            // This fails before anything that can only be done once, so it can be tried again.
            Err(Error::Launch { failure, .. }) if is_proc_refusal(&failure) && plan.own_pids => {
                tracing::debug!(%failure, "no process ID namespace");
                plan.own_pids = false;
                degradations.push(Degradation::SharedProcesses);
            }
            // So does this.
            Err(Error::Launch { failure, .. }) if is_hostname_refusal(&failure) => {
                plan.hostname = None;
                degradations.push(Degradation::OuterHostname);
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_proc_refusal(failure: &Failure) -> bool {
    failure.stage == Stage::MountProc && failure.errno == Some(libc::EPERM)
}

fn is_hostname_refusal(failure: &Failure) -> bool {
    failure.stage == Stage::Hostname && failure.errno == Some(libc::EPERM)
}

/// Whether `setgroups` is allowed in our user namespace. A namespace of a single ID forbids it.
fn may_set_groups() -> bool {
    std::fs::read_to_string("/proc/self/setgroups").map_or(true, |text| text.trim() != "deny")
}

fn start(plan: &Plan, descriptors: &[OwnedFd]) -> Result<Container> {
    let program = plan
        .process
        .args
        .first()
        .map(OsText::as_path)
        .unwrap_or(std::path::Path::new(""));
    let launch_error = |failure| Error::Launch {
        program: program.to_string_lossy().into_owned(),
        failure,
    };
    let (ours, theirs) = Channel::pair().map_err(Error::io("create", "socket pair"))?;
    let channel = Channel::new(ours);
    let mut monitor = spawn_self(MONITOR_NAME, theirs)?;
    match start_program(&channel, plan, descriptors) {
        Ok(Started {
            program,
            created,
            terminal,
        }) => Ok(Container {
            channel,
            monitor: Some(monitor),
            program,
            created,
            degradations: Vec::new(),
            terminal,
            stdin: None,
            stdout: None,
            stderr: None,
        }),
        Err(start_error) => {
            // Closing the socket ends the monitor, whatever state it is in.
            drop(channel);
            let _ = monitor.wait();
            match start_error {
                StartError::Failure(failure) => Err(launch_error(failure)),
                StartError::Io(source) => {
                    let path = PathBuf::from(MONITOR_NAME);
                    Err(Error::Io {
                        operation: "talk to",
                        path,
                        source,
                    })
                }
                StartError::Died => Err(Error::LauncherDied),
            }
        }
    }
}

struct Started {
    program: OwnedFd,
    created: Vec<PathBuf>,
    terminal: Option<OwnedFd>,
}

enum StartError {
    Failure(Failure),
    Io(io::Error),
    Died,
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn start_program(
    channel: &Channel,
    plan: &Plan,
    descriptors: &[OwnedFd],
) -> Result<Started, StartError> {
    let plan_file = channel::write_memory_file(plan)?;
    let attached: Vec<BorrowedFd<'_>> = std::iter::once(&plan_file)
        .chain(descriptors)
        .map(AsFd::as_fd)
        .collect();
    channel.send(&(), &attached)?;
    let mut created = Vec::new();
    let mut terminal = None;
    loop {
        let (report, attached) = channel.receive::<Report>()?.ok_or(StartError::Died)?;
        let mut attached = attached.into_iter();
        match report {
            Report::Created(paths) => created.extend(paths.into_iter().map(OsText::into_path)),
            Report::Console => terminal = attached.next(),
            Report::Started => {
                let program = attached.next().ok_or(StartError::Died)?;
                return Ok(Started {
                    program,
                    created,
                    terminal,
                });
            }
            Report::Failed(failure) => return Err(StartError::Failure(failure)),
            Report::Exited(_) | Report::Signaled(_) => return Err(StartError::Died),
        }
    }
}

/// Starts our own binary afresh under `name`, which says what it is to be, with the socket as its
/// standard input. Descriptors are not inherited but sent through the socket: other threads may be spawning at the same moment, and
/// none of ours may leak into their children.
pub(crate) fn spawn_self(name: &str, socket: OwnedFd) -> Result<Child> {
    let binary = protected_self().map_err(Error::io("open", "/proc/self/exe"))?;
    // Resolved in the spawned child, whose descriptor table is a copy of ours until execve.
    let path = format!("/proc/self/fd/{}", binary.as_raw_fd());
    Command::new(&path)
        .arg0(name)
        .env_clear()
        .stdin(ProcessStdio::from(socket))
        .stdout(ProcessStdio::null())
        .stderr(ProcessStdio::null())
        .spawn()
        .map_err(Error::io("execute", path))
}

/// Our own binary in a form that nobody who runs it, and so nobody who reaches it through
/// `/proc/<pid>/exe` from inside a container, can open for writing, whatever its privileges
/// (CVE-2019-5736): through a read-only mount that hangs nowhere, else as a sealed copy.
fn protected_self() -> io::Result<OwnedFd> {
    match read_only_self() {
        Ok(Some(mount)) => Ok(mount),
        // The binary has been replaced since we started, or the kernel has no such mounts.
        Ok(None) => sealed_copy_of_self(),
        Err(error) => {
            tracing::debug!(%error, "no read-only mount of our own binary");
            sealed_copy_of_self()
        }
    }
}

/// Three system calls and no copy. `None` where our binary's path leads elsewhere by now.
fn read_only_self() -> io::Result<Option<OwnedFd>> {
    // By its path: the link itself leads to a mount of the namespace we were started in, which is
    // not the one a user namespace came with.
    let path = std::fs::read_link("/proc/self/exe")?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    let (found, own) = (
        rustix::fs::fstat(&mount)?,
        rustix::fs::stat("/proc/self/exe")?,
    );
    if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino) {
        return Ok(None);
    }
    let attributes = MountAttributes {
        set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        ..MountAttributes::default()
    };
    sys::mount_setattr(&mount, attributes)?;
    Ok(Some(mount))
}

fn sealed_copy_of_self() -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut copy = File::from(rustix::fs::memfd_create("wythe", flags)?);
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    // A file that is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Ok(File::open(path)?.into())
}

/// Puts the program's streams into the plan; returns our ends of the pipes.
fn connect_stdio(
    plan: &mut Plan,
    descriptors: &mut Vec<OwnedFd>,
    stdio: Stdio,
) -> Result<[Option<File>; 3]> {
    if plan.process.terminal {
        return Ok([None, None, None]);
    }
    let mut ours = [None, None, None];
    let mut slots = [Slot(0); 3];
    let streams = [stdio.stdin, stdio.stdout, stdio.stderr];
    for (index, stream) in streams.into_iter().enumerate() {
        let is_input = index == 0;
        let (theirs, our_end) = open_stream(stream, index).map_err(Error::io("open", "stream"))?;
        descriptors.push(theirs);
        let place = descriptors.len() - 1;
        if let (Some(slot), Some(end), Some(owned)) = (
            slots.get_mut(index),
            ours.get_mut(index),
            plan.owned_stdio.get_mut(index),
        ) {
            *slot = Slot(place);
            *owned = our_end.is_some();
            *end = our_end.map(File::from);
        }
        let _ = is_input;
    }
    plan.stdio = Some(slots);
    Ok(ours)
}

/// The descriptor for the program and, of a pipe, our end.
fn open_stream(stream: Stream, index: usize) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    let is_input = index == 0;
    match stream {
        Stream::Null => {
            let file = File::options()
                .read(is_input)
                .write(!is_input)
                .open("/dev/null")?;
            Ok((file.into(), None))
        }
        Stream::Inherit => {
            let descriptor = match index {
                0 => io::stdin().as_fd().try_clone_to_owned(),
                1 => io::stdout().as_fd().try_clone_to_owned(),
                _ => io::stderr().as_fd().try_clone_to_owned(),
            };
            Ok((descriptor?, None))
        }
        Stream::Pipe => {
            let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            Ok(if is_input {
                (reader, Some(writer))
            } else {
                (writer, Some(reader))
            })
        }
        Stream::Descriptor(descriptor) => Ok((descriptor, None)),
    }
}

impl Container {
    /// Mount points that did not exist and were made in the root file system, parents first. Who
    /// commits the root file system removes those that are still empty.
    pub fn created(&self) -> &[PathBuf] {
        &self.created
    }

    /// What is not as it should be.
    pub fn degradations(&self) -> &[Degradation] {
        &self.degradations
    }

    /// A handle of the program's process, for polling.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Sends a signal to the program (with `init`, to the first process, which passes it on). A
    /// program that has ended already is no error.
    ///
    /// # Errors
    /// A number that is no signal.
    pub fn kill(&self, signal: i32) -> Result<()> {
        let path = "signal";
        let named = rustix::process::Signal::from_named_raw(signal)
            .ok_or_else(|| Error::io("send", path)(io::Error::from_raw_os_error(libc::EINVAL)))?;
        match rustix::process::pidfd_send_signal(&self.program, named) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::io("send", path)(error.into())),
        }
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// The monitor was killed.
    pub fn wait(mut self) -> Result<ExitStatus> {
        self.wait_for_report()
    }

    pub(crate) fn wait_for_report(&mut self) -> Result<ExitStatus> {
        let status = loop {
            match self.channel.receive::<Report>() {
                Ok(Some((Report::Exited(code), _))) => {
                    break ExitStatus::Code(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
                }
                Ok(Some((Report::Signaled(number), _))) => break ExitStatus::Signal(number),
                Ok(Some(_)) => {}
                Ok(None) => return Err(Error::LauncherDied),
                Err(source) => {
                    return Err(Error::io("wait for", MONITOR_NAME)(source));
                }
            }
        };
        self.reap();
        Ok(status)
    }

    fn reap(&mut self) {
        if let Some(mut monitor) = self.monitor.take() {
            let _ = monitor.wait();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if self.monitor.is_some() {
            // Half-closing tells the monitor that nobody waits any more: it kills and ends.
            let _ = rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Both);
            self.reap();
        }
    }
}
