//! From the container's first process to the program.
//!
//! The order matters: looking names up needs the new root; rlimits, owners and the bounding set
//! need privileges that are then given up; the system call filter goes in as late as its own
//! installation is still allowed.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Uid};
use rustix::fs::Mode;
use rustix::process::Signal;

use crate::capabilities;
use crate::channel::{Channel, Report};
use crate::error::{At, Failure, Refusal, Stage};
use crate::init::devices::Console;
use crate::init::monitor::Descriptors;
use crate::init::{reaper, root};
use crate::machine::Machine;
use crate::passwd::{self, DatabaseError, ResolvedUser, UserError};
use crate::plan::{Plan, PlannedProcess};
use crate::text::OsText;
use crate::{network, rlimit, seccomp, sys};

/// Created paths in one report: few enough that the longest paths fit one packet.
const PATHS_IN_REPORT: usize = 12;

/// Becomes the program; returns only what prevented that.
pub(crate) fn run(
    channel: &Channel,
    plan: &Plan,
    descriptors: Descriptors,
    failures: &OwnedFd,
) -> Failure {
    match become_program(channel, plan, descriptors, failures) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn become_program(
    channel: &Channel,
    plan: &Plan,
    mut descriptors: Descriptors,
    failures: &OwnedFd,
) -> Result<Infallible, Failure> {
    die_with_parent(failures)?;
    // Modes given below are meant as they are.
    rustix::process::umask(Mode::empty());
    // A session of its own: no terminal of the caller can be reached or typed into.
    rustix::process::setsid().at(Stage::Fork, "")?;
    if let Some(hostname) = &plan.hostname {
        nix::unistd::sethostname(hostname).at(Stage::Hostname, hostname.as_str())?;
    }
    if plan.own_network && plan.joined_network.is_none() {
        network::set_up_own()?;
    }
    let streams = take_streams(plan, &mut descriptors)?;
    let mut created = Vec::new();
    let entered = root::enter(plan, descriptors, &mut created)?;
    report_created(channel, created)?;

    let user = find_user(plan)?;
    if plan.process.cwd_is_users {
        own_directories(&entered.made_for_cwd, &user)?;
    }
    let streams = match entered.console {
        Some(console) => open_terminal(channel, console)?,
        None => streams,
    };
    own_streams(plan, &streams, &user);
    connect_streams(streams)?;
    leave_keyring()?;
    rustix::process::umask(Mode::from(plan.process.umask));
    enter_directory(&entered.cwd, plan)?;
    drop(entered.cwd);
    rlimit::apply(&plan.process.rlimits)?;
    give_up_privileges(plan, &user)?;
    // Changing the user has cleared it.
    die_with_parent(failures)?;

    let program = Program::new(&plan.process, &user)?;
    sys::reset_signal_actions();
    sys::close_on_exec_from_3().at(Stage::Execute, "")?;
    if plan.init {
        // The monitor takes the closing of this pipe as the start of the program, and the caller
        // the closing of the socket as the end of it all.
        reaper::split(plan.process.terminal, || {
            close_for_reaper(channel, failures)
        })?;
    }
    SigSet::all().thread_unblock().at(Stage::Execute, "")?;
    program.execute()
}

/// Lets the kernel kill us when the process that forked us dies, also if it has died already:
/// `failures` is the writing end of a pipe whose reading end only that process holds.
pub(crate) fn die_with_parent(failures: &OwnedFd) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).at(Stage::Fork, "")?;
    let mut polled = [rustix::event::PollFd::new(
        failures,
        rustix::event::PollFlags::empty(),
    )];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut polled, Some(&now)).at(Stage::Fork, "")?;
    if polled
        .iter()
        .any(|entry| entry.revents().intersects(rustix::event::PollFlags::ERR))
    {
        return Err(Failure::system(
            Stage::Fork,
            "",
            &io::Error::from_raw_os_error(libc::ESRCH),
        ));
    }
    Ok(())
}

fn close_for_reaper(channel: &Channel, failures: &OwnedFd) {
    // Both are borrowed from callers that never run again in this process; putting /dev/null in
    // their place closes them without leaving an owner of a closed descriptor behind.
    if let Ok(null) = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, Mode::empty()) {
        sys::replace_descriptor(&null, failures.as_fd());
        sys::replace_descriptor(&null, channel.as_fd());
    }
}

fn report_created(channel: &Channel, created: Vec<PathBuf>) -> Result<(), Failure> {
    let created: Vec<OsText> = created.into_iter().map(OsText::from).collect();
    for paths in created.chunks(PATHS_IN_REPORT) {
        channel
            .send(&Report::Created(paths.to_vec()), &[])
            .at(Stage::Plan, "")?;
    }
    Ok(())
}

type Streams = Option<[OwnedFd; 3]>;

fn take_streams(plan: &Plan, descriptors: &mut Descriptors) -> Result<Streams, Failure> {
    let Some([stdin, stdout, stderr]) = plan.stdio else {
        return Ok(None);
    };
    Ok(Some([
        descriptors.take(stdin)?,
        descriptors.take(stdout)?,
        descriptors.take(stderr)?,
    ]))
}

/// Makes the terminal ours and hands its outer side to the caller.
fn open_terminal(channel: &Channel, console: Console) -> Result<Streams, Failure> {
    channel
        .send(&Report::Console, &[console.outer.as_fd()])
        .at(Stage::Terminal, "")?;
    drop(console.outer);
    rustix::process::ioctl_tiocsctty(&console.inner).at(Stage::Terminal, "")?;
    let again = || console.inner.try_clone().at(Stage::Terminal, "");
    Ok(Some([again()?, again()?, again()?]))
}

/// Gives terminal and pipes to the user, who may want to open them again through /dev/stdout.
fn own_streams(plan: &Plan, streams: &Streams, user: &ResolvedUser) {
    let Some(streams) = streams else { return };
    for (stream, owned) in streams.iter().zip(plan.owned_stdio) {
        if owned || plan.process.terminal {
            let uid = rustix::fs::Uid::from_raw(user.uid);
            // The group stays: terminals belong to the group tty. A failure (an ID that is not
            // mapped) is reported when we become that user.
            let _ = rustix::fs::fchown(stream, Some(uid), None);
        }
    }
}

/// Gives the user directories that were made just now: no process of the image runs yet that could
/// have put something else in their place.
fn own_directories(paths: &[PathBuf], user: &ResolvedUser) -> Result<(), Failure> {
    let (uid, gid) = (
        rustix::fs::Uid::from_raw(user.uid),
        rustix::fs::Gid::from_raw(user.gid),
    );
    for path in paths {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::chownat(rustix::fs::CWD, path, Some(uid), Some(gid), flags) {
            // Not an ID of this user namespace: reported when we become that user.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error).at(Stage::WorkingDirectory, path),
        }
    }
    Ok(())
}

fn connect_streams(streams: Streams) -> Result<(), Failure> {
    let Some([stdin, stdout, stderr]) = streams else {
        return Err(Failure::refused(Stage::Plan, "", Refusal::Malformed));
    };
    rustix::stdio::dup2_stdin(&stdin).at(Stage::Execute, "stdin")?;
    rustix::stdio::dup2_stdout(&stdout).at(Stage::Execute, "stdout")?;
    rustix::stdio::dup2_stderr(&stderr).at(Stage::Execute, "stderr")
}

fn leave_keyring() -> Result<(), Failure> {
    match sys::join_new_session_keyring() {
        // No keyrings in this kernel, none allowed to us, or no room for one more: then the
        // program's own calls are refused as well.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOSYS | libc::EPERM | libc::EDQUOT | libc::EACCES)
            ) =>
        {
            Ok(())
        }
        other => other.at(Stage::Capabilities, "session keyring"),
    }
}

fn find_user(plan: &Plan) -> Result<ResolvedUser, Failure> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).at(Stage::FindUser, "/")?;
    let read = |path: &str| {
        passwd::read_database(&root, path).map_err(|error| {
            let subject = Path::new("/").join(path);
            match error {
                DatabaseError::NotRegular => {
                    Failure::refused(Stage::FindUser, subject, Refusal::NotRegular)
                }
                DatabaseError::TooLarge => {
                    Failure::refused(Stage::FindUser, subject, Refusal::TooLarge)
                }
                DatabaseError::Io(error) => Failure::system(Stage::FindUser, subject, &error),
            }
        })
    };
    let spec = &plan.process.user;
    let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
    passwd::resolve(spec, &passwd, &group).map_err(|error| match error {
        UserError::NoSuchUser(name) => Failure::refused(Stage::FindUser, name, Refusal::NoSuchUser),
        UserError::NoSuchGroup(name) => {
            Failure::refused(Stage::FindUser, name, Refusal::NoSuchGroup)
        }
    })
}

/// Enters the working directory while we may still enter any, as Docker does, and makes sure that
/// it is inside: a descriptor of the host that leaked to us would not be (CVE-2024-21626).
fn enter_directory(directory: &OwnedFd, plan: &Plan) -> Result<(), Failure> {
    let path = plan.process.cwd.as_path();
    rustix::process::fchdir(directory).at(Stage::WorkingDirectory, path)?;
    let actual = rustix::process::getcwd(Vec::new()).at(Stage::WorkingDirectory, path)?;
    // The kernel writes "(unreachable)/…" for a directory that is not below the root.
    if !actual.as_bytes().starts_with(b"/") {
        return Err(Failure::refused(
            Stage::WorkingDirectory,
            path,
            Refusal::OutsideRoot,
        ));
    }
    Ok(())
}

fn give_up_privileges(plan: &Plan, user: &ResolvedUser) -> Result<(), Failure> {
    let process = &plan.process;
    let filter = process
        .seccomp
        .then(|| seccomp::compile(process.capabilities))
        .transpose()?;
    let install = || filter.as_ref().map_or(Ok(()), seccomp::install);
    capabilities::bound(process.capabilities)?;
    // Without no_new_privs only a privileged process may install a filter, so before it is none.
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).at(Stage::Capabilities, "no_new_privs")?;
    } else {
        install()?;
    }
    if process.capabilities_are_everybodys {
        capabilities::keep_over_change_of_user()?;
        become_user(plan, user)?;
        capabilities::spread(process.capabilities)?;
    } else {
        become_user(plan, user)?;
        capabilities::reduce(process.capabilities, user.uid == 0)?;
    }
    if process.no_new_privileges {
        install()?;
    }
    Ok(())
}

fn become_user(plan: &Plan, user: &ResolvedUser) -> Result<(), Failure> {
    if plan.may_set_groups {
        let mut groups: Vec<u32> = std::iter::once(user.gid)
            .chain(user.groups.iter().copied())
            .chain(plan.process.extra_groups.iter().copied())
            .collect();
        groups.sort_unstable();
        groups.dedup();
        let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        nix::unistd::setgroups(&groups).map_err(|error| unmapped("groups", error))?;
    }
    let gid = Gid::from_raw(user.gid);
    nix::unistd::setresgid(gid, gid, gid)
        .map_err(|error| unmapped(&format!("group {gid}"), error))?;
    let uid = Uid::from_raw(user.uid);
    nix::unistd::setresuid(uid, uid, uid).map_err(|error| unmapped(&format!("user {uid}"), error))
}

fn unmapped(subject: &str, error: nix::errno::Errno) -> Failure {
    match error {
        nix::errno::Errno::EINVAL => Failure::refused(Stage::SetUser, subject, Refusal::UnmappedId),
        other => Failure::system(Stage::SetUser, subject, &other.into()),
    }
}

/// The program, ready for execve.
struct Program {
    /// Where it may be, in the order of the search path.
    candidates: Vec<CString>,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    fn new(process: &PlannedProcess, user: &ResolvedUser) -> Result<Self, Failure> {
        let malformed = || Failure::refused(Stage::Execute, "", Refusal::Malformed);
        let c_string = |bytes: &[u8]| CString::new(bytes).map_err(|_| malformed());
        let args: Vec<CString> = process
            .args
            .iter()
            .map(|arg| c_string(arg.as_bytes()))
            .collect::<Result<_, _>>()?;
        let mut env: Vec<CString> = process
            .env
            .iter()
            .map(|line| c_string(line.as_bytes()))
            .collect::<Result<_, _>>()?;
        // Docker takes an empty one for none.
        env.retain(|line| line.as_bytes() != b"HOME=");
        if !env.iter().any(|line| line.as_bytes().starts_with(b"HOME=")) {
            env.push(c_string(format!("HOME={}", user.home).as_bytes())?);
        }
        let name = args.first().ok_or_else(malformed)?.as_bytes();
        let candidates = if name.contains(&b'/') {
            vec![c_string(name)?]
        } else {
            let path = process
                .env
                .iter()
                .find_map(|line| line.as_bytes().strip_prefix(b"PATH="));
            path.unwrap_or_default()
                .split(|&byte| byte == b':')
                .map(|directory| {
                    let directory = if directory.is_empty() {
                        b"."
                    } else {
                        directory
                    };
                    c_string(&[directory, b"/", name].concat())
                })
                .collect::<Result<_, _>>()?
        };
        Ok(Self {
            candidates,
            args,
            env,
        })
    }

    fn execute(&self) -> Result<Infallible, Failure> {
        let mut reason = nix::errno::Errno::ENOENT;
        let mut foreign = None;
        for path in &self.candidates {
            let Err(error) = nix::unistd::execve(path, &self.args, &self.env);
            match error {
                // Of a file that is there: its interpreter is not.
                nix::errno::Errno::ENOENT => foreign = foreign.or_else(|| machine_of(path)),
                nix::errno::Errno::ENOTDIR => {}
                // There may be one further on that can be executed.
                nix::errno::Errno::EACCES => reason = error,
                _ => {
                    reason = error;
                    foreign = machine_of(path);
                    break;
                }
            }
        }
        let name = self
            .args
            .first()
            .map(|name| name.to_bytes())
            .unwrap_or_default();
        let subject = std::ffi::OsStr::from_bytes(name).to_owned();
        let mut failure = Failure::system(Stage::Execute, subject, &reason.into());
        failure.refusal = foreign.map(Refusal::Foreign);
        Err(failure)
    }
}

/// The machine that a program is for, if that is not this one.
fn machine_of(path: &CStr) -> Option<Machine> {
    Machine::foreign(Path::new(std::ffi::OsStr::from_bytes(path.to_bytes())))
}
