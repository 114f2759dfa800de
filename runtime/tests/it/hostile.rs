//! Images that try to reach the host. Each test asserts that the host has not changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use wythe_runtime::{Error, Failure, MountSource, MountSpec, Refusal, Stage};

use crate::fixture::{Fixture, bind, run, snapshot};
use crate::modes;
use crate::runner::tests;

tests![
    the_hosts_files_are_out_of_reach,
    links_in_place_of_proc_sys_and_dev_are_refused,
    volume_targets_that_are_links_stay_inside,
    generated_files_are_not_written_through_links,
    user_databases_that_are_traps_are_refused,
    user_databases_are_not_read_through_links_to_the_host,
    working_directories_cannot_lead_out,
    our_own_binary_cannot_be_overwritten,
    our_own_binary_is_protected_even_when_it_was_replaced,
    mounts_do_not_appear_on_the_host,
    masked_paths_do_not_follow_links_out,
    device_files_made_inside_cannot_be_opened,
    modes_of_the_hosts_devices_cannot_be_changed,
];

fn failure(bundle: wythe_runtime::Bundle) -> Failure {
    match run(bundle).map(|output| (output.status, output.stdout)) {
        Err(Error::Launch { failure, .. }) => failure,
        other => panic!("{other:?}"),
    }
}

fn the_hosts_files_are_out_of_reach() {
    let fixture = Fixture::new();
    let before = snapshot(&fixture.host());
    let script = format!(
        "cd /; cd ..; cd ../../..; ls; ls /..; cat {0}/secret ../../..{0}/secret /proc/1/root{0}/secret /proc/1/cwd/..{0}/secret; echo x > ..{0}/secret",
        fixture.host().display()
    );
    let output = run(fixture.shell(&script)).unwrap();
    assert!(!output.stdout.contains("secret"), "{}", output.stdout);
    // The same list twice: above the root is the root.
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(lines[..lines.len() / 2], lines[lines.len() / 2..]);
    assert_eq!(snapshot(&fixture.host()), before);
    // Nothing of the host is left in the mount table.
    let table = fixture.output_of("cut -d' ' -f5 /proc/self/mountinfo");
    assert_eq!(
        table.lines().filter(|line| *line == "/").count(),
        1,
        "{table}"
    );
    let is_ours = |line: &str| {
        ["/proc", "/sys", "/dev", "/usr", "/bin", "/sbin", "/lib"]
            .iter()
            .any(|top| line.starts_with(top))
    };
    assert!(
        table.lines().all(|line| line == "/" || is_ours(line)),
        "{table}"
    );
}

fn links_in_place_of_proc_sys_and_dev_are_refused() {
    for name in ["proc", "sys", "dev"] {
        for target in ["../host", "/etc", "/../host"] {
            let fixture = Fixture::new();
            let before = snapshot(&fixture.host());
            symlink(target, fixture.root().join(name)).unwrap();
            let failure = failure(fixture.shell("true"));
            assert_eq!(failure.refusal, Some(Refusal::SymbolicLink), "{name}");
            assert_eq!(snapshot(&fixture.host()), before);
        }
    }
}

fn volume_targets_that_are_links_stay_inside() {
    let fixture = Fixture::new();
    let before = snapshot(&fixture.host());
    let data = tempfile::tempdir().unwrap();
    symlink(fixture.host(), fixture.root().join("absolute")).unwrap();
    symlink(
        "../../../../../..".to_owned() + fixture.host().to_str().unwrap(),
        fixture.root().join("relative"),
    )
    .unwrap();
    symlink("/proc/self/root", fixture.root().join("magic")).unwrap();
    for target in [
        "/absolute",
        "/relative/made",
        "/magic/made",
        "/../../../made",
        "/tmp/../../made",
    ] {
        let mut bundle = fixture.shell("true");
        bundle.mounts.push(bind(data.path(), target, false));
        // Mounted somewhere inside or refused, never outside.
        let _ = run(bundle);
        assert_eq!(snapshot(&fixture.host()), before, "{target}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(fixture.host().to_str().unwrap()),
            "{target}"
        );
    }
    let outside: Vec<_> = fs::read_dir(fixture.root().parent().unwrap())
        .unwrap()
        .collect();
    assert_eq!(outside.len(), 2);
}

fn generated_files_are_not_written_through_links() {
    let fixture = Fixture::new();
    let before = snapshot(&fixture.host());
    let secret = fixture.host().join("secret");
    symlink(&secret, fixture.root().join("etc/resolv.conf")).unwrap();
    symlink("../../host/secret", fixture.root().join("etc/hosts")).unwrap();
    let mut bundle = fixture.shell(
        "cat /etc/hosts /etc/resolv.conf; echo bad > /etc/hosts; echo bad > /etc/resolv.conf",
    );
    bundle.etc.hosts = Some(b"ours\n".to_vec());
    bundle.etc.resolv_conf = Some(b"ours too\n".to_vec());
    let output = run(bundle).unwrap();
    assert_eq!(output.stdout, "ours\nours too\n");
    assert_eq!(snapshot(&fixture.host()), before);
}

fn user_databases_that_are_traps_are_refused() {
    for name in ["etc/passwd", "etc/group"] {
        let fixture = Fixture::new();
        let path = fixture.root().join(name);
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(
            failure(fixture.shell("true")).refusal,
            Some(Refusal::NotRegular)
        );
        fs::remove_file(&path).unwrap();
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(
            failure(fixture.shell("true")).refusal,
            Some(Refusal::TooLarge)
        );
        fs::remove_file(&path).unwrap();
        for target in ["/dev/zero", "/dev/tty"] {
            symlink(target, &path).unwrap();
            let failure = failure(fixture.shell("true"));
            assert_eq!(failure.stage, Stage::FindUser, "{target}: {failure}");
            fs::remove_file(&path).unwrap();
        }
    }
}

fn user_databases_are_not_read_through_links_to_the_host() {
    let fixture = Fixture::new();
    let passwd = fixture.root().join("etc/passwd");
    fs::write(fixture.host().join("passwd"), "evil:x:0:0::/:\n").unwrap();
    let host = fixture.host().join("passwd");
    for target in [
        host.as_path(),
        Path::new("../../host/passwd"),
        &Path::new("/proc/1/root").join(&host),
    ] {
        fs::remove_file(&passwd).unwrap();
        symlink(target, &passwd).unwrap();
        let mut bundle = fixture.shell("true");
        bundle.process.user = "evil".parse().unwrap();
        assert_eq!(failure(bundle).stage, Stage::FindUser);
    }
}

fn working_directories_cannot_lead_out() {
    let fixture = Fixture::new();
    let before = snapshot(&fixture.host());
    symlink(fixture.host(), fixture.root().join("out")).unwrap();
    symlink("/proc/self/fd", fixture.root().join("fds")).unwrap();
    // What CVE-2024-21626 did: a descriptor of the host that leaks to us, by its number.
    let leak = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for number in 3..24 {
        for prefix in ["/proc/self/fd", "/fds", "/proc/1/fd"] {
            let mut bundle = fixture.shell("pwd -P");
            bundle.process.cwd = format!("{prefix}/{number}").into();
            match run(bundle) {
                Err(Error::Launch { failure, .. }) => {
                    assert_eq!(failure.stage, Stage::WorkingDirectory);
                }
                // Where the link's text leads to inside.
                Ok(output) => assert!(output.stdout.starts_with("/proc/"), "{}", output.stdout),
                Err(error) => panic!("{error}"),
            }
        }
    }
    drop(leak);
    let mut bundle = fixture.shell("pwd; cat secret; ls ..");
    bundle.process.cwd = "/out".into();
    let output = run(bundle).unwrap();
    assert!(!output.stdout.contains("secret"), "{}", output.stdout);
    assert_eq!(snapshot(&fixture.host()), before);
}

fn our_own_binary_cannot_be_overwritten() {
    let fixture = Fixture::new();
    let own = std::env::current_exe().unwrap();
    let before = fs::metadata(&own).unwrap();
    let mut bundle = fixture.shell(OVERWRITE);
    bundle.init = true;
    let output = run(bundle).unwrap();
    assert!(
        output.stderr.matches("Read-only").count() >= 2,
        "{}",
        output.stderr
    );
    let after = fs::metadata(&own).unwrap();
    assert_eq!(
        (after.len(), after.modified().unwrap()),
        (before.len(), before.modified().unwrap())
    );
}

/// A running program refuses to be written by itself ("text file busy"); what has to hold is that
/// the way through /proc is closed for good, also through a descriptor kept for later.
const OVERWRITE: &str = "echo x > /proc/1/exe; echo x >> /proc/1/exe
    exec 7< /proc/1/exe; : > /proc/self/fd/7; : > /proc/self/fd/7";

fn our_own_binary_is_protected_even_when_it_was_replaced() {
    let fixture = Fixture::new();
    let copy = fixture.host().join("it");
    fs::copy("/proc/self/exe", &copy).unwrap();
    let mut command = modes::command_of(&copy, "replaced", &fixture.root(), OVERWRITE);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    // The copy is sealed and runs; no write gets as far as to be refused by the seals.
    assert_eq!(errors.matches("cannot create").count(), 3, "{errors}");
    assert_eq!(fs::read(&copy).unwrap(), b"new");
}

fn mounts_do_not_appear_on_the_host() {
    let fixture = Fixture::new();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut bundle = fixture.shell("cat /proc/self/mountinfo > /v/table; exit 0");
    bundle.mounts.push(bind(&fixture.host(), "/v", false));
    run(bundle).unwrap();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

fn masked_paths_do_not_follow_links_out() {
    let fixture = Fixture::new();
    let before = snapshot(&fixture.host());
    symlink(fixture.host().join("secret"), fixture.root().join("mask")).unwrap();
    let mut bundle = fixture.shell("true");
    bundle.masked_paths = vec![PathBuf::from("/mask"), PathBuf::from("/missing")];
    bundle.read_only_paths = vec![PathBuf::from("/mask")];
    assert!(run(bundle).unwrap().status.is_success());
    assert_eq!(snapshot(&fixture.host()), before);
}

/// Only root outside of any user namespace may make them at all.
fn device_files_made_inside_cannot_be_opened() {
    let fixture = Fixture::new();
    let data = tempfile::tempdir().unwrap();
    // /dev/zero: there everywhere, allowed everywhere, harmless.
    let script = "for d in /tmp /dev /mem /v /dev/shm; do
        mknod $d/z c 1 5 2>/dev/null && chmod 666 $d/z && head -c 1 $d/z 2>/dev/null && echo $d opened
        done; head -c 1 /dev/zero | wc -c";
    let mut bundle = fixture.shell(script);
    bundle.mounts.push(bind(data.path(), "/v", false));
    bundle.mounts.push(MountSpec {
        source: MountSource::Tmpfs {
            size_bytes: None,
            mode: Some(0o1777),
            may_execute: false,
        },
        target: "/mem".into(),
        read_only: false,
    });
    assert_eq!(run(bundle).unwrap().stdout, "1\n");
}

/// Masked files and /dev are devices: the host's own must not lie there for root to change.
fn modes_of_the_hosts_devices_cannot_be_changed() {
    let mode = |name: &str| {
        let path = Path::new("/dev").join(name);
        fs::metadata(path).unwrap().permissions().mode()
    };
    let names = ["null", "zero", "full", "random", "urandom", "tty"];
    let before = names.map(mode);
    let fixture = Fixture::new();
    // A change that would hurt nobody, should it arrive.
    let script = "chmod 667 /proc/interrupts /proc/keys /proc/timer_list /proc/kcore /dev/null \
        /dev/zero /dev/full /dev/random /dev/urandom /dev/tty 2>/dev/null; echo end";
    assert_eq!(fixture.output_of(script), "end\n");
    assert_eq!(names.map(mode), before);
}
