//! `SOURCE_DATE_EPOCH`: what it may name, and what comes of it. BuildKit's docs/build-repro.md
//! §SOURCE_DATE_EPOCH, and its tests.

use super::servers::{Daemon, Manner, Repository, Web};
use crate::support::{Sandbox, fail, programs_here, succeed};

/// When the repositories of these tests are committed.
const COMMITTED: u64 = 1_612_325_106;

/// The time of `x` in the image that comes of these arguments.
fn time_of_x(sandbox: &Sandbox, args: &[&str], env: &[(&str, &str)]) -> u64 {
    let tar = sandbox.path("out.tar");
    let output = format!("type=tar,dest={}", tar.display());
    let mut command = sandbox.wythe([&["build", "-q", "-o", &output], args].concat());
    succeed(command.envs(env.iter().copied()));
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let found = entries.find(|entry| entry.path().unwrap().ends_with("x"));
    found.unwrap().header().mtime().unwrap()
}

/// `web/git/src.tar`, with files of 100 and 200 and a directory of 300 seconds.
fn archive(sandbox: &Sandbox) {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, time, kind) in [
        ("Dockerfile", 100, tar::EntryType::Regular),
        ("x", 200, tar::EntryType::Regular),
        ("dir/", 300, tar::EntryType::Directory),
    ] {
        let content: &[u8] = match name {
            "Dockerfile" => b"FROM scratch\nCOPY x /\n",
            _ => b"",
        };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(time);
        builder.append_data(&mut header, name, content).unwrap();
    }
    sandbox.file("git/src.tar", builder.into_inner().unwrap());
    sandbox.file("git/plain", "no archive");
}

#[test]
fn the_epoch_is_an_argument_a_global_one_or_the_environments() {
    let sandbox = Sandbox::new();
    archive(&sandbox);
    let web = Web::new(
        &sandbox,
        Manner {
            dumb: true,
            ..Manner::default()
        },
    );
    let (tar, plain) = (web.url("src.tar"), web.url("plain"));
    let named = format!("n={tar}");
    let stage = format!("FROM scratch AS src\nARG U={tar}\nADD $U /\n");
    sandbox.file("context/x", "x");
    sandbox.file("other/y", "y");
    let argument = |value: &str| {
        let value = format!("SOURCE_DATE_EPOCH={value}");
        vec!["--build-arg".to_owned(), value]
    };
    let context = |value: &str| vec!["--build-context".to_owned(), value.to_owned()];
    for (global, stages, args, env, expected) in [
        ("", "", vec![], &[][..], 0),
        ("=7", "", vec![], &[], 7),
        ("=7", "", argument("8"), &[], 8),
        ("=7", "", vec![], &[("SOURCE_DATE_EPOCH", "9")], 9),
        ("=7", "", argument("8"), &[("SOURCE_DATE_EPOCH", "9")], 8),
        ("=7", "", argument(""), &[], 0),
        ("=", "", vec![], &[], 0),
        ("=$N", "", vec![], &[], 6),
        // A directory of this machine has no time.
        ("=context", "", vec![], &[], 0),
        ("=7", "", argument("context"), &[], 0),
        ("=n", "", context(&named), &[], 200),
        ("=n", "", context("n=other"), &[], 0),
        ("=src", &stage, vec![], &[], 200),
        ("=SRC", &stage, vec![], &[], 200),
        ("=src", &stage, argument("5"), &[], 5),
        ("", &stage, argument("src"), &[], 200),
        (
            "=src",
            &format!("FROM scratch AS src\nADD {plain} /\n"),
            vec![],
            &[],
            0,
        ),
    ] {
        let global = if global.is_empty() {
            String::new()
        } else {
            format!("ARG N=6\nARG SOURCE_DATE_EPOCH{global}\n")
        };
        let dockerfile = format!("{global}{stages}FROM scratch\nCOPY x /\n");
        sandbox.file("context/Dockerfile", &dockerfile);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["context"]).collect();
        let found = time_of_x(&sandbox, &args, env);
        assert_eq!(found, expected, "{dockerfile}{args:?} {env:?}");
        // The second time from the cache, as far as nobody has to be asked.
        assert_eq!(time_of_x(&sandbox, &args, env), expected);
    }
}

#[test]
fn what_the_epoch_may_not_be_is_said() {
    let sandbox = Sandbox::new();
    sandbox.file("context/x", "x");
    let stage = |body: &str| format!("ARG SOURCE_DATE_EPOCH=s\n{body}\nFROM scratch\nCOPY x /\n");
    for (dockerfile, message) in [
        (stage(""), "invalid SOURCE_DATE_EPOCH: s"),
        (
            stage("FROM scratch AS s\nCOPY x /"),
            "source-only requirements: unsupported COPY instruction",
        ),
        (stage("FROM scratch AS s"), "exactly one remote ADD"),
        (
            stage("FROM other AS s\nADD https://x.example/ /"),
            "must use FROM scratch",
        ),
        (
            stage("FROM scratch AS s\nADD https://x.example/ /\nADD https://x.example/ /"),
            "exactly one remote ADD",
        ),
        (
            stage("FROM scratch AS s\nADD https://x.example/ git@x:y /"),
            "exactly one remote ADD source",
        ),
        (
            stage("FROM scratch AS s\nADD x /"),
            "single HTTP(S) or Git ADD",
        ),
        (
            stage("FROM scratch AS s\nADD git@x:y?tag=a&branch=b /"),
            "branch conflicts with tag",
        ),
    ] {
        sandbox.file("context/Dockerfile", &dockerfile);
        let (_, log) = sandbox.fails(["build", "context"]);
        // Long messages are wrapped.
        let said = log.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(message), "{dockerfile}: {log}");
    }
    sandbox.file("context/Dockerfile", "FROM scratch\nCOPY x /\n");
    let mut command = sandbox.wythe(["build", "context"]);
    let (_, log) = fail(command.env("SOURCE_DATE_EPOCH", "soon"));
    assert!(log.contains("invalid SOURCE_DATE_EPOCH: soon"), "{log}");
}

#[test]
fn peer_the_epoch_of_a_repository_is_its_commit() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let repository = Repository::new(&sandbox, "repo");
    repository.file("x", "x");
    repository.file("Dockerfile", "FROM scratch\nCOPY x /\n");
    repository.commit("one");
    let daemon = Daemon::new(&sandbox);
    let url = daemon.url("repo");
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=context", &url];
    assert_eq!(time_of_x(&sandbox, &epoch, &[]), COMMITTED);
    // Files of a repository get the commit's time, which is before this epoch.
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000", &url];
    assert_eq!(time_of_x(&sandbox, &epoch, &[]), COMMITTED);
    sandbox.file("context/x", "x");
    let named = format!("n={url}#main");
    for (dockerfile, args) in [
        (
            "ARG SOURCE_DATE_EPOCH=n\n".to_owned(),
            &["--build-context", &named][..],
        ),
        (
            format!("ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD {url}#main /\n"),
            &[],
        ),
        (
            format!("ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD {url}?subdir=nowhere /\n"),
            &[],
        ),
    ] {
        sandbox.file(
            "context/Dockerfile",
            format!("{dockerfile}FROM scratch\nCOPY x /\n"),
        );
        let args = [args, &["context"]].concat();
        assert_eq!(time_of_x(&sandbox, &args, &[]), COMMITTED, "{dockerfile}");
    }
}

#[test]
fn the_epoch_of_an_archive_is_its_newest_file() {
    let sandbox = Sandbox::new();
    archive(&sandbox);
    let web = Web::new(
        &sandbox,
        Manner {
            dumb: true,
            ..Manner::default()
        },
    );
    let url = web.url("src.tar");
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=context", &url];
    assert_eq!(time_of_x(&sandbox, &epoch, &[]), 200);
    // A file of this machine has no time, and neither has standard input.
    let file = sandbox.path("git/src.tar");
    let epoch = [
        "--build-arg",
        "SOURCE_DATE_EPOCH=context",
        file.to_str().unwrap(),
    ];
    assert_eq!(time_of_x(&sandbox, &epoch, &[]), 0);
}
