use std::io::Read;

use super::super::Flavour;
use super::super::testutil::*;
use super::*;

/// Both ways to walk: `openat2`, and what is done where that is refused.
const RESOLVERS: [Resolver; 2] = [Resolver::Kernel, Resolver::PartByPart];

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let outside = sandbox.outside();
    let entries = [
        directory("etc"),
        file("etc/passwd", "root"),
        directory("usr"),
        directory("usr/lib"),
        file("usr/lib/x", "x"),
        symlink("lib", "usr/lib"),
        symlink("abs", "/usr/lib"),
        symlink("up", "../../../../usr/./lib/"),
        symlink("out", "../outside"),
        symlink("abs-out", outside.to_str().unwrap()),
        symlink("magic", "/proc/self/root"),
        symlink("loop", "loop"),
        symlink("passwd", "lib/../../etc/passwd"),
        (
            super::super::Entry::new(path("pipe"), super::super::EntryKind::Fifo),
            b"",
        ),
    ];
    let flavour = Flavour::SingleId;
    sandbox
        .apply(flavour, super::super::ApplyOptions::default(), &entries)
        .unwrap()
        .unwrap();
    sandbox
}

fn errno<T: std::fmt::Debug>(result: Result<T>) -> Errno {
    match result.unwrap_err() {
        Error::Io { source, .. } => Errno::from_io_error(&source).unwrap(),
        error => panic!("{error}"),
    }
}

#[test]
fn exact_paths_follow_nothing() {
    let sandbox = sandbox();
    for resolver in RESOLVERS {
        let root = RootDir::open_with(&sandbox.root(), resolver).unwrap();
        let mut text = String::new();
        let mut passwd = root.open_file(&path("etc/passwd")).unwrap();
        passwd.read_to_string(&mut text).unwrap();
        assert_eq!(text, "root");
        for at in [
            "lib/x",
            "abs/x",
            "out/canary",
            "abs-out/canary",
            "magic/etc/passwd",
            "passwd",
            "loop",
        ] {
            let found = errno(root.open_file(&path(at)));
            assert!(
                matches!(found, Errno::LOOP | Errno::NOTDIR),
                "{at} {found:?}"
            );
        }
        for at in ["lib", "out", "abs-out", "magic"] {
            let found = errno(root.open_dir(&path(at)));
            assert!(
                matches!(found, Errno::LOOP | Errno::NOTDIR),
                "{at} {found:?}"
            );
        }
        assert_eq!(errno(root.open_file(&path("pipe"))), Errno::INVAL);
        assert_eq!(errno(root.open_file(&path("etc"))), Errno::ISDIR);
        assert_eq!(errno(root.open_file(&path("nothing"))), Errno::NOENT);
        assert_eq!(root.stat(&path("nothing/at/all")).unwrap(), None);
        assert_eq!(root.read_link(&path("lib")).unwrap(), b"usr/lib");
        assert_eq!(root.read_dir(&path("usr")).unwrap(), [b"lib"]);
        assert_eq!(root.read_dir(&EntryPath::ROOT).unwrap().len(), 11);
    }
}

#[test]
fn in_root_paths_follow_links_as_after_chroot() {
    let sandbox = sandbox();
    for resolver in RESOLVERS {
        let root = RootDir::open_with(&sandbox.root(), resolver).unwrap();
        for at in ["usr/lib/x", "lib/x", "abs/x", "up/x"] {
            let mut text = String::new();
            let mut file = root.open_file_in_root(&path(at)).unwrap();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "x", "{at}");
        }
        let mut text = String::new();
        let mut file = root.open_file_in_root(&path("passwd")).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "root");
        for at in ["out/canary", "abs-out/canary", "magic/etc/passwd"] {
            assert_eq!(
                errno(root.open_file_in_root(&path(at))),
                Errno::NOENT,
                "{at}"
            );
        }
        assert_eq!(errno(root.open_file_in_root(&path("loop"))), Errno::LOOP);
        assert_eq!(errno(root.open_dir_in_root(&path("out"))), Errno::NOENT);
        assert_eq!(
            errno(root.open_file_in_root(&path("etc/passwd/x"))),
            Errno::NOTDIR
        );
        assert_eq!(errno(root.open_file_in_root(&path("pipe"))), Errno::INVAL);
        assert!(root.open_dir_in_root(&path("up")).is_ok());
        assert!(root.open_dir_in_root(&EntryPath::ROOT).is_ok());
    }
}

#[test]
fn changes_through_links_are_refused_and_leave_the_host_alone() {
    for resolver in RESOLVERS {
        let sandbox = sandbox();
        let root = RootDir::open_with(&sandbox.root(), resolver).unwrap();
        for base in ["out", "abs-out", "magic"] {
            let inside = path(&format!("{base}/canary"));
            let new = path(&format!("{base}/new"));
            assert!(root.create_file(&new).is_err());
            assert!(root.create_dir(&new).is_err());
            assert!(root.symlink(b"x", &new).is_err());
            assert!(root.hard_link(&path("etc/passwd"), &new).is_err());
            assert!(root.hard_link(&inside, &path("stolen")).is_err());
            assert!(root.rename(&path("etc/passwd"), &new).is_err());
            assert!(root.rename(&inside, &path("stolen")).is_err());
            assert!(root.remove_all(&inside).is_err());
            sandbox.assert_host_unchanged(base);
        }
        // A link itself is a file like others.
        assert!(root.create_file(&path("out")).is_err());
        root.hard_link(&path("out"), &path("out-too")).unwrap();
        root.rename(&path("out-too"), &path("out")).unwrap();
        root.remove_all(&path("out")).unwrap();
        root.remove_all(&EntryPath::ROOT).unwrap();
        assert!(root.read_dir(&EntryPath::ROOT).unwrap().is_empty());
        sandbox.assert_host_unchanged("remove");
    }
}

#[test]
fn the_kernel_is_used_where_it_can_be() {
    let sandbox = Sandbox::new();
    let root = RootDir::open(&sandbox.root()).unwrap();
    // A kernel without openat2 is older than we run on; a filter that refuses it is noticed here.
    let works = root
        .open_beneath(root.fd.as_fd(), b"", OFlags::PATH)
        .is_ok();
    assert!(works);
}

#[test]
fn names_are_one_part() {
    for bad in ["", ".", "..", "a/b", "/", "a\0b"] {
        assert!(Name::new(bad.as_bytes()).is_none(), "{bad:?}");
    }
    assert!(Name::new(&[b'x'; 256]).is_none());
    assert!(Name::new(b"...").is_some());
}

#[test]
fn any_depth_and_any_modes_can_be_removed() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::new();
    let root = RootDir::open(&sandbox.root()).unwrap();
    // Far deeper than a path may be long, as `mkdir x; cd x` in a loop makes it.
    let mut dir = root.open_dir(&EntryPath::ROOT).unwrap();
    let long = [b'x'; 100];
    let name = Name::new(&long).unwrap();
    for depth in 0..500 {
        dir.create_dir(name).unwrap();
        let below = dir.open_dir(name).unwrap();
        below.symlink(b"/etc", Name::new(b"link").unwrap()).unwrap();
        if depth % 7 == 0 {
            rustix::fs::fchmod(dir.as_fd(), Mode::empty()).unwrap();
        }
        dir = Dir::from_fd(below.as_fd().try_clone_to_owned().unwrap(), "deep".into());
    }
    std::fs::set_permissions(sandbox.root(), std::fs::Permissions::from_mode(0o700)).unwrap();
    root.remove_all(&EntryPath::ROOT).unwrap();
    assert!(root.read_dir(&EntryPath::ROOT).unwrap().is_empty());
    root.remove_all(&path("nothing")).unwrap();
}
