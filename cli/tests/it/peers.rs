//! Images go both ways between wythe and the tools people have.

use std::path::Path;
use std::process::Command;

use crate::support::{Sandbox, Server, busybox, peers, succeed};

/// Runs a shell script in a mount namespace of its own, without the cgroup2 mount of hybrid hosts,
/// which Debian's crun and dockerd do not expect.
pub(crate) fn script(folder: &Path, text: &str) -> String {
    let script = format!(
        "set -e\n! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified\n{text}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c", &script]);
    succeed(command.current_dir(folder).env("HOME", folder))
}

/// podman's and buildah's global flags for stores in the folder.
pub(crate) const STORES: &str = "--root $PWD/c-root --runroot $PWD/c-run --storage-driver vfs";

/// What podman needs where it is not the machine's own.
pub(crate) const PODMAN_RUN: &str =
    "run --rm --network none --cgroups disabled --ulimit nofile=1000:1000 --ulimit nproc=1000:1000";

/// A busybox context whose image prints its arguments.
fn echo_context(sandbox: &Sandbox) {
    std::fs::create_dir_all(sandbox.path("context")).unwrap();
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    sandbox.file("context/motd", "layer on layer\n");
    sandbox.file(
        "context/Dockerfile",
        "FROM scratch AS base\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\nCOPY motd /etc/\n\
         FROM base\nENV GREETING=\"stone on stone\"\nRUN mkdir /empty && chmod 1777 /empty && ln -s motd /etc/link && rm /bin/vi\n\
         LABEL a=b\nCMD [\"sh\", \"-c\", \"echo $GREETING; cat /etc/link; test ! -e /bin/vi && stat -c %a /empty\"]\n",
    );
}

const SAID: &str = "stone on stone\nlayer on layer\n1777\n";

#[test]
fn peer_images_built_here_run_everywhere() {
    if !peers(&["skopeo", "podman", "umoci", "runc", "dockerd", "ctr"]) {
        return;
    }
    let sandbox = Sandbox::new();
    echo_context(&sandbox);
    let server = Server::docker_registry(&sandbox);
    let name = format!("{}/app:1", server.address);
    sandbox.ok(["build", "-q", "-t", &name, "context"]);
    sandbox.ok(["push", &name]);
    sandbox.ok([
        "save",
        "--format",
        "docker-archive",
        "-o",
        "docker.tar",
        &name,
    ]);
    sandbox.ok(["save", "--format", "oci-archive", "-o", "oci.tar", &name]);
    let folder = sandbox.path("");

    let inspected = script(
        &folder,
        &format!("skopeo inspect --tls-verify=false docker://{name}"),
    );
    assert!(inspected.contains("\"a\": \"b\""), "{inspected}");
    // The store itself is a layout that others read in place.
    script(&folder, &format!("skopeo inspect oci:store:{name}"));

    assert_eq!(
        script(
            &folder,
            &format!("podman {STORES} {PODMAN_RUN} --tls-verify=false -q {name}")
        ),
        SAID,
        "podman, pulled"
    );
    assert_eq!(
        script(
            &folder,
            &format!(
                "podman {STORES} load -q -i docker.tar >&2; podman {STORES} {PODMAN_RUN} --pull never {name}"
            )
        ),
        SAID
    );

    let umoci = format!(
        "skopeo copy -q --src-tls-verify=false docker://{name} oci:layout:x\n umoci unpack --image layout:x bundle >&2\n \
         cd bundle; sed -i 's/\"terminal\": true/\"terminal\": false/' config.json; runc run wythe-test-$$"
    );
    assert_eq!(script(&folder, &umoci), SAID, "umoci and runc");

    let docker = format!(
        "mkdir d; dockerd --bridge none --iptables=false -H unix://$PWD/d/sock --data-root $PWD/d/data --exec-root $PWD/d/exec \
           --pidfile $PWD/d/pid --insecure-registry 127.0.0.0/8 >d/log 2>&1 & daemon=$!\n\
         trap 'kill $daemon; wait $daemon || true' EXIT\n\
         docker() {{ /usr/bin/docker -H unix://$PWD/d/sock \"$@\"; }}\n\
         for i in $(seq 1200); do docker version >/dev/null 2>&1 && break; sleep 0.1; done\n\
         docker pull -q {name} >&2; docker run --rm --network none {name}\n\
         docker rmi -f {name} >&2; docker load -q -i docker.tar >&2; docker run --rm --network none {name}\n\
         c=\"ctr -a $PWD/d/exec/containerd/containerd.sock\"\n\
         $c image import oci.tar >&2\n\
         $c run --rm --cgroup '' {name} wythe-test-$$ \
           sh -c 'echo $GREETING; cat /etc/link; stat -c %a /empty'"
    );
    assert_eq!(
        script(&folder, &docker),
        SAID.repeat(3),
        "docker pull, docker load, ctr"
    );
}

#[test]
fn peer_images_made_by_others_run_here() {
    if !peers(&["skopeo", "podman", "buildah"]) {
        return;
    }
    let sandbox = Sandbox::new();
    echo_context(&sandbox);
    let server = Server::docker_registry(&sandbox);
    let at = &server.address;
    let folder = sandbox.path("");
    script(
        &folder,
        &format!(
            "buildah {STORES} bud -q --isolation chroot -t localhost/made context >&2\n\
             push() {{ buildah {STORES} push -q --tls-verify=false \"$@\"; }}\n\
             push localhost/made docker://{at}/oci-gzip:1\n\
             push --format v2s2 localhost/made docker://{at}/docker:1\n\
             push --compression-format zstd localhost/made docker://{at}/oci-zstd:1\n\
             buildah {STORES} manifest create multi >&2\n\
             buildah {STORES} manifest add --arch arm64 --os linux multi localhost/made >&2\n\
             buildah {STORES} manifest add multi localhost/made >&2\n\
             buildah {STORES} manifest push --all --tls-verify=false multi docker://{at}/multi:1 >&2\n\
             podman {STORES} save -q --format docker-archive -o podman.tar localhost/made\n\
             podman {STORES} save -q --format oci-archive -o podman-oci.tar localhost/made\n\
             skopeo copy -q --src-tls-verify=false docker://{at}/docker:1 oci:skopeo-layout:made\n\
             skopeo copy -q --src-tls-verify=false docker://{at}/oci-zstd:1 docker-archive:skopeo.tar:localhost/made:1"
        ),
    );
    for name in ["oci-gzip", "docker", "oci-zstd", "multi"] {
        let store = format!("store-{name}");
        let reference = format!("{at}/{name}:1");
        let said = succeed(&mut sandbox.wythe_on(&store, ["run", "-q", &reference]));
        assert_eq!(said, SAID, "{name}");
    }
    for (number, source) in [
        "podman.tar",
        "podman-oci.tar",
        "skopeo-layout",
        "skopeo.tar",
    ]
    .iter()
    .enumerate()
    {
        let store = format!("loaded-{number}");
        let names = succeed(&mut sandbox.wythe_on(&store, ["load", "-q", "-i", source]));
        let name = names.trim();
        let said = succeed(&mut sandbox.wythe_on(&store, ["run", "--pull", "never", name]));
        assert_eq!(said, SAID, "{source}");
    }
}
