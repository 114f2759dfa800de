//! Every form of an address, of a context and of `ADD`, and what of a repository comes of it.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::servers::{Daemon, Manner, Repository, Web};
use crate::contexts::files;
use crate::support::{Sandbox, programs_here};

/// Commits by name.
struct Commits {
    first: String,
    second: String,
    tag: String,
}

/// `repo`: a branch and an annotated tag of one name at two commits, a light tag, a directory, a
/// link out of it, a submodule; `sub`: the submodule.
fn project(sandbox: &Sandbox) -> Commits {
    let sub = Repository::new(sandbox, "sub");
    sub.file("file", "123");
    let inner = sub.commit("s");
    let repository = Repository::new(sandbox, "repo");
    repository.file("Dockerfile", "FROM scratch\nCOPY f /out\n");
    repository.file("f", "first");
    repository.file("dir/Dockerfile", "FROM scratch\nCOPY . /\n");
    repository.file("dir/deep/g", "deep");
    let script = repository.directory.join("dir/run");
    std::fs::write(&script, "x").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/", repository.directory.join("outside")).unwrap();
    repository.commit("one");
    repository.submodule("submod", "submod", "../sub.git", &inner);
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["tag", "-a", "v1", "-m", "v1"]);
    repository.git(&["tag", "light"]);
    repository.git(&["branch", "feature"]);
    let tag = repository.git(&["rev-parse", "refs/tags/v1"]);
    repository.file("f", "second");
    repository.git(&["commit", "-qam", "two"]);
    repository.git(&["branch", "v1"]);
    let second = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["update-ref", "refs/pull/7/head", &first]);
    for name in ["repo", "sub"] {
        let bare = sandbox.path(&format!("git/{name}.git"));
        let from = sandbox.path(&format!("git/{name}"));
        let (from, bare) = (from.to_str().unwrap(), bare.to_str().unwrap());
        sub.git(&["clone", "-q", "--mirror", from, bare]);
        let mut update = std::process::Command::new("git");
        crate::support::succeed(update.args(["-C", bare, "update-server-info"]));
    }
    Commits { first, second, tag }
}

/// Query or fragment, and what `f` is then; or a part of the message.
fn rows(commits: &Commits) -> Vec<(String, Result<&'static str, &'static str>)> {
    let Commits { first, second, tag } = commits;
    let row = |suffix: &str, expected| (suffix.to_owned(), expected);
    vec![
        row("", Ok("second")),
        row("#", Ok("second")),
        row("#main", Ok("second")),
        // A branch goes before a tag.
        row("#v1", Ok("second")),
        row("#tags/v1", Ok("first")),
        row("#refs/tags/v1", Ok("first")),
        row("#light", Ok("first")),
        row("#refs/pull/7/head", Ok("first")),
        row("#pull/7/head", Ok("first")),
        row("?ref=feature", Ok("first")),
        row("?branch=feature", Ok("first")),
        row("?branch=v1", Ok("second")),
        row("?branch=refs/heads/feature", Ok("first")),
        row("?tag=v1", Ok("first")),
        row("?tag=light", Ok("first")),
        row("?tag=v1#refs/tags/v1", Ok("first")),
        row("?ref=feature#feature", Ok("first")),
        row(
            "?submodules=0&keep-git-dir=0&mtime=checkout#light",
            Ok("first"),
        ),
        row(&format!("#{first}"), Ok("first")),
        row(&format!("?ref={second}"), Ok("second")),
        row(&format!("?ref={first}&commit={first}"), Ok("first")),
        row(&format!("?commit={second}"), Ok("second")),
        row(&format!("?commit={}", &second[..3]), Ok("second")),
        row(&format!("?tag=v1&checksum={}", &first[..9]), Ok("first")),
        row(&format!("?tag=v1&checksum={tag}"), Ok("first")),
        row(&format!("?fetch-by-commit&commit={first}"), Ok("first")),
        row(
            &format!("?fetch-by-commit=true&commit={first}#nowhere"),
            Ok("first"),
        ),
        row("#nothere", Err("does not contain ref \"nothere\"")),
        row("#HEAD", Err("does not contain ref")),
        row("?branch=light", Err("does not contain ref")),
        row("?tag=feature", Err("does not contain ref")),
        row(&format!("#{}", &first[..8]), Err("does not contain ref")),
        row(
            &format!("?commit={}", &first[..8]),
            Err("expected checksum to match"),
        ),
        row(
            &format!("?branch=v1&commit={}", &first[..39]),
            Err("expected checksum to match"),
        ),
        row(
            &format!("?commit={second}#{first}"),
            Err("expected checksum to match"),
        ),
        row("?commit=foobar", Err("expected hex commit hash")),
        row("?fetch-by-commit", Err("requires a full commit")),
        row(&format!("#{}", "0".repeat(40)), Err("git ")),
        row("?tag=v1&branch=v1", Err("branch conflicts with tag")),
        row("?ref=a#b", Err("ref conflicts")),
        row("?what=x", Err("unexpected query")),
        row("?ref", Err("has no value")),
        row("?mtime=x", Err("invalid mtime value")),
        row("#-x", Err("invalid git ref")),
    ]
}

#[test]
fn peer_every_form_of_an_address_is_a_context_and_a_source() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let commits = project(&sandbox);
    let daemon = Daemon::new(&sandbox);
    let url = daemon.url("repo.git");
    for (suffix, expected) in rows(&commits) {
        let place = format!("{url}{suffix}");
        sandbox.file(
            "context/Dockerfile",
            format!("FROM scratch AS all\nADD {place} /repo/\nFROM scratch\nCOPY --from=all /repo/f /out\n"),
        );
        match expected {
            Ok(content) => {
                let expected = [format!("out {content}")];
                assert_eq!(files(&sandbox, &[&place]), expected, "context {suffix}");
                assert_eq!(files(&sandbox, &["context"]), expected, "ADD {suffix}");
            }
            Err(message) => {
                let (_, log) = sandbox.fails(["build", &place]);
                assert!(log.contains(message), "context {suffix}: {log}");
                let (_, log) = sandbox.fails(["build", "context"]);
                assert!(log.contains(message), "ADD {suffix}: {log}");
            }
        }
    }
}

#[test]
fn peer_every_server_gives_the_same_files() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    project(&sandbox);
    let daemon = Daemon::new(&sandbox);
    let smart = Web::new(&sandbox, Manner::default());
    let dumb = Web::new(
        &sandbox,
        Manner {
            dumb: true,
            ..Manner::default()
        },
    );
    let manner = Manner {
        redirect: Some(format!("http://{}", smart.address)),
        ..Manner::default()
    };
    let redirected = Web::new(&sandbox, manner);
    let mut ids = Vec::new();
    for url in [
        daemon.url("repo.git"),
        smart.url("repo.git"),
        dumb.url("repo.git"),
        redirected.url("repo.git"),
    ] {
        for suffix in ["#v1", "?tag=v1", "?ref=light&submodules=0", "#light:dir"] {
            sandbox.file(
                "context/Dockerfile",
                format!(
                    "FROM scratch AS a\nADD {url}{suffix} /\nFROM scratch\nCOPY --from=a / /\n"
                ),
            );
            // Whatever the cache knows of this commit, it is to be got from this server.
            let id = sandbox.ok(["build", "-q", "--no-cache", "context"]);
            ids.push((suffix, id));
        }
    }
    for (suffix, id) in &ids {
        let first = ids.iter().find(|(other, _)| other == suffix).unwrap();
        assert_eq!(&first.1, id, "{suffix}");
    }
}

/// `MODE OWNER NAME` of everything in a built image.
fn listing(sandbox: &Sandbox, line: &str, args: &[&str]) -> Vec<String> {
    sandbox.file("context/Dockerfile", format!("FROM scratch\n{line}\n"));
    let tar = sandbox.path("out.tar");
    let output = format!("type=tar,dest={}", tar.display());
    sandbox.ok([&["build", "-q", "-o", &output, "context"], args].concat());
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let header = entry.header();
        format!(
            "{:o} {}:{} {} {}",
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
            entry.path().unwrap().display()
        )
    });
    entries.collect()
}

#[test]
fn peer_flags_of_add_hold_for_repositories() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    project(&sandbox);
    let daemon = Daemon::new(&sandbox);
    let url = daemon.url("repo.git");
    for (line, expected) in [
        (
            format!("ADD {url}#light:dir /x"),
            &[
                "755 0:0 0 x/",
                "644 0:0 0 x/Dockerfile",
                "755 0:0 0 x/deep/",
                "644 0:0 0 x/deep/g",
                "755 0:0 0 x/run",
            ][..],
        ),
        (
            format!("ADD --chown=3:4 --chmod=640 --exclude=deep --link {url}#light:dir /x/"),
            &["640 3:4 0 x/", "640 3:4 0 x/Dockerfile", "640 3:4 0 x/run"],
        ),
        (
            format!("ADD --chmod=u=rwX,go= --exclude=* --exclude=!run {url}#light:dir /"),
            &["700 0:0 0 run"],
        ),
        (
            format!("ADD {url}#light:dir/deep {url}?subdir=/dir/./deep/../deep&ref=main /x/"),
            &["755 0:0 0 x/", "644 0:0 0 x/g"],
        ),
        // Where a directory is taken, `.git` is not.
        (
            format!("ADD --keep-git-dir {url}#light:dir/deep /x/"),
            &["755 0:0 0 x/", "644 0:0 0 x/g"],
        ),
    ] {
        assert_eq!(listing(&sandbox, &line, &[]), expected, "{line}");
    }
    // mtime=commit: where the epoch lets it be.
    let line = format!("ADD {url}?mtime=commit&subdir=dir/deep /x/");
    assert_eq!(
        listing(&sandbox, &line, &[]),
        ["755 0:0 0 x/", "644 0:0 0 x/g"]
    );
    let epoch = ["--build-arg", "SOURCE_DATE_EPOCH=1700000000"];
    let times = listing(&sandbox, &line, &epoch);
    assert_eq!(times.last().unwrap(), "644 0:0 1612325106 x/g");
    for (flags, message) in [
        (
            format!("--keep-git-dir=false {url}?keep-git-dir"),
            "inconsistent keep-git-dir",
        ),
        (
            format!("--checksum=aa {url}?commit=bb"),
            "checksum mismatch",
        ),
        (format!("--checksum=aa {url} {url}"), "multiple sources"),
        (format!("--checksum=zz {url}"), "expected hex commit hash"),
        (
            format!("{url}#:outside"),
            "is not a directory of the repository",
        ),
        (
            format!("{url}#:outside/etc"),
            "is not a directory of the repository",
        ),
        (format!("{url}#:f"), "is not a directory of the repository"),
        (daemon.url("missing"), "git ls-remote failed"),
    ] {
        sandbox.file(
            "context/Dockerfile",
            format!("FROM scratch\nADD {flags} /x/\n"),
        );
        let (_, log) = sandbox.fails(["build", "context"]);
        assert!(log.contains(message), "{flags}: {log}");
    }
    sandbox.file(
        "context/Dockerfile",
        format!("FROM scratch\nCOPY {url} /x\n"),
    );
    let (_, log) = sandbox.fails(["build", "context"]);
    assert!(log.contains("source can't be a git ref for COPY"), "{log}");
}

#[test]
fn peer_a_kept_git_directory_works_and_is_the_same_twice() {
    if !programs_here(&["git"]) {
        return;
    }
    for format in ["sha1", "sha256"] {
        let sandbox = Sandbox::new();
        let inner = Repository::with(&sandbox, "inner", &[&format!("--object-format={format}")]);
        inner.file("file", "123");
        let commit = inner.commit("s");
        let repository =
            Repository::with(&sandbox, "repo", &[&format!("--object-format={format}")]);
        repository.file("f", "first");
        repository.commit("one");
        repository.submodule("submod", "submod", "../inner", &commit);
        repository.git(&["tag", "-a", "v1", "-m", "v1"]);
        let daemon = Daemon::new(&sandbox);
        let line = format!("ADD --keep-git-dir {}?tag=v1 /", daemon.url("repo"));
        sandbox.file("context/Dockerfile", format!("FROM scratch\n{line}\n"));
        let args = ["build", "-q", "-o", "type=local,dest=out", "context"];
        let first = sandbox.ok(args);
        let out = Repository {
            directory: sandbox.path("out"),
        };
        assert_eq!(out.git(&["status", "--short"]), "");
        assert_eq!(out.git(&["describe"]), "v1");
        assert_eq!(out.git(&["rev-list", "--count", "HEAD"]), "1");
        assert_eq!(
            out.git(&["remote", "get-url", "origin"]),
            daemon.url("repo")
        );
        assert_eq!(out.git(&["-C", "submod", "status", "--short"]), "");
        for gone in ["hooks", "logs", "FETCH_HEAD", "modules/submod/hooks"] {
            assert!(!sandbox.path("out/.git").join(gone).exists(), "{gone}");
        }
        let mut again = sandbox.wythe_on("another", ["build", "-q", "context"]);
        assert_eq!(crate::support::succeed(&mut again), first, "{format}");
    }
}

#[test]
fn peer_a_commit_that_was_added_is_not_asked_for_again() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let commits = project(&sandbox);
    let web = Web::new(&sandbox, Manner::default());
    let build = |suffix: &str| {
        sandbox.file(
            "context/Dockerfile",
            format!("FROM scratch\nADD {}{suffix} /\n", web.url("repo.git")),
        );
        sandbox.ok(["build", "-q", "context"]);
        web.take().len()
    };
    let first = &commits.first;
    assert!(build("#light") > 1, "nothing was fetched");
    // The ref is looked up, and its commit known.
    assert_eq!(build("#light"), 2);
    assert_eq!(build("?tag=v1"), 2);
    assert_eq!(build(&format!("#{first}")), 0);
    assert_eq!(build(&format!("?tag=light&commit={first}")), 0);
    assert!(build(&format!("?submodules=0#{first}")) > 0);
    // A branch that moved is seen.
    let bare = sandbox.path("git/repo.git");
    let mut update = std::process::Command::new("git");
    update
        .arg("-C")
        .arg(&bare)
        .args(["update-ref", "refs/tags/light", &commits.second]);
    crate::support::succeed(&mut update);
    sandbox.ok(["build", "-q", "-o", "type=local,dest=out", "context"]);
    web.take();
    assert!(build("#light") > 1);
}

#[test]
fn peer_contexts_keep_git_and_submodules_as_asked() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let commits = project(&sandbox);
    let daemon = Daemon::new(&sandbox);
    let url = daemon.url("repo.git");
    sandbox.file(
        "with/Dockerfile",
        "FROM scratch\nCOPY --from=n .git/HEAD /out\n",
    );
    sandbox.file(
        "sub/Dockerfile",
        "FROM scratch\nCOPY --from=n submod/file /out\n",
    );
    let head = [format!("out {}", commits.second)];
    for (suffix, expected) in [
        ("?keep-git-dir", true),
        ("?keep-git-dir=0", false),
        ("", false),
    ] {
        let context = format!("n={url}{suffix}");
        if expected {
            assert_eq!(
                files(&sandbox, &["--build-context", &context, "with"]),
                head
            );
        } else {
            let (_, log) = sandbox.fails(["build", "--build-context", &context, "with"]);
            assert!(log.contains(".git/HEAD is not in"), "{suffix}: {log}");
        }
    }
    for (suffix, expected) in [("", true), ("?submodules", true), ("?submodules=f", false)] {
        let context = format!("n={url}{suffix}");
        if expected {
            let found = files(&sandbox, &["--build-context", &context, "sub"]);
            assert_eq!(found, ["out 123"]);
        } else {
            let (_, log) = sandbox.fails(["build", "--build-context", &context, "sub"]);
            assert!(log.contains("submod/file is not in"), "{suffix}: {log}");
        }
    }
    // The built-in build argument is for the main context.
    let dockerfile = sandbox.file("df", "FROM scratch\nCOPY .git/HEAD /out\n");
    let read = std::fs::read(dockerfile).unwrap();
    let mut command = sandbox.wythe([
        "build",
        "-q",
        "--build-arg",
        "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1",
        "-f",
        "-",
        "-o",
        "type=local,dest=kept",
        &url,
    ]);
    let input = sandbox.file("input", read);
    command.stdin(std::fs::File::open(input).unwrap());
    crate::support::succeed(&mut command);
    let out = sandbox.path("kept/out");
    let content = std::fs::read_to_string(&out).unwrap();
    assert_eq!(content.trim(), commits.second);
    assert_eq!(std::fs::metadata(out).unwrap().mode() & 0o777, 0o644);
}
