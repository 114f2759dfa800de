//! What the container sees of the host's files, and of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use wythe_runtime::{Error, MountSource, MountSpec, Refusal, Stage};

use crate::fixture::{Fixture, bind, run};
use crate::runner::tests;

tests![
    volumes_are_writable_or_not_as_asked,
    single_files_can_be_mounted,
    read_only_volumes_are_so_all_the_way_down,
    tmpfs_has_size_and_mode,
    tmpfs_takes_the_mode_of_what_it_covers,
    read_only_root_leaves_mounts_writable,
    made_mount_points_are_reported,
    generated_files_replace_the_images,
    a_later_mount_covers_an_earlier_one,
    detached_roots_and_mounts_are_attached,
    masked_and_read_only_paths_are_so,
    missing_and_mismatched_sources_are_refused,
];

fn volumes_are_writable_or_not_as_asked() {
    let fixture = Fixture::new();
    let mut bundle = fixture.shell("cat /ro/secret; echo new > /rw/file; echo x > /ro/secret");
    bundle.mounts.push(bind(&fixture.host(), "/ro", true));
    bundle.mounts.push(bind(&fixture.host(), "/rw", false));
    let output = run(bundle).unwrap();
    assert_eq!(output.stdout, "secret of the host\n");
    assert!(output.stderr.contains("Read-only"), "{}", output.stderr);
    assert_eq!(
        fs::read_to_string(fixture.host().join("file")).unwrap(),
        "new\n"
    );
}

fn single_files_can_be_mounted() {
    let fixture = Fixture::new();
    let mut bundle = fixture.shell("cat /opt/deep/file /etc/passwd");
    bundle
        .mounts
        .push(bind(&fixture.host().join("secret"), "/opt/deep/file", true));
    bundle
        .mounts
        .push(bind(&fixture.host().join("secret"), "/etc/passwd", true));
    let output = run(bundle).unwrap();
    assert_eq!(output.stdout, "secret of the host\nsecret of the host\n");
    assert_eq!(
        output.created,
        ["/opt", "/opt/deep", "/opt/deep/file"].map(PathBuf::from)
    );
    assert_eq!(fs::read(fixture.root().join("opt/deep/file")).unwrap(), b"");
}

fn read_only_volumes_are_so_all_the_way_down() {
    let fixture = Fixture::new();
    // A namespace of our own, so this mount ends with the process.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private =
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).unwrap();
    let below = fixture.host().join("below");
    fs::create_dir(&below).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &below, "tmpfs", flags, None::<&std::ffi::CStr>).unwrap();
    fs::write(below.join("file"), "below\n").unwrap();
    let mut bundle = fixture.shell("cat /v/below/file; echo x > /v/below/file");
    bundle.mounts.push(bind(&fixture.host(), "/v", true));
    let output = run(bundle).unwrap();
    assert_eq!(output.stdout, "below\n");
    assert!(output.stderr.contains("Read-only"), "{}", output.stderr);
    rustix::mount::unmount(&below, rustix::mount::UnmountFlags::DETACH).unwrap();
}

fn tmpfs_has_size_and_mode() {
    let fixture = Fixture::new();
    let script = "stat -c %a /mem; head -c 100000 /dev/zero > /mem/a; head -c 2000000 /dev/zero > /mem/b && echo fits";
    let mut bundle = fixture.shell(script);
    let source = MountSource::Tmpfs {
        size_bytes: Some(1 << 20),
        mode: Some(0o1770),
        may_execute: false,
    };
    bundle.mounts.push(MountSpec {
        source,
        target: "/mem".into(),
        read_only: false,
    });
    let output = run(bundle).unwrap();
    assert_eq!(output.stdout, "1770\n");
    assert_eq!(fs::read_dir(fixture.root().join("mem")).unwrap().count(), 0);
}

fn tmpfs_takes_the_mode_of_what_it_covers() {
    let fixture = Fixture::new();
    let mut bundle = fixture.shell("stat -c %a /there /made");
    let there = fixture.root().join("there");
    fs::create_dir(&there).unwrap();
    fs::set_permissions(&there, fs::Permissions::from_mode(0o750)).unwrap();
    for target in ["/there", "/made"] {
        bundle.mounts.push(MountSpec {
            source: MountSource::Tmpfs {
                size_bytes: None,
                mode: None,
                may_execute: false,
            },
            target: target.into(),
            read_only: false,
        });
    }
    assert_eq!(run(bundle).unwrap().stdout, "750\n1777\n");
}

fn read_only_root_leaves_mounts_writable() {
    let fixture = Fixture::new();
    let mut bundle =
        fixture.shell("echo x > /file; echo x > /v/file && echo x > /dev/shm/file && echo ok");
    bundle.read_only = true;
    bundle.mounts.push(bind(&fixture.host(), "/v", false));
    let output = run(bundle).unwrap();
    assert_eq!(output.stdout, "ok\n");
    assert!(!fixture.root().join("file").exists());
}

fn made_mount_points_are_reported() {
    let fixture = Fixture::new();
    let mut bundle = fixture.shell("true");
    let source = MountSource::Tmpfs {
        size_bytes: None,
        mode: Some(0o755),
        may_execute: false,
    };
    bundle.mounts.push(MountSpec {
        source,
        target: "/a/b".into(),
        read_only: false,
    });
    let created = run(bundle).unwrap().created;
    assert_eq!(created, ["/a", "/a/b"].map(PathBuf::from));
    assert!(run(fixture.shell("true")).unwrap().created.is_empty());
}

fn generated_files_replace_the_images() {
    let fixture = Fixture::new();
    // As Ubuntu images have it: dangling.
    symlink(
        "../run/resolve/stub.conf",
        fixture.root().join("etc/resolv.conf"),
    )
    .unwrap();
    fs::write(fixture.root().join("etc/hosts"), "of the image\n").unwrap();
    let mut bundle = fixture
        .shell("cat /etc/hosts /etc/resolv.conf; echo more >> /etc/hosts; cat /etc/hostname");
    bundle.etc.hosts = Some(b"127.0.0.1 localhost\n".to_vec());
    bundle.etc.resolv_conf = Some(b"nameserver 1.2.3.4\n".to_vec());
    let output = run(bundle).unwrap();
    assert_eq!(output.stdout, "127.0.0.1 localhost\nnameserver 1.2.3.4\n");
    assert!(
        output.created.contains(&"/run/resolve/stub.conf".into()),
        "{:?}",
        output.created
    );
    assert_eq!(
        fs::read_to_string(fixture.root().join("etc/hosts")).unwrap(),
        "of the image\n"
    );
    assert!(!fixture.root().join("etc/hostname").exists());
}

fn a_later_mount_covers_an_earlier_one() {
    let fixture = Fixture::new();
    let mut bundle = fixture.shell("ls /v /v/deep");
    // Given deepest first, attached shallowest first.
    bundle.mounts.push(bind(&fixture.host(), "/v/deep", true));
    let source = MountSource::Tmpfs {
        size_bytes: None,
        mode: Some(0o755),
        may_execute: false,
    };
    bundle.mounts.push(MountSpec {
        source,
        target: "/v".into(),
        read_only: false,
    });
    assert_eq!(
        run(bundle).unwrap().stdout,
        "/v:\ndeep\n\n/v/deep:\nsecret\n"
    );
}

fn detached_roots_and_mounts_are_attached() {
    use rustix::mount::OpenTreeFlags;
    let fixture = Fixture::new();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = |path: PathBuf| rustix::mount::open_tree(rustix::fs::CWD, path, flags).unwrap();
    let mut bundle = fixture.shell("cat /v/secret; echo x > /v/secret; echo new > /made");
    bundle.rootfs = wythe_runtime::Rootfs::Detached(tree(fixture.root()));
    let source = MountSource::Detached(tree(fixture.host()));
    bundle.mounts.push(MountSpec {
        source,
        target: "/v".into(),
        read_only: true,
    });
    assert_eq!(run(bundle).unwrap().stdout, "secret of the host\n");
    assert_eq!(
        fs::read_to_string(fixture.root().join("made")).unwrap(),
        "new\n"
    );
    // Nothing of what was mounted inside has come out.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(fixture.root().to_str().unwrap()),
        "{mounts}"
    );
}

fn masked_and_read_only_paths_are_so() {
    let fixture = Fixture::new();
    fs::write(fixture.root().join("etc/masked"), "seen").unwrap();
    let script = "cat /proc/keys /proc/timer_list /etc/masked; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v :
        echo 1 > /proc/sys/kernel/panic || echo b > /proc/sysrq-trigger || echo 1 > /sys/kernel/x || echo refused";
    let mut bundle = fixture.shell(script);
    bundle.masked_paths.push("/etc/masked".into());
    let output = run(bundle).unwrap();
    assert_eq!(output.stdout.trim(), "refused", "{}", output.stderr);
}

fn missing_and_mismatched_sources_are_refused() {
    let fixture = Fixture::new();
    let failure = |source: PathBuf, target: &str| {
        let mut bundle = fixture.shell("true");
        bundle.mounts.push(bind(&source, target, false));
        match run(bundle).map(|output| output.status) {
            Err(Error::Launch { failure, .. }) => failure,
            other => panic!("{other:?}"),
        }
    };
    let missing = failure(fixture.host().join("missing"), "/v");
    assert_eq!(
        (missing.stage, missing.errno),
        (Stage::MountSource, Some(libc::ENOENT))
    );
    assert!(missing.to_string().contains("host/missing"), "{missing}");
    let mismatch = failure(fixture.host(), "/etc/passwd");
    assert_eq!(mismatch.refusal, Some(Refusal::KindMismatch));
}
