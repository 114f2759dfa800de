//! Attacks with the real binary. Each test asserts that the host has not changed.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::run::shell;
use crate::support::{Sandbox, fail, root, succeed};

/// A directory of the host that nobody may change, with a file in it.
pub(crate) fn host(sandbox: &Sandbox) -> PathBuf {
    sandbox.file("host/canary", "alive");
    sandbox.path("host")
}

/// Names, modes, sizes and times of a directory and all below it.
pub(crate) fn picture(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(path) = todo.pop() {
        let stat = std::fs::symlink_metadata(&path).unwrap();
        let line = format!(
            "{:o} {}:{} {} {}.{}",
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec()
        );
        if stat.is_dir() {
            let children = std::fs::read_dir(&path).unwrap();
            todo.extend(children.map(|child| child.unwrap().path()));
        }
        found.insert(path, line);
    }
    found
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn hostile_links_in_a_cache_mount_do_not_lead_to_the_host() {
    let Some(sandbox) = shell() else { return };
    let host = host(&sandbox);
    let before = picture(&host);
    let outside = host.display();
    sandbox.file(
        "context/Dockerfile",
        format!(
            "FROM shell\nRUN --mount=type=cache,id=c,target=/c ln -s {outside} /c/absolute && ln -s ../../../../../../../../../../../..{outside} /c/relative && ln -s /proc/self/root{outside} /c/magic && ln -s {outside}/made /c/dangling\n"
        ),
    );
    sandbox.ok(["build", "-q", "context"]);
    for source in [
        "absolute",
        "relative",
        "magic",
        "dangling",
        "absolute/new",
        "../../../../../host",
    ] {
        let dockerfile = format!(
            "FROM shell\nRUN --mount=type=cache,id=c,source={source},target=/x ls -a /x; echo owned > /x/owned; rm -rf /x/canary\n"
        );
        sandbox.file("context/Dockerfile", dockerfile);
        // Shown inside the cache or refused, never outside.
        let output = sandbox
            .wythe(["build", "--no-cache", "--progress", "plain", "context"])
            .output()
            .unwrap();
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!shown.contains("panicked"), "{shown}");
        assert!(!shown.contains("| canary"), "{source}: {shown}");
        assert_eq!(picture(&host), before, "{source}");
    }
}

#[test]
fn the_store_is_closed_to_others_whatever_its_directory_was() {
    let sandbox = Sandbox::new();
    let root = sandbox.path("store");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, Permissions::from_mode(0o777)).unwrap();
    sandbox.context("FROM scratch\nCOPY --chmod=4755 greet /greet\n");
    sandbox.ok(["build", "-q", "-o", "out", "context"]);
    assert_eq!(mode(&root), 0o700);
    // Shared as an image layout, later: what images' owners and modes are in stays closed.
    std::fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
    for name in ["trees", "snapshots", "cache"] {
        std::fs::set_permissions(root.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    sandbox.ok(["images"]);
    for name in ["trees", "snapshots", "cache"] {
        assert_eq!(mode(&root.join(name)), 0o700, "{name}");
    }
    assert_eq!(mode(&root), 0o755, "shared on purpose");
}

#[test]
fn exported_files_have_no_set_user_id_of_whoever_exports() {
    let sandbox = Sandbox::new();
    sandbox.context(
        "FROM scratch\nCOPY --chmod=6755 greet /greet\nCOPY --chown=7:7 --chmod=4755 greet /other\n",
    );
    sandbox.ok(["build", "-q", "-o", "out", "context"]);
    assert_eq!(mode(&sandbox.path("out/greet")), 0o755);
    assert_eq!(mode(&sandbox.path("out/other")), 0o755);
}

#[test]
fn priv_mounted_images_give_nobody_root() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY --chmod=4755 greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    std::fs::create_dir(sandbox.path("at")).unwrap();
    // In a mount namespace of this test's own.
    let script = format!(
        "set -e; {} --root store mount app at; grep ' {} ' /proc/self/mounts | cut -d' ' -f4",
        crate::support::WYTHE,
        sandbox.path("at").display()
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script]);
    let options = succeed(command.current_dir(sandbox.path("")));
    for option in ["ro", "nosuid", "nodev"] {
        assert!(
            options.trim().split(',').any(|have| have == option),
            "{option} is not in {options}"
        );
    }
}

#[test]
fn results_are_not_written_through_links_planted_in_a_shared_folder() {
    let sandbox = Sandbox::new();
    let host = host(&sandbox);
    let before = picture(&host);
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    for (name, flag) in [("iid", "--iidfile"), ("metadata", "--metadata-file")] {
        symlink(host.join("canary"), sandbox.path(name)).unwrap();
        sandbox.ok(["build", "-q", flag, name, "context"]);
        assert_eq!(picture(&host), before, "{flag}");
        assert!(!sandbox.path(name).is_symlink());
    }
    symlink(host.join("canary"), sandbox.path("saved.tar")).unwrap();
    sandbox.ok(["save", "-o", "saved.tar", "app"]);
    assert_eq!(picture(&host), before, "save");
    // Nothing of a temporary name stays, and the umask decides who may read.
    let leftovers = std::fs::read_dir(sandbox.path(""))
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".wythe-")
        });
    assert_eq!(leftovers.count(), 0);
    // What is no file is written to, as ever.
    sandbox.ok(["build", "-q", "--iidfile", "/dev/null", "context"]);
    assert!(!std::fs::symlink_metadata("/dev/null").unwrap().is_file());
}

/// A pull request's context, on a build server whose log anybody reads.
#[test]
fn a_dockerfile_or_ignore_file_that_is_a_link_out_or_a_pipe_is_refused() {
    let sandbox = Sandbox::new();
    let secret = sandbox.file("host/key", "secret-of-the-host is no instruction\n");
    let context = sandbox.path("context");
    for name in ["Dockerfile", ".dockerignore", "Dockerfile.dockerignore"] {
        for target in [secret.clone(), "../host/key".into(), "pipe".into()] {
            let _ = std::fs::remove_dir_all(&context);
            sandbox.file("context/Dockerfile", "FROM scratch\nCOPY . /\n");
            sandbox.file("context/.dockerignore", "[\n");
            let path = context.join(name);
            let _ = std::fs::remove_file(&path);
            if target == Path::new("pipe") {
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            } else {
                symlink(&target, &path).unwrap();
            }
            let (_, stderr) = sandbox.fails(["build", "context"]);
            assert!(!stderr.contains("secret-of-the-host"), "{stderr}");
            assert!(stderr.contains(name), "{stderr}");
        }
    }
    // A link inside is as good as a file, and what the user names outside is read.
    let _ = std::fs::remove_dir_all(&context);
    sandbox.file("context/build/Dockerfile", "FROM scratch\nCOPY a /a\n");
    sandbox.file("context/a", "a");
    symlink("/build/Dockerfile", context.join("Dockerfile")).unwrap();
    sandbox.ok(["build", "-q", "context"]);
    let outside = sandbox.file("Elsewhere", "FROM scratch\nCOPY a /b\n");
    sandbox.ok(["build", "-q", "-f", outside.to_str().unwrap(), "context"]);
}

#[test]
fn context_files_that_lead_out_are_not_copied() {
    let sandbox = Sandbox::new();
    sandbox.file("host/key", "secret-of-the-host");
    let context = sandbox.path("context");
    for (dockerfile, source) in [
        ("COPY link /a", "link"),
        ("COPY dir/key /a", "dir/key"),
        ("COPY ../host/key /a", "../host/key"),
        ("COPY dir/ /a/", "dir"),
        ("ADD link /a", "link"),
        ("RUN --mount=source=dir,target=/x [\"/x\"]", "dir"),
    ] {
        let _ = std::fs::remove_dir_all(&context);
        sandbox.file(
            "context/Dockerfile",
            format!("FROM scratch\n{dockerfile}\n"),
        );
        symlink(sandbox.path("host/key"), context.join("link")).unwrap();
        symlink(sandbox.path("host"), context.join("dir")).unwrap();
        let (_, stderr) = sandbox.fails(["build", "context"]);
        assert!(
            stderr.contains("is not in the build context") && stderr.contains(source),
            "{dockerfile}: {stderr}"
        );
    }
    nix::unistd::mkfifo(&context.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    sandbox.file("context/Dockerfile", "FROM scratch\nCOPY pipe /a\n");
    // A pipe is copied as one; nobody waits for what might be written to it.
    sandbox.ok(["build", "-q", "-o", "type=tar,dest=root.tar", "context"]);
    let mut root = tar::Archive::new(std::fs::File::open(sandbox.path("root.tar")).unwrap());
    let mut entries = root.entries().unwrap().map(Result::unwrap);
    let pipe = entries
        .find(|entry| entry.path_bytes().ends_with(b"a"))
        .unwrap();
    assert_eq!(pipe.header().entry_type(), tar::EntryType::Fifo);
}

#[test]
fn escape_sequences_and_forged_lines_of_an_image_do_not_reach_the_terminal() {
    let sandbox = Sandbox::new();
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}2J";
    sandbox.context(&format!(
        "FROM scratch\nLABEL evil=\"{evil}\"\nMAINTAINER {evil}\nENTRYPOINT [\"/no\\nhint: do evil\"]\n"
    ));
    sandbox.ok(["build", "-t", "app", "context"]);
    let mut shown = sandbox.ok(["inspect", "app"]) + &sandbox.ok(["history", "app"]);
    let mut run = sandbox.wythe(["run", "app"]);
    shown += &fail(&mut run).1;
    for dockerfile in [
        format!("FROM scratch\nCOPY {evil} /\n"),
        format!("FROM scratch AS {evil}\n"),
        format!("FR{evil}OM x\n"),
        format!("FROM scratch\nUSER {evil}\nRUN [\"{evil}\"]\n"),
        format!("FROM {evil}\n"),
    ] {
        sandbox.file("context/Dockerfile", dockerfile.replace('\u{7}', "\\u0007"));
        shown += &sandbox.fails(["build", "context"]).1;
    }
    let bad = shown
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(bad, None, "{shown:?}");
    assert!(
        !shown.lines().any(|line| line.starts_with("hint: do evil")),
        "{shown}"
    );
}

/// Every file below a directory that holds these bytes.
fn files_with(directory: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = picture(directory).into_keys().collect();
    found.retain(|path| {
        let is_file = std::fs::symlink_metadata(path).is_ok_and(|stat| stat.is_file());
        is_file
            && std::fs::read(path)
                .is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    });
    found
}

#[test]
fn secrets_are_in_no_file_of_the_store_and_in_no_log() {
    let Some(sandbox) = shell() else { return };
    let secret = "hush-4711-hush";
    sandbox.file(
        "context/Dockerfile",
        "FROM shell\nRUN --mount=type=secret,id=s,env=TOKEN test -n \"$TOKEN\" && echo there > /there\nRUN --mount=type=secret,id=s,env=TOKEN set -x; echo \"I say $TOKEN aloud\"; cat /run/secrets/s; exit 3\n",
    );
    let mut build = sandbox.wythe(["build", "--no-cache", "--secret", "id=s,env=S", "context"]);
    build.env("S", secret).env("WYTHE_LOG", "trace");
    let (_, log) = fail(&mut build);
    assert!(log.contains("exit code 3"), "{log}");
    assert!(log.contains("I say *** aloud"), "{log}");
    assert!(!log.contains(secret), "{log}");
    sandbox.file(
        "context/Dockerfile",
        "FROM shell\nRUN --mount=type=secret,id=s,env=TOKEN test -n \"$TOKEN\" && echo there > /there\n",
    );
    let mut build = sandbox.wythe(["build", "-t", "app", "--secret", "id=s,env=S", "context"]);
    succeed(build.env("S", secret));
    assert!(!sandbox.ok(["inspect", "app"]).contains(secret));
    assert!(!sandbox.ok(["history", "app"]).contains(secret));
    // What is compressed is looked at when it is not.
    sandbox.ok([
        "build",
        "-q",
        "-o",
        "type=tar,dest=out.tar",
        "context",
        "--secret",
        "id=s,src=context/passwd",
    ]);
    let found = files_with(&sandbox.path(""), secret.as_bytes());
    assert!(found.is_empty(), "{found:?}");
}
