//! Repositories and what serves them: `git daemon`, and `git http-backend` behind a few lines of
//! http that know passwords, redirects and a log.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::{Sandbox, succeed, unused_address, wait_for};

/// A repository of the test: a working copy below `git/` of the sandbox.
pub(super) struct Repository {
    pub(super) directory: PathBuf,
}

impl Repository {
    pub(super) fn new(sandbox: &Sandbox, name: &str) -> Self {
        Self::with(sandbox, name, &[])
    }

    pub(super) fn with(sandbox: &Sandbox, name: &str, init: &[&str]) -> Self {
        let directory = sandbox.path("git").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let new = Self { directory };
        new.git(&[&["init", "-q", "-b", "main"], init, &["."]].concat());
        new
    }

    /// Runs git in it, at a fixed time and with nobody's configuration.
    pub(super) fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.directory);
        command.args(["-c", "user.name=n", "-c", "user.email=e@x"]);
        for (name, value) in [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_DATE", "2020-01-02T03:04:05Z"),
            ("GIT_COMMITTER_DATE", "2021-02-03T04:05:06Z"),
        ] {
            command.env(name, value);
        }
        succeed(command.args(args)).trim().to_owned()
    }

    pub(super) fn file(&self, name: &str, content: &str) {
        let path = self.directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Commits everything; the commit.
    pub(super) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A submodule, without asking its address: only its name, path, address and commit count.
    pub(super) fn submodule(&self, name: &str, path: &str, url: &str, commit: &str) {
        let mut modules =
            std::fs::read_to_string(self.directory.join(".gitmodules")).unwrap_or_default();
        modules.push_str(&format!(
            "[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n"
        ));
        self.file(".gitmodules", &modules);
        self.git(&["add", ".gitmodules"]);
        let link = format!("160000,{commit},{path}");
        self.git(&["update-index", "--add", "--cacheinfo", &link]);
        // Without it, `commit -a` would take the submodule for deleted.
        let _ = std::fs::create_dir_all(self.directory.join(path));
        self.git(&["commit", "-q", "-m", "submodule"]);
    }
}

/// `git daemon` on loopback; it serves everything below `git/`.
pub(super) struct Daemon {
    child: Child,
    address: SocketAddr,
}

impl Daemon {
    pub(super) fn new(sandbox: &Sandbox) -> Self {
        std::fs::create_dir_all(sandbox.path("git")).unwrap();
        let address = unused_address();
        let mut daemon = Command::new("git");
        daemon.args([
            "-c",
            "safe.directory=*",
            "daemon",
            "--export-all",
            "--reuseaddr",
        ]);
        let child = daemon
            .arg(format!("--listen={}", address.ip()))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--base-path={}", sandbox.path("git").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        wait_for("git daemon", || TcpStream::connect(address).is_ok());
        Self { child, address }
    }

    pub(super) fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.address)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has a child that listens; both are in one process group of their own.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// What an http server does besides serving.
#[derive(Clone, Default)]
pub(super) struct Manner {
    /// The `Authorization` that everything needs.
    pub(super) needs: Option<String>,
    /// Where everything is instead: `http://host:port`.
    pub(super) redirect: Option<String>,
    /// Files only, as a web server knows nothing of git.
    pub(super) dumb: bool,
}

/// What an http server was asked: path and `Authorization`.
pub(super) type Asked = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// An http server of everything below `git/`.
pub(super) struct Web {
    pub(super) address: String,
    asked: Asked,
}

impl Web {
    pub(super) fn new(sandbox: &Sandbox, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Asked::default();
        let (root, log) = (sandbox.path("git"), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (root, manner, log) = (root.clone(), manner.clone(), Arc::clone(&log));
                std::thread::spawn(move || answer(stream.unwrap(), &root, &manner, &log));
            }
        });
        Self { address, asked }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// What it was asked since the last time.
    pub(super) fn take(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream, root: &Path, manner: &Manner, log: &Asked) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    if reader.read_line(&mut request).is_err() || request.is_empty() {
        return;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = request.split_whitespace();
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let authorization = headers.get("authorization").cloned();
    log.lock()
        .unwrap()
        .push((path.to_owned(), authorization.clone()));
    let plain = |status: &str, more: &str, body: &[u8]| {
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(body);
        answer
    };
    let bytes = if let Some(to) = &manner.redirect {
        plain("302 Found", &format!("Location: {to}{target}\r\n"), b"")
    } else if manner.needs.is_some() && manner.needs != authorization {
        plain(
            "401 Unauthorized",
            "WWW-Authenticate: Basic realm=\"x\"\r\n",
            b"",
        )
    } else if manner.dumb {
        match std::fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(content) => plain("200 OK", "", &content),
            Err(_) => plain("404 Not Found", "", b""),
        }
    } else {
        backend(root, method, path, query, &headers, &body)
    };
    let _ = stream.write_all(&bytes);
}

/// What git's own CGI program answers.
fn backend(
    root: &Path,
    method: &str,
    path: &str,
    query: &str,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> Vec<u8> {
    let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
    let mut command = Command::new("git");
    command.args(["-c", "safe.directory=*", "http-backend"]);
    for (name, value) in [
        ("GIT_PROJECT_ROOT", root.display().to_string()),
        ("GIT_HTTP_EXPORT_ALL", "1".to_owned()),
        ("REQUEST_METHOD", method.to_owned()),
        ("PATH_INFO", path.to_owned()),
        ("QUERY_STRING", query.to_owned()),
        ("CONTENT_TYPE", header("content-type")),
        ("CONTENT_LENGTH", body.len().to_string()),
        ("HTTP_CONTENT_ENCODING", header("content-encoding")),
        ("HTTP_GIT_PROTOCOL", header("git-protocol")),
    ] {
        command.env(name, value);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(body);
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, rest) = output.split_at(end.map_or(0, |end| end + 2));
    let head = String::from_utf8_lossy(head);
    let status = head
        .lines()
        .find_map(|line| line.strip_prefix("Status: "))
        .unwrap_or("200 OK");
    let kept: String = head
        .lines()
        .filter(|line| !line.starts_with("Status: "))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let mut answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{kept}").into_bytes();
    answer.extend_from_slice(rest);
    answer
}
