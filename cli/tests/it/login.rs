//! Credentials and registries.conf, as the environment names them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::{Sandbox, Server, fail, peers, succeed};

const PASSWORD: &str = "opensesame-93f1";

/// Debian's registry with one user.
fn guarded(sandbox: &Sandbox) -> Server {
    let lines = succeed(Command::new("htpasswd").args(["-Bbn", "mason", PASSWORD]));
    let file = sandbox.file("htpasswd", lines);
    let auth = format!(
        "auth: {{htpasswd: {{realm: wall, path: {}}}}}\n",
        file.display()
    );
    Server::docker_registry_with(sandbox, &auth)
}

fn login(sandbox: &Sandbox, registry: &str, password: &str) -> std::process::Output {
    let mut command = sandbox.wythe(["login", "-u", "mason", "--password-stdin", registry]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn peer_a_login_opens_a_registry_and_a_logout_closes_it() {
    if !peers(&["docker-registry", "htpasswd"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let server = guarded(&sandbox);
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    let name = format!("{}/app:1", server.address);
    sandbox.ok(["build", "-q", "-t", &name, "context"]);

    let (code, error) = sandbox.fails(["push", &name]);
    assert_eq!(code, 1);
    assert!(error.contains("wythe login"), "{error}");
    assert!(!login(&sandbox, &server.address, "wrong").status.success());
    assert!(!sandbox.path(".docker/config.json").exists());

    let output = login(&sandbox, &server.address, PASSWORD);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(PASSWORD));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(sandbox.path(".docker/config.json"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    sandbox.ok(["push", &name]);
    succeed(&mut sandbox.wythe_on("other", ["pull", &name]));

    // The files that the environment names win, and are read as the peers write them.
    let config = sandbox.path(".docker");
    std::fs::rename(&config, sandbox.path("elsewhere")).unwrap();
    fail(&mut sandbox.wythe_on("a", ["pull", &name]));
    succeed(
        sandbox
            .wythe_on("b", ["pull", &name])
            .env("DOCKER_CONFIG", sandbox.path("elsewhere")),
    );
    let auth = sandbox.path("elsewhere/config.json");
    succeed(
        sandbox
            .wythe_on("c", ["pull", &name])
            .env("REGISTRY_AUTH_FILE", auth),
    );
    std::fs::rename(sandbox.path("elsewhere"), &config).unwrap();

    sandbox.ok(["logout", &server.address]);
    fail(&mut sandbox.wythe_on("d", ["pull", &name]));
    // Nothing that was kept or logged holds the password.
    let mut log = sandbox.wythe_on("e", ["-D", "-D", "pull", &name]);
    let output = log.output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains(PASSWORD));
}

#[test]
fn a_mirror_of_registries_conf_serves_a_name() {
    let sandbox = Sandbox::new();
    sandbox.context("FROM scratch\nCOPY greet /greet\n");
    sandbox.ok(["build", "-q", "-t", "localhost/mirrored/app:1", "context"]);
    let server = Server::wythe(&sandbox, "registry");
    sandbox.ok([
        "push",
        "localhost/mirrored/app:1",
        &format!("{}/mirrored/app:1", server.address),
    ]);
    let conf = format!(
        "[[registry]]\nprefix = \"quarry.example\"\nlocation = \"quarry.example\"\n[[registry.mirror]]\nlocation = \"{}\"\n\
         [[registry]]\nprefix = \"blocked.example\"\nblocked = true\n",
        server.address
    );
    let conf = sandbox.file("registries.conf", conf);
    let wythe = |args: &[&str]| {
        let mut command = sandbox.wythe_on("other", args);
        command.env("CONTAINERS_REGISTRIES_CONF", &conf);
        command
    };
    succeed(&mut wythe(&["pull", "quarry.example/mirrored/app:1"]));
    let names = succeed(&mut wythe(&["images"]));
    assert!(names.contains("quarry.example/mirrored/app"), "{names}");
    let (_, error) = fail(&mut wythe(&["pull", "blocked.example/x"]));
    assert!(error.contains("blocked"), "{error}");
}
