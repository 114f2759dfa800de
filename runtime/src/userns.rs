//! The user namespace in which everyone but root works.
//!
//! [`enter`] moves the whole process there: `unshare` in place, with the ID maps written by a forked
//! helper (through the set-user-ID programs newuidmap and newgidmap) or, where there are none, by
//! the process itself. No process in between remains: signals and exit codes need no passing on.
//! It must happen while the process has one thread.
//!
//! Whether it has happened is read from the kernel (`/proc/self/uid_map`, the capabilities held),
//! never from the environment, so it cannot be forged.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::Command;

use nix::sched::CloneFlags;
use nix::sys::wait::waitpid;
use rustix::thread::CapabilitySet;

use crate::error::{Error, Result};
use crate::id_maps::{IdMap, parse_subordinates};
use crate::sys::{self, Forked};

/// How far processes can be isolated here: the isolation ladder, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rung {
    /// Root, with everything root may do.
    RootWithNamespaces,
    /// A user namespace with this many IDs.
    SubIds {
        /// User IDs that exist inside.
        count: u64,
    },
    /// A user namespace in which only root exists.
    SingleId {
        /// Why there are not more IDs; `None` if it is not known (somebody else made the
        /// namespace).
        reason: Option<NoSubIds>,
    },
    /// No user namespace: no process can be isolated.
    NoNamespaces {
        /// Why.
        reason: NoUserNamespace,
    },
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RootWithNamespaces => f.write_str("root with namespaces"),
            Self::SubIds { count } => write!(f, "user namespace with {count} IDs"),
            Self::SingleId { reason: None } => f.write_str("user namespace with a single ID"),
            Self::SingleId {
                reason: Some(reason),
            } => {
                write!(f, "user namespace with a single ID: {reason}")
            }
            Self::NoNamespaces { reason } => write!(f, "no namespaces: {reason}"),
        }
    }
}

/// Why a user namespace has one ID only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSubIds {
    /// No line for the user.
    #[error("{} has no range for the user {uid}", file.display())]
    NoRange {
        /// /etc/subuid or /etc/subgid.
        file: std::path::PathBuf,
        /// Who.
        uid: u32,
    },
    /// newuidmap or newgidmap is not installed.
    #[error("{program} is not installed")]
    NoProgram {
        /// Which.
        program: &'static str,
    },
    /// It said no.
    #[error("{program} failed: {message}")]
    Refused {
        /// Which.
        program: &'static str,
        /// What it printed.
        message: String,
    },
}

/// Why there is no user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoUserNamespace {
    /// kernel.unprivileged_userns_clone is 0.
    #[error("kernel.unprivileged_userns_clone is 0")]
    SysctlClone,
    /// user.max_user_namespaces is 0, or all are in use.
    #[error("user.max_user_namespaces is reached")]
    SysctlMaximum,
    /// AppArmor takes away what a user namespace gives.
    #[error("AppArmor restricts user namespaces of unconfined programs")]
    AppArmor,
    /// A filter (as in a Docker container), a chroot, or a kernel without them.
    #[error("the kernel or the container we are in refuses them: {}", io::Error::from_raw_os_error(*errno))]
    Refused {
        /// The kernel's answer.
        errno: i32,
    },
}

impl NoUserNamespace {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::SysctlClone => Some("as root: sysctl kernel.unprivileged_userns_clone=1"),
            Self::SysctlMaximum => Some("as root: sysctl user.max_user_namespaces=10000"),
            Self::AppArmor => Some(
                "give the program an AppArmor profile with `userns,`, or as root: sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            Self::Refused { errno: libc::EPERM } => Some(
                "inside a container, its seccomp profile must allow unshare; inside a chroot, the \
                 kernel never does",
            ),
            Self::Refused { .. } => None,
        }
    }
}

/// Makes sure that this process is root of a namespace in which it can mount: as it is, or by
/// moving into a user namespace of its own. Says on which rung it stands then.
///
/// # Errors
/// [`Error::NoUserNamespaces`] where the machine allows none, [`Error::ThreadsExist`].
pub fn enter() -> Result<Rung> {
    if let Some(rung) = current() {
        own_mounts(&rung)?;
        return Ok(rung);
    }
    if !sys::is_single_threaded() {
        return Err(Error::ThreadsExist);
    }
    let (uid, gid) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let maps = plan_maps(uid, gid);
    let helper = maps.as_ref().ok().map(start_helper).transpose()?;
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    nix::sched::unshare(flags).map_err(|errno| Error::NoUserNamespaces(explain(errno as i32)))?;
    let reason = match (maps, helper) {
        (Ok(maps), Some(helper)) => match helper.finish() {
            Ok(()) => {
                return become_root(Rung::SubIds {
                    count: maps.users.id_count(),
                });
            }
            Err(reason) => reason,
        },
        (Err(reason), _) => reason,
        (Ok(_), None) => return Err(Error::ThreadsExist),
    };
    map_single(uid, gid)?;
    become_root(Rung::SingleId {
        reason: Some(reason),
    })
}

/// Says on which rung [`enter`] would stand, without entering.
pub fn detect() -> Rung {
    if let Some(rung) = current() {
        return rung;
    }
    if let Some(reason) = known_obstacle() {
        return Rung::NoNamespaces { reason };
    }
    match plan_maps(
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    ) {
        Ok(maps) => Rung::SubIds {
            count: maps.users.id_count(),
        },
        Err(reason) => Rung::SingleId {
            reason: Some(reason),
        },
    }
}

/// The rung we stand on already, by what the kernel says.
fn current() -> Option<Rung> {
    let may_mount = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
    if !may_mount || !nix::unistd::geteuid().is_root() {
        return None;
    }
    let map = IdMap::parse(&fs::read_to_string("/proc/self/uid_map").unwrap_or_default());
    Some(if map.is_identity() {
        Rung::RootWithNamespaces
    } else if map.id_count() == 1 {
        Rung::SingleId { reason: None }
    } else {
        Rung::SubIds {
            count: map.id_count(),
        }
    })
}

/// Someone else's user namespace (`unshare -r`) may have come without mounts of its own.
fn own_mounts(rung: &Rung) -> Result<()> {
    if *rung == Rung::RootWithNamespaces {
        return Ok(());
    }
    let flags = rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE
        | rustix::mount::OpenTreeFlags::AT_RECURSIVE
        | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match rustix::mount::open_tree(rustix::fs::CWD, "/", flags) {
        Err(rustix::io::Errno::PERM) => nix::sched::unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|errno| Error::NoUserNamespaces(explain(errno as i32))),
        _ => Ok(()),
    }
}

struct Maps {
    users: IdMap,
    groups: IdMap,
}

/// The maps that the subordinate ID files give, if newuidmap is there to write them.
fn plan_maps(uid: u32, gid: u32) -> Result<Maps, NoSubIds> {
    let names = login_names(uid);
    let ranges = |file: &str, own: u32| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let ranges = parse_subordinates(&text, uid, &names);
        if ranges.is_empty() {
            return Err(NoSubIds::NoRange {
                file: file.into(),
                uid,
            });
        }
        Ok(IdMap::with_subordinates(own, &ranges))
    };
    let maps = Maps {
        users: ranges("/etc/subuid", uid)?,
        groups: ranges("/etc/subgid", gid)?,
    };
    for program in ["newuidmap", "newgidmap"] {
        if find_program(program).is_none() {
            return Err(NoSubIds::NoProgram { program });
        }
    }
    Ok(maps)
}

/// The names the host's passwd file has for a user. Other user databases are not asked: the
/// libraries for that cannot be part of a static binary.
fn login_names(uid: u32) -> Vec<String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    passwd.lines().filter_map(name).collect()
}

fn find_program(name: &str) -> Option<std::path::PathBuf> {
    find_program_in(name, &std::env::var_os("PATH").unwrap_or_default())
}

fn find_program_in(name: &str, search: &std::ffi::OsStr) -> Option<std::path::PathBuf> {
    // Not the caller's PATH alone: it may be empty, and these programs have fixed places.
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .chain(
            std::env::split_paths(search)
                // An empty or relative one would find what lies in the build context.
                .filter(|directory| directory.is_absolute())
                .map(|directory| directory.join(name)),
        )
        .find(|path| path.is_file())
}

/// A process that stays in the outer namespace, where newuidmap has its powers.
struct Helper {
    /// A byte here, or its end, starts it.
    go: fs::File,
    /// What it has to say; nothing if all went well.
    answer: fs::File,
    pid: nix::unistd::Pid,
}

fn start_helper(maps: &Maps) -> Result<Helper> {
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let pipe = || {
        rustix::pipe::pipe_with(flags).map_err(|error| Error::io("create", "pipe")(error.into()))
    };
    let (go_reader, go) = pipe()?;
    let (answer, answer_writer) = pipe()?;
    let target = nix::unistd::getpid();
    match sys::fork().map_err(Error::io("fork", "the ID map helper"))? {
        Forked::Parent(pid) => Ok(Helper {
            go: go.into(),
            answer: answer.into(),
            pid,
        }),
        Forked::Child => {
            drop((go, answer));
            let mut byte = [0];
            // No byte: the namespace did not come about.
            if fs::File::from(go_reader).read_exact(&mut byte).is_ok()
                && let Err(refusal) = write_maps(target, maps)
            {
                let text = serde_json::to_vec(&refusal).unwrap_or_default();
                let _ = fs::File::from(answer_writer).write_all(&text);
            }
            std::process::exit(0)
        }
    }
}

/// Runs both programs at once.
fn write_maps(target: nix::unistd::Pid, maps: &Maps) -> Result<(), (usize, String)> {
    let spawn = |index: usize, program: &str, map: &IdMap| {
        let path = find_program(program).unwrap_or_else(|| program.into());
        Command::new(path)
            .arg(target.to_string())
            .args(map.arguments())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .map_err(|error| (index, error.to_string()))
    };
    let users = spawn(0, PROGRAMS[0], &maps.users)?;
    let groups = spawn(1, PROGRAMS[1], &maps.groups);
    let finish = |index: usize, child: std::process::Child| {
        let output = child
            .wait_with_output()
            .map_err(|error| (index, error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err((
            index,
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    };
    let users = finish(0, users);
    groups.and_then(|groups| finish(1, groups)).and(users)
}

const PROGRAMS: [&str; 2] = ["newuidmap", "newgidmap"];

impl Helper {
    /// Lets it go to work and waits.
    fn finish(mut self) -> Result<(), NoSubIds> {
        let mut text = Vec::new();
        let talked = self
            .go
            .write_all(b"g")
            .and_then(|()| self.answer.read_to_end(&mut text).map(drop));
        let _ = waitpid(self.pid, None);
        let refused = |index: usize, message| {
            let program = PROGRAMS.get(index).copied().unwrap_or("newuidmap");
            Err(NoSubIds::Refused { program, message })
        };
        if let Err(error) = talked {
            return refused(0, error.to_string());
        }
        match serde_json::from_slice::<(usize, String)>(&text) {
            Ok((index, message)) => refused(index, message),
            Err(_) if text.is_empty() => Ok(()),
            Err(error) => refused(0, error.to_string()),
        }
    }
}

/// Maps nothing but ourselves, to root. Needs no privilege; the kernel wants setgroups given up.
fn map_single(uid: u32, gid: u32) -> Result<()> {
    let write = |path: &str, text: String| {
        fs::write(path, text).map_err(|error| {
            if error.raw_os_error() == Some(libc::EPERM)
                && is_set("kernel/apparmor_restrict_unprivileged_userns", "1")
            {
                return Error::NoUserNamespaces(NoUserNamespace::AppArmor);
            }
            Error::io("write", path)(error)
        })
    };
    // Already so where newgidmap has run without newuidmap.
    if !is_mapped("/proc/self/gid_map") {
        write("/proc/self/setgroups", "deny".into())?;
        write("/proc/self/gid_map", IdMap::single(gid).to_string())?;
    }
    if !is_mapped("/proc/self/uid_map") {
        write("/proc/self/uid_map", IdMap::single(uid).to_string())?;
    }
    Ok(())
}

fn is_mapped(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| !text.trim().is_empty())
}

/// We hold every capability of the namespace already; only the IDs have to follow.
fn become_root(rung: Rung) -> Result<Rung> {
    use nix::unistd::{Gid, Uid, setresgid, setresuid};
    let (gid, uid) = (Gid::from_raw(0), Uid::from_raw(0));
    let error =
        |errno: nix::errno::Errno| Error::io("become", "root of the namespace")(errno.into());
    setresgid(gid, gid, gid).map_err(error)?;
    setresuid(uid, uid, uid).map_err(error)?;
    Ok(rung)
}

fn explain(errno: i32) -> NoUserNamespace {
    match known_obstacle() {
        Some(obstacle) => obstacle,
        None if errno == libc::ENOSPC || errno == libc::EUSERS => NoUserNamespace::SysctlMaximum,
        None => NoUserNamespace::Refused { errno },
    }
}

/// What the kernel's settings say against user namespaces.
fn known_obstacle() -> Option<NoUserNamespace> {
    if is_set("kernel/unprivileged_userns_clone", "0") {
        return Some(NoUserNamespace::SysctlClone);
    }
    is_set("user/max_user_namespaces", "0").then_some(NoUserNamespace::SysctlMaximum)
}

fn is_set(name: &str, value: &str) -> bool {
    fs::read_to_string(Path::new("/proc/sys").join(name)).is_ok_and(|text| text.trim() == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_not_looked_up_in_relative_directories() {
        // Tests run in the directory of their package, which has such a file.
        let name = "Cargo.toml";
        assert!(Path::new(name).is_file());
        for search in ["", ":", ".", "./", ":.:", "../runtime", "src/.."] {
            assert_eq!(find_program_in(name, search.as_ref()), None, "{search:?}");
        }
        let here = std::env::current_dir().unwrap();
        let found = find_program_in(name, here.as_os_str());
        assert_eq!(found, Some(here.join(name)));
    }
}
