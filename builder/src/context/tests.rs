use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use wythe_layers::store::Store;
use wythe_layers::tree::{EntryPath, Flavour};

use super::{Context, ItemKind};
use crate::Error;
use crate::cache::Index;
use crate::ignore::IgnoreRules;

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("context")).unwrap();
        Self { directory }
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join("context").join(path)
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), text).unwrap();
        self
    }

    fn open(&self, ignore: &str) -> Context {
        let store = Store::open(&self.directory.path().join("store"), Flavour::SingleId).unwrap();
        let rules = IgnoreRules::parse(ignore.as_bytes()).unwrap();
        Context::open(&self.path(""), rules, &Index::new(&store)).unwrap()
    }
}

fn entry(path: &str) -> EntryPath {
    EntryPath::parse(path.as_bytes()).unwrap()
}

fn walked(context: &Context, top: &str) -> Vec<String> {
    let items = context.walk(&entry(top)).unwrap();
    let name = |path: &EntryPath| String::from_utf8(path.as_bytes().to_vec()).unwrap();
    items.iter().map(|item| name(&item.path)).collect()
}

#[test]
fn a_walk_is_sorted_and_leaves_out_what_is_ignored() {
    let bench = Bench::new();
    bench
        .write("a.b", "")
        .write("a/b", "")
        .write("a-b", "")
        .write("node_modules/x/y", "");
    bench
        .write("docs/keep.md", "")
        .write("docs/drop.md", "")
        .write("logs/old/1", "");
    for (ignore, expected) in [
        (
            "",
            &[
                "",
                "a",
                "a/b",
                "a-b",
                "a.b",
                "docs",
                "docs/drop.md",
                "docs/keep.md",
                "logs",
                "logs/old",
                "logs/old/1",
                "node_modules",
                "node_modules/x",
                "node_modules/x/y",
            ][..],
        ),
        (
            "node_modules\nlogs\n",
            &[
                "",
                "a",
                "a/b",
                "a-b",
                "a.b",
                "docs",
                "docs/drop.md",
                "docs/keep.md",
            ],
        ),
        ("*\n!docs/keep.md\n", &["", "docs", "docs/keep.md"]),
        ("*\n!nothing/here\n", &[""]),
        ("**/*.md\na*\nlogs\nnode_modules\n", &["", "docs"]),
    ] {
        assert_eq!(walked(&bench.open(ignore), ""), expected, "{ignore:?}");
    }
    let context = bench.open("*\n!docs/keep.md\n");
    assert_eq!(walked(&context, "docs"), ["docs", "docs/keep.md"]);
    assert!(context.lookup(&entry("docs/drop.md")).unwrap().is_none());
    assert!(context.lookup(&entry("logs")).unwrap().is_none());
    assert!(context.lookup(&entry("docs")).unwrap().is_some());
    let children = context.children(&EntryPath::ROOT).unwrap();
    assert_eq!(children.len(), 1);
}

#[test]
fn links_are_resolved_inside_the_context_only() {
    let bench = Bench::new();
    let outside = bench.directory.path().join("outside");
    fs::write(&outside, "secret").unwrap();
    bench
        .write("real/file", "in")
        .write("etc/passwd", "the context's own");
    for (target, link) in [
        ("real", "to-dir"),
        ("../../outside", "up"),
        ("/etc/passwd", "absolute"),
        ("loop-b", "loop-a"),
        ("loop-a", "loop-b"),
        ("real/file/", "through-file"),
    ] {
        symlink(target, bench.path(link)).unwrap();
    }
    symlink(&outside, bench.path("out")).unwrap();
    let context = bench.open("");
    let found = |path: &str| context.lookup(&entry(path)).unwrap().map(|item| item.path);
    assert_eq!(found("to-dir/file"), Some(entry("real/file")));
    assert_eq!(found("absolute"), Some(entry("etc/passwd")));
    assert_eq!(found("up"), None);
    assert_eq!(found("out"), None);
    assert_eq!(found("real/file/below"), None);
    assert!(matches!(
        context.lookup(&entry("loop-a")),
        Err(Error::LinkLoop { .. })
    ));
    // An entry is never followed where it was listed.
    let items = context.walk(&EntryPath::ROOT).unwrap();
    let up = items.iter().find(|item| item.path == entry("up")).unwrap();
    assert_eq!(up.kind, ItemKind::Symlink(b"../../outside".to_vec()));
}

#[test]
fn a_directory_swapped_for_a_link_after_the_walk_is_not_entered() {
    let bench = Bench::new();
    let outside = bench.directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "secret").unwrap();
    bench.write("dir/file", "public");
    let context = bench.open("");
    let item = context.lookup(&entry("dir/file")).unwrap().unwrap();
    fs::rename(bench.path("dir"), bench.path("was")).unwrap();
    symlink(&outside, bench.path("dir")).unwrap();
    assert!(context.open_file(&item).is_err());
    assert!(context.lookup(&entry("dir/file")).unwrap().is_none());
}

#[test]
fn a_file_that_changes_between_key_and_copy_is_noticed() {
    let bench = Bench::new();
    bench.write("a", "one");
    let context = bench.open("");
    let item = context.lookup(&entry("a")).unwrap().unwrap();
    let before = context.digests(&[&item], 1, None).unwrap().unwrap();
    assert_eq!(before[0], wythe_layers::spec::Digest::of(b"one"));
    let file = context.open_file(&item).unwrap();
    bench.write("a", "two, longer");
    assert!(matches!(
        context.check_unchanged(&item, &file),
        Err(Error::ContextChanged { .. })
    ));
    assert!(matches!(
        context.open_file(&item),
        Err(Error::ContextChanged { .. })
    ));
}

#[test]
fn digests_are_remembered_across_builds_and_forgotten_with_their_files() {
    let bench = Bench::new();
    bench.write("a", "one").write("b", "two");
    let settle = || std::thread::sleep(std::time::Duration::from_millis(120));
    settle();
    let digests = |context: &Context, limit| {
        let items = context.walk(&EntryPath::ROOT).unwrap();
        let files: Vec<_> = items
            .iter()
            .filter(|item| item.kind == ItemKind::File)
            .collect();
        context.digests(&files, 2, limit).unwrap()
    };
    let first = bench.open("");
    assert_eq!(digests(&first, Some(1)), None, "more than may be read");
    let known = digests(&first, None).unwrap();
    first.save().unwrap();
    // Nothing may be read now, and nothing has to be.
    assert_eq!(digests(&bench.open(""), Some(0)), Some(known));
    bench.write("a", "changed");
    assert_eq!(digests(&bench.open(""), Some(0)), None);
    fs::remove_file(bench.path("a")).unwrap();
    let second = bench.open("");
    assert_eq!(digests(&second, Some(0)).unwrap().len(), 1);
    assert_eq!(known_files(bench.directory.path()), 2);
    bench.write("c", "new");
    settle();
    let third = bench.open("");
    digests(&third, None).unwrap();
    third.save().unwrap();
    assert_eq!(
        known_files(bench.directory.path()),
        2,
        "a is gone, c is new"
    );
}

/// How many files the memo knows, by the number of their names in it.
fn known_files(directory: &Path) -> usize {
    let memos = directory.join("store/cache/v1/context");
    let path = fs::read_dir(memos).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(path).unwrap();
    let name = [1, 0, 0, 0];
    ["a", "b", "c"]
        .iter()
        .filter(|letter| {
            let entry: Vec<u8> = name.iter().copied().chain(letter.bytes()).collect();
            bytes.windows(5).any(|window| window == entry)
        })
        .count()
}

#[test]
fn a_pipe_in_place_of_a_file_does_not_hang() {
    let bench = Bench::new();
    bench.write("a", "one");
    let context = bench.open("");
    let item = context.lookup(&entry("a")).unwrap().unwrap();
    fs::remove_file(bench.path("a")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, bench.path("a"), 0o600.into()).unwrap();
    assert!(context.open_file(&item).is_err());
    let item = bench.open("").lookup(&entry("a")).unwrap().unwrap();
    assert_eq!(item.kind, ItemKind::Fifo);
}
