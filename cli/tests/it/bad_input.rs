//! Bad input gets a clear error that says what, where and what next; nothing is lost.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Sandbox, WYTHE, containers, fail, root, succeed};

#[test]
fn what_the_dockerfile_says_wrong_is_shown_with_its_line() {
    let cases: [(&str, &[&str]); 9] = [
        (
            "FROM scratch\nCOPPY a b\n",
            &["COPPY", "COPY", "Dockerfile:2"],
        ),
        (
            "FROM scratch\nCOPY --chwon=1 a b\n",
            &["chwon", "--chown", "Dockerfile:2"],
        ),
        (
            "FROM scratch\nRUN --mout=type=cache,target=/x true\n",
            &["mout", "mount", "Dockerfile:2"],
        ),
        (
            "FROM scratch AS base\nCOPY --from=bas x y\n",
            &["bas", "Dockerfile:2"],
        ),
        (
            "FROM scratch\nCOPY missing.txt /\n",
            &["missing.txt", "Dockerfile:2"],
        ),
        (
            "FROM scratch\nCOPY ../outside /\n",
            &["outside", "Dockerfile:2"],
        ),
        ("RUN true\n", &["FROM", "Dockerfile:1"]),
        ("", &["Dockerfile"]),
        ("FROM Scratch:UP:x\n", &["Dockerfile:1"]),
    ];
    for (dockerfile, expected) in cases {
        let sandbox = Sandbox::new();
        sandbox.file("outside", "secret");
        sandbox.context(dockerfile);
        let (code, error) = sandbox.fails(["build", "-t", "app", "context"]);
        assert_eq!(code, 1, "{dockerfile:?}: {error}");
        for word in expected {
            assert!(
                error.contains(word),
                "{dockerfile:?} lacks {word:?}:\n{error}"
            );
        }
        assert_eq!(sandbox.ok(["images", "-q"]), "", "{dockerfile:?}");
    }
}

#[test]
fn an_unknown_target_stage_names_the_near_one() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch AS compile\nCOPY greet /\n");
    let (_, error) = sandbox.fails(["build", "--target", "compil", "context"]);
    assert!(error.contains("compile"), "{error}");
}

#[test]
fn an_unknown_user_is_named() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\nUSER mason\nRUN [\"/greet\", \"--read\"]\n");
    let (code, error) = sandbox.fails(["build", "context"]);
    assert_eq!(code, 1);
    assert!(
        error.contains("mason") && error.contains("Dockerfile:4"),
        "{error}"
    );
}

#[test]
fn wrong_flags_and_files_are_explained() {
    let sandbox = Sandbox::new();
    let (code, error) = sandbox.fails(["build", "--tags", "x", "."]);
    assert_eq!(code, 2);
    assert!(error.contains("--tag"), "{error}");
    let (code, error) = sandbox.fails(["build", "no-such-folder"]);
    assert_eq!(code, 1);
    assert!(error.contains("no-such-folder"), "{error}");
    let (_, error) = sandbox.fails(["build", "-t", "Upper", "."]);
    assert!(error.contains("lower case"), "{error}");
    let (_, error) = sandbox.fails(["history", "nothing"]);
    assert!(error.contains("nothing"), "{error}");
}

#[test]
fn a_dockerfile_that_is_not_there_is_looked_for() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\n");
    sandbox.file("context/app.Dockerfile", "FROM scratch\n");
    std::fs::create_dir(sandbox.path("empty")).unwrap();
    for (args, expected) in [
        (
            &["build", "empty"][..],
            "error: no Dockerfile or Containerfile in empty\nhint: name it with --file, `-` being \
             standard input; a first one may be as short as `FROM debian`\n",
        ),
        (
            &["build", "-f", "no-such-file", "context"],
            "error: there is no Dockerfile no-such-file\nhint: --file is relative to the current \
             directory, not to the context\n",
        ),
        (
            &["build", "-f", "app.Dockerfile", "context"],
            "error: there is no Dockerfile app.Dockerfile\nhint: did you mean \
             context/app.Dockerfile?\n",
        ),
        (
            &["build", "-f", "context/ap.Dockerfile", "context"],
            "error: there is no Dockerfile context/ap.Dockerfile\nhint: did you mean \
             context/app.Dockerfile?\n",
        ),
        (
            &["build", "--build-arg", "=x", "context"],
            "error: --build-arg \"=x\" has no name: write NAME=VALUE\n",
        ),
    ] {
        let (code, error) = sandbox.fails(args);
        assert_eq!((code, error.as_str()), (1, expected), "{args:?}");
    }
    // Several are never merged.
    let (code, error) = sandbox.fails(["build", "-f", "a", "-f", "b", "context"]);
    assert_eq!(code, 2);
    assert!(
        error.contains("'--file <FILE>' cannot be used multiple times"),
        "{error}"
    );
    // As BuildKit has it, the name may be in small letters.
    std::fs::rename(
        sandbox.path("context/Dockerfile"),
        sandbox.path("context/dockerfile"),
    )
    .unwrap();
    sandbox.file("context/dockerfile", "FROM scratch\nCOPY greet /\n");
    sandbox.ok(["build", "-q", "context"]);
    sandbox.ok(["build", "-q", "-f", "context/Dockerfile", "context"]);
}

#[test]
fn a_failing_step_shows_its_line_and_exit_code() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\nRUN [\"/greet\", \"--read\", \"/none\"]\n");
    let (code, error) = sandbox.fails(["build", "-t", "app", "context"]);
    assert_eq!(code, 1);
    for word in ["Dockerfile:3", "exit code 1", "greet: /none"] {
        assert!(error.contains(word), "lacks {word}:\n{error}");
    }
    assert_eq!(sandbox.ok(["images", "-q"]), "");
    // Also where nobody saw the output go by.
    let (_, error) = sandbox.fails(["build", "-q", "-t", "app", "context"]);
    assert!(error.contains("  | greet: /none"), "{error}");
}

#[test]
fn an_unreachable_registry_is_named() {
    let sandbox = Sandbox::new();
    let name = format!("{}/app:1", crate::support::unused_address());
    let (code, error) = sandbox.fails(["pull", &name]);
    assert_eq!(code, 1);
    assert!(
        error.contains("refused") && error.contains(&name),
        "{error}"
    );
}

/// A server that answers every request with the same bytes.
fn liar(answer: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(&answer);
            });
        }
    });
    address
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn a_lying_registry_is_caught_and_leaves_nothing() {
    let manifest = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    let huge = vec![b' '; 100 << 20];
    let wrong_digest = format!(
        "{manifest}Docker-Content-Digest: sha256:{}\r\n",
        "0".repeat(64)
    );
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a manifest of 100 MiB", response("200 OK", manifest, &huge)),
        ("not JSON", response("200 OK", manifest, b"<html>")),
        (
            "another digest than it says",
            response("200 OK", &wrong_digest, b"{\"schemaVersion\":2}"),
        ),
        ("schema 1", response("200 OK", "", b"{\"schemaVersion\":1}")),
        (
            "not found",
            response(
                "404 Not Found",
                "",
                b"{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"no\"}]}",
            ),
        ),
        ("forbidden", response("403 Forbidden", "", b"")),
        ("not HTTP", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
    ];
    for (what, answer) in cases {
        let sandbox = Sandbox::new();
        let name = format!("{}/app:1", liar(answer));
        let (code, error) = sandbox.fails(["pull", &name]);
        assert_eq!(code, 1, "{what}: {error}");
        assert!(error.contains("app"), "{what}: {error}");
        assert_eq!(sandbox.ok(["images", "-q"]), "", "{what}");
        sandbox.ok(["info", "--verify"]);
    }
}

#[test]
fn a_truncated_layer_is_caught_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    sandbox.ok(["save", "--format", "oci-dir", "-o", "layout", "app"]);
    let blobs = sandbox.path("layout/blobs/sha256");
    let biggest = std::fs::read_dir(blobs)
        .unwrap()
        .flatten()
        .max_by_key(|e| e.metadata().unwrap().len())
        .unwrap();
    let bytes = std::fs::read(biggest.path()).unwrap();
    for (what, changed) in [
        ("cut", bytes[..bytes.len() / 2].to_vec()),
        ("longer", [bytes.clone(), vec![0]].concat()),
        (
            "changed",
            bytes
                .iter()
                .enumerate()
                .map(|(n, b)| if n == 99 { !b } else { *b })
                .collect(),
        ),
    ] {
        std::fs::write(biggest.path(), changed).unwrap();
        let (_, error) = fail(&mut sandbox.wythe_on("other", ["pull", "oci:layout"]));
        assert!(error.contains("sha256:"), "{what}: {error}");
        assert_eq!(
            succeed(&mut sandbox.wythe_on("other", ["images", "-q"])),
            "",
            "{what}"
        );
        succeed(&mut sandbox.wythe_on("other", ["info", "--verify"]));
    }
    std::fs::write(biggest.path(), bytes).unwrap();
    succeed(&mut sandbox.wythe_on("other", ["pull", "oci:layout"]));
}

#[test]
fn priv_a_full_disk_is_an_error_that_loses_nothing() {
    if !root() {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    sandbox.file("context/big", vec![7; 4 << 20]);
    sandbox.file(
        "context/Dockerfile",
        "FROM scratch\nCOPY greet /greet\nCOPY big /big\nRUN [\"/greet\", \"--read\"]\n",
    );
    // A store on a disk of 3 MiB, in a mount namespace of this test's own.
    let script = format!(
        "mkdir -p full && mount -t tmpfs -o size=3m tmpfs full && \
         {WYTHE} --root full build -q -t small -f context/Dockerfile.small context && \
         ! {WYTHE} --root full build -t big context && \
         {WYTHE} --root full info --verify && {WYTHE} --root full images"
    );
    sandbox.file(
        "context/Dockerfile.small",
        "FROM scratch\nCOPY Dockerfile /\n",
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let output = command
        .current_dir(sandbox.path(""))
        .env("HOME", sandbox.path(""))
        .output()
        .unwrap();
    let (said, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}\n{error}");
    assert!(said.contains("small") && !said.contains("big"), "{said}");
    assert!(
        error.contains("No space left") && error.contains("hint: the disk is full"),
        "{error}"
    );
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    sandbox.file("plain-file", "x");
    let (code, error) = fail(&mut sandbox.wythe_on("plain-file", ["build", "context"]));
    assert_eq!(code, 1);
    assert!(error.contains("plain-file"), "{error}");
    sandbox.file("other/important.txt", "x");
    let (_, error) = fail(&mut sandbox.wythe_on("other", ["build", "context"]));
    assert!(error.contains("other"), "{error}");
    assert_eq!(std::fs::read_dir(sandbox.path("other")).unwrap().count(), 1);
    if crate::support::is_root() {
        return;
    }
    let store = sandbox.path("store");
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o555)).unwrap();
    sandbox.ok(["images"]);
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn questions_about_a_dockerfile_say_what_is_wrong_with_it_as_a_build_does() {
    let sandbox = Sandbox::new();
    sandbox.file("context/Dockerfile", "FROM scratch\nCOPY --chown 1:1 a /\n");
    let (_, built) = sandbox.fails(["build", "context"]);
    assert!(
        built.starts_with("error: missing a value on flag: --chown\n --> Dockerfile:2:6\n"),
        "{built}"
    );
    for call in ["--check", "--call=outline", "--call=targets"] {
        let (_, asked) = sandbox.fails(["build", call, "context"]);
        assert_eq!(asked, built, "{call}");
    }
}
