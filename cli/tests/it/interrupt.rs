//! Ctrl-C: prompt, with the shell's exit code, and nothing left behind.

use nix::sys::signal::Signal;
use std::io::BufRead as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::support::{Sandbox, busybox, containers, peers, signal, signal_that_is_taken, wait_for};

/// The end of an interrupted process. What it waits for when it is interrupted never comes, so a
/// process that does not notice goes on for ever.
fn end(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_for("the end of the process", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

/// The same command, with Ctrl-C as a terminal's shell leaves it: what a script starts in the
/// background, as a test run may be, ignores it, and so does what it starts.
fn heeding_ctrl_c(command: &Command) -> Command {
    let mut whole = Command::new("env");
    whole.arg("--default-signal=INT").arg(command.get_program());
    whole.args(command.get_args());
    whole.current_dir(command.get_current_dir().unwrap());
    whole.env_clear();
    whole.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    whole
}

/// Whether some process has these arguments.
fn is_running(arguments: &str) -> bool {
    let wanted = format!("{}\0", arguments.replace(' ', "\0"));
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.ends_with(wanted.as_bytes()))
    })
}

fn leftovers(sandbox: &Sandbox) -> usize {
    let directories = |name: &str| {
        std::fs::read_dir(sandbox.path("store").join(name)).map_or(0, |entries| {
            entries
                .flatten()
                .filter(|entry| entry.path().is_dir())
                .count()
        })
    };
    directories("snapshots") + directories("ingest")
}

/// A context with a shell whose last step sleeps.
fn sleeper(seconds: &str) -> Option<Sandbox> {
    if !std::path::Path::new("/bin/busybox").exists() {
        peers(&["busybox"]);
        return None;
    }
    if !containers() {
        return None;
    }
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("context")).unwrap();
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    let head = "FROM scratch AS base\nCOPY busybox /bin/busybox\n";
    sandbox.file(
        "context/Dockerfile",
        format!("{head}FROM base\nRUN [\"/bin/busybox\", \"sleep\", \"{seconds}\"]\n"),
    );
    sandbox.ok(["build", "-q", "--target", "base", "-t", "base", "context"]);
    Some(sandbox)
}

#[test]
fn an_interrupted_build_ends_at_once_and_leaves_nothing() {
    let seconds = format!("41{}", std::process::id());
    let Some(sandbox) = sleeper(&seconds) else {
        return;
    };
    for (number, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut child = sandbox
            .wythe(["build", "-t", "app", "context"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let arguments = format!("/bin/busybox sleep {seconds}");
        wait_for("the step", || is_running(&arguments));
        signal(&child, number);
        assert_eq!(end(&mut child).code(), Some(code));
        wait_for("the end of the step", || !is_running(&arguments));
        assert_eq!(leftovers(&sandbox), 0);
    }
    assert!(!sandbox.ok(["images"]).contains("app"));
}

#[test]
fn a_program_that_ignores_ctrl_c_is_killed_by_the_third() {
    let seconds = format!("42{}", std::process::id());
    let Some(sandbox) = sleeper("0") else { return };
    let script = format!("trap '' INT; echo up; exec /bin/busybox sleep {seconds}");
    let mut child = sandbox
        .wythe(["run", "base", "/bin/busybox", "sh", "-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    for _ in 0..2 {
        signal_that_is_taken(&child, Signal::SIGINT);
        assert!(child.try_wait().unwrap().is_none());
    }
    signal(&child, Signal::SIGINT);
    assert_eq!(end(&mut child).code(), Some(137));
    wait_for("the end of the program", || {
        !is_running(&format!("sleep {seconds}"))
    });
    assert_eq!(leftovers(&sandbox), 0);
}

/// A registry that takes connections and never answers.
#[test]
fn an_interrupted_pull_or_push_ends_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("{}/app:1", listener.local_addr().unwrap());
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", &name, "context"]);
    for verb in ["pull", "push"] {
        let mut command = heeding_ctrl_c(&sandbox.wythe([verb, &name]));
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let connection = listener.accept().unwrap();
        signal(&child, Signal::SIGINT);
        let status = end(&mut child);
        assert!(
            status.signal() == Some(Signal::SIGINT as i32) || status.code() == Some(130),
            "{verb}: {status}"
        );
        drop(connection);
        sandbox.ok(["info", "--verify"]);
        assert_eq!(leftovers(&sandbox), 0, "{verb}");
    }
}
