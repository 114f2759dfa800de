//! `wythe serve`: the store as a registry.

use crate::support::{Sandbox, Server, fail, peers, succeed};

#[test]
fn a_pushed_image_is_listed_pulled_and_deleted() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    let server = Server::wythe(&sandbox, "registry");
    let name = format!("{}/a/b/app:1", server.address);
    sandbox.ok(["push", "app", &name]);
    succeed(&mut sandbox.wythe_on("other", ["pull", &name]));
    let (_, error) =
        fail(&mut sandbox.wythe_on("other", ["pull", &format!("{}/a/b/app:2", server.address)]));
    assert!(error.contains("a/b/app"), "{error}");
}

#[test]
fn what_was_built_is_at_once_pullable() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    let server = Server::wythe(&sandbox, "store");
    let name = format!("{}/library/app", server.address);
    succeed(&mut sandbox.wythe_on("other", ["pull", &name]));
}

#[test]
fn peer_skopeo_copies_both_ways() {
    if !peers(&["skopeo"]) {
        return;
    }
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    let server = Server::wythe(&sandbox, "registry");
    let name = format!("{}/app:1", server.address);
    sandbox.ok(["push", "app", &name]);
    let skopeo = |args: &[&str]| {
        let mut command = std::process::Command::new("skopeo");
        succeed(command.current_dir(sandbox.path("")).args(args))
    };
    let from = format!("docker://{name}");
    let to = format!("docker://{}/copy:2", server.address);
    skopeo(&["inspect", "--tls-verify=false", &from]);
    skopeo(&["copy", "--src-tls-verify=false", &from, "oci:layout:x"]);
    skopeo(&["copy", "--dest-tls-verify=false", "oci:layout:x", &to]);
    skopeo(&["delete", "--tls-verify=false", &to]);
    let pulled = format!("{}/copy:2", server.address);
    fail(&mut sandbox.wythe_on("other", ["pull", &pulled]));
}
