//! Attacks by repositories and addresses. Each test asserts that the host has not changed.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;

use super::servers::{Daemon, Repository};
use crate::contexts::files;
use crate::hostile::{host, picture};
use crate::support::{Sandbox, programs_here};

/// A user whose own configuration runs a program at every occasion that git knows: nothing of a
/// repository may make use of it.
fn careless_user(sandbox: &Sandbox) {
    let host = host(sandbox);
    let touch = format!("touch {}", host.join("pwned").display());
    let hook = sandbox.file("hooks/post-checkout", format!("#!/bin/sh\n{touch}\n"));
    let template = sandbox.file(
        "template/hooks/post-checkout",
        format!("#!/bin/sh\n{touch}\n"),
    );
    for program in [&hook, &template] {
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    sandbox.file(
        ".gitconfig",
        format!(
            "[core]\n\thooksPath = {}\n\tfsmonitor = {touch}\n\tsshCommand = {touch};\n\taskPass = {touch}\n\
             [init]\n\ttemplateDir = {}\n\
             [filter \"evil\"]\n\tsmudge = {touch};\n\trequired = true\n\
             [protocol \"file\"]\n\tallow = always\n[protocol \"ext\"]\n\tallow = always\n\
             [credential]\n\thelper = !{touch};\n\
             [url \"file:///\"]\n\tinsteadOf = git://rewritten/\n",
            hook.parent().unwrap().display(),
            sandbox.path("template").display()
        ),
    );
}

#[test]
fn peer_a_repository_runs_nothing_and_reads_nothing_of_the_host() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    careless_user(&sandbox);
    let host = sandbox.path("host");
    let private = Repository {
        directory: host.join("private"),
    };
    std::fs::create_dir_all(&private.directory).unwrap();
    private.git(&["init", "-q", "-b", "main", "."]);
    private.file("secret", "secret");
    let secret = private.commit("secret");
    let shown = host.display();
    let touch = format!("touch {shown}/pwned");
    let before = picture(&host);
    let daemon = Daemon::new(&sandbox);
    // Submodules: helpers, files of this machine, options.
    let attacks = [
        format!("ext::sh -c touch% {shown}/pwned"),
        format!("file://{shown}/private"),
        format!("{shown}/private"),
        format!("./../../../../../../../../../..{shown}/private"),
        format!("fd::17/{shown}"),
        format!("--upload-pack={touch}"),
        format!("-u{touch}"),
        format!("ssh://-oProxyCommand={touch}/x"),
        format!("ssh://-oProxyCommand={touch}@127.0.0.1/x"),
        format!("-oProxyCommand={touch}@127.0.0.1:x"),
        format!("git@-oProxyCommand={touch}:x"),
        "git://rewritten".to_owned() + &format!("{shown}/private"),
    ];
    for (number, attack) in attacks.iter().enumerate() {
        let name = format!("modules{number}");
        let repository = Repository::new(&sandbox, &name);
        repository.submodule("s", "s", &format!("\"{attack}\""), &secret);
        let url = daemon.url(&name);
        sandbox.file("context/Dockerfile", format!("FROM scratch\nADD {url} /\n"));
        for place in ["context", &url] {
            let (_, log) = sandbox.fails(["build", place]);
            assert_eq!(picture(&host), before, "{attack}: {log}");
            let helper = attack.contains("::") || attack.starts_with(['/', 'f']);
            assert!(!helper || log.contains("not allowed"), "{attack}: {log}");
        }
    }
    // Commands of .gitmodules, and names that climb.
    for (number, modules) in [
        format!("[submodule \"s\"]\n\tpath = s\n\turl = ./modules0\n\tupdate = !{touch}\n"),
        format!("[submodule \"../../../../../..{shown}\"]\n\tpath = s\n\turl = ./modules0\n"),
        "[submodule \"s\"]\n\tpath = ../../host\n\turl = ./modules0\n".to_owned(),
        "[submodule \"s\"]\n\tpath = -s\n\turl = ./modules0\n".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("commands{number}");
        let repository = Repository::new(&sandbox, &name);
        repository.submodule("s", "s", "./modules0", &secret);
        repository.file(".gitmodules", modules);
        repository.git(&["commit", "-qam", "evil"]);
        let dockerfile = format!("FROM scratch\nADD {} /\n", daemon.url(&name));
        sandbox.file("context/Dockerfile", dockerfile);
        let log = sandbox.wythe(["build", "context"]).output().unwrap().stderr;
        let log = String::from_utf8_lossy(&log);
        assert_eq!(picture(&host), before, "{modules}: {log}");
    }
}

#[test]
fn peer_files_of_a_repository_are_files_and_nothing_more() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    careless_user(&sandbox);
    let host = sandbox.path("host");
    let shown = host.display();
    let before = picture(&host);
    let repository = Repository::new(&sandbox, "repo");
    // Filters, hooks and configuration that lie in the tree.
    repository.file(".gitattributes", "* filter=evil diff=evil merge=evil\n");
    repository.file(
        ".gitconfig",
        &format!("[core]\n\tfsmonitor = touch {shown}/pwned\n"),
    );
    repository.file(
        "hooks/post-checkout",
        &format!("#!/bin/sh\ntouch {shown}/pwned\n"),
    );
    // A directory that git would take for a repository, if it looked.
    repository.file("bare/HEAD", "ref: refs/heads/main\n");
    repository.file("bare/refs/x", "");
    repository.file("bare/objects/x", "");
    repository.file(
        "bare/config",
        &format!(
            "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tworktree = {shown}\n\tfsmonitor = touch {shown}/pwned;\n"
        ),
    );
    symlink(&host, repository.directory.join("link")).unwrap();
    symlink(host.join("canary"), repository.directory.join("canary")).unwrap();
    symlink("../host", repository.directory.join("Dockerfile")).unwrap();
    repository.git(&["-c", "filter.evil.clean=cat", "add", "-A"]);
    repository.commit("evil");
    let daemon = Daemon::new(&sandbox);
    let url = daemon.url("repo");
    for suffix in ["", "?keep-git-dir", "#:bare", "?mtime=commit"] {
        let dockerfile = format!("FROM scratch\nADD {url}{suffix} /repo/\n");
        sandbox.file("context/Dockerfile", dockerfile);
        files(&sandbox, &["context"]);
        // What the link leads to is not in the image.
        let link = sandbox.path("out/repo/canary");
        assert_eq!(link.is_symlink(), suffix != "#:bare", "{suffix}");
        assert_eq!(picture(&host), before, "{suffix}");
    }
    for suffix in [
        "#:link",
        "#:link/private",
        "?subdir=canary",
        "#:bare/../link",
    ] {
        sandbox.file(
            "context/Dockerfile",
            format!("FROM scratch\nADD {url}{suffix} /repo/\n"),
        );
        for place in ["context", &format!("{url}{suffix}")] {
            let (_, log) = sandbox.fails(["build", place]);
            assert!(
                log.contains("is not a directory of the repository"),
                "{log}"
            );
        }
    }
    // As a context: its Dockerfile is a link to the host, and so is what COPY would take.
    let (_, log) = sandbox.fails(["build", &url]);
    assert!(!log.contains("alive"), "{log}");
    sandbox.file(
        "context/Dockerfile",
        "FROM scratch\nCOPY --from=n canary /\n",
    );
    let (_, log) = sandbox.fails(["build", "--build-context", &format!("n={url}"), "context"]);
    assert!(!log.contains("alive"), "{log}");
    assert_eq!(picture(&host), before);
}

#[test]
fn peer_an_address_is_no_option_no_helper_and_no_file() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    careless_user(&sandbox);
    let host = sandbox.path("host");
    let shown = host.display();
    let before = picture(&host);
    let socket = sandbox.file("agent", "");
    let agent = format!("default={}", socket.display());
    let repository = Repository::new(&sandbox, "repo");
    repository.file("f", "x");
    repository.commit("one");
    let daemon = Daemon::new(&sandbox);
    let url = daemon.url("repo");
    for attack in [
        format!("git@127.0.0.1:--upload-pack=touch${{IFS}}{shown}/pwned"),
        format!("git@-oProxyCommand=touch${{IFS}}{shown}/pwned:x"),
        format!("-oProxyCommand=touch${{IFS}}{shown}/pwned@127.0.0.1:x"),
        format!("ssh://-oProxyCommand=touch%20{shown}/pwned/x.git"),
        format!("ssh://-oProxyCommand=touch%20{shown}/pwned@127.0.0.1/x.git"),
        format!("ext::sh -c touch% {shown}/pwned"),
        format!("git://-oProxyCommand=x{shown}/pwned"),
        format!("git@127.0.0.1::{shown}"),
        format!("{url}#--upload-pack=touch${{IFS}}{shown}/pwned"),
        format!("{url}?ref=--upload-pack%3Dtouch%20{shown}/pwned"),
        format!("{url}?ref=-c"),
        format!("{url}?tag=../../../x"),
        format!("{url}?branch=main:refs/heads/x"),
        format!("{url}?ref=main%0Aevil"),
        format!("{url}?commit=--exec%3Dtouch"),
        format!("file://{shown}/x.git"),
        format!("git://rewritten{shown}"),
    ] {
        sandbox.file(
            "context/Dockerfile",
            format!("FROM scratch\nADD [{attack:?}, \"/\"]\n"),
        );
        for place in ["context", &attack] {
            // clap would take the latter for a flag of ours.
            let args = ["build", "--ssh", &agent, "--", place];
            let mut command = sandbox.wythe(args);
            for (name, value) in [
                ("GIT_SSH_COMMAND", format!("touch {shown}/pwned;")),
                (
                    "GIT_PROXY_COMMAND",
                    format!("{}", sandbox.path("hooks/post-checkout").display()),
                ),
                ("GIT_CONFIG_COUNT", "1".to_owned()),
                ("GIT_CONFIG_KEY_0", "core.sshCommand".to_owned()),
                ("GIT_CONFIG_VALUE_0", format!("touch {shown}/pwned;")),
                ("GIT_ALLOW_PROTOCOL", "ext:file".to_owned()),
            ] {
                command.env(name, value);
            }
            let (_, log) = crate::support::fail(&mut command);
            assert_eq!(picture(&host), before, "{attack}: {log}");
        }
    }
    // And with all of that around, an honest address works.
    let dockerfile = format!("FROM scratch\nADD {url} /\n");
    sandbox.file("context/Dockerfile", dockerfile);
    assert_eq!(files(&sandbox, &["context"]), ["f x"]);
    assert_eq!(picture(&host), before);
}

#[test]
fn peer_a_server_that_says_nothing_does_not_outlive_an_interrupt() {
    if !programs_here(&["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/x", listener.local_addr().unwrap());
    sandbox.file("context/Dockerfile", format!("FROM scratch\nADD {url} /\n"));
    for place in ["context", &url] {
        let mut command = sandbox.wythe(["build", place]);
        let mut build = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        // It has come, and gets no answer.
        let (mut stream, _) = listener.accept().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(build.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(!build.wait().unwrap().success());
        // git and its helpers are gone too: nobody holds the other end.
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(20)))
            .unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    }
}
