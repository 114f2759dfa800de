use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::super::testutil::*;
use super::super::{NoLower, Timestamp};
use super::*;

/// Entries, each with its content.
type Given<'a> = Vec<(Entry, &'a [u8])>;

fn shown(list: &EntryList) -> Vec<String> {
    let line = |entry: &Entry| match &entry.kind {
        EntryKind::Directory => format!("{}/", entry.path),
        EntryKind::File { .. } => entry.path.to_string(),
        EntryKind::Symlink { target } => format!("{} -> {}", entry.path, target.escape_ascii()),
        EntryKind::HardLink { target } => format!("{} = {target}", entry.path),
        EntryKind::Whiteout => format!("{} gone", entry.path),
        EntryKind::OpaqueDirectory => format!("{} opaque", entry.path),
        other => format!("{} {other:?}", entry.path),
    };
    list.entries().iter().map(line).collect()
}

fn applied(sandbox: &Sandbox, flavour: Flavour, entries: &[(Entry, &[u8])]) -> EntryList {
    let tree = sandbox.apply(flavour, ApplyOptions::default(), entries);
    tree.unwrap().unwrap().list
}

#[test]
fn a_tree_comes_out_as_its_entries_say() {
    for &flavour in flavours() {
        let sandbox = Sandbox::new();
        let mut tool = file("bin/tool", "#!");
        tool.0.mode = 0o4755;
        tool.0.mtime = Timestamp {
            seconds: -5,
            nanoseconds: 250_000_000,
        };
        let mut bin = directory("bin");
        bin.0.mtime = Timestamp::from_seconds(1_000_000);
        let mut fifo = directory("pipe");
        fifo.0.kind = EntryKind::Fifo;
        let list = applied(
            &sandbox,
            flavour,
            &[
                bin,
                tool,
                symlink("bin/sh", "tool"),
                link("bin/also", "bin/tool"),
                fifo,
            ],
        );
        assert_eq!(
            shown(&list),
            [
                "bin/",
                "bin/also",
                "bin/sh -> tool",
                "bin/tool = bin/also",
                "pipe Fifo"
            ]
        );
        let stat = fs::symlink_metadata(sandbox.root().join("bin/tool")).unwrap();
        assert_eq!(stat.mode() & 0o7777, 0o4755);
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (-5, 250_000_000));
        assert_eq!(stat.nlink(), 2);
        let stat = fs::symlink_metadata(sandbox.root().join("bin")).unwrap();
        assert_eq!(
            stat.mtime(),
            1_000_000,
            "filling a directory changed its time"
        );
        assert_eq!(fs::read(sandbox.root().join("bin/sh")).unwrap(), b"#!");
    }
}

#[test]
fn what_its_owner_may_not_use_is_made_all_the_same() {
    for &flavour in flavours() {
        let sandbox = Sandbox::new();
        let mut closed = directory("closed");
        closed.0.mode = 0o000;
        let mut read_only = directory("closed/read-only");
        read_only.0.mode = 0o555;
        let mut secret = file("closed/read-only/secret", "x");
        secret.0.mode = 0o000;
        secret.0.xattrs.insert(b"user.a".to_vec(), b"b".to_vec());
        let list = applied(&sandbox, flavour, &[closed, read_only, secret]);
        let modes: Vec<u32> = list.entries().iter().map(|entry| entry.mode).collect();
        assert_eq!(modes, [0, 0o555, 0], "the list holds the truth");
        let inner = sandbox.root().join("closed/read-only");
        let mode = |path: &std::path::Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        let expected = match flavour {
            Flavour::SingleId => (0o700, 0o755, 0o400),
            _ => (0, 0o555, 0),
        };
        let found = (
            mode(&sandbox.root().join("closed")),
            mode(&inner),
            mode(&inner.join("secret")),
        );
        assert_eq!(found, expected, "{flavour:?}");
    }
}

/// Whatever the order and the combination, the host is as it was.
#[test]
fn hostile_layers_change_nothing_outside() {
    type Case = (&'static str, Vec<(Entry, &'static [u8])>, Option<Refusal>);
    for &flavour in flavours() {
        let outside = "../outside";
        let elsewhere = Sandbox::new();
        let absolute = elsewhere.outside();
        let absolute = absolute.to_str().unwrap();
        let mut many_links = vec![symlink("l0", "/")];
        for n in 1..60 {
            many_links.push(symlink(&format!("l{n}"), &format!("l{}", n - 1)));
        }
        many_links.push(file("l59/x", ""));
        let mut null_device = file("null", "");
        null_device.0.kind = EntryKind::CharDevice { major: 0, minor: 0 };
        let cases: Vec<Case> = vec![
            (
                "write through a relative link",
                vec![symlink("l", outside), file("l/canary", "dead")],
                None,
            ),
            (
                "write through an absolute link",
                vec![symlink("l", absolute), file("l/canary", "dead")],
                None,
            ),
            (
                "write through /proc",
                vec![symlink("l", "/proc/self/cwd"), file("l/x", "dead")],
                None,
            ),
            (
                "replace a link's target",
                vec![symlink("l", "../outside/canary"), file("l", "dead")],
                None,
            ),
            (
                "directory over a link",
                vec![
                    symlink("l", outside),
                    directory("l"),
                    file("l/canary", "dead"),
                ],
                None,
            ),
            (
                "link over a directory",
                vec![
                    directory("d"),
                    symlink("d", outside),
                    file("d/canary", "dead"),
                ],
                None,
            ),
            (
                "whiteout through a link",
                vec![symlink("l", outside), whiteout("l/canary")],
                None,
            ),
            (
                "whiteout of a link",
                vec![symlink("l", "../outside/dir"), whiteout("l")],
                None,
            ),
            (
                "opaque through a link",
                vec![symlink("l", "../outside/dir"), opaque("l")],
                None,
            ),
            (
                "replace through a link",
                vec![
                    symlink("l", outside),
                    directory("l/dir"),
                    file("l/dir", "dead"),
                ],
                None,
            ),
            (
                "links to links",
                vec![
                    symlink("a", "b"),
                    symlink("b", outside),
                    file("a/canary", "dead"),
                ],
                None,
            ),
            (
                "dots in the middle",
                vec![
                    directory("d"),
                    symlink("l", "d/../../../outside"),
                    file("l/canary", "dead"),
                ],
                None,
            ),
            (
                "setuid through a link",
                vec![
                    file("f", "x"),
                    symlink("s", "../outside/canary"),
                    link("h", "s"),
                    file("f", "y"),
                ],
                None,
            ),
            (
                "link through a link",
                vec![symlink("l", outside), link("h", "l/canary")],
                None,
            ),
            (
                "loop",
                vec![symlink("a", "b"), symlink("b", "a"), file("a/x", "")],
                Some(Refusal::TooManyLinks),
            ),
            ("too many links", many_links, Some(Refusal::TooManyLinks)),
            (
                "below a file",
                vec![file("f", ""), file("f/x", "")],
                Some(Refusal::ParentNotDirectory),
            ),
            (
                "link to a directory",
                vec![directory("d"), link("h", "d")],
                Some(Refusal::LinkToDirectory),
            ),
            (
                "link to the root",
                vec![link("h", "/")],
                Some(Refusal::LinkToDirectory),
            ),
            (
                "link over its parent",
                vec![directory("d"), file("d/f", ""), link("d", "d/f")],
                Some(Refusal::LinkReplacesTarget),
            ),
            (
                "root as a file",
                vec![file("", "")],
                Some(Refusal::RootNotDirectory),
            ),
            (
                "root as a whiteout",
                vec![whiteout("")],
                Some(Refusal::RootNotDirectory),
            ),
            (
                "root as a link",
                vec![symlink("", outside)],
                Some(Refusal::RootNotDirectory),
            ),
            (
                "forged whiteout",
                vec![null_device],
                Some(Refusal::ForgedWhiteout),
            ),
            (
                "empty link",
                vec![symlink("l", "")],
                Some(Refusal::BadSymlink),
            ),
            (
                "link with NUL",
                vec![symlink("l", "a\0b")],
                Some(Refusal::BadSymlink),
            ),
        ];
        for lower in [None, Some(&NoLower as &dyn LowerView)] {
            for (what, entries, refusal) in &cases {
                let sandbox = Sandbox::new();
                let options = ApplyOptions {
                    lower,
                    ..ApplyOptions::default()
                };
                let result = sandbox.apply(flavour, options, entries);
                sandbox.assert_host_unchanged(what);
                elsewhere.assert_host_unchanged(what);
                match (result, refusal) {
                    (Err(Error::Tree(TreeError::Refused { reason, .. })), Some(refusal)) => {
                        assert_eq!(reason, *refusal, "{what}");
                    }
                    (
                        Err(Error::Tree(TreeError::Refused {
                            reason: Refusal::LinkToNothing,
                            ..
                        })),
                        None,
                    ) => {
                        assert!(lower.is_some() && what.contains("link through"), "{what}");
                    }
                    (Ok(_), None) => {}
                    (result, _) => panic!("{what}: {result:?}"),
                }
            }
        }
    }
}

#[test]
fn parents_that_are_links_are_followed_inside_the_root() {
    for (target, real) in [
        ("usr/lib", "usr/lib/x"),
        ("/usr/lib", "usr/lib/x"),
        ("../../../usr/./lib", "usr/lib/x"),
        ("usr/via", "usr/lib/x"),
    ] {
        let sandbox = Sandbox::new();
        let list = applied(
            &sandbox,
            flavours()[0],
            &[
                directory("usr"),
                directory("usr/lib"),
                symlink("usr/via", "lib"),
                symlink("lib", target),
                file("lib/x", "content"),
                link("lib/y", "lib/x"),
            ],
        );
        assert!(list.get(&path(real)).is_some(), "{target}");
        assert_eq!(
            fs::read(sandbox.root().join("usr/lib/y")).unwrap(),
            b"content"
        );
        assert!(shown(&list).contains(&"usr/lib/y = usr/lib/x".to_owned()));
    }
}

#[test]
fn the_last_of_several_entries_wins() {
    let a = || file("a", "first");
    let cases: Vec<(Given<'_>, &[&str])> = vec![
        (vec![a(), file("a", "second")], &["a"]),
        (vec![a(), symlink("a", "x")], &["a -> x"]),
        (
            vec![a(), directory("a"), file("a/b", "")],
            &["a/", "a opaque", "a/b"],
        ),
        (vec![directory("a"), file("a/b", ""), a()], &["a"]),
        (
            vec![directory("a"), file("a/b", ""), directory("a")],
            &["a/", "a/b"],
        ),
        (
            vec![
                directory("a"),
                directory("a/b"),
                file("a/b/c", ""),
                symlink("a", "x"),
            ],
            &["a -> x"],
        ),
        // The file that other names have left is still the file.
        (
            vec![a(), link("b", "a"), link("c", "b"), file("a", "second")],
            &["a", "b", "c = b"],
        ),
        (vec![a(), link("a", "a")], &["a"]),
        (
            vec![
                directory("d"),
                file("d/f", ""),
                link("l", "d/f"),
                file("d", ""),
            ],
            &["d", "l"],
        ),
    ];
    for &flavour in flavours() {
        for (entries, expected) in &cases {
            let sandbox = Sandbox::new();
            assert_eq!(shown(&applied(&sandbox, flavour, entries)), *expected);
            let on_disk: Vec<String> = dump(&sandbox.root())
                .keys()
                .map(|path| path.to_str().unwrap().to_owned())
                .collect();
            let mut listed: Vec<String> = expected
                .iter()
                .filter(|line| !line.ends_with("opaque"))
                .map(|line| {
                    line.split([' '])
                        .next()
                        .unwrap()
                        .trim_end_matches('/')
                        .to_owned()
                })
                .collect();
            listed.sort();
            assert_eq!(on_disk, listed);
        }
    }
}

#[test]
fn the_content_is_that_of_the_last() {
    let sandbox = Sandbox::new();
    let entries = [file("a", "first"), link("b", "a"), file("a", "second")];
    applied(&sandbox, flavours()[0], &entries);
    assert_eq!(fs::read(sandbox.root().join("a")).unwrap(), b"second");
    assert_eq!(fs::read(sandbox.root().join("b")).unwrap(), b"first");
}

#[test]
fn whiteouts_are_for_lower_layers_only_whatever_the_order() {
    let cases: Vec<(Given<'_>, &[&str])> = vec![
        (vec![whiteout("a")], &["a gone"]),
        (vec![whiteout("a"), whiteout("a")], &["a gone"]),
        (vec![whiteout("a"), file("a", "x")], &["a"]),
        (vec![file("a", "x"), whiteout("a")], &["a"]),
        (
            vec![whiteout("a"), directory("a"), file("a/b", "")],
            &["a/", "a opaque", "a/b"],
        ),
        (
            vec![directory("a"), file("a/b", ""), whiteout("a")],
            &["a/", "a opaque", "a/b"],
        ),
        (
            vec![directory("a"), opaque("a"), file("a/b", "")],
            &["a/", "a opaque", "a/b"],
        ),
        (vec![opaque("a"), directory("a")], &["a/", "a opaque"]),
        (vec![opaque("")], &["/ opaque"]),
        (
            vec![directory("a"), whiteout("a/b"), whiteout("a/c")],
            &["a/", "a/b gone", "a/c gone"],
        ),
    ];
    for &flavour in flavours() {
        for (entries, expected) in &cases {
            let sandbox = Sandbox::new();
            let list = applied(&sandbox, flavour, entries);
            assert_eq!(shown(&list), *expected);
            let root = RootDir::open(&sandbox.root()).unwrap();
            for entry in list.entries() {
                let stat = root.stat(&entry.path).unwrap().unwrap();
                assert_eq!(stat.is_whiteout(), entry.kind == EntryKind::Whiteout);
                if entry.kind.is_opaque_mark() {
                    let mark = overlay_marks::opaque_xattr(flavour);
                    let marks = root.open_dir(&entry.path).unwrap().xattrs_self().unwrap();
                    assert_eq!(marks.get(mark).map(Vec::as_slice), Some(&b"y"[..]));
                }
            }
        }
    }
}

#[test]
fn overlay_attributes_of_an_archive_are_dropped() {
    for &flavour in flavours() {
        let sandbox = Sandbox::new();
        let mut dir = directory("d");
        let mut inside = file("d/f", "");
        for entry in [&mut dir.0, &mut inside.0] {
            for name in [
                "trusted.overlay.opaque",
                "user.overlay.redirect",
                "user.overlay.metacopy",
                "user.fine",
            ] {
                entry.xattrs.insert(name.into(), b"y".to_vec());
            }
        }
        let tree = sandbox
            .apply(flavour, ApplyOptions::default(), &[dir, inside])
            .unwrap()
            .unwrap();
        assert_eq!(tree.statistics.dropped_marks, 6);
        let root = RootDir::open(&sandbox.root()).unwrap();
        let on_disk = root.open_dir(&path("d")).unwrap();
        for xattrs in [
            on_disk.xattrs_self().unwrap(),
            on_disk
                .xattrs(super::super::Name::new(b"f").unwrap())
                .unwrap(),
            tree.list.get(&path("d/f")).unwrap().xattrs.clone(),
        ] {
            assert_eq!(xattrs.keys().collect::<Vec<_>>(), [b"user.fine"]);
        }
    }
}

#[test]
fn devices_are_made_by_root_only_and_listed_always() {
    for &flavour in flavours() {
        let sandbox = Sandbox::new();
        let mut null = file("null", "");
        null.0.kind = EntryKind::CharDevice { major: 1, minor: 3 };
        let mut device = file("disk", "");
        device.0.kind = EntryKind::BlockDevice { major: 8, minor: 0 };
        let list = applied(&sandbox, flavour, &[null, device, link("same", "null")]);
        assert_eq!(list.entries().len(), 3);
        let on_disk = dump(&sandbox.root()).len();
        assert_eq!(
            on_disk,
            if flavour == Flavour::Root { 3 } else { 0 },
            "{flavour:?}"
        );
    }
}

#[test]
fn a_lying_length_is_an_error() {
    for (promised, content) in [(5, "four"), (3, "four"), (1, ""), (0, "x")] {
        let sandbox = Sandbox::new();
        let mut lying = file("f", content);
        lying.0.kind = EntryKind::File { size: promised };
        let error = sandbox
            .apply(flavours()[0], ApplyOptions::default(), &[lying])
            .unwrap_err();
        assert!(
            matches!(error, Error::Tree(TreeError::ContentLength { .. })),
            "{error}"
        );
    }
    for length in [BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER] {
        let sandbox = Sandbox::new();
        let content = "x".repeat(length);
        let options = ApplyOptions {
            content_digests: ContentDigests::Compute,
            ..Default::default()
        };
        let tree = sandbox
            .apply(flavours()[0], options, &[file("f", &content)])
            .unwrap()
            .unwrap();
        assert_eq!(fs::read(sandbox.root().join("f")).unwrap().len(), length);
        let digest = tree.list.entries()[0].content_digest.clone();
        assert_eq!(digest, Some(crate::spec::Digest::of(content.as_bytes())));
    }
}

const BUFFER: usize = 256 * 1024;

#[test]
fn a_layer_that_needs_what_is_below_is_noticed() {
    let cases: Vec<(Given<'_>, Option<(&str, Missing)>)> = vec![
        (vec![file("a/b", "")], Some(("a", Missing::Directory))),
        (vec![whiteout("a/b")], Some(("a", Missing::Directory))),
        (vec![opaque("a")], Some(("a", Missing::Directory))),
        (vec![link("a", "b")], Some(("a", Missing::LinkTarget))),
        (
            vec![symlink("lib", "usr/lib"), file("lib/x", "")],
            Some(("usr", Missing::Directory)),
        ),
        // Described later is described.
        (vec![file("a/b", ""), directory("a")], None),
        (vec![file("a", "")], None),
        (vec![], None),
    ];
    for (entries, expected) in cases {
        let sandbox = Sandbox::new();
        let result = sandbox
            .apply(flavours()[0], ApplyOptions::default(), &entries)
            .unwrap();
        let found = result.err().map(|verdict| (verdict.path, verdict.reason));
        assert_eq!(found, expected.map(|(at, reason)| (path(at), reason)));
    }
}

/// A lower view of one applied layer.
struct Below {
    list: EntryList,
    root: RootDir,
}

impl Below {
    fn new(sandbox: &Sandbox, flavour: Flavour, entries: &[(Entry, &[u8])]) -> Self {
        let list = applied(sandbox, flavour, entries);
        let root = RootDir::open(&sandbox.root()).unwrap();
        Self { list, root }
    }
}

impl LowerView for Below {
    fn lookup(&self, path: &EntryPath) -> Result<Option<Entry>> {
        let found = self.list.get(path);
        Ok(found.and_then(|entry| self.list.without_link(entry)))
    }

    fn children(&self, path: &EntryPath) -> Result<Vec<Entry>> {
        let found = self.list.children(path);
        Ok(found
            .filter_map(|entry| self.list.without_link(entry))
            .collect())
    }

    fn open(&self, path: &EntryPath) -> Result<fs::File> {
        self.root.open_file(path)
    }
}

#[test]
fn with_a_lower_view_such_a_layer_is_completed() {
    for &flavour in flavours() {
        let below = Sandbox::new();
        let mut etc = directory("etc");
        etc.0.mode = 0o700;
        etc.0.mtime = Timestamp::from_seconds(77);
        let mut passwd = file("etc/passwd", "root");
        passwd.0.mode = 0o640;
        let lower = Below::new(
            &below,
            flavour,
            &[
                etc,
                passwd,
                directory("usr"),
                directory("usr/lib"),
                symlink("lib", "/usr/lib"),
            ],
        );
        let options = ApplyOptions {
            lower: Some(&lower),
            ..Default::default()
        };
        let sandbox = Sandbox::new();
        let tree = sandbox.apply(
            flavour,
            options,
            &[
                link("etc/copy", "etc/passwd"),
                file("lib/x", "x"),
                file("new/deep/f", "f"),
                whiteout("usr/nothing"),
                whiteout("lib/y"),
            ],
        );
        let list = tree.unwrap().unwrap().list;
        assert_eq!(
            shown(&list),
            [
                "etc/",
                "etc/copy",
                "etc/passwd = etc/copy",
                "new/",
                "new/deep/",
                "new/deep/f",
                "usr/",
                "usr/lib/",
                "usr/lib/x"
            ]
        );
        let etc = list.get(&path("etc")).unwrap();
        assert_eq!((etc.mode, etc.mtime.seconds), (0o700, 77));
        assert_eq!(list.get(&path("etc/copy")).unwrap().mode, 0o640);
        assert_eq!(fs::read(sandbox.root().join("etc/copy")).unwrap(), b"root");
        below.assert_host_unchanged("below");
    }
}

#[test]
fn what_this_layer_hides_is_not_taken_from_below() {
    let flavour = flavours()[0];
    let below = Sandbox::new();
    let mut d = directory("d");
    d.0.mode = 0o700;
    let lower = Below::new(&below, flavour, &[d, file("d/f", "old"), symlink("l", "d")]);
    let options = ApplyOptions {
        lower: Some(&lower),
        ..Default::default()
    };
    let sandbox = Sandbox::new();
    let entries = [
        whiteout("d"),
        whiteout("l"),
        file("d/g", ""),
        file("l/h", ""),
    ];
    let list = sandbox
        .apply(flavour, options, &entries)
        .unwrap()
        .unwrap()
        .list;
    assert_eq!(
        shown(&list),
        ["d/", "d opaque", "d/g", "l/", "l opaque", "l/h"]
    );
    assert_eq!(list.get(&path("d")).unwrap().mode, 0o755);
    let sandbox = Sandbox::new();
    let error = sandbox
        .apply(flavour, options, &[whiteout("d"), link("x", "d/f")])
        .unwrap_err();
    assert!(matches!(
        error,
        Error::Tree(TreeError::Refused {
            reason: Refusal::LinkToNothing,
            ..
        })
    ));
}

#[test]
fn priv_owners_are_set_and_setuid_survives() {
    if !rustix::process::geteuid().is_root() {
        let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
        assert!(!required.contains("priv"), "needs root");
        eprintln!("SKIPPED priv_owners_are_set_and_setuid_survives: needs root");
        return;
    }
    let sandbox = Sandbox::new();
    let mut sudo = file("sudo", "");
    (sudo.0.mode, sudo.0.uid, sudo.0.gid) = (0o6755, 1234, 42);
    // A version 2 file capability: cap_net_raw=ep.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ]
    .to_vec();
    sudo.0
        .xattrs
        .insert(b"security.capability".to_vec(), capability.clone());
    let mut at = symlink("at", "sudo");
    (at.0.uid, at.0.gid) = (7, 8);
    let mut dir = directory("dir");
    (dir.0.uid, dir.0.gid, dir.0.mode) = (5, 6, 0o2775);
    applied(&sandbox, Flavour::Root, &[sudo, at, dir, file("dir/f", "")]);
    let owner = |name: &str| {
        let stat = fs::symlink_metadata(sandbox.root().join(name)).unwrap();
        (stat.uid(), stat.gid(), stat.permissions().mode() & 0o7777)
    };
    assert_eq!(owner("sudo"), (1234, 42, 0o6755));
    assert_eq!(owner("at"), (7, 8, 0o777));
    assert_eq!(owner("dir"), (5, 6, 0o2775));
    assert_eq!(owner("dir/f"), (0, 0, 0o644));
    let root = RootDir::open(&sandbox.root()).unwrap();
    let root = root.open_dir(&EntryPath::ROOT).unwrap();
    let xattrs = root
        .xattrs(super::super::Name::new(b"sudo").unwrap())
        .unwrap();
    assert_eq!(xattrs.get(&b"security.capability"[..]), Some(&capability));
}

#[test]
fn content_can_be_taken_from_a_file() {
    for (promised, fine) in [(7, true), (6, false), (8, false)] {
        let sandbox = Sandbox::new();
        let source = sandbox.outside().join("canary");
        let source_dir = tempfile::tempdir().unwrap();
        let copy = source_dir.path().join("copy");
        fs::copy(source, &copy).unwrap();
        fs::write(&copy, "content").unwrap();
        let root = RootDir::open(&sandbox.root()).unwrap();
        let mut applier = Applier::new(root, flavours()[0], ApplyOptions::default()).unwrap();
        let entry = Entry::new(path("f"), EntryKind::File { size: promised });
        let result = applier.apply_from(entry, &File::open(&copy).unwrap());
        assert_eq!(result.is_ok(), fine, "{promised}");
        if fine {
            applier.finish().unwrap();
            assert_eq!(fs::read(sandbox.root().join("f")).unwrap(), b"content");
        }
    }
}

/// As when the store lies in a container's own root file system.
#[test]
fn priv_marks_that_the_disk_refuses_are_only_listed() {
    if !can_mount("priv_marks_that_the_disk_refuses_are_only_listed") {
        return;
    }
    let (lower, upper) = (Sandbox::new(), Sandbox::new());
    let mount = OverlayMount::new(&lower.root(), &upper.root(), Flavour::Root);
    let entries = [
        file("a", "x"),
        whiteout("b"),
        whiteout("b"),
        whiteout("c"),
        file("c", "y"),
    ];
    let options = ApplyOptions::default();
    let tree = apply_to(mount.path(), Flavour::Root, options, &entries)
        .unwrap()
        .unwrap();
    assert_eq!(shown(&tree.list), ["a", "b gone", "c"]);
    assert_eq!(tree.statistics.unmade_marks, 2);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 2);
}
