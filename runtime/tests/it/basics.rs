//! What runs, where, as whom, and how it ends.

use std::io::Write;

use wythe_runtime::{Error, ExitStatus, Network, Stage, Stream};

use crate::fixture::{Fixture, run, start};
use crate::runner::tests;

tests![
    exit_code_is_passed_through,
    streams_are_pipes,
    failures_to_execute_have_docker_exit_codes,
    environment_directory_and_name_are_set,
    program_is_found_in_the_images_path,
    namespaces_are_own,
    host_network_is_shared_only_when_asked,
    standard_devices_work,
    only_standard_descriptors_are_open,
];

fn exit_code_is_passed_through() {
    let fixture = Fixture::new();
    for code in [0, 1, 3, 127, 255] {
        let output = run(fixture.shell(&format!("exit {code}"))).unwrap();
        assert_eq!(output.status, ExitStatus::Code(code));
    }
}

fn streams_are_pipes() {
    let fixture = Fixture::new();
    let output = run(fixture.shell("echo out; echo err >&2; cat")).unwrap();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );

    let mut bundle = fixture.bundle(&["cat"]);
    bundle.stdio.stdin = Stream::Pipe;
    let mut container = start(bundle).unwrap();
    container
        .stdin
        .take()
        .unwrap()
        .write_all(b"through")
        .unwrap();
    let output = std::io::read_to_string(container.stdout.take().unwrap()).unwrap();
    assert_eq!(output, "through");
    assert!(container.wait().unwrap().is_success());

    // Re-opened by name, as daemons do to log, also as another user.
    let mut bundle = fixture.shell("echo again > /dev/stdout; echo more > /proc/self/fd/2");
    bundle.process.user = "0:0".parse().unwrap();
    let output = run(bundle).unwrap();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("again\n", "more\n")
    );
}

fn failures_to_execute_have_docker_exit_codes() {
    let fixture = Fixture::new();
    let script = fixture.root().join("tmp/script");
    std::fs::write(&script, "echo never").unwrap();
    // A program for a machine that there is not.
    let foreign = fixture.root().join("tmp/foreign");
    std::fs::write(
        &foreign,
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\xff\xff",
    )
    .unwrap();
    std::fs::set_permissions(
        &foreign,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    for init in [false, true] {
        let code = |program: &str| {
            let mut bundle = fixture.bundle(&[program]);
            bundle.init = init;
            match run(bundle).map(|output| output.status) {
                Err(error @ Error::Launch { .. }) => error.exit_code(),
                other => panic!("{program}: {other:?}"),
            }
        };
        assert_eq!(code("no-such-program"), 127);
        assert_eq!(code("/no/such/program"), 127);
        assert_eq!(code("/etc"), 126);
        assert_eq!(code("/tmp/script"), 126);
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(code("/tmp/script"), 126, "no interpreter");
        assert_eq!(code("/tmp/foreign"), 126, "another machine");
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o644)).unwrap();
    }
    let mut bundle = fixture.shell("true");
    bundle.process.cwd = "/etc/passwd".into();
    let error = run(bundle).map(|output| output.status).unwrap_err();
    assert_eq!(error.exit_code(), 125);
    let Error::Launch { failure, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(failure.stage, Stage::WorkingDirectory);
}

fn environment_directory_and_name_are_set() {
    let fixture = Fixture::new();
    let mut bundle = fixture
        .shell("echo $A $HOME $PATH; pwd; cat /proc/sys/kernel/hostname; umask; env | wc -l");
    bundle.process.env = vec![("A".into(), "b c".into())];
    bundle.process.cwd = "/made/for/this".into();
    bundle.hostname = Some("box".into());
    let path = wythe_runtime::DEFAULT_PATH;
    let expected = format!("b c /root {path}\n/made/for/this\nbox\n0022\n4\n");
    assert_eq!(run(bundle).unwrap().stdout, expected);
    assert!(fixture.root().join("made/for/this").is_dir());
    assert_ne!(nix::unistd::gethostname().unwrap(), "box");
}

fn program_is_found_in_the_images_path() {
    let fixture = Fixture::new();
    let mut bundle = fixture.bundle(&["sh", "-c", "exit 7"]);
    bundle.process.env = vec![("PATH".into(), "/etc:/nowhere:/usr/bin".into())];
    assert_eq!(run(bundle).unwrap().status, ExitStatus::Code(7));
    let mut bundle = fixture.bundle(&["sh", "-c", "exit 7"]);
    bundle.process.env = vec![("PATH".into(), "/nowhere".into())];
    assert_eq!(
        run(bundle)
            .map(|output| output.status)
            .unwrap_err()
            .exit_code(),
        127
    );
}

fn namespaces_are_own() {
    let fixture = Fixture::new();
    let names = ["mnt", "pid", "ipc", "uts", "cgroup", "net"];
    let list = names.map(|name| format!("/proc/self/ns/{name}")).join(" ");
    let inside = fixture.output_of(&format!("echo $$; readlink {list}"));
    let mut inside = inside.lines();
    assert_eq!(inside.next(), Some("1"));
    for name in names {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(inside.next().unwrap(), outside.to_str().unwrap());
    }
}

fn host_network_is_shared_only_when_asked() {
    let fixture = Fixture::new();
    let devices = |text: String| -> Vec<String> {
        let mut names: Vec<_> = text
            .lines()
            .skip(2)
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect();
        names.sort();
        names
    };
    let script = "cat /proc/net/dev; test $(cat /sys/class/net/lo/flags) = 0x9";
    assert_eq!(devices(fixture.output_of(script)), ["lo"]);
    let mut bundle = fixture.shell("cat /proc/net/dev");
    bundle.network = Network::Host;
    let host = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    assert_eq!(devices(run(bundle).unwrap().stdout), devices(host));
}

fn standard_devices_work() {
    let fixture = Fixture::new();
    let script = "set -e
        echo gone > /dev/null; test -z \"$(cat /dev/null)\"
        test $(head -c 5 /dev/zero | wc -c) = 5; head -c 5 /dev/urandom | wc -c; head -c1 /dev/random >/dev/null
        (echo x > /dev/full) 2>/dev/null && exit 9
        echo shared > /dev/shm/file; test -d /dev/mqueue; test -c /dev/pts/ptmx; test -c /dev/tty
        ls /dev | grep -v core | tr '\\n' ' '";
    // A link that is there where the kernel has what it leads to.
    let expected =
        "5\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ";
    assert_eq!(fixture.output_of(script), expected);
}

fn only_standard_descriptors_are_open() {
    let fixture = Fixture::new();
    // Without close-on-exec, as a careless caller might have it.
    let careless = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
    // The last one is the directory that ls reads.
    let output = run(fixture.bundle(&["ls", "/proc/self/fd"])).unwrap();
    assert_eq!(output.stdout, "0\n1\n2\n3\n");
    let mut bundle = fixture.bundle(&["ls", "/proc/self/fd"]);
    bundle.init = true;
    assert_eq!(run(bundle).unwrap().stdout, "0\n1\n2\n3\n");
    let mut bundle = fixture.shell("ls -l /proc/1/fd | grep -e '->' | grep -cv -e null -e pipe:");
    bundle.init = true;
    assert_eq!(run(bundle).unwrap().stdout, "0\n");
    drop(careless);
}
