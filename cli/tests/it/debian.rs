//! The main job on real input: a Debian root file system, a compiler installed with apt, a C
//! program compiled and carried into a clean stage, through Debian's registry and back.

use std::process::Command;

use crate::support::{Sandbox, Server, peers, succeed};

#[test]
fn peer_a_program_is_compiled_on_debian_and_comes_back_from_a_registry() {
    if !peers(&["mmdebstrap", "docker-registry"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let server = Server::docker_registry(&sandbox);
    let base = format!("{}/debian:stable", server.address);
    std::fs::create_dir_all(sandbox.path("base")).unwrap();
    let mut debootstrap = Command::new("mmdebstrap");
    let suite = "--variant=minbase";
    succeed(
        debootstrap
            .args([suite, "--quiet", "bookworm"])
            .arg(sandbox.path("base/rootfs.tar")),
    );
    sandbox.file(
        "base/Dockerfile",
        "FROM scratch\nADD rootfs.tar /\nCMD [\"/bin/bash\"]\n",
    );
    sandbox.ok(["build", "-t", &base, "base"]);
    sandbox.ok(["push", &base]);
    sandbox.ok(["rmi", &base]);

    let dockerfile = format!(
        "FROM {base} AS compile\n\
         RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev\n\
         WORKDIR /src\nCOPY wall.c .\nRUN cc -static -O2 -o wall wall.c\n\
         FROM scratch\nCOPY --from=compile /src/wall /wall\nENTRYPOINT [\"/wall\"]\n"
    );
    sandbox.file("app/Dockerfile", dockerfile);
    sandbox.file(
        "app/wall.c",
        "#include <stdio.h>\nint main(int c, char **v) { printf(\"a wall of %d wythes\\n\", c); return 0; }\n",
    );
    let app = format!("{}/wall:1", server.address);
    sandbox.ok(["build", "--network", "host", "-t", &app, "app"]);
    sandbox.ok(["push", &app]);
    let mut pull = sandbox.wythe_on("empty", ["pull", &app]);
    succeed(&mut pull);
    let mut run = sandbox.wythe_on("empty", ["run", "--rm", "--pull", "never", &app, "x", "y"]);
    assert_eq!(succeed(&mut run), "a wall of 3 wythes\n");
}
