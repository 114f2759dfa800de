//! Who builds must not matter, as far as the machine allows: root, a user with sub-ids, one
//! without, and one who may not make any namespace.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peers::{PODMAN_RUN, STORES, script};
use crate::support::{Sandbox, Server, WYTHE, busybox, containers, copy_program, peers, succeed};

/// Two users that nobody else has; they exist in the tests' own mount namespaces only.
const WITH_RANGES: u32 = 64_998;
const WITHOUT: u32 = 64_999;

/// `wythe` for everybody's eyes, whoever owns the folder that it was built in.
fn readable_wythe(sandbox: &Sandbox) -> PathBuf {
    std::fs::set_permissions(sandbox.path(""), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = sandbox.path("wythe");
    copy_program(Path::new(WYTHE), &copy);
    copy
}

/// A shell script as another user, in a folder of their own; `wythe` is on their own store.
fn as_user(sandbox: &Sandbox, uid: u32, text: &str) -> Command {
    let home = sandbox.path(&format!("home-{uid}"));
    std::fs::create_dir_all(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(uid), Some(uid)).unwrap();
    let users = format!(
        "root:x:0:0::/root:/bin/sh\nranges:x:{WITH_RANGES}:{WITH_RANGES}::/:/bin/sh\nplain:x:{WITHOUT}:{WITHOUT}::/:/bin/sh\n"
    );
    sandbox.file("etc/passwd", users);
    sandbox.file("etc/subuid", "ranges:300000:65536\n");
    sandbox.file("etc/subgid", "ranges:300000:65536\n");
    // newuidmap looks there.
    let outer = "for name in passwd subuid subgid; do mount --bind $etc/$name /etc/$name; done\n\
         cd $HOME && exec setpriv --reuid=$uid --regid=$uid --clear-groups bash -c \"$text\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "bash", "-ec", outer])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", &home)
        .env("etc", sandbox.path("etc"))
        .env("uid", uid.to_string())
        .env("WYTHE_BUILD_NETWORK", "none")
        .env("SOURCE_DATE_EPOCH", "1700000000");
    let wythe = sandbox.path("wythe");
    let text = format!(
        "set -e; wythe() {{ {} --root $HOME/store \"$@\"; }}\n{text}",
        wythe.display()
    );
    command.env("text", text);
    command
}

/// The needs of the tests below, and a context that everybody can read.
fn everyone() -> Option<Sandbox> {
    if !peers(&["busybox", "newuidmap", "setpriv"]) {
        return None;
    }
    let sandbox = Sandbox::new();
    readable_wythe(&sandbox);
    std::fs::create_dir_all(sandbox.path("context")).unwrap();
    std::fs::copy(busybox(), sandbox.path("context/busybox")).unwrap();
    sandbox.file("context/page", "layer on layer\n");
    Some(sandbox)
}

/// The bytes of the archive that a user gets from building the Dockerfile.
fn built_by(sandbox: &Sandbox, uid: u32, dockerfile: &Path) -> Vec<u8> {
    let text = format!(
        "wythe build -q -t app -f {} {}; wythe save --format oci-archive -o out.tar app",
        dockerfile.display(),
        sandbox.path("context").display()
    );
    succeed(&mut as_user(sandbox, uid, &text));
    std::fs::read(sandbox.path(&format!("home-{uid}/out.tar"))).unwrap()
}

#[test]
fn priv_the_image_is_the_same_whoever_builds_it() {
    let Some(sandbox) = everyone() else { return };
    let dockerfile = sandbox.file(
        "one",
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY --chown=33:44 page /srv/page\n\
         COPY --chown=33:44 --chmod=4755 busybox /srv/setuid\nCOPY --chmod=2711 page /srv/mine\n\
         RUN [\"/bin/busybox\", \"touch\", \"/made\"]\n\
         RUN [\"/bin/busybox\", \"chmod\", \"600\", \"/srv/mine\"]\n\
         RUN [\"/bin/busybox\", \"chmod\", \"4711\", \"/srv/page\"]\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox mkfifo /fifo; busybox ln -s a /link; busybox rm /srv/setuid\"]\n",
    );
    let by_root = built_by(&sandbox, 0, &dockerfile);
    assert!(
        by_root == built_by(&sandbox, WITH_RANGES, &dockerfile),
        "with sub-ids it is another image"
    );
    assert!(
        by_root == built_by(&sandbox, WITHOUT, &dockerfile),
        "with one id it is another image"
    );
}

#[test]
fn priv_steps_that_change_owners_need_the_ids_and_say_so() {
    let Some(sandbox) = everyone() else { return };
    let cases = [
        (
            "RUN [\"/bin/busybox\", \"chown\", \"33:44\", \"/page\"]\n",
            "exit code 1",
        ),
        (
            "USER 33:44\nWORKDIR /w\nRUN [\"/bin/busybox\", \"id\"]\n",
            "/etc/subuid",
        ),
    ];
    for (number, (steps, expected)) in cases.into_iter().enumerate() {
        let head = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY page /page\n";
        let dockerfile = sandbox.file(&format!("{number}"), format!("{head}{steps}"));
        let by_root = built_by(&sandbox, 0, &dockerfile);
        assert!(
            by_root == built_by(&sandbox, WITH_RANGES, &dockerfile),
            "{steps}"
        );
        let text = format!(
            "wythe build -f {} {}",
            dockerfile.display(),
            sandbox.path("context").display()
        );
        let (code, error) = crate::support::fail(&mut as_user(&sandbox, WITHOUT, &text));
        assert_eq!(code, 1, "{error}");
        assert!(error.contains(expected), "{steps}: {error}");
    }
}

/// Foreign owners, a device, a fifo and setuid bits, through the store of a user who can have none
/// of them on disk, into a registry, and back to root.
#[test]
fn priv_what_a_user_cannot_have_on_disk_goes_through_their_store_unharmed() {
    let Some(sandbox) = everyone() else { return };
    sandbox.file(
        "context/Dockerfile",
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY --chown=33:44 page /srv/page\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"busybox mknod /dev/fuse c 10 229; busybox mkfifo /fifo; busybox chown 5:6 /fifo\"]\n\
         COPY --chown=33:33 --chmod=6755 busybox /srv/both\n",
    );
    sandbox.ok(["build", "-q", "-t", "base", "context"]);
    sandbox.ok(["save", "--format", "oci-archive", "-o", "base.tar", "base"]);
    let server = Server::wythe(&sandbox, "registry");
    let at = &server.address;
    sandbox.ok(["push", "-q", "base", &format!("{at}/base:1")]);
    for uid in [WITH_RANGES, WITHOUT] {
        let text = format!(
            "wythe pull -q {at}/base:1; wythe run --rm {at}/base:1 /bin/busybox cat /srv/page\n\
             wythe tag {at}/base:1 base; wythe save --format oci-archive -o base.tar base\n\
             printf 'FROM {at}/base:1\\nRUN [\"/bin/busybox\", \"touch\", \"/mark\"]\\n' | wythe build -q -t {at}/more:{uid} - >&2\n\
             wythe push -q {at}/more:{uid} >&2; wythe info --verify >&2"
        );
        let said = succeed(&mut as_user(&sandbox, uid, &text));
        assert!(said.contains("layer on layer"), "{said}");
        assert!(
            std::fs::read(sandbox.path("base.tar")).unwrap()
                == std::fs::read(sandbox.path(&format!("home-{uid}/base.tar"))).unwrap(),
            "{uid}: the image came back changed"
        );
        let stat = sandbox.ok([
            "run",
            "--rm",
            &format!("{at}/more:{uid}"),
            "/bin/busybox",
            "stat",
            "-c",
            "%n %u:%g %a %F %t",
            "/srv/page",
            "/srv/both",
            "/fifo",
            "/mark",
        ]);
        assert_eq!(
            stat,
            "/srv/page 33:44 644 regular file 0\n/srv/both 33:33 6755 regular file 0\n\
             /fifo 5:6 644 fifo 0\n/mark 0:0 644 regular empty file 0\n",
            "{uid}"
        );
    }
}

/// Everything but processes: into a store, out of it, to a registry and back. Then what needs a
/// process says why it cannot be had.
fn locked_down(wythe: &str, address: &str) -> String {
    format!(
        "set -e\n\
         w() {{ {wythe} --root nested \"$@\"; }}\n\
         w build -q -t app -f context/Dockerfile.files context\n\
         w save --format oci-archive -o nested.tar app\n\
         w push -q app {address}/locked:1\n\
         {wythe} --root nested-2 pull -q {address}/locked:1\n\
         {wythe} --root nested-3 load -q -i nested.tar\n\
         {wythe} --root nested-3 info --verify >&2\n\
         set +e\n\
         w build -t app context; echo build $?\n\
         w run app; echo run $?\n"
    )
}

fn locked_down_context(sandbox: &Sandbox) {
    sandbox.context("FROM scratch\nCOPY --chown=33:44 --chmod=4755 greet /greet\nRUN [\"/greet\", \"--read\"]\nENTRYPOINT [\"/greet\", \"--read\"]\n");
    sandbox.file(
        "context/Dockerfile.files",
        "FROM scratch\nCOPY --chown=33:44 --chmod=4755 greet /greet\nENTRYPOINT [\"/greet\", \"--read\"]\n",
    );
}

#[test]
fn without_user_namespaces_files_still_travel_and_run_says_why_not() {
    if !containers() {
        return;
    }
    let sandbox = Sandbox::new();
    locked_down_context(&sandbox);
    let server = Server::wythe(&sandbox, "registry");
    // A user namespace in which no further one may be made, entered without any capability.
    let text = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces && \
         exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs bash -c '{}'",
        locked_down(WYTHE, &server.address)
    );
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork"])
        .args(["--mount-proc", "sh", "-c", &text])
        .current_dir(sandbox.path(""))
        .env("HOME", sandbox.path(""));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("build 1\n") && said.ends_with("run 125\n"),
        "{said}\n{error}"
    );
    for expected in [
        "Dockerfile:3",
        "user.max_user_namespaces is reached",
        "hint: as root: sysctl user.max_user_namespaces=",
    ] {
        assert!(error.contains(expected), "no {expected:?} in {error}");
    }
    // Nothing of the owners and bits was lost on the way.
    let reference = format!("{}/locked:1", server.address);
    sandbox.ok([
        "build",
        "-q",
        "-t",
        "own",
        "-f",
        "context/Dockerfile.files",
        "context",
    ]);
    let own = sandbox.ok(["push", "own", &format!("{}/own:1", server.address)]);
    let digest = |reference: &str| {
        let pulled = succeed(&mut sandbox.wythe_on("check", ["pull", reference]));
        pulled
            .split_whitespace()
            .find(|word| word.contains("sha256:"))
            .map(|word| word.rsplit('@').next().unwrap_or(word).to_owned())
    };
    assert_eq!(
        digest(&reference),
        digest(&format!("{}/own:1", server.address)),
        "{own}"
    );
}

/// In a container of podman's without any privilege: /proc is masked, the root read-only, the
/// system calls filtered, and there is no /dev/fuse.
#[test]
fn peer_in_an_unprivileged_container_everything_works_that_it_allows() {
    if !peers(&["podman"]) {
        return;
    }
    let sandbox = Sandbox::new();
    readable_wythe(&sandbox);
    locked_down_context(&sandbox);
    std::fs::set_permissions(sandbox.path(""), PermissionsExt::from_mode(0o777)).unwrap();
    let folder = sandbox.path("");
    for path in ["usr", "lib", "lib64", "bin", "sandbox"] {
        std::fs::create_dir_all(sandbox.path(&format!("rootfs/{path}"))).unwrap();
    }
    let run = |flags: &str, name: &str, inner: &str| {
        sandbox.file("inner", inner);
        // The container shares the network, to reach the registry.
        let network = PODMAN_RUN.replace("--network none", "--network host");
        let text = format!(
            "podman {STORES} {network} --read-only --cap-drop all --security-opt no-new-privileges {flags} --user {WITHOUT} \
             -v /usr:/usr:ro -v /lib:/lib:ro -v /lib64:/lib64:ro -v /bin:/bin:ro -v $PWD:/sandbox -w /sandbox \
             --env HOME=/sandbox --rootfs $PWD/rootfs bash inner 2>&1 | tee {name}"
        );
        script(&folder, &text)
    };
    let server = Server::wythe(&sandbox, "registry");
    let said = run(
        "",
        "with",
        &format!(
            "touch /x && exit; {}",
            locked_down("./wythe", &server.address)
        ),
    );
    assert!(
        said.contains("build 0\n") && said.ends_with("run 0\n"),
        "{said}"
    );
    assert!(said.contains("the outer host name"), "{said}");

    // Docker's profile, which lets nobody without a capability make a namespace or mount.
    sandbox.file(
        "seccomp.json",
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_ERRNO", "errnoRet": 1,
            "names": ["unshare", "setns", "mount", "umount2", "pivot_root", "open_tree", "move_mount", "fsopen", "fsmount", "mount_setattr"]}]}"#,
    );
    let said = run(
        "--security-opt seccomp=$PWD/seccomp.json",
        "without",
        &format!(
            "rm -rf nested*; {}",
            locked_down("./wythe", &server.address)
        ),
    );
    assert!(
        said.contains("build 1\n") && said.ends_with("run 125\n"),
        "{said}"
    );
    assert!(
        said.contains("hint: inside a container, its seccomp profile must allow unshare"),
        "{said}"
    );
}
