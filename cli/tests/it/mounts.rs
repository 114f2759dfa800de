//! `RUN --mount`: every kind, in real containers, and what must not come of it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use crate::support::{Sandbox, busybox, containers, fail, succeed};

const SECRET: &str = "hunter2-correct-horse-battery-staple";

const SHELL: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

/// A context with busybox and this after `SHELL`; `None` where no container runs.
fn prepare(dockerfile: &str) -> Option<Sandbox> {
    if !containers() {
        return None;
    }
    let sandbox = Sandbox::new();
    sandbox.file("context/Dockerfile", format!("{SHELL}{dockerfile}"));
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    Some(sandbox)
}

/// Builds with further arguments; standard error of it.
fn build(sandbox: &Sandbox, args: &[&str]) -> String {
    let mut command = sandbox.wythe(["build", "-t", "app", "--progress", "plain"]);
    let output = command.args(args).arg("context").output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{log}");
    log
}

/// A file of the built image.
fn show(sandbox: &Sandbox, path: &str) -> String {
    sandbox.ok(["run", "--rm", "app", "/bin/cat", path])
}

/// Files below a directory that contain these bytes.
fn files_with(directory: &Path, bytes: &[u8], found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_with(&entry.path(), bytes, found);
        } else if kind.is_file() {
            let content = std::fs::read(entry.path()).unwrap();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(entry.path());
            }
        }
    }
}

#[test]
fn a_secret_is_a_file_with_the_mode_and_owner_asked_for_and_leaves_no_trace() {
    let Some(sandbox) = prepare(
        "RUN --mount=type=secret,id=one cat /run/secrets/one | md5sum > /sum && stat -c '%a %u %g' /run/secrets/one > /stat\n\
         RUN --mount=type=secret,id=one,target=/etc/deep/token,mode=0444,uid=7,gid=8 stat -c '%a' /etc/deep/token > /stat2\n\
         RUN --mount=type=secret,id=one,env=TOKEN test \"$TOKEN\" = \"$(echo aHVudGVyMi1jb3JyZWN0LWhvcnNlLWJhdHRlcnktc3RhcGxl | base64 -d)\"\n\
         RUN --mount=type=secret,id=one if echo x > /run/secrets/one; then exit 9; fi\n\
         RUN test ! -s /run/secrets/one && test ! -e /etc/deep/token\n",
    ) else {
        return;
    };
    sandbox.file("token", SECRET);
    let log = build(&sandbox, &["--secret", "id=one,src=token"]);
    assert!(!log.contains(SECRET), "{log}");
    assert_eq!(show(&sandbox, "/stat"), "400 0 0\n");
    assert_eq!(show(&sandbox, "/stat2"), "444\n");
    for args in [
        &["history", "--no-trunc", "app"][..],
        &["history", "app"],
        &["inspect", "app"],
    ] {
        let Ok(output) = sandbox.wythe(args).output() else {
            continue;
        };
        for text in [output.stdout, output.stderr] {
            assert!(!String::from_utf8_lossy(&text).contains(SECRET), "{args:?}");
        }
    }
    let mut found = Vec::new();
    files_with(&sandbox.path("store"), SECRET.as_bytes(), &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_secret_comes_from_a_file_or_a_variable_and_is_not_large() {
    let Some(sandbox) =
        prepare("RUN --mount=type=secret,id=one md5sum < /run/secrets/one > /sum\n")
    else {
        return;
    };
    // `md5sum` of "abc".
    let sum = "900150983cd24fb0d6963f7d28e17f72  -\n";
    let secret = |spec: &str, variables: &[(&str, &str)]| {
        let mut command = sandbox.wythe(["build", "--no-cache", "-t", "app", "--secret", spec]);
        command.arg("context").envs(variables.iter().copied());
        command
    };
    sandbox.file("one", "abc");
    succeed(&mut secret("id=one", &[]));
    assert_eq!(show(&sandbox, "/sum"), sum);
    sandbox.file("one", "another");
    for (spec, variable) in [
        ("id=one", "one"),
        ("id=one,env=V", "V"),
        ("id=one,type=env,src=V", "V"),
        ("type=env,id=one", "one"),
    ] {
        succeed(&mut secret(spec, &[(variable, "abc")]));
        assert_eq!(show(&sandbox, "/sum"), sum, "{spec}");
    }
    let (_, message) = fail(&mut secret("type=env,id=one", &[]));
    assert!(message.contains("one is not set"), "{message}");
    sandbox.file("one", "x".repeat((500 << 10) + 1));
    let (_, message) = fail(&mut secret("id=one", &[]));
    assert!(message.contains("larger than 500 KiB"), "{message}");
}

#[test]
fn another_value_of_a_secret_is_no_reason_to_run_again() {
    let Some(sandbox) = prepare(
        "RUN --mount=type=secret,id=one,required=true cat /run/secrets/one | md5sum > /sum\n",
    ) else {
        return;
    };
    sandbox.file("token", SECRET);
    build(&sandbox, &["--secret", "id=one,src=token"]);
    let first = show(&sandbox, "/sum");
    sandbox.file("token", "another");
    build(&sandbox, &["--secret", "id=one,src=token"]);
    assert_eq!(show(&sandbox, "/sum"), first);
}

#[test]
fn a_failing_step_shows_no_secret() {
    let Some(sandbox) =
        prepare("RUN --mount=type=secret,id=one --mount=type=secret,id=one,env=TOKEN false\n")
    else {
        return;
    };
    sandbox.file("token", SECRET);
    let secret = ["--secret", "id=one,src=token"];
    let mut command = sandbox.wythe(["--debug", "--debug", "build", "context"]);
    let (_, log) = fail(command.args(secret));
    assert!(!log.contains(SECRET), "{log}");
    let mut found = Vec::new();
    files_with(&sandbox.path("store"), SECRET.as_bytes(), &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_secret_that_is_required_and_missing_is_named() {
    let Some(sandbox) = prepare("RUN --mount=type=secret,id=nothere,required=true true\n") else {
        return;
    };
    let (_, log) = sandbox.fails(["build", "context"]);
    assert!(log.contains("nothere"), "{log}");
    sandbox.file(
        "context/Dockerfile",
        format!("{SHELL}RUN --mount=type=secret,id=nothere test ! -e /run/secrets/nothere\n"),
    );
    build(&sandbox, &[]);
}

#[test]
fn scripts_are_files_too_and_are_executed() {
    let Some(sandbox) = prepare("RUN <<EOF\n#!/bin/sh\necho script > /said\nEOF\n") else {
        return;
    };
    build(&sandbox, &[]);
    assert_eq!(show(&sandbox, "/said"), "script\n");
}

#[test]
fn an_agent_answers_inside_a_step_and_its_socket_has_the_mode_asked_for() {
    let Some(sandbox) = prepare(
        "RUN --mount=target=/src --mount=type=ssh,mode=0666 stat -c '%a %F' $SSH_AUTH_SOCK > /stat && /src/ask > /said\n\
         RUN test -z \"$SSH_AUTH_SOCK\" && test ! -S /run/buildkit/ssh_agent.0\n",
    ) else {
        return;
    };
    let source = sandbox.file(
        "ask.rs",
        "use std::io::{Read, Write};\n\
         fn main() {\n\
             let path = std::env::var(\"SSH_AUTH_SOCK\").unwrap();\n\
             let mut agent = std::os::unix::net::UnixStream::connect(path).unwrap();\n\
             agent.write_all(b\"ping\\n\").unwrap();\n\
             let mut said = String::new();\n\
             agent.read_to_string(&mut said).unwrap();\n\
             print!(\"{said}\");\n\
         }\n",
    );
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args([
        "--edition",
        "2024",
        "-C",
        "target-feature=+crt-static",
        "-o",
    ]);
    succeed(rustc.arg(sandbox.path("context/ask")).arg(source));
    let path = sandbox.path("agent");
    let listener = UnixListener::bind(&path).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(b"pong\n").unwrap();
        bytes
    });
    let spec = format!("default={},raw=true", path.display());
    build(&sandbox, &["--ssh", &spec]);
    assert_eq!(&answering.join().unwrap(), b"ping\n");
    assert_eq!(show(&sandbox, "/said"), "pong\n");
    assert_eq!(show(&sandbox, "/stat"), "666 socket\n");
}

#[test]
fn writes_to_bind_mounts_are_thrown_away() {
    let Some(sandbox) = prepare(
        "RUN --mount=target=/src if touch /src/new 2>/dev/null; then exit 9; fi\n\
         RUN --mount=target=/src,rw echo changed > /src/file && rm /src/busybox && cat /src/file > /seen\n\
         RUN --mount=target=/src cat /src/file > /after && ls /src > /list\n\
         RUN --mount=source=file,target=/one cat /one > /single\n",
    ) else {
        return;
    };
    sandbox.file("context/file", "original\n");
    sandbox.file("context/hidden", "x");
    sandbox.file("context/.dockerignore", "hidden\n");
    build(&sandbox, &[]);
    assert_eq!(show(&sandbox, "/seen"), "changed\n");
    assert_eq!(show(&sandbox, "/after"), "original\n");
    assert_eq!(show(&sandbox, "/single"), "original\n");
    assert!(!show(&sandbox, "/list").contains("hidden"));
    let file = std::fs::read_to_string(sandbox.path("context/file")).unwrap();
    assert_eq!(file, "original\n");
    assert!(sandbox.path("context/busybox").exists());
    assert!(!sandbox.path("context/new").exists());
}

#[test]
fn a_stage_is_mounted_from_and_not_changed() {
    let Some(sandbox) = prepare(
        "RUN mkdir /data && echo base > /data/file && ln -s /data /link\n\
         FROM 0 AS two\n\
         RUN --mount=from=0,source=/data,target=/mnt,rw echo changed > /mnt/file\n\
         RUN --mount=from=0,source=/link,target=/mnt cat /mnt/file > /seen\n"
            .replace("FROM 0", "FROM base")
            .replace("from=0", "from=base")
            .as_str(),
    ) else {
        return;
    };
    let path = sandbox.path("context/Dockerfile");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        text.replacen("FROM scratch", "FROM scratch AS base", 1),
    )
    .unwrap();
    build(&sandbox, &[]);
    assert_eq!(show(&sandbox, "/seen"), "base\n");
}

#[test]
fn memory_is_given_by_size_and_forgotten() {
    let Some(sandbox) = prepare(
        "RUN mkdir -m 700 /own\n\
         RUN --mount=type=tmpfs,target=/own test $(stat -c %a /own) = 700\n\
         RUN --mount=type=tmpfs,target=/own cp /bin/busybox /own/true && /own/true\n\
         RUN --mount=type=tmpfs,target=/mem,size=1m test $(stat -c %a /mem) = 1777 && df -k /mem | tail -1 > /df && if dd if=/dev/zero of=/mem/big bs=1k count=2000 2>/dev/null; then exit 9; fi\n\
         RUN test ! -e /mem/big\n",
    ) else {
        return;
    };
    build(&sandbox, &[]);
    assert!(show(&sandbox, "/df").contains(" 1024 "));
}

#[test]
fn caches_outlive_a_build_and_are_no_part_of_the_image() {
    let Some(sandbox) = prepare(
        "ARG ROUND\n\
         RUN --mount=type=cache,id=c,target=/cache,mode=0711 echo $ROUND >> /cache/rounds && cat /cache/rounds > /rounds && stat -c %a /cache > /mode\n\
         RUN test ! -e /cache/rounds\n\
         RUN --mount=type=cache,id=c,target=/cache,ro if touch /cache/x 2>/dev/null; then exit 9; fi\n\
         RUN --mount=type=cache,id=seeded,from=seed,source=/dir,target=/cache echo more >> /cache/file && cat /cache/file > /seeded\n",
    ) else {
        return;
    };
    let path = sandbox.path("context/Dockerfile");
    let text = std::fs::read_to_string(&path).unwrap();
    let seed = "FROM scratch AS seed\nCOPY seed /dir/file\n";
    std::fs::write(&path, format!("{seed}{text}")).unwrap();
    sandbox.file("context/seed", "seed\n");
    build(&sandbox, &["--build-arg", "ROUND=one"]);
    assert_eq!(show(&sandbox, "/rounds"), "one\n");
    assert_eq!(show(&sandbox, "/mode"), "711\n");
    assert_eq!(show(&sandbox, "/seeded"), "seed\nmore\n");
    build(&sandbox, &["--build-arg", "ROUND=two"]);
    assert_eq!(show(&sandbox, "/rounds"), "one\ntwo\n");
}

#[test]
fn sharing_decides_who_waits() {
    // Two stages at once, on one cache: `locked` never sees the other inside, `private` never
    // sees the other's files, `shared` meets it.
    let all_there = |count: u32| {
        format!(
            "i=0; until [ $(ls /meet | wc -l) -ge {count} ]; do i=$((i+1)); [ $i -lt 200 ] || exit 9; sleep 0.1; done"
        )
    };
    // A private cache that is free again may be used by the next one, so both stages hold theirs
    // until the other has looked.
    let private = format!(
        "touch /meet/$(cat /name); {}; test ! -e /cache/own && touch /cache/own && touch /meet/seen-$(cat /name) && {}",
        all_there(2),
        all_there(4)
    );
    let shared = format!(
        "touch /cache/$(cat /name) && touch /meet/$(cat /name) && {} && [ $(ls /cache | wc -l) = 2 ]",
        all_there(2)
    );
    for (sharing, script) in [
        (
            "locked",
            "test ! -e /cache/in && touch /cache/in && sleep 0.5 && rm /cache/in",
        ),
        ("private", private.as_str()),
        ("shared", shared.as_str()),
    ] {
        let stage = |name: &str| {
            format!(
                "FROM base AS {name}\nRUN echo {name} > /name\nRUN --mount=type=cache,id=c,target=/cache,sharing={sharing} --mount=type=cache,id=meet,target=/meet {script}\n"
            )
        };
        let rest = format!(
            "{}{}FROM base\nCOPY --from=a /name /a\nCOPY --from=b /name /b\n",
            stage("a"),
            stage("b")
        );
        let Some(sandbox) = prepare(&rest) else {
            return;
        };
        let path = sandbox.path("context/Dockerfile");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(
            &path,
            text.replacen("FROM scratch", "FROM scratch AS base", 1),
        )
        .unwrap();
        build(&sandbox, &["--jobs", "4"]);
    }
}

/// What a hostile image or cache could try: lead a mount, or what is made for it, out to the host.
#[test]
fn links_in_the_image_or_in_a_cache_never_lead_to_the_host() {
    let Some(sandbox) = prepare("") else {
        return;
    };
    let host = sandbox.path("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("precious"), "precious\n").unwrap();
    let host_path = host.display().to_string();
    let dockerfile = format!(
        "{SHELL}\
         RUN ln -s {host_path} /absolute && ln -s ../../../../../../..{host_path} /relative && ln -s {host_path}/precious /file\n\
         RUN --mount=type=tmpfs,target=/absolute echo x > /absolute/precious\n\
         RUN --mount=type=cache,target=/relative/sub echo x > /relative/sub/precious\n\
         RUN --mount=type=secret,id=s,target=/file cat /file > /dev/null\n\
         RUN --mount=type=bind,source=busybox,target=/absolute/made test -e /absolute/made\n\
         RUN --mount=type=cache,id=evil,target=/c rm -rf /c/sub && ln -s {host_path} /c/sub\n"
    );
    sandbox.file("context/Dockerfile", &dockerfile);
    sandbox.file("token", SECRET);
    build(&sandbox, &["--secret", "id=s,src=token"]);
    // The link that the cache has now would lead the next mount out.
    let attack = format!(
        "{dockerfile}RUN --mount=type=cache,id=evil,source=sub,target=/c ls /c; echo x > /c/precious; echo x > /c/new\n"
    );
    sandbox.file("context/Dockerfile", attack);
    let mut command = sandbox.wythe(["build", "--secret", "id=s,src=token", "context"]);
    let output = command.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!log.contains("panicked"), "{log}");
    let names: Vec<_> = std::fs::read_dir(&host)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["precious"]);
    let precious = std::fs::read_to_string(host.join("precious")).unwrap();
    assert_eq!(precious, "precious\n");
}

#[test]
fn a_mount_on_the_root_or_of_a_missing_source_is_refused() {
    let Some(sandbox) = prepare("") else {
        return;
    };
    for (line, said) in [
        ("RUN --mount=type=tmpfs,target=/ true", "mount target"),
        ("RUN --mount=type=tmpfs,target=/x/.. true", ""),
        ("RUN --mount=source=missing,target=/m true", "missing"),
        (
            "RUN --mount=from=base,source=/missing,target=/m true",
            "missing",
        ),
    ] {
        let text = format!("{}{line}\n", SHELL.replace("scratch", "scratch AS base"));
        let text = text.replace(&format!("\n{line}"), &format!("\nFROM base\n{line}"));
        sandbox.file("context/Dockerfile", text);
        let (_, log) = fail(&mut sandbox.wythe(["build", "context"]));
        assert!(log.contains(said), "{line}: {log}");
    }
    succeed(&mut sandbox.wythe(["version"]));
}
