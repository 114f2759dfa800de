//! Other things this binary can be: callers that are killed, or live in odd places. A test starts
//! them as processes of their own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::CloneFlags;
use wythe_runtime::{
    Bundle, Degradation, Input, MountSource, MountSpec, Process, Relay, Rootfs, Stream, launch,
};

/// Names the mode.
const VARIABLE: &str = "WYTHE_TEST_MODE";

/// This binary, to be started in another mode over the given root.
pub(crate) fn command(mode: &str, root: &Path, script: &str) -> Command {
    command_of(Path::new("/proc/self/exe"), mode, root, script)
}

/// The same of a copy of this binary.
pub(crate) fn command_of(binary: &Path, mode: &str, root: &Path, script: &str) -> Command {
    let mut command = Command::new(binary);
    command.arg0("it").env(VARIABLE, mode).arg(root).arg(script);
    command
}

/// Does what another mode does, if this process is in one.
pub(crate) fn run() -> bool {
    let Ok(mode) = std::env::var(VARIABLE) else {
        return false;
    };
    let mut args = std::env::args_os().skip(1);
    let root = args.next().unwrap();
    let script = args.next().unwrap();
    let mut bundle = Bundle::new(
        Rootfs::Directory(root.into()),
        ["/bin/sh".into(), "-c".into(), script],
    );
    let source = MountSource::Bind("/usr".into());
    bundle.mounts.push(MountSpec {
        source,
        target: "/usr".into(),
        read_only: true,
    });
    bundle.stdio.stdout = Stream::Inherit;
    bundle.stdio.stderr = Stream::Inherit;
    let code = match mode.as_str() {
        // Launches and waits.
        "wait" => launch(bundle.validate().unwrap())
            .unwrap()
            .wait()
            .unwrap()
            .code(),
        // Stands in for the container, with a terminal.
        "terminal" => {
            bundle.process = Process {
                terminal: Relay::terminal_size(),
                ..bundle.process
            };
            let relay = Relay::install().unwrap();
            let container = launch(bundle.validate().unwrap()).unwrap();
            relay.wait(container, Input::Attached).unwrap().code()
        }
        // From a binary that has been replaced since.
        "replaced" => {
            let own = std::env::current_exe().unwrap();
            fs::remove_file(&own).unwrap();
            fs::write(&own, "new").unwrap();
            bundle.init = true;
            launch(bundle.validate().unwrap())
                .unwrap()
                .wait()
                .unwrap()
                .code()
        }
        // In a namespace where part of /proc is hidden for good, as in a container.
        "masked-proc" => {
            hide_part_of_proc();
            let container = launch(bundle.validate().unwrap()).unwrap();
            assert_eq!(container.degradations(), [Degradation::SharedProcesses]);
            container.wait().unwrap().code()
        }
        other => panic!("no mode {other}"),
    };
    std::process::exit(code.into())
}

fn hide_part_of_proc() {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", "/proc/fs", "tmpfs", flags, None::<&std::ffi::CStr>).unwrap();
    // Mounts from outside a user namespace cannot be taken away inside it.
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).unwrap();
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/gid_map", "0 0 1").unwrap();
    fs::write("/proc/self/uid_map", "0 0 1").unwrap();
}
