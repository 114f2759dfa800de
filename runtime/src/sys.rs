//! The few system calls that neither rustix nor nix offer safely: the only `unsafe` of the
//! workspace. Every function here is safe to call; each block says why.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::{ForkResult, Pid};

/// Which of the two processes this is after [`fork`].
pub(crate) enum Forked {
    Parent(Pid),
    Child,
}

/// Forks. Refuses where more than one thread runs, so the child may do anything, allocate too.
pub(crate) fn fork() -> io::Result<Forked> {
    if !is_single_threaded() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the process has one thread, so no lock can be held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        ForkResult::Child => Ok(Forked::Child),
    }
}

/// Whether this process has exactly one thread. Where `/proc` cannot be read it is taken as true:
/// that is so in the launcher's own children, which start no threads.
pub(crate) fn is_single_threaded() -> bool {
    // The link count of a task directory is its number of threads plus two.
    match rustix::fs::stat("/proc/self/task") {
        Ok(stat) => stat.st_nlink <= 3,
        Err(_) => true,
    }
}

/// What [`mount_setattr`] changes.
#[derive(Default, Clone, Copy)]
pub(crate) struct MountAttributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) recursive: bool,
}

/// `mount_setattr(2)` on the mount that `mount` is the root of.
pub(crate) fn mount_setattr(mount: impl AsFd, attributes: MountAttributes) -> io::Result<()> {
    let raw = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if attributes.recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a C string, `raw` outlives the call and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}

/// Marks every descriptor from 3 up close-on-exec, so the program starts with 0, 1 and 2 only.
pub(crate) fn close_on_exec_from_3() -> io::Result<()> {
    // SAFETY: three integers; marking descriptors does not invalidate any of them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(result)
}

/// Closes every descriptor from 3 up. For the very start of a process, where those can only be
/// what a careless caller of the caller let us inherit: a first process that stays around would
/// show them to the container as `/proc/1/fd`.
pub(crate) fn close_inherited() -> io::Result<()> {
    // SAFETY: nothing in this process has opened anything yet, so nobody owns what is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0) };
    check(result)
}

/// Makes `target` refer to what `source` refers to, close-on-exec, keeping its number.
pub(crate) fn replace_descriptor(source: impl AsFd, target: BorrowedFd<'_>) {
    // SAFETY: both are open; `target` stays open, only what it refers to changes.
    unsafe {
        libc::dup3(
            source.as_fd().as_raw_fd(),
            target.as_raw_fd(),
            libc::O_CLOEXEC,
        )
    };
}

/// Installs a system call filter on this thread. Unlike the compiler's own function it does not set
/// no_new_privs, which would turn set-user-ID programs off for everyone.
pub(crate) fn install_filter(filter: &[seccompiler::sock_filter]) -> io::Result<()> {
    let length =
        u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog {
        len: length,
        // The kernel only reads it; both types are the kernel's own layout.
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program and the instructions it points to live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    check(result)
}

/// Leaves the session keyring of whoever called us for a new, empty one.
pub(crate) fn join_new_session_keyring() -> io::Result<()> {
    // SAFETY: a null name asks for an anonymous keyring; nothing else is read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<u8>(),
        )
    };
    check(result)
}

/// Puts every signal back to its default action; Rust's start-up code ignores SIGPIPE and a
/// caller may ignore others, which `execve` would hand on.
pub(crate) fn reset_signal_actions() {
    // Not through libc, which keeps two signals for itself and would leave them ignored.
    let default_action = [0_u64; 4];
    for number in 1..=LAST_SIGNAL {
        // SAFETY: reads one kernel sigaction, which all zeros is a valid one of: default action, no
        // flags, no restorer, empty mask. The default action runs no code of ours. SIGKILL and
        // SIGSTOP are refused, which is fine.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default_action.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            )
        };
    }
}

/// The kernel's `_NSIG`.
const LAST_SIGNAL: libc::c_int = 64;

/// Brings the loopback device of this network namespace up.
pub(crate) fn bring_loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all bytes zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    check(result.into())
}

/// The number of a loop device that no file is attached to; the kernel makes one if there is none.
pub(crate) fn free_loop_device(control: &str) -> io::Result<u32> {
    /// `LOOP_CTL_GET_FREE` of linux/loop.h.
    const GET_FREE: u32 = 0x4c82;
    let control = std::fs::File::options()
        .read(true)
        .write(true)
        .open(control)?;
    // SAFETY: this request takes no argument and touches no memory of ours. The cast is to
    // whatever integer this libc numbers requests with.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE as _) };
    check(result.into())?;
    u32::try_from(result).map_err(io::Error::other)
}

/// `setrlimit(2)` by number; `None` is unlimited.
pub(crate) fn set_rlimit(resource: u32, soft: Option<u64>, hard: Option<u64>) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft.unwrap_or(libc::RLIM_INFINITY),
        rlim_max: hard.unwrap_or(libc::RLIM_INFINITY),
    };
    // SAFETY: reads one rlimit, which lives until the call returns. The cast is to whatever
    // integer this libc numbers resources with.
    let result = unsafe { libc::setrlimit(resource as _, &raw const limit) };
    check(result.into())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Where the handler below writes to; -1 while no [`SignalCatcher`] lives.
static SIGNAL_PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note_signal(number: libc::c_int) {
    let descriptor = SIGNAL_PIPE.load(Ordering::Relaxed);
    // Signal numbers are below 65.
    let byte = number as u8;
    // SAFETY: write(2) is async-signal-safe and reads one byte of this frame; errno, which the
    // interrupted code may be about to read, is put back.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(descriptor, (&raw const byte).cast(), 1);
        *libc::__errno_location() = errno;
    }
}

/// While it lives, the given signals do nothing but appear as bytes (their numbers) on a pipe.
pub(crate) struct SignalCatcher {
    reader: OwnedFd,
    _writer: OwnedFd,
    previous: Vec<(Signal, SigAction)>,
}

impl SignalCatcher {
    /// Catches `signals`. Only one catcher can live in a process; a second one is refused.
    pub(crate) fn install(signals: &[Signal]) -> io::Result<Self> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags)?;
        let claimed = SIGNAL_PIPE.compare_exchange(
            -1,
            writer.as_raw_fd(),
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
        if claimed.is_err() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let action = SigAction::new(
            SigHandler::Handler(note_signal),
            SaFlags::SA_RESTART,
            SigSet::empty(),
        );
        let mut catcher = Self {
            reader,
            _writer: writer,
            previous: Vec::with_capacity(signals.len()),
        };
        for &signal in signals {
            // SAFETY: the handler makes async-signal-safe calls only, and `drop` below puts the
            // old action back before the pipe is closed.
            let previous = unsafe { nix::sys::signal::sigaction(signal, &action) }?;
            catcher.previous.push((signal, previous));
        }
        Ok(catcher)
    }

    /// The end to poll and to read numbers from; it does not block.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl Drop for SignalCatcher {
    fn drop(&mut self) {
        for (signal, action) in self.previous.drain(..).rev() {
            // SAFETY: the action is the one that was in force before `install`.
            let _ = unsafe { nix::sys::signal::sigaction(signal, &action) };
        }
        // Only now: a handler that still runs must find the pipe open.
        SIGNAL_PIPE.store(-1, Ordering::SeqCst);
    }
}
