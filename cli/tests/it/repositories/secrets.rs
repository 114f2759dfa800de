//! What opens a repository reaches that repository, and nobody and nothing else.

use std::path::Path;
use std::process::Command;

use super::servers::{Manner, Repository, Web};
use crate::support::{Sandbox, fail, programs_here, succeed};

/// Base64 of `x-access-token:hunter2`.
const HEADER: &str = "basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==";
/// What must be nowhere.
const TRACES: [&str; 2] = ["hunter2", "eC1hY2Nlc3MtdG9rZW46aHVudGVyMg"];

fn locked(header: &str) -> Manner {
    Manner {
        needs: Some(header.to_owned()),
        ..Manner::default()
    }
}

fn repository(sandbox: &Sandbox) {
    let repository = Repository::new(sandbox, "repo.git");
    repository.file("f", "x");
    repository.commit("one");
}

/// Files below a directory that hold one of these texts.
fn traces(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        if path.is_dir() && !path.is_symlink() {
            todo.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if let Ok(bytes) = std::fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            if TRACES.iter().any(|trace| text.contains(trace)) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// A `git` before the real one in `PATH` that writes down its arguments.
fn watched<'c>(sandbox: &Sandbox, command: &'c mut Command) -> &'c mut Command {
    let path = std::env::var_os("PATH").unwrap();
    let git = std::env::split_paths(&path)
        .map(|directory| directory.join("git"))
        .find(|git| git.exists())
        .unwrap();
    let log = sandbox.path("arguments");
    let script = format!(
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >>{}\nexec {} \"$@\"\n",
        log.display(),
        git.display()
    );
    sandbox.program("watch/git", script);
    let directories = std::env::split_paths(&path);
    let all = std::iter::once(sandbox.path("watch")).chain(directories);
    command.env("PATH", std::env::join_paths(all).unwrap())
}

#[test]
fn peer_a_token_opens_its_repository_and_is_nowhere_else() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    repository(&sandbox);
    let web = Web::new(&sandbox, locked(HEADER));
    let url = web.url("repo.git");
    let tokens = sandbox.file("secrets/token", "hunter2\n");
    let host = format!("id=GIT_AUTH_TOKEN.{},src={}", web.address, tokens.display());
    let any = format!("id=GIT_AUTH_TOKEN,src={}", tokens.display());
    let header = sandbox.file("secrets/header", HEADER);
    let header = format!("id=GIT_AUTH_HEADER,src={}", header.display());
    let other = format!("id=GIT_AUTH_TOKEN.x.example,src={}", tokens.display());
    let with_password = url.replace("http://", "http://x-access-token:hunter2@");
    for (secret, url) in [
        (Some(&host), &url),
        (Some(&any), &url),
        (Some(&header), &url),
        (None, &with_password),
    ] {
        sandbox.file(
            "context/Dockerfile",
            "FROM scratch AS a\nARG U\nADD --keep-git-dir $U /\nFROM scratch\nCOPY --from=a / /\n",
        );
        let mut args = vec![
            "build",
            "--no-cache",
            "-t",
            "app",
            "-o",
            "type=tar,dest=out.tar",
        ];
        if let Some(secret) = secret {
            args.extend(["--secret", secret]);
        }
        let place = format!("U={url}");
        args.extend(["--build-arg", &place, "context"]);
        let mut command = sandbox.wythe(args);
        command.env("WYTHE_LOG", "trace");
        let output = watched(&sandbox, &mut command).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        sandbox.file("log", &log);
        // As a context too.
        sandbox.file("df", "FROM scratch\nCOPY --from=n . /\n");
        let mut args = vec!["build", "-o", "type=tar,dest=context.tar", "-f", "df"];
        if let Some(secret) = secret {
            args.extend(["--secret", secret]);
        }
        let named = format!("n={url}?keep-git-dir");
        args.extend(["--build-context", &named, "context"]);
        let mut command = sandbox.wythe(args);
        command.env("WYTHE_LOG", "trace");
        let output = watched(&sandbox, &mut command).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{log}");
        sandbox.file("log2", &log);
        for name in [
            "store",
            "log",
            "log2",
            "arguments",
            "out.tar",
            "context.tar",
        ] {
            assert_eq!(traces(&sandbox.path(name)), [""; 0], "{name} {secret:?}");
        }
        assert!(
            web.take()
                .iter()
                .all(|(_, sent)| sent.as_deref() == Some(HEADER))
        );
    }
    // Without it, and with that of another host, there is no way in and nothing is asked of people.
    for secret in [None, Some(&other)] {
        let mut args = vec!["build", "--no-cache"];
        if let Some(secret) = secret {
            args.extend(["--secret", secret]);
        }
        let place = format!("U={url}");
        args.extend(["--build-arg", &place, "context"]);
        let (_, log) = fail(&mut sandbox.wythe(args));
        assert!(log.contains("git ls-remote failed"), "{log}");
        assert!(
            web.take()
                .iter()
                .all(|(_, sent)| sent.as_deref() != Some(HEADER))
        );
    }
}

#[test]
fn peer_a_token_follows_no_redirect_and_no_submodule() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let inner = Repository::new(&sandbox, "inner.git");
    inner.file("f", "x");
    let commit = inner.commit("one");
    let stranger = Web::new(&sandbox, Manner::default());
    let outer = Repository::new(&sandbox, "outer.git");
    outer.commit("one");
    outer.submodule("s", "s", &stranger.url("inner.git"), &commit);
    repository(&sandbox);
    let tokens = sandbox.file("token", "hunter2");
    let secret = format!("id=GIT_AUTH_TOKEN,src={}", tokens.display());
    let build = |url: &str| {
        let text = format!("FROM scratch\nADD {url} /\n");
        sandbox.file("context/Dockerfile", text);
        sandbox.wythe(["build", "--secret", &secret, "context"])
    };
    // The submodule is at another host (here: another port), which hears nothing of the token.
    let own = Web::new(&sandbox, locked(HEADER));
    succeed(&mut build(&own.url("outer.git")));
    let asked = stranger.take();
    assert!(!asked.is_empty());
    assert!(asked.iter().all(|(_, sent)| sent.is_none()), "{asked:?}");
    // A server that is trusted with the token sends us elsewhere.
    let manner = Manner {
        redirect: Some(format!("http://{}", stranger.address)),
        ..Manner::default()
    };
    let redirecting = Web::new(&sandbox, manner);
    let (_, log) = fail(&mut build(&redirecting.url("repo.git")));
    assert!(!log.contains("hunter2"), "{log}");
    assert!(!redirecting.take().is_empty());
    assert_eq!(stranger.take(), []);
    // The same with a password in the address.
    let url = redirecting
        .url("repo.git")
        .replace("http://", "http://u:hunter2@");
    let text = format!("FROM scratch\nADD {url} /\n");
    sandbox.file("context/Dockerfile", text);
    let (_, log) = sandbox.fails(["build", "context"]);
    // The line of the Dockerfile is shown as it stands there; nothing else says it.
    let said: Vec<&str> = log.lines().filter(|line| !line.contains("ADD ")).collect();
    assert!(!said.join("\n").contains("hunter2"), "{log}");
    assert_eq!(stranger.take(), []);
}
