//! Containers with a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;

use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use wythe_runtime::{ExitStatus, TerminalSize};

use crate::fixture::{Fixture, start};
use crate::modes;
use crate::runner::tests;

tests![
    the_program_has_a_terminal_of_its_own,
    what_is_typed_can_interrupt,
    the_callers_terminal_is_joined_and_restored,
];

/// All that a terminal shows until its last user has gone.
fn read_all(terminal: &OwnedFd) -> String {
    let mut file = File::from(terminal.try_clone().unwrap());
    let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
    // Ends with EIO, not with 0.
    while let Ok(read @ 1..) = file.read(&mut buffer) {
        text.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(text).unwrap()
}

fn read_until(terminal: &OwnedFd, wanted: &str) {
    let mut file = File::from(terminal.try_clone().unwrap());
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.contains(wanted) {
        file.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
}

fn the_program_has_a_terminal_of_its_own() {
    let fixture = Fixture::new();
    for init in [false, true] {
        let mut bundle = fixture.shell("tty; stty size; echo $TERM; test -c /dev/console && echo x > /dev/tty; read line; echo got $line");
        bundle.process.terminal = Some(TerminalSize {
            rows: 11,
            columns: 33,
        });
        bundle.init = init;
        let mut container = start(bundle).unwrap();
        let terminal = container.terminal.take().unwrap();
        File::from(terminal.try_clone().unwrap())
            .write_all(b"input\n")
            .unwrap();
        let text = read_all(&terminal);
        for wanted in [
            "/dev/pts/0\r\n",
            "11 33\r\n",
            "xterm\r\n",
            "x\r\n",
            "got input\r\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} in {text:?}");
        }
        assert!(container.wait().unwrap().is_success());
    }
}

fn what_is_typed_can_interrupt() {
    let fixture = Fixture::new();
    for init in [false, true] {
        let mut bundle =
            fixture.shell("trap 'exit 3' INT; echo ready; while :; do sleep 0.01; done");
        bundle.process.terminal = Some(TerminalSize::default());
        bundle.init = init;
        let mut container = start(bundle).unwrap();
        let terminal = container.terminal.take().unwrap();
        read_until(&terminal, "ready");
        // Kept open: closing it would drop what has been typed and hang up.
        let mut terminal = File::from(terminal);
        terminal.write_all(&[3]).unwrap();
        assert_eq!(container.wait().unwrap(), ExitStatus::Code(3));
    }
}

fn the_callers_terminal_is_joined_and_restored() {
    let fixture = Fixture::new();
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let outer = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&outer).unwrap();
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags).unwrap();
    let size = |ws_row, ws_col| Winsize {
        ws_row,
        ws_col,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&outer, size(20, 50)).unwrap();
    let before = tcgetattr(&inner).unwrap();
    // The new size comes when it comes.
    let script = "stty size; echo ready; read line; while [ \"$(stty size)\" = '20 50' ]; do :; done; stty size; echo got $line; exit 8";
    let mut command = modes::command("terminal", &fixture.root(), script);
    let again = || std::process::Stdio::from(inner.try_clone().unwrap());
    command
        .stdin(again())
        .stdout(again())
        .stderr(again())
        .process_group(0);
    let mut caller = command.spawn().unwrap();
    read_until(&outer, "20 50\r\nready");
    assert!(
        !tcgetattr(&inner)
            .unwrap()
            .local_modes
            .contains(LocalModes::ECHO),
        "raw"
    );
    tcsetwinsize(&outer, size(30, 60)).unwrap();
    let pid = nix::unistd::Pid::from_raw(caller.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGWINCH).unwrap();
    File::from(outer.try_clone().unwrap())
        .write_all(b"hello\r")
        .unwrap();
    read_until(&outer, "30 60\r\ngot hello\r\n");
    assert_eq!(caller.wait().unwrap().code(), Some(8));
    let after = tcgetattr(inner.as_fd()).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(after.input_modes, before.input_modes);
    assert_eq!(after.output_modes, before.output_modes);
}
