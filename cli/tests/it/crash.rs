//! `kill -9` at random moments: the store still verifies, and the next try succeeds.

use std::process::Stdio;
use std::time::Duration;

use crate::support::{Sandbox, Server, containers, served_app, succeed};

/// How often each command is killed.
const ROUNDS: u64 = 25;

/// Delays that are spread over a command's life, the same in each run.
fn delay(round: u64, longest: Duration) -> Duration {
    // A low-discrepancy sequence covers the span better than chance does.
    let fraction = (round as f64 * 0.618_033_988_749_895).fract();
    longest.mul_f64(fraction)
}

/// Kills `command` at ever other moments, checks the store each time, then lets it finish.
fn kill_and_retry(sandbox: &Sandbox, store: &str, command: &dyn Fn() -> std::process::Command) {
    let started = std::time::Instant::now();
    let mut fresh = command();
    succeed(&mut fresh);
    let longest = started.elapsed().max(Duration::from_millis(20));
    for round in 0..ROUNDS {
        let _ = std::fs::remove_dir_all(sandbox.path(store));
        let mut child = command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay(round, longest));
        let _ = child.kill();
        let _ = child.wait();
        if sandbox.path(store).exists() {
            succeed(&mut sandbox.wythe_on(store, ["info", "--verify"]));
        }
        succeed(&mut command());
        succeed(&mut sandbox.wythe_on(store, ["info", "--verify"]));
    }
}

fn context(sandbox: &Sandbox) {
    sandbox.context(
        "FROM scratch\nCOPY greet /greet\nENV A=b\nWORKDIR /srv\nRUN [\"/greet\", \"--write\", \"x\", \"A\"]\nCOPY data /data/\n",
    );
    for n in 0..200_u32 {
        sandbox.file(&format!("context/data/{n}"), vec![n as u8; 4000]);
    }
}

#[test]
fn a_killed_build_loses_nothing() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    context(&sandbox);
    kill_and_retry(&sandbox, "store", &|| {
        sandbox.wythe([
            "build",
            "-t",
            "app",
            "-o",
            "type=oci,dest=app.tar",
            "context",
        ])
    });
}

#[test]
fn a_killed_pull_loses_nothing() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    context(&sandbox);
    let (_server, name) = served_app(&sandbox);
    kill_and_retry(&sandbox, "puller", &|| {
        sandbox.wythe_on("puller", ["pull", &name])
    });
}

#[test]
fn a_killed_push_tags_nothing_and_the_next_one_succeeds() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    context(&sandbox);
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    let server = Server::wythe(&sandbox, "registry");
    for round in 0..ROUNDS {
        let name = format!("{}/app:{round}", server.address);
        let mut child = sandbox
            .wythe(["push", "-q", "app", &name])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(delay(round, Duration::from_millis(60)));
        let _ = child.kill();
        let _ = child.wait();
        sandbox.ok(["push", "-q", "app", &name]);
        succeed(&mut sandbox.wythe_on("puller", ["pull", "-q", &name]));
    }
    sandbox.ok(["info", "--verify"]);
    succeed(&mut sandbox.wythe_on("registry", ["info", "--verify"]));
}
