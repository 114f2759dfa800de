//! How containers end, and what ends with them.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use wythe_runtime::{Container, Error, ExitStatus, Input, Relay, Stream};

use crate::fixture::{Fixture, run, start};
use crate::modes;
use crate::runner::tests;

tests![
    a_signal_ends_the_first_process_only_if_it_wants,
    init_passes_signals_on_and_reaps,
    dropping_a_container_kills_everything_in_it,
    killing_the_caller_kills_the_container,
    killing_the_monitor_kills_the_container,
    the_caller_signals_are_passed_on,
    without_a_process_namespace_nothing_is_left_either,
    many_containers_start_at_once,
];

/// Reads a line, so that the program is known to be that far.
fn wait_for_line(stdout: &mut File) {
    let mut byte = [0];
    while byte[0] != b'\n' {
        stdout.read_exact(&mut byte).unwrap();
    }
}

/// That every process which holds the other end is gone, soon.
fn assert_closes(mut stdout: File) {
    let (sender, receiver) = std::sync::mpsc::channel();
    // Nothing is launched while this thread lives.
    let reader = std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = stdout.read_to_end(&mut rest);
        let _ = sender.send(());
    });
    receiver
        .recv_timeout(Duration::from_secs(10))
        .expect("somebody lives on");
    reader.join().unwrap();
}

const SLEEPERS: &str = "sleep 1000 & (setsid sleep 1000 &) ; echo up; sleep 1000; sleep 1000";

fn a_signal_ends_the_first_process_only_if_it_wants() {
    let fixture = Fixture::new();
    let mut container =
        start(fixture.shell("trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done")).unwrap();
    wait_for_line(&mut container.stdout.take().unwrap());
    container.kill(libc::SIGTERM).unwrap();
    assert_eq!(container.wait().unwrap(), ExitStatus::Code(9));

    let mut container = start(fixture.shell(SLEEPERS)).unwrap();
    let mut stdout = container.stdout.take().unwrap();
    wait_for_line(&mut stdout);
    // No handler: the first process of a namespace ignores it.
    container.kill(libc::SIGTERM).unwrap();
    container.kill(libc::SIGKILL).unwrap();
    let status = container.wait().unwrap();
    assert_eq!((status, status.code()), (ExitStatus::Signal(9), 137));
    assert_closes(stdout);
}

fn init_passes_signals_on_and_reaps() {
    let fixture = Fixture::new();
    let mut bundle = fixture.shell("echo $$; exec sleep 1000");
    bundle.init = true;
    let mut container = start(bundle).unwrap();
    wait_for_line(&mut container.stdout.take().unwrap());
    container.kill(libc::SIGTERM).unwrap();
    assert_eq!(container.wait().unwrap().code(), 143);

    // An orphan that ends must not stay as a zombie.
    let script = "orphan=$(sleep 0.05 >/dev/null & echo $!); while [ -e /proc/$orphan ]; do sleep 0.05; done; cat /proc/1/comm; exit 4";
    let mut bundle = fixture.shell(script);
    bundle.init = true;
    let output = run(bundle).unwrap();
    assert_eq!(output.status, ExitStatus::Code(4));
    assert_eq!(output.stdout.lines().count(), 1, "{}", output.stdout);
}

fn dropping_a_container_kills_everything_in_it() {
    for init in [false, true] {
        let fixture = Fixture::new();
        let mut bundle = fixture.shell(SLEEPERS);
        bundle.init = init;
        let mut container = start(bundle).unwrap();
        let mut stdout = container.stdout.take().unwrap();
        wait_for_line(&mut stdout);
        drop(container);
        assert_closes(stdout);
    }
}

fn killing_the_caller_kills_the_container() {
    let fixture = Fixture::new();
    let mut caller = modes::command("wait", &fixture.root(), SLEEPERS)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout: std::os::fd::OwnedFd = caller.stdout.take().unwrap().into();
    let mut stdout = File::from(stdout);
    wait_for_line(&mut stdout);
    caller.kill().unwrap();
    caller.wait().unwrap();
    assert_closes(stdout);
}

/// The children of this process that watch over containers.
fn monitors() -> Vec<i32> {
    let me = std::process::id();
    let text = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children")).unwrap();
    text.split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

fn killing_the_monitor_kills_the_container() {
    let fixture = Fixture::new();
    let mut container = start(fixture.shell(SLEEPERS)).unwrap();
    let mut stdout = container.stdout.take().unwrap();
    wait_for_line(&mut stdout);
    let monitors = monitors();
    assert_eq!(monitors.len(), 1);
    for pid in monitors {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    assert!(matches!(container.wait(), Err(Error::LauncherDied)));
    assert_closes(stdout);
}

fn the_caller_signals_are_passed_on() {
    let fixture = Fixture::new();
    let relay = Relay::install().unwrap();
    assert!(Relay::install().is_err(), "one at a time");
    let script = "trap 'echo got' USR1; trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done";
    let mut container = start(fixture.shell(script)).unwrap();
    let mut stdout = container.stdout.take().unwrap();
    wait_for_line(&mut stdout);
    for signal in [Signal::SIGUSR1, Signal::SIGTERM] {
        nix::sys::signal::raise(signal).unwrap();
    }
    let status = relay.wait(container, Input::Detached).unwrap();
    assert_eq!(status, ExitStatus::Code(5));
    assert!(std::io::read_to_string(stdout).unwrap().contains("got"));
}

fn without_a_process_namespace_nothing_is_left_either() {
    let fixture = Fixture::new();
    let script = "test $$ != 1 && sleep 1000 & (setsid sleep 1000 &) ; echo up; exit 6";
    let mut caller = modes::command("masked-proc", &fixture.root(), script)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout: std::os::fd::OwnedFd = caller.stdout.take().unwrap().into();
    let mut stdout = File::from(stdout);
    wait_for_line(&mut stdout);
    assert_eq!(caller.wait().unwrap().code(), Some(6));
    assert_closes(stdout);
}

fn many_containers_start_at_once() {
    let fixture = Fixture::new();
    let mut containers: Vec<Container> = (0..8)
        .map(|code| {
            let mut bundle = fixture.shell(&format!("echo up; read line; exit {code}"));
            bundle.stdio.stdin = Stream::Pipe;
            start(bundle).unwrap()
        })
        .collect();
    // The first ends when all are there.
    for container in &mut containers {
        wait_for_line(container.stdout.as_mut().unwrap());
    }
    for container in &mut containers {
        drop(container.stdin.take());
    }
    for (code, container) in containers.into_iter().enumerate() {
        assert_eq!(usize::from(container.wait().unwrap().code()), code);
    }
}
