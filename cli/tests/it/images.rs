//! What the store holds, and archives of it.

use crate::support::{Sandbox, Server, containers, root};

const FILES: &str = "FROM scratch\nLABEL a=b\nCOPY greet /greet\nCOPY Dockerfile /etc/\nENTRYPOINT [\"/greet\"]\nCMD [\"--read\", \"/etc/Dockerfile\"]\n";

fn built() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.context(FILES);
    sandbox.ok(["build", "-q", "-t", "app", "context"]);
    sandbox
}

#[test]
fn images_are_listed_tagged_and_removed() {
    let sandbox = built();
    sandbox.ok(["tag", "app", "localhost:5000/me/app:1"]);
    let table = sandbox.ok(["images"]);
    assert!(table.starts_with("REPOSITORY"), "{table}");
    assert_eq!(table.lines().count(), 3, "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&sandbox.ok(["images", "--format", "json"])).unwrap();
    assert_eq!(json[0]["image_id"], json[1]["image_id"]);
    sandbox.ok(["rmi", "app"]);
    assert!(
        sandbox
            .ok(["history", "localhost:5000/me/app:1"])
            .contains("COPY")
    );
    sandbox.ok(["rmi", "localhost:5000/me/app:1"]);
    assert_eq!(sandbox.ok(["images", "-q"]), "");
    let (code, error) = sandbox.fails(["rmi", "app"]);
    assert_eq!(code, 1);
    assert!(error.contains("no image app"), "{error}");
    sandbox.ok(["rmi", "--force", "app"]);
}

#[test]
fn removing_the_last_name_frees_the_layers() {
    let sandbox = built();
    sandbox.ok(["save", "--format", "oci-archive", "-o", "app.tar", "app"]);
    let blobs = || {
        let folder = sandbox.path("store/blobs/sha256");
        std::fs::read_dir(folder).map_or(0, Iterator::count)
    };
    assert!(blobs() >= 3);
    sandbox.ok(["rmi", "app"]);
    let left = blobs();
    sandbox.ok(["load", "-i", "app.tar"]);
    assert!(left < blobs(), "nothing was freed");
}

#[test]
fn inspect_shows_config_and_manifest() {
    let sandbox = built();
    let json: serde_json::Value = serde_json::from_str(&sandbox.ok(["inspect", "app"])).unwrap();
    assert_eq!(json[0]["config"]["config"]["Labels"]["a"], "b");
    assert_eq!(json[0]["layers"].as_array().unwrap().len(), 2);
    let config = sandbox.ok(["inspect", "--config", "app"]);
    assert!(config.starts_with('{'));
}

#[test]
fn an_archive_of_each_kind_comes_back_as_the_same_image() {
    let sandbox = built();
    let id = sandbox.ok(["images", "-q"]);
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        sandbox.ok(["save", "--format", format, "-o", format, "app"]);
        let store = format!("store-{format}");
        crate::support::succeed(&mut sandbox.wythe_on(&store, ["load", "-i", format]));
        let loaded = crate::support::succeed(&mut sandbox.wythe_on(&store, ["images", "-q"]));
        assert_eq!(loaded, id, "{format}");
        if containers() {
            let said = crate::support::succeed(
                &mut sandbox.wythe_on(&store, ["run", "--pull", "never", "app"]),
            );
            assert_eq!(said, FILES, "{format}");
        }
    }
}

#[test]
fn an_archive_goes_through_a_pipe() {
    let sandbox = built();
    let archive = sandbox.wythe(["save", "app"]).output().unwrap().stdout;
    let mut load = sandbox.wythe_on("other", ["load"]);
    let mut child = load.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), &archive).unwrap();
    assert!(child.wait().unwrap().success());
    let names = crate::support::succeed(&mut sandbox.wythe_on("other", ["images"]));
    assert!(names.contains("app"), "{names}");
}

#[test]
fn a_damaged_archive_is_refused_and_leaves_nothing() {
    let sandbox = built();
    sandbox.ok(["save", "--format", "oci-archive", "-o", "app.tar", "app"]);
    let mut bytes = std::fs::read(sandbox.path("app.tar")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    sandbox.file("damaged.tar", &bytes);
    sandbox.file("cut.tar", &bytes[..middle]);
    for name in ["damaged.tar", "cut.tar"] {
        let (code, error) =
            crate::support::fail(&mut sandbox.wythe_on("other", ["load", "-i", name]));
        assert_eq!(code, 1, "{error}");
        assert_eq!(
            crate::support::succeed(&mut sandbox.wythe_on("other", ["images", "-q"])),
            "",
            "{name}"
        );
    }
}

#[test]
fn a_push_and_a_pull_keep_every_digest() {
    let sandbox = built();
    let server = Server::wythe(&sandbox, "registry");
    let name = format!("{}/me/app:1", server.address);
    let pushed = sandbox.ok(["push", "-q", "app", &name]);
    assert_eq!(
        pushed,
        sandbox.ok(["push", "-q", "app", &name]),
        "a second push changes nothing"
    );
    let pulled = crate::support::succeed(&mut sandbox.wythe_on("other", ["pull", "-q", &name]));
    assert_eq!(
        pushed.trim().rsplit('@').next(),
        pulled.trim().rsplit('@').next()
    );
    let id = crate::support::succeed(&mut sandbox.wythe_on("other", ["images", "-q"]));
    assert_eq!(id, sandbox.ok(["images", "-q"]));
}

#[test]
fn priv_a_mounted_image_is_whole_until_it_is_unmounted() {
    if !root() {
        return;
    }
    let sandbox = built();
    std::fs::create_dir(sandbox.path("mnt")).unwrap();
    sandbox.ok(["mount", "app", "mnt"]);
    // Another command sweeps the store meanwhile.
    sandbox.ok([
        "run",
        "--entrypoint",
        "/greet",
        "app",
        "--read",
        "/etc/Dockerfile",
    ]);
    let mut names: Vec<_> = std::fs::read_dir(sandbox.path("mnt"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    let refused = std::fs::write(sandbox.path("mnt/x"), "x");
    sandbox.ok(["umount", "mnt"]);
    assert_eq!(names, ["etc", "greet"]);
    assert!(refused.is_err(), "the mount is writable");
    sandbox.ok([
        "run",
        "--entrypoint",
        "/greet",
        "app",
        "--read",
        "/etc/Dockerfile",
    ]);
    // A file beside the snapshots remembers what the kernel allows.
    let left = std::fs::read_dir(sandbox.path("store/snapshots"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir());
    assert_eq!(left.count(), 0);
}
