//! `--build-context`: images in layouts, and files in place of images and stages.

use crate::contexts::files;
use crate::run::shell;
use crate::support::{Sandbox, fail, succeed};

/// `layout/`, with the images `latest` and `v2`, from another store; the digest of `v2`.
fn layout(sandbox: &Sandbox) -> String {
    for (tag, content) in [("latest", "one"), ("v2", "two")] {
        sandbox.file("made/f", content);
        sandbox.file(
            "made/Dockerfile",
            "FROM scratch\nCOPY f /f\nENV MADE=yes\nWORKDIR /w\n",
        );
        let name = format!("x.example/made:{tag}");
        let output = format!("type=oci,tar=false,dest={tag}");
        let args = ["build", "-q", "-t", &name, "-o", &output, "made"];
        succeed(&mut sandbox.wythe_on("elsewhere", args));
    }
    // One layout of both, as `skopeo copy` makes it.
    std::fs::rename(sandbox.path("latest"), sandbox.path("layout")).unwrap();
    let read = |name: &str| {
        let text = std::fs::read_to_string(sandbox.path(name)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    let (mut one, two) = (read("layout/index.json"), read("v2/index.json"));
    let entry = |index: &serde_json::Value, tag: &str| {
        let mut entry = index["manifests"][0].clone();
        entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
        entry
    };
    one["manifests"] = vec![entry(&one, "latest"), entry(&two, "v2")].into();
    sandbox.file("layout/index.json", one.to_string());
    for blob in std::fs::read_dir(sandbox.path("v2/blobs/sha256")).unwrap() {
        let from = blob.unwrap().path();
        let to = sandbox
            .path("layout/blobs/sha256")
            .join(from.file_name().unwrap());
        std::fs::copy(from, to).unwrap();
    }
    two["manifests"][0]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_layout_is_a_base_and_a_source_under_any_name() {
    let sandbox = Sandbox::new();
    let digest = layout(&sandbox);
    let v2 = format!("oci-layout://layout@{digest}");
    let both = format!("oci-layout://layout:latest@{digest}");
    for (name, place, dockerfile, expected) in [
        ("n", "oci-layout://layout", "FROM n\n", "f one"),
        ("n", "oci-layout://layout:latest", "FROM n\n", "f one"),
        ("n", "oci-layout://layout:v2", "FROM n\n", "f two"),
        ("n", &v2, "FROM n\n", "f two"),
        ("n", &both, "FROM n\n", "f two"),
        (
            "n",
            "oci-layout://layout:v2",
            "FROM scratch\nCOPY --from=n /f /f\n",
            "f two",
        ),
        // In place of an image, whatever way its name is written.
        (
            "debian:12",
            "oci-layout://layout:v2",
            "FROM docker.io/library/debian:12\n",
            "f two",
        ),
        (
            "docker.io/library/debian:latest",
            "oci-layout://layout",
            "FROM debian\n",
            "f one",
        ),
        (
            "debian",
            "oci-layout://layout",
            "FROM scratch\nCOPY --from=debian:latest f /f\n",
            "f one",
        ),
        // And of a stage, of which nothing is done.
        (
            "base",
            "oci-layout://layout",
            "FROM nowhere.example/x AS base\nCOPY missing /\nFROM base\nWORKDIR /w\n",
            "f one",
        ),
    ] {
        sandbox.file("context/Dockerfile", dockerfile);
        let given = format!("{name}={place}");
        let args = ["--build-context", &given, "context"];
        assert_eq!(files(&sandbox, &args), [expected], "{given} {dockerfile}");
        // From the cache the second time: a probe asks the layout, which is here.
        let mut again = sandbox.wythe(["build", "--build-context", &given, "context"]);
        let log = String::from_utf8(again.output().unwrap().stderr).unwrap();
        assert!(log.contains("nothing to do"), "{given} {dockerfile}: {log}");
    }
    let config = {
        sandbox.file("context/Dockerfile", "FROM n\n");
        let args = [
            "build",
            "-q",
            "-t",
            "config",
            "--build-context",
            "n=oci-layout://layout",
        ];
        sandbox.ok([&args[..], &["context"]].concat());
        sandbox.ok(["inspect", "config"])
    };
    assert!(config.contains("MADE=yes"), "{config}");
}

#[test]
fn a_layout_that_is_none_is_refused() {
    let sandbox = Sandbox::new();
    let digest = layout(&sandbox);
    sandbox.file("context/Dockerfile", "FROM n\n");
    let other = format!("sha256:{}", "0".repeat(64));
    for (place, message) in [
        ("oci-layout://", "names no directory"),
        ("oci-layout://layout:", "empty tag"),
        ("oci-layout://layout:v3", "v3"),
        ("oci-layout://missing", "missing"),
        ("oci-layout://context", "context"),
        ("oci-layout://layout@sha256:1", "sha256:1"),
        (&format!("oci-layout://layout@{other}"), "has no image"),
    ] {
        let given = format!("n={place}");
        let (_, log) = sandbox.fails(["build", "--build-context", &given, "context"]);
        assert!(log.contains(message), "{place}: {log}");
    }
    // A layout may lie: what it holds must be what its digests say.
    let blob = digest.replace(':', "/");
    let path = sandbox.path("layout/blobs").join(blob);
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push('\n');
    std::fs::write(&path, text).unwrap();
    let given = format!("n=oci-layout://layout@{digest}");
    let (_, log) = fail(&mut sandbox.wythe(["build", "--build-context", &given, "context"]));
    assert!(log.contains("bytes, not"), "{log}");
}

#[test]
fn files_take_the_place_of_images_and_stages() {
    let sandbox = Sandbox::new();
    sandbox.file("dir/f", "dir");
    sandbox.file("dir/g", "ignored");
    sandbox.file("dir/.dockerignore", "g\n.dockerignore\n");
    sandbox.file("context/x", "x");
    for (given, dockerfile, expected) in [
        ("n=dir", "FROM n\nCOPY x /x\n", &["f dir", "x x"][..]),
        ("debian=dir", "FROM debian\n", &["f dir"]),
        (
            "base=dir",
            "FROM nowhere AS base\nRUN no\nFROM base\nCOPY x /\n",
            &["f dir", "x x"],
        ),
        (
            "base=dir",
            "FROM nowhere AS base\nFROM scratch\nCOPY --from=base f /y\n",
            &["y dir"],
        ),
        (
            "base=dir",
            "FROM nowhere AS base\nFROM scratch\nCOPY --from=0 f /y\n",
            &["y dir"],
        ),
        ("n=docker-image://scratch", "FROM n\nCOPY x /\n", &["x x"]),
        // These two names mean what they always do.
        ("scratch=dir", "FROM scratch\nCOPY x /\n", &["x x"]),
        ("context=dir", "FROM scratch\nCOPY x /\n", &["x x"]),
    ] {
        sandbox.file("context/Dockerfile", dockerfile);
        let found = files(&sandbox, &["--build-context", given, "context"]);
        assert_eq!(found, expected, "{given} {dockerfile}");
    }
    // History and layers agree, or Docker refuses the image.
    sandbox.file("context/Dockerfile", "FROM n\nCOPY x /x\n");
    sandbox.ok([
        "build",
        "-q",
        "-t",
        "app",
        "--build-context",
        "n=dir",
        "context",
    ]);
    let history = sandbox.ok(["history", "app"]);
    assert!(
        history.contains("FROM n") && history.contains("COPY x /x"),
        "{history}"
    );
}

#[test]
fn a_layout_is_mounted() {
    let Some(sandbox) = shell() else { return };
    layout(&sandbox);
    sandbox.file(
        "context/Dockerfile",
        "FROM shell\nRUN --mount=from=n,target=/m cp /m/f /f\nFROM scratch\nCOPY --from=0 /f /\n",
    );
    let args = ["--build-context", "n=oci-layout://layout:v2", "context"];
    assert_eq!(files(&sandbox, &args), ["f two"]);
}
