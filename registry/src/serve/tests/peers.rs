//! skopeo against the server.

use std::process::Command;

use wythe_layers::stream::{Compression, Encoder};

use super::*;

fn skopeo(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("skopeo").args(arguments).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

#[test]
fn peer_skopeo_copies_in_and_out_and_deletes() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        eprintln!("SKIPPED peer_skopeo_copies_in_and_out_and_deletes: needs skopeo");
        let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
        assert!(!required.contains("peer"), "needs skopeo");
        return;
    }
    let server = TestServer::start();
    // A layer that can be unpacked: skopeo reads it when it converts to schema 2.
    let mut encoder = Encoder::new(Vec::new(), Compression::Gzip, None, 1).unwrap();
    encoder.write_all(&[0; 1024]).unwrap();
    let target = store_image(&server.store, "app", &encoder.finish().unwrap());
    let out = server.store.root().parent().unwrap().join("out");
    let layout = format!("oci:{}:x", out.display());
    let remote = |name: &str| format!("docker://{}/{name}", server.address);
    let copy = |arguments: &[&str]| {
        let flags = [
            "--insecure-policy",
            "copy",
            "--src-tls-verify=false",
            "--dest-tls-verify=false",
        ];
        skopeo(&[&flags, arguments].concat()).unwrap()
    };
    copy(&[&remote("library/app"), &layout]);
    copy(&[&layout, &remote("team/app:v1")]);
    copy(&["--format", "v2s2", &layout, &remote("team/app:docker")]);
    copy(&[&remote("team/app:v1"), &remote("other/app:mounted")]);
    let digest = |name: &str| {
        let remote = remote(name);
        let arguments = [
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            &remote,
        ];
        skopeo(&arguments).unwrap().trim().to_owned()
    };
    for name in ["library/app:latest", "team/app:v1", "other/app:mounted"] {
        assert_eq!(digest(name), target.digest.to_string(), "{name}");
    }
    let docker = server
        .store
        .tag(&reference("localhost/team/app:docker"))
        .unwrap()
        .unwrap();
    assert_eq!(docker.media_type, MediaType::DOCKER_MANIFEST);
    let remote_tags = remote("team/app");
    let tags = skopeo(&["list-tags", "--tls-verify=false", &remote_tags]).unwrap();
    assert!(tags.contains("docker") && tags.contains("v1"), "{tags}");
    skopeo(&["delete", "--tls-verify=false", &remote("team/app:docker")]).unwrap();
    assert_eq!(
        server
            .store
            .tag(&reference("localhost/team/app:docker"))
            .unwrap(),
        None
    );
    assert!(server.store.verify(2).unwrap().is_empty());
}
