//! Contexts that are no directory, and `ADD` of what other machines have.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::{Sandbox, fail, signal_that_is_taken, succeed, wait_for};

/// A web server of one directory: files with an `ETag` of their length and first bytes.
struct Web {
    address: String,
    /// Request lines and answers, `GET /x HTTP/1.1 -> 200`.
    log: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn new(directory: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (directory, seen) = (directory.to_owned(), Arc::clone(&log));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &directory, &seen);
            }
        });
        Self { address, log }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream, directory: &Path, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    let headers: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .map(|line| line.to_ascii_lowercase())
        .collect();
    let path = request.split(' ').nth(1).unwrap_or("/");
    let path = path.split('?').next().unwrap().trim_start_matches('/');
    let content = std::fs::read(directory.join(path)).ok();
    let etag = format!(
        "\"{:?}\"",
        content
            .as_ref()
            .map(|c| c.iter().map(|b| u64::from(*b)).sum::<u64>())
    );
    let etag = etag.to_ascii_lowercase();
    let known = headers.contains(&format!("if-none-match: {etag}"));
    let needs = path.starts_with("private");
    let authorized = headers.contains(&"authorization: bearer hunter2".to_owned());
    let (status, body) = match content {
        _ if needs && !authorized => ("401 Unauthorized", Vec::new()),
        Some(_) if known => ("304 Not Modified", Vec::new()),
        Some(content) => ("200 OK", content),
        None => ("404 Not Found", Vec::new()),
    };
    log.lock().unwrap().push(format!("{path} {status}"));
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\nETag: {etag}\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body);
}

/// Names and contents in the layers of a built image.
pub(crate) fn files(sandbox: &Sandbox, context: &[&str]) -> Vec<String> {
    let out = sandbox.path("out");
    let _ = std::fs::remove_dir_all(&out);
    let mut args = vec!["build", "-q", "-t", "app", "-o", "type=local,dest=out"];
    args.extend(context);
    sandbox.ok(args);
    let mut found = Vec::new();
    let mut todo = vec![out.clone()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
            } else {
                let name = path.strip_prefix(&out).unwrap().display().to_string();
                let content = std::fs::read_to_string(&path).unwrap_or_default();
                found.push(format!("{name} {}", content.trim()));
            }
        }
    }
    found.sort();
    found
}

/// Temporary directories of contexts in the sandbox.
fn left_behind(sandbox: &Sandbox) -> usize {
    let names = std::fs::read_dir(sandbox.path("tmp")).unwrap();
    names.count()
}

fn with_input(sandbox: &Sandbox, args: &[&str], input: &[u8]) -> Command {
    let path = sandbox.file("input", input);
    let mut command = sandbox.wythe(args);
    command.stdin(std::fs::File::open(path).unwrap());
    std::fs::create_dir_all(sandbox.path("tmp")).unwrap();
    command.env("TMPDIR", sandbox.path("tmp"));
    command
}

fn project(sandbox: &Sandbox) {
    sandbox.file("project/Dockerfile", "FROM scratch\nCOPY . /all\n");
    sandbox.file("project/a.txt", "a");
    sandbox.file("project/sub/b.txt", "b");
    sandbox.file("project/hidden", "h");
    sandbox.file(
        "project/.dockerignore",
        "hidden\nDockerfile\n.dockerignore\n",
    );
}

#[test]
fn archives_of_any_compression_are_contexts_from_a_pipe_and_from_a_file() {
    let sandbox = Sandbox::new();
    project(&sandbox);
    for (name, flag) in [
        ("p.tar", "-c"),
        ("p.tgz", "-cz"),
        ("p.tar.xz", "-cJ"),
        ("p.tar.bz2", "-cj"),
    ] {
        let archive = sandbox.path(name);
        let mut tar = Command::new("tar");
        tar.arg(flag)
            .arg("-f")
            .arg(&archive)
            .arg("-C")
            .arg(sandbox.path("project"))
            .arg(".");
        if !tar.status().is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED {name}: needs tar and its compressor");
            continue;
        }
        let found = files(&sandbox, &[archive.to_str().unwrap()]);
        assert_eq!(found, ["all/a.txt a", "all/sub/b.txt b"], "{name}");
        let bytes = std::fs::read(&archive).unwrap();
        let mut command = with_input(&sandbox, &["build", "-q", "-t", "piped", "-"], &bytes);
        let piped = succeed(&mut command);
        assert_eq!(piped, sandbox.ok(["build", "-q", "project"]), "{name}");
        assert_eq!(left_behind(&sandbox), 0);
    }
}

#[test]
fn a_dockerfile_alone_comes_from_a_pipe_and_has_no_files() {
    let sandbox = Sandbox::new();
    let input = b"FROM scratch\nLABEL a=b\n";
    succeed(&mut with_input(
        &sandbox,
        &["build", "-t", "app", "-"],
        input,
    ));
    let input = b"FROM scratch\nCOPY x /\n";
    let (_, log) = fail(&mut with_input(&sandbox, &["build", "-"], input));
    assert!(log.contains('x'), "{log}");
    let (_, log) = fail(&mut with_input(&sandbox, &["build", "-"], b""));
    assert!(log.contains("empty"), "{log}");
    let (_, log) = fail(&mut with_input(&sandbox, &["build", "-f", "-", "-"], b"x"));
    assert!(log.contains("standard input"), "{log}");
    project(&sandbox);
    let input = b"FROM scratch\nCOPY a.txt hidden* /\n";
    let args = ["build", "-q", "-t", "app", "-f", "-", "project"];
    succeed(&mut with_input(&sandbox, &args, input));
}

#[test]
fn hostile_archives_change_nothing_outside_and_leave_nothing() {
    let sandbox = Sandbox::new();
    let host = sandbox.file("host/precious", "precious");
    let host = host.parent().unwrap();
    // A link to the host, then a file through it; a name that climbs; a link as Dockerfile.
    let script = format!(
        "import io, tarfile\n\
         def add(t, name, data=b'', **kw):\n\
         \x20   i = tarfile.TarInfo(name); i.size = len(data)\n\
         \x20   for k, v in kw.items(): setattr(i, k, v)\n\
         \x20   t.addfile(i, io.BytesIO(data))\n\
         host = {host:?}\n\
         t = tarfile.open('evil.tar', 'w')\n\
         add(t, 'Dockerfile', b'FROM scratch\\nCOPY . /\\n')\n\
         add(t, 'link', type=tarfile.SYMTYPE, linkname=host)\n\
         add(t, 'link/precious', b'evil')\n\
         add(t, 'link/new', b'evil')\n\
         t.close()\n\
         t = tarfile.open('climb.tar', 'w')\n\
         add(t, 'Dockerfile', b'FROM scratch\\nCOPY . /\\n')\n\
         add(t, '../../host/new', b'evil')\n\
         add(t, host + '/new', b'evil')\n\
         t.close()\n\
         t = tarfile.open('steal.tar', 'w')\n\
         add(t, 'Dockerfile', type=tarfile.SYMTYPE, linkname=host + '/precious')\n\
         add(t, 'hard', type=tarfile.LNKTYPE, linkname=host + '/precious')\n\
         t.close()\n"
    );
    let mut python = Command::new("python3");
    python.current_dir(sandbox.path("")).arg("-c").arg(script);
    if !python.status().is_ok_and(|status| status.success()) {
        eprintln!(
            "SKIPPED hostile_archives_change_nothing_outside_and_leave_nothing: needs python3"
        );
        return;
    }
    for name in ["evil.tar", "climb.tar", "steal.tar"] {
        let bytes = std::fs::read(sandbox.path(name)).unwrap();
        let output = with_input(&sandbox, &["build", "-"], &bytes)
            .output()
            .unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert!(!log.contains("panicked"), "{name}: {log}");
        assert!(!log.contains("precious\n"), "{name}: {log}");
        let names: Vec<_> = std::fs::read_dir(host)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["precious"], "{name}");
        assert_eq!(
            std::fs::read(host.join("precious")).unwrap(),
            b"precious",
            "{name}"
        );
        assert_eq!(left_behind(&sandbox), 0, "{name}");
    }
}

#[test]
fn an_interrupted_build_leaves_no_context_behind() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("tmp")).unwrap();
    let mut command = sandbox.wythe(["build", "-"]);
    command
        .env("TMPDIR", sandbox.path("tmp"))
        .stdin(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // The head of an archive whose rest never comes.
    let mut header = [0_u8; 512];
    header[..4].copy_from_slice(b"file");
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(b"00000100000");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let input = child.stdin.as_mut().unwrap();
    input.write_all(&header).unwrap();
    wait_for("the context", || left_behind(&sandbox) == 1);
    signal_that_is_taken(&child, nix::sys::signal::Signal::SIGTERM);
    drop(child.stdin.take());
    assert!(!child.wait().unwrap().success());
    assert_eq!(left_behind(&sandbox), 0);
}

#[test]
fn addresses_give_archives_dockerfiles_and_files() {
    let sandbox = Sandbox::new();
    project(&sandbox);
    let web = Web::new(&sandbox.path("web"));
    sandbox.file("web/Dockerfile.txt", "FROM scratch\nLABEL a=b\n");
    sandbox.ok(["build", "-q", &web.url("Dockerfile.txt")]);
    let (_, log) = sandbox.fails(["build", &web.url("missing")]);
    assert!(log.contains("404"), "{log}");
    let mut tar = Command::new("tar");
    tar.arg("-czf")
        .arg(sandbox.path("web/p.tgz"))
        .arg("-C")
        .arg(sandbox.path("project"))
        .arg(".");
    succeed(&mut tar);
    let found = files(&sandbox, &[&web.url("p.tgz?x=y")]);
    assert_eq!(found, ["all/a.txt a", "all/sub/b.txt b"]);
    // As named contexts, each with its own ignore file.
    sandbox.file(
        "main/Dockerfile",
        "FROM scratch\nCOPY --from=one . /one\nCOPY --from=two . /two\n",
    );
    sandbox.file("other/kept", "k");
    sandbox.file("other/dropped", "d");
    sandbox.file("other/.dockerignore", "dropped\n.dockerignore\n");
    let one = format!("one={}", web.url("p.tgz"));
    let context = [
        "--build-context",
        &one,
        "--build-context",
        "two=other",
        "main",
    ];
    assert_eq!(
        files(&sandbox, &context),
        ["one/a.txt a", "one/sub/b.txt b", "two/kept k"]
    );
}

#[test]
fn added_files_are_fetched_once_and_a_checksum_asks_nobody() {
    let sandbox = Sandbox::new();
    let web = Web::new(&sandbox.path("web"));
    sandbox.file("web/file.txt", "one");
    let dockerfile = |line: &str| {
        sandbox.file("context/Dockerfile", format!("FROM scratch\n{line}\n"));
    };
    dockerfile(&format!("ADD {} /in/", web.url("file.txt?q=1")));
    assert_eq!(files(&sandbox, &["context"]), ["in/file.txt one"]);
    assert_eq!(web.take_log(), ["file.txt 200 OK"]);
    assert_eq!(files(&sandbox, &["context"]), ["in/file.txt one"]);
    assert_eq!(web.take_log(), ["file.txt 304 Not Modified"]);
    sandbox.file("web/file.txt", "two");
    assert_eq!(files(&sandbox, &["context"]), ["in/file.txt two"]);
    assert_eq!(web.take_log(), ["file.txt 200 OK"]);
    let sum = "sha256:3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3";
    dockerfile(&format!(
        "ADD --checksum={sum} {} /in/",
        web.url("file.txt")
    ));
    assert_eq!(files(&sandbox, &["context"]), ["in/file.txt two"]);
    web.take_log();
    assert_eq!(files(&sandbox, &["context"]), ["in/file.txt two"]);
    assert!(web.take_log().is_empty());
    sandbox.file("web/file.txt", "three");
    let (_, log) = fail(&mut sandbox.wythe(["build", "--no-cache", "context"]));
    assert!(log.contains(sum), "{log}");
    // Only with the token of that host.
    sandbox.file("web/private", "p");
    dockerfile(&format!("ADD {} /p", web.url("private")));
    let (_, log) = sandbox.fails(["build", "context"]);
    assert!(log.contains("401"), "{log}");
    sandbox.file("token", "hunter2\n");
    let secret = "id=HTTP_AUTH_TOKEN_127.0.0.1,src=token";
    assert_eq!(files(&sandbox, &["--secret", secret, "context"]), ["p p"]);
    // The same opens a context.
    sandbox.file("web/private", "FROM scratch\nLABEL a=b\n");
    let url = web.url("private");
    let (_, log) = sandbox.fails(["build", &url]);
    assert!(log.contains("401"), "{log}");
    sandbox.ok(["build", "-q", "--secret", secret, &url]);
}
