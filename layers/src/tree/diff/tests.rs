use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::super::testutil::*;
use super::super::{ApplyOptions, NoLower, TreeError};
use super::*;

type Given<'a> = Vec<(Entry, &'a [u8])>;

/// A lower view of one layer.
fn below(sandbox: &Sandbox, flavour: Flavour, entries: &Given<'_>) -> Merged {
    let tree = sandbox.apply(flavour, ApplyOptions::default(), entries);
    let mut merged = Merged::default();
    merged.push(&tree.unwrap().unwrap().list, &sandbox.root());
    merged
}

fn paths(list: &EntryList) -> Vec<String> {
    let line = |entry: &Entry| match &entry.kind {
        EntryKind::Whiteout => format!("-{}", entry.path),
        EntryKind::OpaqueDirectory => format!("!{}", entry.path),
        EntryKind::HardLink { target } => format!("{}={target}", entry.path),
        _ => entry.path.to_string(),
    };
    list.entries().iter().map(line).collect()
}

#[test]
fn an_upper_directory_says_what_changed() {
    for &flavour in flavours() {
        let lower_sandbox = Sandbox::new();
        let lower = below(
            &lower_sandbox,
            flavour,
            &vec![
                directory("d"),
                file("d/old", "1"),
                directory("o"),
                file("o/old", ""),
                file("f", ""),
            ],
        );
        let sandbox = Sandbox::new();
        prepare_upper(RootDir::open(&sandbox.root()).unwrap(), flavour, &lower).unwrap();
        let upper: Given<'_> = vec![
            directory("d"),
            whiteout("d/old"),
            whiteout("d/never"),
            file("d/z", "new"),
            link("d/y", "d/z"),
            directory("o"),
            opaque("o"),
            whiteout("o/old"),
            directory("new"),
            opaque("new"),
        ];
        sandbox
            .apply(flavour, ApplyOptions::default(), &upper)
            .unwrap()
            .unwrap();
        // What the kernel leaves on directories and files that it copied up.
        let scope = if flavour == Flavour::Root {
            "trusted"
        } else {
            "user"
        };
        for at in ["d", "d/z"] {
            let name = format!("{scope}.overlay.origin");
            rustix::fs::lsetxattr(
                sandbox.root().join(at),
                name,
                b"x",
                rustix::fs::XattrFlags::empty(),
            )
            .unwrap();
        }
        drop(std::os::unix::net::UnixListener::bind(sandbox.root().join("d/socket")).unwrap());
        drop(std::os::unix::net::UnixListener::bind(sandbox.root().join("f")).unwrap());
        let root = RootDir::open(&sandbox.root()).unwrap();
        let list = diff_upper(&root, flavour, &lower).unwrap();
        assert_eq!(
            paths(&list),
            ["d", "-d/old", "d/y", "d/z=d/y", "-f", "new", "o", "!o"],
            "{flavour:?}"
        );
        assert!(list.entries().iter().all(|entry| entry.xattrs.is_empty()));
    }
}

/// Marks a file as overlay does, in the name space of extended attributes that the flavour uses.
fn mark(at: &std::path::Path, flavour: Flavour, kind: &str, value: &[u8]) {
    let scope = if flavour == Flavour::Root {
        "trusted"
    } else {
        "user"
    };
    let name = format!("{scope}.overlay.{kind}");
    rustix::fs::lsetxattr(at, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn a_whiteout_may_be_a_marked_file() {
    let flavour = flavours()[0];
    let lower_sandbox = Sandbox::new();
    let lower = below(&lower_sandbox, flavour, &vec![file("f", "1")]);
    let sandbox = Sandbox::new();
    fs::write(sandbox.root().join("f"), "").unwrap();
    mark(&sandbox.root().join("f"), flavour, "whiteout", b"");
    let root = RootDir::open(&sandbox.root()).unwrap();
    prepare_upper(RootDir::open(&sandbox.root()).unwrap(), flavour, &lower).unwrap();
    assert_eq!(paths(&diff_upper(&root, flavour, &lower).unwrap()), ["-f"]);
}

#[test]
fn marks_of_features_we_never_ask_for_are_errors() {
    for &flavour in flavours() {
        for kind in ["redirect", "metacopy"] {
            let sandbox = Sandbox::new();
            fs::create_dir(sandbox.root().join("d")).unwrap();
            mark(&sandbox.root().join("d"), flavour, kind, b"/etc");
            let root = RootDir::open(&sandbox.root()).unwrap();
            let error = diff_upper(&root, flavour, &NoLower).unwrap_err();
            let crate::Error::Tree(TreeError::OverlayMark {
                path: at,
                mark: found,
            }) = error
            else {
                panic!("{error}");
            };
            assert_eq!((at, found), (path("d"), kind));
        }
    }
}

#[test]
fn the_root_is_in_a_diff_only_when_it_was_changed() {
    let flavour = flavours()[0];
    let lower_sandbox = Sandbox::new();
    let mut top = directory("");
    top.0.mode = 0o711;
    let lower = below(&lower_sandbox, flavour, &vec![top]);
    for lower in [&lower as &dyn LowerView, &NoLower] {
        let sandbox = Sandbox::new();
        prepare_upper(RootDir::open(&sandbox.root()).unwrap(), flavour, lower).unwrap();
        let root = RootDir::open(&sandbox.root()).unwrap();
        assert!(paths(&diff_upper(&root, flavour, lower).unwrap()).is_empty());
        assert!(paths(&diff_full(&root, flavour, lower, None).unwrap()).is_empty());
        fs::set_permissions(sandbox.root(), fs::Permissions::from_mode(0o1777)).unwrap();
        let list = diff_upper(&root, flavour, lower).unwrap();
        assert_eq!(list.get(&EntryPath::ROOT).unwrap().mode, 0o1777);
        assert_eq!(diff_full(&root, flavour, lower, None).unwrap(), list);
    }
}

#[test]
fn with_one_id_owners_and_modes_come_from_below() {
    let flavour = Flavour::SingleId;
    let lower_sandbox = Sandbox::new();
    let mut closed = directory("d");
    (closed.0.mode, closed.0.uid, closed.0.gid) = (0o555, 33, 34);
    let mut secret = file("d/secret", "1");
    (secret.0.mode, secret.0.uid) = (0o000, 35);
    secret
        .0
        .xattrs
        .insert(b"security.capability".to_vec(), vec![1]);
    let mut null = file("d/null", "");
    null.0.kind = EntryKind::CharDevice { major: 1, minor: 3 };
    let lower = below(&lower_sandbox, flavour, &vec![closed, secret, null]);
    let sandbox = Sandbox::new();
    apply_list(
        &lower.list(),
        &lower_sandbox.root(),
        &sandbox.root(),
        flavour,
    );
    let root = RootDir::open(&sandbox.root()).unwrap();
    assert!(paths(&diff_full(&root, flavour, &lower, None).unwrap()).is_empty());
    fs::write(sandbox.root().join("d/new"), "x").unwrap();
    fs::set_permissions(
        sandbox.root().join("d/new"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let list = diff_full(&root, flavour, &lower, None).unwrap();
    assert_eq!(paths(&list), ["d", "d/new"]);
    let [dir, new] = list.entries() else { panic!() };
    assert_eq!((dir.mode, dir.uid, dir.gid), (0o555, 33, 34));
    assert_eq!((new.mode, new.uid, new.gid), (0o644, 0, 0));
    fs::set_permissions(
        sandbox.root().join("d/secret"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let list = diff_full(&root, flavour, &lower, None).unwrap();
    let secret = list.get(&path("d/secret")).unwrap();
    assert_eq!(
        (secret.mode, secret.uid, secret.xattrs.len()),
        (0o600, 35, 1)
    );
    fs::write(sandbox.root().join("d/secret"), "changed").unwrap();
    let list = diff_full(&root, flavour, &lower, None).unwrap();
    assert!(
        list.get(&path("d/secret")).unwrap().xattrs.is_empty(),
        "capabilities go with the content"
    );
}

#[test]
fn equal_size_and_time_do_not_hide_other_content() {
    let flavour = flavours()[0];
    let lower_sandbox = Sandbox::new();
    let lower = below(
        &lower_sandbox,
        flavour,
        &vec![file("f", "one"), file("g", "two")],
    );
    let sandbox = Sandbox::new();
    apply_list(
        &lower.list(),
        &lower_sandbox.root(),
        &sandbox.root(),
        flavour,
    );
    let marker = sandbox.outside().join("marker");
    fs::write(&marker, "").unwrap();
    let outside = RootDir::open(&sandbox.outside()).unwrap();
    let copied_at = outside.stat(&path("marker")).unwrap().unwrap().ctime;
    fs::write(sandbox.root().join("f"), "ONE").unwrap();
    let file = fs::File::open(sandbox.root().join("f")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    let root = RootDir::open(&sandbox.root()).unwrap();
    for copied_at in [None, Some(copied_at)] {
        let list = diff_full(&root, flavour, &lower, copied_at).unwrap();
        assert_eq!(paths(&list), ["f"]);
    }
}

#[test]
fn depth_is_limited_by_the_path_not_by_descriptors() {
    let sandbox = Sandbox::new();
    let root = RootDir::open(&sandbox.root()).unwrap();
    let mut deep = EntryPath::ROOT;
    for _ in 0..2000 {
        deep = deep.join(b"d").unwrap();
        root.create_dir(&deep).unwrap();
    }
    let list = diff_upper(&root, flavours()[0], &NoLower).unwrap();
    assert_eq!(
        list.entries()
            .iter()
            .filter(|entry| !entry.path.is_root())
            .count(),
        2000
    );
}

/// Compares with nothing below: everything there is.
fn all(root: &std::path::Path, flavour: Flavour) -> EntryList {
    let list = diff_full(&RootDir::open(root).unwrap(), flavour, &NoLower, None).unwrap();
    let mut entries = list.into_entries();
    entries.retain(|entry| !entry.path.is_root());
    EntryList::new(entries)
}

/// Everything by path, with no name a link to another.
fn flat(list: &EntryList) -> Vec<Entry> {
    let entries = list.entries().iter();
    entries
        .map(|entry| list.without_link(entry).unwrap())
        .collect()
}

/// Runs `steps` in an overlay mount; returns what could be seen there in the end.
fn run_in_overlay(
    lower: &Sandbox,
    upper: &Sandbox,
    flavour: Flavour,
    steps: &[Step],
) -> Vec<Entry> {
    let mount = OverlayMount::new(&lower.root(), &upper.root(), flavour);
    steps.iter().for_each(|step| step.run(mount.path()));
    flat(&all(mount.path(), Flavour::Root))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(24, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// What a real overlay mount shows is what its lower layer and its diff say together; and once
    /// more on top of both, with the diff's own tree as a lower directory.
    #[test]
    fn priv_changes_in_an_overlay_mount_are_all_in_its_diff(before in steps(), after in steps()) {
        if !can_mount("priv_changes_in_an_overlay_mount_are_all_in_its_diff") {
            return Ok(());
        }
        for flavour in [Flavour::Root, Flavour::SubIds] {
            let (start, lower) = (Sandbox::new(), Sandbox::new());
            before.iter().for_each(|step| step.run(&start.root()));
            let list = apply_list(&all(&start.root(), flavour), &start.root(), &lower.root(), flavour);
            let mut merged = Merged::default();
            merged.push(&list, &lower.root());
            let upper = Sandbox::new();
            prepare_upper(RootDir::open(&upper.root()).unwrap(), flavour, &merged).unwrap();
            let seen = run_in_overlay(&lower, &upper, flavour, &after);
            let root = RootDir::open(&upper.root()).unwrap();
            let diff = diff_upper(&root, flavour, &merged).unwrap();
            merged.push(&diff, &upper.root());
            prop_assert_eq!(&flat(&merged.list()), &seen);
            // Unpacked elsewhere, as whoever pulls the layer does.
            let again = Sandbox::new();
            prop_assert_eq!(&apply_list(&diff, &upper.root(), &again.root(), flavour), &diff);
            prop_assert_eq!(&diff_upper(&RootDir::open(&again.root()).unwrap(), flavour, &merged_below(&list, &lower)).unwrap(), &diff);
            prop_assert_eq!(run_in_overlay(&lower, &again, flavour, &[]), seen);
        }
    }
}

fn merged_below(list: &EntryList, tree: &Sandbox) -> Merged {
    let mut merged = Merged::default();
    merged.push(list, &tree.root());
    merged
}

proptest! {
    // `PROPTEST_CASES` does not reach a config with a number of its own.
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(48, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever was done to a copy of a layer: its diff, applied on top of that layer, is what the
    /// copy has become. And the tree so made, read as an upper directory, is the same diff.
    #[test]
    fn a_diff_applied_gives_the_same_tree(before in steps(), after in steps()) {
        for &flavour in flavours() {
            let (start, lower_tree) = (Sandbox::new(), Sandbox::new());
            before.iter().for_each(|step| step.run(&start.root()));
            let lower_list = all(&start.root(), flavour);
            let lower_list = apply_list(&lower_list, &start.root(), &lower_tree.root(), flavour);
            prop_assert_eq!(all(&lower_tree.root(), flavour), lower_list.clone());
            let mut merged = Merged::default();
            merged.push(&lower_list, &lower_tree.root());

            let copy = Sandbox::new();
            apply_list(&lower_list, &lower_tree.root(), &copy.root(), flavour);
            let root = RootDir::open(&copy.root()).unwrap();
            prop_assert_eq!(diff_full(&root, flavour, &merged, None).unwrap(), EntryList::default());
            after.iter().for_each(|step| step.run(&copy.root()));
            let diff = diff_full(&root, flavour, &merged, None).unwrap();

            let upper_tree = Sandbox::new();
            let upper_list = apply_list(&diff, &copy.root(), &upper_tree.root(), flavour);
            prop_assert_eq!(&upper_list, &diff);
            let upper = RootDir::open(&upper_tree.root()).unwrap();
            prop_assert_eq!(&diff_upper(&upper, flavour, &merged).unwrap(), &diff);
            merged.push(&upper_list, &upper_tree.root());
            prop_assert_eq!(merged.list(), all(&copy.root(), flavour));
            for entry in merged.list().entries() {
                if let EntryKind::File { .. } = entry.kind {
                    let content = |mut file: fs::File| {
                        let mut bytes = Vec::new();
                        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
                        bytes
                    };
                    let here = content(root.open_file(&entry.path).unwrap());
                    prop_assert_eq!(content(merged.open(&entry.path).unwrap()), here);
                }
            }
        }
    }
}
