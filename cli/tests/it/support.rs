//! What every test needs: a folder and a store of its own, and the binary.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const WYTHE: &str = env!("CARGO_BIN_EXE_wythe");

/// A folder and a store that go away with the test.
pub(crate) struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Writes a program that can be run at once. A process of its own writes it: nothing can be run
    /// while it is open for writing, and what another test is just starting has copies of all that
    /// is open here.
    pub(crate) fn program(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let draft = self.file(&format!("{name}.draft"), content);
        let path = self.path(name);
        copy_program(&draft, &path);
        path
    }

    /// `wythe` on this sandbox's store, with an environment in which nothing of the user's is found.
    pub(crate) fn wythe<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.wythe_on("store", args)
    }

    /// `wythe` on another store of this sandbox.
    pub(crate) fn wythe_on<S: AsRef<OsStr>>(
        &self,
        store: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(WYTHE);
        command.current_dir(self.folder.path()).env_clear();
        for name in ["PATH", "TMPDIR", "RUST_BACKTRACE", "WYTHE_LOG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("HOME", self.folder.path()).stdin(Stdio::null());
        // Tests of the network say which one they mean; the others need none and start nothing.
        command.env("WYTHE_BUILD_NETWORK", "none");
        command.arg("--root").arg(self.path(store)).args(args);
        command
    }

    /// Runs `wythe`, which must succeed; its standard output.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> String {
        succeed(&mut self.wythe(args))
    }

    /// Runs `wythe`, which must fail; its exit code and standard error.
    pub(crate) fn fails<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
    ) -> (i32, String) {
        fail(&mut self.wythe(args))
    }

    /// A context with `greet`, the static program of the tour, and the given Dockerfile.
    pub(crate) fn context(&self, dockerfile: &str) -> PathBuf {
        let context = self.path("context");
        std::fs::create_dir_all(&context).unwrap();
        std::fs::copy(static_program(), context.join("greet")).unwrap();
        self.file("context/Dockerfile", dockerfile);
        context
    }
}

/// Copies a program so that it can be run at once; see [`Sandbox::program`].
pub(crate) fn copy_program(from: &Path, to: &Path) {
    succeed(Command::new("install").arg("-m755").args([from, to]));
}

/// Runs a command, which must succeed; its standard output.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command, which must fail with an exit code of its own; the code and its standard error.
pub(crate) fn fail(command: &mut Command) -> (i32, String) {
    let output = output(command);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?} succeeded\n{stderr}");
    assert!(
        !stderr.contains("panicked"),
        "{command:?} panicked\n{stderr}"
    );
    (output.status.code().unwrap_or(-1), stderr)
}

fn output(command: &mut Command) -> Output {
    command
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// The tour's program, compiled once.
pub(crate) fn static_program() -> &'static Path {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("greet");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/tour/greet.rs");
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args([
            "--edition",
            "2024",
            "-C",
            "target-feature=+crt-static",
            "-C",
            "strip=symbols",
        ]);
        succeed(rustc.arg("-o").arg(&path).arg(source));
        (folder, path)
    });
    path
}

/// Whether `WYTHE_REQUIRE` names a tier.
fn required(tier: &str) -> bool {
    std::env::var("WYTHE_REQUIRE")
        .unwrap_or_default()
        .split(',')
        .any(|name| name == tier)
}

fn skip(tier: &str, missing: &str) -> bool {
    assert!(
        !required(tier),
        "WYTHE_REQUIRE names {tier}, but this machine lacks {missing}"
    );
    // Not by `eprintln!`, which is kept back while a test passes.
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let line = format!("SKIPPED {name} ({tier}): needs {missing}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    false
}

/// Whether this process is root outside of any user namespace.
pub(crate) fn is_root() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    nix::unistd::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// For `priv_*`: whether there is root.
pub(crate) fn root() -> bool {
    is_root() || skip("priv", "root")
}

/// For `peer_*`: whether there is root and these programs.
pub(crate) fn peers(programs: &[&str]) -> bool {
    (is_root() || skip("peer", "root")) && programs_here(programs)
}

/// For `peer_*` that need no root: whether there are these programs.
pub(crate) fn programs_here(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing =
        |program: &&&str| !std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    match programs.iter().find(missing) {
        Some(program) => skip("peer", program),
        None => true,
    }
}

/// For tests that run a container: whether this user may make user namespaces (root always may).
pub(crate) fn containers() -> bool {
    let allowed = Command::new("unshare")
        .args(["--user", "--map-root-user", "true"])
        .output();
    is_root()
        || allowed.is_ok_and(|output| output.status.success())
        || skip("priv", "user namespaces")
}

/// A static busybox, for images with a shell.
pub(crate) fn busybox() -> PathBuf {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|path| path.exists())
        .unwrap()
}

/// A server process that ends with the test.
pub(crate) struct Server {
    child: Child,
    /// `127.0.0.1:port`
    pub(crate) address: String,
}

impl Server {
    /// `wythe serve` on a free port.
    pub(crate) fn wythe(sandbox: &Sandbox, store: &str) -> Self {
        let port_file = sandbox.path(&format!("{store}.address"));
        let _ = std::fs::remove_file(&port_file);
        let mut command =
            sandbox.wythe_on(store, ["serve", "--listen", "127.0.0.1:0", "--port-file"]);
        let child = command.arg(&port_file).spawn().unwrap();
        wait_for("wythe serve", || port_file.exists());
        let address = std::fs::read_to_string(&port_file)
            .unwrap()
            .trim()
            .to_owned();
        Self { child, address }
    }

    /// Debian's registry on a free port.
    pub(crate) fn docker_registry(sandbox: &Sandbox) -> Self {
        Self::docker_registry_with(sandbox, "")
    }

    /// Debian's registry on a free port, with more lines of configuration.
    pub(crate) fn docker_registry_with(sandbox: &Sandbox, more: &str) -> Self {
        let address = unused_address().to_string();
        let data = sandbox.path("docker-registry");
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{address}'}}\n{more}",
            data.display()
        );
        let config = sandbox.file("registry.yml", config);
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("docker-registry", || {
            std::net::TcpStream::connect(&address).is_ok()
        });
        Self { child, address }
    }
}

/// A store that serves what `app` of a sandbox's own store is; under which name.
pub(crate) fn served_app(sandbox: &Sandbox) -> (Server, String) {
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    let server = Server::wythe(sandbox, "registry");
    let name = format!("{}/app:1", server.address);
    sandbox.ok(["push", "-q", "app", &name]);
    (server, name)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// Sends a signal and waits until the process has taken it: one more of the same kind before that
/// would be none at all.
pub(crate) fn signal_that_is_taken(child: &Child, number: Signal) {
    signal(child, number);
    let status = format!("/proc/{}/status", child.id());
    wait_for("the signal to be taken", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let waiting = status.lines().filter_map(|line| {
            let mask = line
                .strip_prefix("SigPnd:")
                .or_else(|| line.strip_prefix("ShdPnd:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        });
        waiting.fold(0, |all, mask| all | mask) & (1 << (number as u32 - 1)) == 0
    });
}

/// Waits until something is so. Only a failing test waits to the end, however busy the machine.
pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not get ready");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An address of this machine on which nothing listens and no other process or test will, unlike
/// a port of 127.0.0.1 that was free a moment ago: by the number of this process, which has at most
/// 22 bits.
pub(crate) fn unused_address() -> SocketAddr {
    static PORT: AtomicU16 = AtomicU16::new(10_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 64 + high, middle, low], port))
}
