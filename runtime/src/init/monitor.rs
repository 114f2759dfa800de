//! The process that watches over a container: makes its namespaces, forks its first process,
//! reports how it ends and kills it when nobody is there to be told.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags};
use rustix::process::PidfdFlags;

use crate::channel::{self, Channel, Report};
use crate::error::{At, Failure, Refusal, Stage};
use crate::init::process;
use crate::plan::{Plan, Slot};
use crate::sys::{self, Forked};

/// Descriptors that came with the plan.
pub(crate) struct Descriptors(Vec<Option<OwnedFd>>);

impl Descriptors {
    /// Takes the descriptor of a slot, which can be done once.
    pub(crate) fn take(&mut self, slot: Slot) -> Result<OwnedFd, Failure> {
        let malformed = || Failure::refused(Stage::Plan, "", Refusal::Malformed);
        self.0
            .get_mut(slot.0)
            .and_then(Option::take)
            .ok_or_else(malformed)
    }
}

/// Runs a container to its end; returns this process's exit code, which nobody looks at.
pub(crate) fn run() -> i32 {
    if sys::close_inherited().is_err() {
        return 125;
    }
    let Ok(channel) = Channel::inherited() else {
        return 125;
    };
    let Ok(Some(((), mut attached))) = channel.receive::<()>() else {
        return 125;
    };
    let plan = if attached.is_empty() {
        Err(Failure::refused(Stage::Plan, "", Refusal::Malformed))
    } else {
        channel::read_memory_file::<Plan>(attached.remove(0)).at(Stage::Plan, "")
    };
    let descriptors = Descriptors(attached.into_iter().map(Some).collect());
    match plan.and_then(|plan| start(&channel, plan, descriptors)) {
        Ok(first) => watch(&channel, first),
        Err(failure) => {
            let _ = channel.send(&Report::Failed(failure), &[]);
            125
        }
    }
}

/// The container's first process.
struct FirstProcess {
    pid: Pid,
    handle: OwnedFd,
    /// Whether the kernel ends everything else with it.
    owns_pids: bool,
}

fn start(
    channel: &Channel,
    plan: Plan,
    mut descriptors: Descriptors,
) -> Result<FirstProcess, Failure> {
    // We share the caller's terminal: what is typed there is for the caller to pass on.
    let _ = SigSet::all().thread_block();
    if let Some(adjust) = plan.process.oom_score_adjust {
        let path = "/proc/self/oom_score_adj";
        std::fs::write(path, adjust.to_string()).at(Stage::Rlimit, path)?;
    }
    if !plan.own_pids {
        // Orphans come to us, to be ended with the program.
        let own = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(own)).at(Stage::Namespaces, "")?;
    }
    if let Some(slot) = plan.joined_network {
        let namespace = descriptors.take(slot)?;
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).at(Stage::Network, "")?;
    }
    nix::sched::unshare(namespaces(&plan)).at(Stage::Namespaces, "")?;
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (reader, writer) = rustix::pipe::pipe_with(flags).at(Stage::Fork, "")?;
    let pid = match sys::fork().at(Stage::Fork, "")? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop(reader);
            let failure = process::run(channel, &plan, descriptors, &writer);
            // Should this fail, the monitor sees the process end without a word.
            let _ = File::from(writer).write_all(&serde_json::to_vec(&failure).unwrap_or_default());
            std::process::exit(failure.exit_code().into());
        }
    };
    // Pipes of the program must close when the program closes them, not when we end.
    drop(descriptors);
    drop(writer);
    let handle = rustix::process::Pid::from_raw(pid.as_raw())
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
        .at(Stage::Fork, "")?;
    // The writing end closes when the program is executed, or after a failure has been written.
    let mut message = Vec::new();
    File::from(reader)
        .read_to_end(&mut message)
        .at(Stage::Fork, "")?;
    if !message.is_empty() {
        let malformed = |_| Failure::refused(Stage::Fork, "", Refusal::Malformed);
        let failure = serde_json::from_slice::<Failure>(&message).map_err(malformed)?;
        let _ = waitpid(pid, None);
        return Err(failure);
    }
    channel
        .send(&Report::Started, &[handle.as_fd()])
        .at(Stage::Fork, "")?;
    Ok(FirstProcess {
        pid,
        handle,
        owns_pids: plan.own_pids,
    })
}

fn namespaces(plan: &Plan) -> CloneFlags {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    let new_network = plan.own_network && plan.joined_network.is_none();
    flags.set(CloneFlags::CLONE_NEWNET, new_network);
    flags.set(CloneFlags::CLONE_NEWPID, plan.own_pids);
    flags
}

/// Waits for the end of the program or of the caller, whichever is first.
fn watch(channel: &Channel, first: FirstProcess) -> i32 {
    loop {
        let mut polled = [
            PollFd::new(&first.handle, PollFlags::IN),
            // A closed socket reports HUP without being asked.
            PollFd::new(channel, PollFlags::IN),
        ];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 125,
        }
        let [program, caller] = polled.map(|entry| entry.revents());
        if program.intersects(PollFlags::IN) {
            return report_end(channel, &first);
        }
        if caller.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::IN) {
            // Nobody sends us anything after the plan: readable means closed.
            let _ =
                rustix::process::pidfd_send_signal(&first.handle, rustix::process::Signal::KILL);
            let _ = waitpid(first.pid, None);
            sweep(&first);
            return 125;
        }
    }
}

/// Ends what the program has left behind, where no namespace does that. Killing one process hands
/// us its children, so this goes on until there are none.
fn sweep(first: &FirstProcess) {
    if first.owns_pids {
        return;
    }
    loop {
        let own = rustix::process::getpid().as_raw_nonzero();
        let path = format!("/proc/{own}/task/{own}/children");
        for child in std::fs::read_to_string(path)
            .unwrap_or_default()
            .split_ascii_whitespace()
        {
            if let Ok(pid) = child.parse() {
                let _ =
                    nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        // Nobody to wait for: done. Kernels without the list of children end here after what is
        // left has ended by itself.
        if waitpid(None, None).is_err() {
            return;
        }
    }
}

fn report_end(channel: &Channel, first: &FirstProcess) -> i32 {
    let report = match waitpid(first.pid, None) {
        Ok(WaitStatus::Exited(_, code)) => Report::Exited(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Report::Signaled(signal as i32),
        // Cannot be: the handle said that it has ended.
        _ => return 125,
    };
    sweep(first);
    let _ = channel.send(&report, &[]);
    0
}
