//! Several processes on one store at once.

use std::process::{Child, Command, Stdio};

use crate::support::{Sandbox, containers, served_app, succeed};

/// How often each pair is tried: what meets is up to chance.
const ROUNDS: usize = 8;

fn start(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a process said; it must have succeeded.
fn finish(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {error}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn context(sandbox: &Sandbox) {
    sandbox.context(
        "FROM scratch\nCOPY greet /greet\nENV A=b\nRUN [\"/greet\", \"--write\", \"/x\", \"A\"]\nCOPY data /data/\nENTRYPOINT [\"/greet\", \"--read\", \"/x\"]\n",
    );
    for n in 0..100_u8 {
        sandbox.file(&format!("context/data/{n}"), vec![n; 4000]);
    }
}

#[test]
fn two_builds_of_the_same_give_the_same_image() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    context(&sandbox);
    for round in 0..ROUNDS {
        let store = format!("store-{round}");
        let both = ["one", "two"]
            .map(|tag| start(sandbox.wythe_on(&store, ["build", "-q", "-t", tag, "context"])));
        let [one, two] = both.map(finish);
        assert_eq!(one, two);
        succeed(&mut sandbox.wythe_on(&store, ["info", "--verify"]));
        for tag in ["one", "two"] {
            let said = succeed(&mut sandbox.wythe_on(&store, ["run", "--rm", tag]));
            assert_eq!(said, "b\n");
        }
    }
}

#[test]
fn removing_an_image_does_not_disturb_a_build() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    context(&sandbox);
    sandbox.ok(["build", "-q", "-t", "old", "context"]);
    for _ in 0..ROUNDS {
        let build = start(sandbox.wythe(["build", "-q", "--no-cache", "-t", "new", "context"]));
        let remove = start(sandbox.wythe(["rmi", "old"]));
        finish(remove);
        finish(build);
        sandbox.ok(["info", "--verify"]);
        assert_eq!(sandbox.ok(["run", "--rm", "new"]), "b\n");
        sandbox.ok(["tag", "new", "old"]);
    }
}

#[test]
fn two_pulls_of_the_same_image_both_succeed() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    context(&sandbox);
    let (_server, name) = served_app(&sandbox);
    for round in 0..ROUNDS {
        let store = format!("puller-{round}");
        let both = [(), ()].map(|()| start(sandbox.wythe_on(&store, ["pull", "-q", &name])));
        let [one, two] = both.map(finish);
        assert_eq!(one, two);
        succeed(&mut sandbox.wythe_on(&store, ["info", "--verify"]));
        let said =
            succeed(&mut sandbox.wythe_on(&store, ["run", "--rm", "--pull", "never", &name]));
        assert_eq!(said, "b\n");
    }
}
