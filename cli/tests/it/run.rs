//! `wythe run`: a process in an image.

use std::io::Write as _;
use std::process::Stdio;

use crate::support::{Sandbox, busybox, containers, peers, root, succeed};

/// An image with a shell.
fn with_shell() -> Sandbox {
    let sandbox = Sandbox::new();
    std::fs::create_dir_all(sandbox.path("context")).unwrap();
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    sandbox.file(
        "context/passwd",
        "root:x:0:0:root:/root:/bin/sh\nmason:x:1000:1000::/home/mason:/bin/sh\n",
    );
    sandbox.file(
        "context/group",
        "root:x:0:\nmason:x:1000:\nquarry:x:2000:mason\n",
    );
    sandbox.file(
        "context/Dockerfile",
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY passwd group /etc/\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
         RUN mkdir -p /tmp /root /home/mason && chmod 1777 /tmp && chown 1000:1000 /home/mason || true\nCMD [\"sh\"]\n",
    );
    sandbox.ok(["build", "-q", "-t", "shell", "context"]);
    sandbox
}

/// For tests that need a shell: busybox, and namespaces.
pub(crate) fn shell() -> Option<Sandbox> {
    let there = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .any(|path| std::path::Path::new(path).exists());
    if !there {
        peers(&["busybox"]);
        return None;
    }
    containers().then(with_shell)
}

fn sh(sandbox: &Sandbox, flags: &[&str], script: &str) -> String {
    let args = [&["run", "--rm"], flags, &["shell", "sh", "-c", script]].concat();
    sandbox.ok(args)
}

#[test]
fn exit_codes_are_those_of_docker() {
    let Some(sandbox) = shell() else { return };
    for (command, code) in [
        (vec!["run", "shell", "sh", "-c", "exit 7"], 7),
        // Process 1 of a namespace cannot be killed from within; a child of the init can.
        (
            vec!["run", "--init", "shell", "sh", "-c", "kill -TERM $$"],
            128 + 15,
        ),
        (vec!["run", "shell", "/no/such/program"], 127),
        (vec!["run", "shell", "/etc/passwd"], 126),
        (vec!["run", "--no-such-flag", "shell"], 125),
        (vec!["run", "--pull", "never", "no-such-image"], 125),
        (vec!["run", "--user", "nobody-here", "shell", "true"], 125),
    ] {
        let (actual, error) = sandbox.fails(&command);
        assert_eq!(actual, code, "{command:?}: {error}");
        if code == 125 || code == 127 || code == 126 {
            assert!(!error.is_empty(), "{command:?} says nothing");
        }
    }
}

#[test]
fn environment_user_and_directory_come_from_flags_and_image() {
    let Some(sandbox) = shell() else { return };
    sandbox.file("vars", "# comment\nFROM_FILE=1\n");
    assert_eq!(sh(&sandbox, &["-e", "A=b c"], "echo $A"), "b c\n");
    assert_eq!(
        sh(&sandbox, &["--env-file", "vars"], "echo $FROM_FILE"),
        "1\n"
    );
    assert_eq!(sh(&sandbox, &["-w", "/tmp"], "pwd"), "/tmp\n");
    assert_eq!(
        sh(&sandbox, &["--hostname", "quarry"], "hostname"),
        "quarry\n"
    );
    assert_eq!(
        sh(&sandbox, &[], "echo $HOME $PATH"),
        "/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    );
    assert_eq!(
        sandbox.ok(["run", "--entrypoint", "/bin/echo", "shell", "x"]),
        "x\n"
    );
}

#[test]
fn priv_users_are_looked_up_in_the_image() {
    if !root() {
        return;
    }
    let Some(sandbox) = shell() else { return };
    assert_eq!(
        sh(
            &sandbox,
            &["-u", "mason"],
            "id -u; id -g; id -G; echo $HOME"
        ),
        "1000\n1000\n1000 2000\n/home/mason\n"
    );
    assert_eq!(sh(&sandbox, &["-u", "1234:5"], "id -u; id -g"), "1234\n5\n");
    assert_eq!(sh(&sandbox, &["-u", "mason:quarry"], "id -g"), "2000\n");
}

#[test]
fn the_container_sees_its_own_world() {
    let Some(sandbox) = shell() else { return };
    assert_eq!(
        sh(&sandbox, &[], "echo $$"),
        "1\n",
        "a pid namespace of its own"
    );
    assert_eq!(
        sh(&sandbox, &["--init"], "[ $$ != 1 ] && echo yes"),
        "yes\n"
    );
    let interfaces = sh(
        &sandbox,
        &[],
        "ls /sys/class/net 2>/dev/null || cat /proc/net/dev | tail -n +3 | cut -d: -f1",
    );
    assert_eq!(interfaces.split_whitespace().collect::<Vec<_>>(), ["lo"]);
    assert_eq!(
        sh(
            &sandbox,
            &[],
            "ping -c1 127.0.0.1 >/dev/null 2>&1; cat /proc/net/dev | grep -c lo"
        ),
        "1\n"
    );
    assert_eq!(
        sh(
            &sandbox,
            &[],
            "cat /proc/kcore | wc -c; ls -A /sys/firmware | wc -l"
        ),
        "0\n0\n"
    );
    assert!(
        sh(
            &sandbox,
            &[],
            "echo x > /proc/sys/kernel/hostname 2>/dev/null || echo refused"
        )
        .contains("refused")
    );
    assert_eq!(
        sh(
            &sandbox,
            &[],
            "for f in null zero full random urandom tty ptmx; do [ -c /dev/$f ] || [ -L /dev/$f ] || echo no $f; done"
        ),
        ""
    );
    assert_eq!(
        sh(&sandbox, &[], "grep CapBnd /proc/self/status")
            .split_whitespace()
            .last(),
        Some("00000000a80425fb")
    );
    assert_eq!(
        sh(
            &sandbox,
            &["--cap-drop", "ALL"],
            "grep CapBnd /proc/self/status"
        )
        .split_whitespace()
        .last(),
        Some("0000000000000000")
    );
    assert_eq!(
        sh(&sandbox, &[], "grep -E '^Seccomp:' /proc/self/status")
            .split_whitespace()
            .last(),
        Some("2")
    );
    assert_eq!(
        sh(
            &sandbox,
            &["--security-opt", "no-new-privileges"],
            "grep NoNewPrivs /proc/self/status"
        )
        .split_whitespace()
        .last(),
        Some("1")
    );
}

#[test]
fn changes_go_with_the_container_and_read_only_means_it() {
    let Some(sandbox) = shell() else { return };
    sh(&sandbox, &[], "echo x > /mark");
    assert_eq!(sh(&sandbox, &[], "ls /mark 2>/dev/null; true"), "");
    assert_eq!(
        sh(
            &sandbox,
            &["--read-only"],
            "touch /mark 2>/dev/null || echo refused"
        ),
        "refused\n"
    );
    assert_eq!(
        sh(
            &sandbox,
            &["--read-only", "--tmpfs", "/tmp"],
            "touch /tmp/a && echo ok"
        ),
        "ok\n"
    );
    // A file beside the snapshots remembers what the kernel allows.
    let left = std::fs::read_dir(sandbox.path("store/snapshots")).map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .count()
    });
    assert_eq!(left, 0, "a snapshot was left behind");
}

#[test]
fn volumes_are_bound_where_they_should_and_not_followed_out() {
    let Some(sandbox) = shell() else { return };
    sandbox.file("data/in", "inside\n");
    let data = sandbox.path("data");
    let spec = format!("{}:/data", data.display());
    assert_eq!(
        sh(
            &sandbox,
            &["-v", &spec],
            "cat /data/in; echo out > /data/out"
        ),
        "inside\n"
    );
    assert_eq!(std::fs::read_to_string(data.join("out")).unwrap(), "out\n");
    let read_only = format!("{spec}:ro");
    assert_eq!(
        sh(
            &sandbox,
            &["-v", &read_only],
            "touch /data/x 2>/dev/null || echo refused"
        ),
        "refused\n"
    );
    // An image that makes the target a link to the host: the link is resolved inside the image.
    sandbox.file(
        "evil/Dockerfile",
        "FROM shell\nRUN ln -s /../../../../../../etc /escape\n",
    );
    sandbox.ok(["build", "-q", "-t", "evil", "evil"]);
    let canary = format!("{}:/escape/canary", data.display());
    sandbox.ok(["run", "-v", &canary, "evil", "true"]);
    assert!(
        !std::path::Path::new("/etc/canary").exists(),
        "a mount target was made on the host"
    );
}

#[test]
fn standard_input_and_signals_pass_through() {
    let Some(sandbox) = shell() else { return };
    let mut child = sandbox
        .wythe(["run", "-i", "shell", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"through").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"through");

    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = sandbox
        .wythe(["run", "shell", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
    assert_eq!(line, "ready\ncaught\n");
}

#[test]
fn a_killed_run_leaves_no_process() {
    let Some(sandbox) = shell() else { return };
    let marker = format!("31{}", std::process::id());
    let mut child = sandbox
        .wythe([
            "run",
            "shell",
            "sh",
            "-c",
            &format!("echo up; sleep {marker}; true"),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let running = || {
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(Result::ok)
            .any(|entry| {
                let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                command.starts_with(format!("sleep\0{marker}").as_bytes())
            })
    };
    crate::support::wait_for("the end of the container", || !running());
}

#[test]
fn a_terminal_is_a_terminal() {
    let Some(sandbox) = shell() else { return };
    // `script` gives wythe a terminal of its own.
    if !crate::support::programs_here(&["script"]) {
        return;
    }
    let wythe = format!(
        "{} --root {} run -it shell sh -c 'tty; stty size; test -t 0 && test -t 1 && echo terminal'",
        crate::support::WYTHE,
        sandbox.path("store").display()
    );
    let mut script = std::process::Command::new("script");
    script
        .args([
            "-qec",
            &format!("stty rows 33 cols 77; {wythe}"),
            "/dev/null",
        ])
        .stdin(Stdio::null());
    let said = succeed(&mut script).replace('\r', "");
    assert!(
        said.contains("/dev/pts/") || said.contains("/dev/console"),
        "{said}"
    );
    assert!(said.contains("33 77"), "{said}");
    assert!(said.contains("terminal"), "{said}");
}

#[test]
fn without_a_command_there_is_a_clear_error() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    let (code, error) = sandbox.fails(["run", "app"]);
    assert_eq!(code, 125);
    assert!(error.contains("command"), "{error}");
}
