//! `cargo xtask tour`: the main job, whole, with nothing but what the repository holds.
//!
//! Offline and as whoever calls it: build, build again, serve, push, pull into a second, empty
//! store, run. Prints what each step took and fails if the program in the image does not say what
//! it should.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// What the image prints: the greeting written by `RUN`, and the two files copied in.
const EXPECTED: &str = "a wall is built in wythes\nstone on stone\nlayer on layer\n";

pub(crate) fn run(repository: &Path) -> anyhow::Result<()> {
    let wythe = match std::env::var_os("WYTHE_TOUR_BINARY") {
        Some(path) => PathBuf::from(path),
        None => step("compile wythe (release)", || {
            super::wythe_binary(repository, true)
        })?,
    };
    let folder = tempfile::tempdir()?;
    let context = folder.path().join("context");
    step("compile the static program of the image", || {
        prepare_context(repository, &context)
    })?;

    let first = folder.path().join("store");
    let second = folder.path().join("second-store");
    let build = |store: &Path| {
        let mut build = command(&wythe, store);
        build.args(["build", "-t", "localhost/tour"]).arg(&context);
        build
    };
    step("build", || super::run(&mut build(&first)))?;
    step("build again: nothing has changed", || {
        super::run(&mut build(&first))
    })?;

    let port_file = folder.path().join("address");
    let mut serve = command(&wythe, &folder.path().join("registry-store"));
    serve
        .args(["serve", "--listen", "127.0.0.1:0", "--port-file"])
        .arg(&port_file);
    let _server = step("serve a registry", || Server::start(&mut serve, &port_file))?;
    let address = std::fs::read_to_string(&port_file)?;
    let name = format!("{}/wythe/tour:1", address.trim());

    step("push", || {
        super::run(command(&wythe, &first).args(["push", "localhost/tour", &name]))
    })?;
    step("push again: nothing to send", || {
        super::run(command(&wythe, &first).args(["push", "localhost/tour", &name]))
    })?;
    step("pull into an empty store", || {
        super::run(command(&wythe, &second).args(["pull", &name]))
    })?;
    let output = step("run", || {
        let output = command(&wythe, &second)
            .args(["run", "--rm", "--pull", "never", &name])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start wythe")?;
        ensure!(
            output.status.success(),
            "the container failed: {}",
            output.status
        );
        Ok(output.stdout)
    })?;
    print!("{}", String::from_utf8_lossy(&output));
    ensure!(
        output == EXPECTED.as_bytes(),
        "the container said something else than {EXPECTED:?}"
    );
    println!("tour: done");
    Ok(())
}

fn command(wythe: &Path, store: &Path) -> Command {
    let mut command = Command::new(wythe);
    command.arg("--root").arg(store);
    command
}

/// Does one step, saying what it is and what it took.
fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("tour: {name}");
    let started = Instant::now();
    let result = work().with_context(|| format!("the step `{name}` failed"))?;
    println!("tour: {name}: {:.3} s", started.elapsed().as_secs_f64());
    Ok(result)
}

/// The context is copied so that the tour writes nothing into the repository.
fn prepare_context(repository: &Path, context: &Path) -> anyhow::Result<()> {
    let fixture = repository.join("fixtures/tour");
    std::fs::create_dir_all(context.join("words"))?;
    for name in [
        "Dockerfile",
        ".dockerignore",
        "words/one.txt",
        "words/two.txt",
    ] {
        std::fs::copy(fixture.join(name), context.join(name))?;
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compile = Command::new(rustc);
    compile.args([
        "--edition",
        "2024",
        "-O",
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
    ]);
    super::run(
        compile
            .arg("-o")
            .arg(context.join("greet"))
            .arg(fixture.join("greet.rs")),
    )
}

/// A running `wythe serve`, stopped when the tour ends, however it ends.
struct Server(Child);

impl Server {
    fn start(serve: &mut Command, port_file: &Path) -> anyhow::Result<Self> {
        let mut server = Self(serve.spawn().context("cannot start wythe")?);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !port_file.exists() {
            if let Some(status) = server.0.try_wait()? {
                bail!("wythe serve ended at once: {status}");
            }
            ensure!(
                Instant::now() < deadline,
                "wythe serve did not get ready in 10 s"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
