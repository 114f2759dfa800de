//! The small first process: starts the program, passes signals on, reaps orphans, and ends with
//! the program, which ends the whole namespace.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{At, Failure, Stage};
use crate::sys::{self, Forked};

/// Forks. Returns in the child, which is to become the program; the parent stays in here as the
/// first process and never returns. `before_waiting` lets the parent let go of what only the
/// program's side needs.
pub(crate) fn split(has_terminal: bool, before_waiting: impl FnOnce()) -> Result<(), Failure> {
    // Before the fork, so that no signal is lost; the program unblocks them again.
    SigSet::all().thread_block().at(Stage::Fork, "")?;
    match sys::fork().at(Stage::Fork, "")? {
        Forked::Child => {
            // A group of its own: what is typed reaches the program once, not also through us.
            nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).at(Stage::Fork, "")?;
            if has_terminal {
                nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::getpid())
                    .at(Stage::Terminal, "")?;
            }
            Ok(())
        }
        Forked::Parent(program) => {
            before_waiting();
            std::process::exit(serve(program))
        }
    }
}

fn serve(program: Pid) -> i32 {
    let signals = SigSet::all();
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(program) {
                    return code;
                }
            }
            Ok(signal) => {
                let _ = kill(program, signal);
            }
            // A real-time signal that the wrapper has no name for.
            Err(_) => {}
        }
    }
}

/// Reaps whoever has ended; the program's exit code once it is among them.
fn reap(program: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == program => return Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Some(128 + signal as i32);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return Some(125),
        }
    }
}
