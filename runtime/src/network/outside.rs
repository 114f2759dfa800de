//! Namespaces that reach the outside, one for each container that runs at the same moment, handed
//! on from one to the next.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec};

use super::keeper::{self, Answer, Order};
use super::resolv::{self, Resolvers};
use super::routes;
use crate::channel::Channel;
use crate::error::{Error, Failure};
use crate::launch::spawn_self;
use crate::text::OsText;

/// How long pasta may take: a hundred times of what it does.
const PATIENCE_SECONDS: u32 = 10;

/// Where programs are where nobody says so.
const DEFAULT_SEARCH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Why a namespace cannot reach the outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoOutside {
    /// There is nothing out there: this machine has no route to anywhere.
    #[error("this machine has no route to anywhere")]
    Offline,
    /// No such program.
    #[error("pasta is not installed")]
    NotInstalled,
    /// The device that pasta is built on.
    #[error("/dev/net/tun cannot be opened: {}", io::Error::from_raw_os_error(*errno))]
    NoTun {
        /// The kernel's answer.
        errno: i32,
    },
    /// pasta ended at once.
    #[error("pasta does not start: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// The namespace could not be made.
    #[error("{0}")]
    Namespace(Failure),
    /// Our own process could not be started, or was killed.
    #[error("the process that keeps the network: {message}")]
    Keeper {
        /// What happened.
        message: String,
    },
}

impl NoOutside {
    /// What the user can do about it, if that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotInstalled => Some("install pasta (Debian, Ubuntu, Fedora: package passt)"),
            Self::NoTun {
                errno: libc::ENOENT | libc::ENXIO | libc::ENODEV,
            } => Some("as root: modprobe tun; inside a container, give it the device /dev/net/tun"),
            Self::NoTun { .. } => Some("as root: chmod 666 /dev/net/tun"),
            _ => None,
        }
    }

    fn keeper(error: impl std::fmt::Display) -> Self {
        Self::Keeper {
            message: error.to_string(),
        }
    }
}

/// Namespaces that reach the outside through pasta. Nothing happens before the first is wanted;
/// dropping it ends all of them but those on lease, which end with their leases.
#[derive(Debug)]
pub struct Outside(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    search: OsString,
    setup: OnceLock<Result<Setup, NoOutside>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Entry>,
    /// How many are being started in the background.
    starting: usize,
    /// How many containers wait for one of those.
    waiting: usize,
    /// What the first of the machine's refusals was; it is not asked again.
    failed: Option<NoOutside>,
    closed: bool,
}

/// What was found out once.
#[derive(Debug)]
struct Setup {
    program: PathBuf,
    resolvers: Resolvers,
}

/// One namespace and the processes behind it.
#[derive(Debug)]
struct Entry {
    channel: Channel,
    /// Taken to be waited for.
    keeper: Option<Child>,
    namespace: OwnedFd,
}

/// A namespace for one container. Handed on when dropped.
#[derive(Debug)]
pub struct Lease {
    entry: Option<Entry>,
    shared: Arc<Shared>,
    is_changed: bool,
}

impl Outside {
    /// None yet. `search` is where pasta is looked for, as in `PATH`; `None` or an empty one means
    /// the usual places.
    pub fn new(search: Option<OsString>) -> Self {
        let search = search.filter(|search| !search.is_empty());
        Self(Arc::new(Shared {
            search: search.unwrap_or_else(|| DEFAULT_SEARCH.into()),
            setup: OnceLock::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// Starts one in the background, unless there is one to be had already.
    pub fn prepare(&self) {
        let mut state = self.0.lock();
        if state.starting > state.waiting || !state.idle.is_empty() || state.failed.is_some() {
            return;
        }
        let shared = Arc::clone(&self.0);
        let start = move || {
            let result = Entry::start(&shared);
            let mut state = shared.lock();
            state.starting -= 1;
            match result {
                // Dropped outside the lock, below.
                Ok(entry) if state.closed => {
                    drop(state);
                    drop(entry);
                    return;
                }
                Ok(entry) => state.idle.push(entry),
                Err(reason) => state.failed = Some(reason),
            }
            shared.changed.notify_all();
        };
        // Without a thread there is only less haste.
        let thread = std::thread::Builder::new().name("network".into());
        if thread.spawn(start).is_ok() {
            state.starting += 1;
        }
    }

    /// A namespace that nobody else uses: one that is idle, one that is being started, or a new
    /// one.
    ///
    /// # Errors
    /// Why there can be none. Once that was so, it stays so.
    pub fn take(&self) -> Result<Lease, NoOutside> {
        let lease = |entry| Lease {
            entry: Some(entry),
            shared: Arc::clone(&self.0),
            is_changed: false,
        };
        let mut state = self.0.lock();
        let mut dead = Vec::new();
        let mut is_waiting = false;
        let found = loop {
            if let Some(entry) = state.idle.pop() {
                if entry.is_alive() {
                    break Some(Ok(entry));
                }
                dead.push(entry);
            } else if let Some(reason) = &state.failed {
                break Some(Err(reason.clone()));
            } else if is_waiting && state.starting == 0 {
                break None;
            } else if is_waiting || state.starting > state.waiting {
                state.waiting += usize::from(!is_waiting);
                is_waiting = true;
                let changed = self.0.changed.wait(state);
                state = changed.unwrap_or_else(PoisonError::into_inner);
            } else {
                break None;
            }
        };
        state.waiting -= usize::from(is_waiting);
        drop(state);
        for entry in dead {
            tracing::debug!("pasta has ended");
            drop(entry);
        }
        match found {
            Some(found) => found.map(lease),
            None => Entry::start(&self.0).map(lease).inspect_err(|reason| {
                self.0.lock().failed = Some(reason.clone());
            }),
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn setup(&self) -> Result<&Setup, NoOutside> {
        self.setup
            .get_or_init(|| Setup::find(&self.search))
            .as_ref()
            .map_err(Clone::clone)
    }
}

impl Lease {
    /// The namespace, to be joined by a container.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn namespace(&self) -> crate::Result<OwnedFd> {
        let closed = || io::Error::from_raw_os_error(libc::EBADF);
        let entry = self.entry.as_ref().ok_or_else(closed);
        entry
            .and_then(|entry| entry.namespace.try_clone())
            .map_err(Error::io("use", "/proc/self/ns/net"))
    }

    /// What the container's `/etc/resolv.conf` has to say.
    pub fn resolv_conf(&self) -> Vec<u8> {
        let setup = self.shared.setup();
        setup.map_or_else(|_| Vec::new(), |setup| setup.resolvers.text.clone())
    }

    /// From now on the namespace ends with this lease instead of being handed on: for a container
    /// with `CAP_NET_ADMIN`, which may change it.
    pub fn mark_changed(&mut self) {
        self.is_changed = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else {
            return;
        };
        let mut state = self.shared.lock();
        if !state.closed && !self.is_changed && entry.is_alive() {
            state.idle.push(entry);
            self.shared.changed.notify_all();
        } else {
            drop(state);
            drop(entry);
        }
    }
}

impl Setup {
    fn find(search: &OsString) -> Result<Self, NoOutside> {
        if routes::is_offline() {
            return Err(NoOutside::Offline);
        }
        let program = find_program(search).ok_or(NoOutside::NotInstalled)?;
        let tun = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun");
        tun.map_err(|error| NoOutside::NoTun {
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })?;
        let host = std::fs::read("/etc/resolv.conf").unwrap_or_default();
        Ok(Self {
            program,
            resolvers: resolv::translate(&host),
        })
    }
}

fn find_program(search: &OsString) -> Option<PathBuf> {
    use rustix::fs::{Access, access};
    std::env::split_paths(search)
        // An empty or relative one would find what lies in the build context.
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("pasta"))
        .find(|path: &PathBuf| Path::is_file(path) && access(path, Access::EXEC_OK).is_ok())
}

impl Entry {
    fn start(shared: &Shared) -> Result<Self, NoOutside> {
        let setup = shared.setup()?;
        let (ours, theirs) = Channel::pair().map_err(NoOutside::keeper)?;
        let channel = Channel::new(ours);
        let mut keeper = spawn_self(keeper::NAME, theirs).map_err(NoOutside::keeper)?;
        let order = Order {
            program: OsText::from(setup.program.clone()),
            forwarded: setup.resolvers.forwarded.clone(),
        };
        let namespace = channel
            .send(&order, &[])
            .map_err(NoOutside::keeper)
            .and_then(|()| receive(&channel));
        match namespace {
            Ok(namespace) => Ok(Self {
                channel,
                keeper: Some(keeper),
                namespace,
            }),
            Err(reason) => {
                drop(channel);
                let _ = keeper.wait();
                Err(reason)
            }
        }
    }

    /// The keeper's end of the socket closes when pasta or anyone between has ended.
    fn is_alive(&self) -> bool {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut polled = [PollFd::new(&self.channel, PollFlags::IN)];
        matches!(rustix::event::poll(&mut polled, Some(&now)), Ok(0))
    }

    /// Tells the keeper to end, without waiting for it.
    fn end(&self) {
        let _ = rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Both);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end();
        // The kernel takes its time to remove a device; nobody needs to wait for that. Whoever
        // comes to an end before this thread leaves the keeper, which ends too, to be reaped by
        // the machine's first process.
        let keeper = Arc::new(Mutex::new(self.keeper.take()));
        let reap = |keeper: &Mutex<Option<Child>>| {
            let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mut keeper) = keeper.take() {
                let _ = keeper.wait();
            }
        };
        let other = Arc::clone(&keeper);
        let thread = std::thread::Builder::new().name("network".into());
        if thread.spawn(move || reap(&other)).is_err() {
            reap(&keeper);
        }
    }
}

fn receive(channel: &Channel) -> Result<OwnedFd, NoOutside> {
    let patience = Timespec {
        tv_sec: PATIENCE_SECONDS.into(),
        tv_nsec: 0,
    };
    let mut polled = [PollFd::new(channel, PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, Some(&patience)));
    if ready.map_err(NoOutside::keeper)? == 0 {
        let message = format!("no answer in {PATIENCE_SECONDS} s");
        return Err(NoOutside::Refused { message });
    }
    let answer = channel.receive::<Answer>().map_err(NoOutside::keeper)?;
    match answer {
        Some((Answer::Ready, mut attached)) if !attached.is_empty() => Ok(attached.remove(0)),
        Some((Answer::Failed(failure), _)) => Err(NoOutside::Namespace(failure)),
        Some((Answer::Refused(message), _)) => Err(NoOutside::Refused { message }),
        Some((Answer::Ready, _)) | None => Err(NoOutside::keeper("it ended without a word")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasta_is_not_looked_for_in_relative_directories() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pasta");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        let search = OsString::from(directory.path());
        // Not executable.
        assert_eq!(find_program(&search), None);
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find_program(&search), Some(path));
        for search in ["", ".", ":", "target"] {
            assert_eq!(find_program(&search.into()), None, "{search:?}");
        }
    }
}
