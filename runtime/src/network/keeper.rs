//! The processes behind one namespace that reaches the outside: keeper, holder, twice pasta.
//!
//! Each is our own binary afresh with one thread, as the launcher's are, until pasta is executed.
//! pasta is told the holder's namespace as a path of /proc, which is what its AppArmor profiles
//! allow; the holder has given up what pasta does not hold by then, because nobody may look at a
//! process that can do more than they.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::CloneFlags;
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};

use crate::capabilities::{self, CapabilityMask};
use crate::channel::Channel;
use crate::error::{At, Failure, Refusal, Stage};
use crate::init::die_with_parent;
use crate::network::set_up_own;
use crate::sys::{self, Forked};
use crate::text::OsText;

/// The name under which our binary knows that it is to be a keeper.
pub(crate) const NAME: &str = "wythe-network";

/// The device in the namespace. The same on every machine, as Docker has it, so that what a step
/// writes does not depend on where it ran.
const DEVICE: &str = "eth0";

/// Most that is kept of what pasta says.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// What a keeper is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// pasta.
    pub(super) program: OsText,
    /// Addresses whose port 53 leads to the host's resolver.
    pub(super) forwarded: Vec<IpAddr>,
}

/// What comes of it. There is one answer; after it nothing is said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The network works; the namespace is attached.
    Ready,
    /// The namespace could not be made.
    Failed(Failure),
    /// pasta ended at once, saying this.
    Refused(String),
}

/// Keeps a namespace until the caller or pasta goes away; returns this process's exit code, which
/// nobody looks at.
pub(crate) fn run() -> i32 {
    if sys::close_inherited().is_err() {
        return 125;
    }
    let Ok(channel) = Channel::inherited() else {
        return 125;
    };
    let Ok(Some((order, _))) = channel.receive::<Order>() else {
        return 125;
    };
    match keep(&channel, &order) {
        Ok(()) => 0,
        Err(failure) => {
            let _ = channel.send(&Answer::Failed(failure), &[]);
            125
        }
    }
}

fn keep(channel: &Channel, order: &Order) -> Result<(), Failure> {
    // What is typed at the terminal, and what is mounted here, is none of our business.
    let _ = SigSet::all().thread_block();
    rustix::process::setsid().at(Stage::Fork, "")?;
    rustix::process::chdir("/").at(Stage::WorkingDirectory, "/")?;
    nix::sched::unshare(CloneFlags::CLONE_NEWPID).at(Stage::Namespaces, "")?;
    let (reader, alive) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at(Stage::Fork, "")?;
    let holder = match sys::fork().at(Stage::Fork, "")? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop(reader);
            if let Err(answer) = hold(channel, order, &alive) {
                let _ = channel.send(&answer, &[]);
            }
            std::process::exit(0);
        }
    };
    let handle = rustix::process::Pid::from_raw(holder.as_raw())
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()))
        .at(Stage::Fork, "")?;
    let mut polled = [
        PollFd::new(&handle, PollFlags::IN),
        // Nobody sends us anything after the order: whatever comes is the end.
        PollFd::new(channel, PollFlags::IN),
    ];
    while let Err(rustix::io::Errno::INTR) = rustix::event::poll(&mut polled, None) {}
    // Of a holder that has ended by itself nothing is left to kill.
    let _ = rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::KILL);
    // Returns once the kernel has ended everything in its process ID namespace.
    let _ = waitpid(holder, None);
    Ok(())
}

/// Makes both namespaces, starts pasta on each and waits for an end.
fn hold(channel: &Channel, order: &Order, alive: &OwnedFd) -> Result<(), Answer> {
    die_with_parent(alive).map_err(Answer::Failed)?;
    // What pasta needs to be allowed to look at us is that we may do no more than it may.
    let network_only = CapabilityMask::from_names(&["SYS_ADMIN", "NET_ADMIN"], &["ALL"]);
    let network_only = network_only.unwrap_or(CapabilityMask::EMPTY);
    capabilities::reduce(network_only, true).map_err(Answer::Failed)?;
    connect(&order.program, &order.forwarded)?;
    // Whose host is the namespace that we are in now. Name servers are forwarded by the first.
    connect(&order.program, &[])?;
    give_up_all().map_err(Answer::Failed)?;
    report(channel).map_err(Answer::Failed)?;
    // With either of the two daemons the way out is gone, and we are the other's end.
    let _ = waitpid(None, None);
    Ok(())
}

/// We do nothing from here on but wait. Where containers have no process ID namespace of their own
/// they see us, and we are in the host's file systems: nobody of less privilege is to trace us.
fn give_up_all() -> Result<(), Failure> {
    let closed = rustix::process::DumpableBehavior::NotDumpable;
    rustix::process::set_dumpable_behavior(closed).at(Stage::Capabilities, "")?;
    capabilities::reduce(CapabilityMask::EMPTY, true)
}

fn report(channel: &Channel) -> Result<(), Failure> {
    let path = "/proc/self/ns/net";
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::open(path, flags, Mode::empty()).at(Stage::Network, path)?;
    channel
        .send(&Answer::Ready, &[namespace.as_fd()])
        .at(Stage::Network, "")
}

/// Moves this process into a new network namespace, with the present one as its way out.
fn connect(program: &OsText, forwarded: &[IpAddr]) -> Result<(), Answer> {
    let (pasta, output) = start(program, forwarded).map_err(Answer::Failed)?;
    match waitpid(pasta, None) {
        // It leaves its daemon to us once everything is in place.
        Ok(WaitStatus::Exited(_, 0)) => Ok(()),
        other => Err(Answer::Refused(message(&output, other))),
    }
}

fn start(program: &OsText, forwarded: &[IpAddr]) -> Result<(Pid, OwnedFd), Failure> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).at(Stage::Fork, "");
    let (go_reader, go) = pipe()?;
    let (output, output_writer) = pipe()?;
    // Before the namespace is left: pasta stays in it.
    let pasta = match sys::fork().at(Stage::Fork, "")? {
        Forked::Parent(pid) => pid,
        Forked::Child => {
            drop(go);
            let Err(failure) = become_pasta(program, forwarded, go_reader, &output_writer);
            let _ = writeln!(File::from(output_writer), "{failure}");
            std::process::exit(125);
        }
    };
    drop((go_reader, output_writer));
    nix::sched::unshare(CloneFlags::CLONE_NEWNET).at(Stage::Namespaces, "")?;
    tune();
    set_up_own()?;
    // By the number that whoever looks at this /proc has for us, not by ours (1).
    let own = std::fs::read_link("/proc/self").at(Stage::Network, "/proc/self")?;
    let path = OsText::from(std::path::Path::new("/proc").join(own).join("ns/net"));
    File::from(go)
        .write_all(path.as_bytes())
        .at(Stage::Network, "")?;
    Ok((pasta, output))
}

/// Settings of the new namespace. Each is a matter of speed or comfort, so none may fail.
fn tune() {
    for (name, value) in [
        // Nobody else can have our address; without this it cannot be used in the first second.
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/all/accept_dad", "0"),
        // pasta has set addresses and routes itself.
        ("ipv6/conf/default/accept_ra", "0"),
        // As in Docker's containers: `ping` needs no raw packets.
        ("ipv4/ping_group_range", "0 2147483647"),
    ] {
        let _ = std::fs::write(format!("/proc/sys/net/{name}"), value);
    }
}

fn become_pasta(
    program: &OsText,
    forwarded: &[IpAddr],
    go: OwnedFd,
    output: &OwnedFd,
) -> Result<Infallible, Failure> {
    let mut namespace = String::new();
    File::from(go)
        .read_to_string(&mut namespace)
        .at(Stage::Network, "")?;
    if namespace.is_empty() {
        // The holder failed, and tells why.
        return Err(Failure::refused(Stage::Network, "", Refusal::Malformed));
    }
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty())
        .at(Stage::Execute, "/dev/null")?;
    rustix::stdio::dup2_stdin(&null).at(Stage::Execute, "stdin")?;
    rustix::stdio::dup2_stdout(output).at(Stage::Execute, "stdout")?;
    rustix::stdio::dup2_stderr(output).at(Stage::Execute, "stderr")?;
    sys::close_on_exec_from_3().at(Stage::Execute, "")?;
    sys::reset_signal_actions();
    SigSet::all().thread_unblock().at(Stage::Execute, "")?;
    let malformed = |_| Failure::refused(Stage::Execute, "", Refusal::Malformed);
    let path = CString::new(program.as_bytes()).map_err(malformed)?;
    let arguments = arguments(forwarded, &namespace)
        .into_iter()
        .map(CString::new)
        .collect::<Result<Vec<_>, _>>()
        .map_err(malformed)?;
    // An environment may hold secrets, and pasta needs nothing of it.
    nix::unistd::execve(&path, &arguments, &[] as &[CString]).at(Stage::Execute, program.clone())
}

/// Understood alike by every pasta from 2023 on.
fn arguments(forwarded: &[IpAddr], namespace: &str) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "pasta",
        "--config-net",
        "--quiet",
        // Nothing of the host through the gateway's address, no port in any direction.
        "--no-map-gw",
        "--tcp-ports=none",
        "--udp-ports=none",
        "--tcp-ns=none",
        "--udp-ns=none",
        // Addresses and routes are set once; nobody is to ask for others.
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ra",
        // Ending it is our business; watching /proc is something that fails on some machines.
        "--no-netns-quit",
        // Root of our user namespace, who it runs as already. Without being told so it becomes
        // somebody who may not enter the namespace, where that is root of the machine.
        "--runas=0:0",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("--ns-ifname={DEVICE}"));
    arguments.extend(
        forwarded
            .iter()
            .map(|address| format!("--dns-forward={address}")),
    );
    arguments.push(format!("--netns={namespace}"));
    arguments
}

/// The line of pasta's output that says what it failed of.
fn message(output: &OwnedFd, end: nix::Result<WaitStatus>) -> String {
    let mut bytes = vec![0; MAX_MESSAGE_BYTES];
    // All it said is in the pipe; what it started may keep the other end open.
    let length = rustix::io::ioctl_fionread(output)
        .ok()
        .filter(|waiting| *waiting > 0)
        .and_then(|_| rustix::io::read(output, &mut bytes).ok());
    let text = String::from_utf8_lossy(bytes.get(..length.unwrap_or(0)).unwrap_or_default());
    let said = text.lines().map(str::trim);
    // It complains of the system log too, where there is none.
    let mut said = said.filter(|line| !line.is_empty() && !line.starts_with("Failed to send"));
    match (said.next_back(), end) {
        (Some(line), _) => line.chars().filter(|letter| !letter.is_control()).collect(),
        (None, Ok(WaitStatus::Exited(_, code))) => format!("exit code {code}"),
        (None, Ok(WaitStatus::Signaled(_, signal, _))) => format!("ended by {signal}"),
        (None, _) => "it ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_is_the_message() {
        for (text, expected) in [
            ("", "exit code 1"),
            ("Failed to send 20 bytes to syslog\n", "exit code 1"),
            (
                "No external routable interface for IPv6\nExternal interface not usable\n\
                 Failed to send 30 bytes to syslog\n",
                "External interface not usable",
            ),
        ] {
            let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
            File::from(writer.try_clone().unwrap())
                .write_all(text.as_bytes())
                .unwrap();
            let end = Ok(WaitStatus::Exited(Pid::from_raw(1), 1));
            assert_eq!(message(&reader, end), expected);
            drop(writer);
        }
    }

    #[test]
    fn nothing_is_forwarded_that_was_not_asked_for() {
        let without = arguments(&[], "/proc/1/ns/net");
        assert!(!without.iter().any(|argument| argument.contains("dns")));
        let with = arguments(&["169.254.1.1".parse().unwrap()], "/proc/1/ns/net");
        assert!(with.contains(&"--dns-forward=169.254.1.1".to_owned()));
        for none in [
            "--no-map-gw",
            "--tcp-ns=none",
            "--udp-ns=none",
            "--tcp-ports=none",
        ] {
            assert!(without.contains(&none.to_owned()), "{none}");
        }
    }
}
