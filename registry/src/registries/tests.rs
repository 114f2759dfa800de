use super::*;

fn shown(text: &str, reference: &str) -> String {
    let registries = Registries::parse(text, Path::new("test.conf")).unwrap();
    match registries.pull_endpoints(&reference.parse().unwrap()) {
        Ok(endpoints) => endpoints
            .iter()
            .map(|e| {
                format!(
                    "{}{}/{}",
                    if e.insecure { "!" } else { "" },
                    e.host,
                    e.repository
                )
            })
            .collect::<Vec<_>>()
            .join(" "),
        Err(error) => error.to_string(),
    }
}

const CONF: &str = r#"
unqualified-search-registries = ["evil.example"]
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "mirror.local:5000/hub"
insecure = true
[[registry.mirror]]
location = "digest.local"
pull-from-mirror = "digest-only"
[[registry]]
prefix = "example.com/foo"
location = "internal.example.com/bar"
[[registry]]
prefix = "example.com/foo/deep"
blocked = true
[[registry]]
prefix = "*.wild.example"
location = "one.example/all"
[[registry]]
prefix = "*.keep.example"
insecure = true
[[registry]]
location = "tags.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example"
[aliases]
debian = "registry.example/debian"
"#;

#[test]
fn references_are_mapped_to_places() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (reference, places) in [
        (
            "ubuntu",
            "!mirror.local:5000/hub/library/ubuntu docker.io/library/ubuntu",
        ),
        (
            &format!("ubuntu@{digest}"),
            "!mirror.local:5000/hub/library/ubuntu digest.local/library/ubuntu docker.io/library/ubuntu",
        ),
        ("example.com/foo", "internal.example.com/bar"),
        ("example.com/foo/a/b", "internal.example.com/bar/a/b"),
        ("example.com/foobar", "example.com/foobar"),
        (
            "example.com/foo/deep/x:1",
            "example.com/foo/deep/x:1 is blocked by registries.conf (prefix example.com/foo/deep)",
        ),
        ("a.b.wild.example/x/y", "one.example/all/x/y"),
        ("wild.example/x", "wild.example/x"),
        ("a.keep.example:5000/x", "!a.keep.example:5000/x"),
        ("tags.example/x:1", "tags.example/x"),
        (
            &format!("tags.example/x@{digest}"),
            "m.example/x tags.example/x",
        ),
        ("other.example/x", "other.example/x"),
    ] {
        assert_eq!(shown(CONF, reference), places, "{reference}");
    }
}

#[test]
fn pushes_go_to_the_registry_itself() {
    let registries = Registries::parse(CONF, Path::new("test.conf")).unwrap();
    let endpoint = registries
        .push_endpoint(&"ubuntu".parse().unwrap())
        .unwrap();
    assert_eq!(endpoint.host, "docker.io");
    assert!(
        registries
            .push_endpoint(&"example.com/foo/deep/x".parse().unwrap())
            .is_err()
    );
}

#[test]
fn broken_files_are_refused() {
    for text in [
        "[[registry]]\n",
        "[[registry]]\nprefix=\"https://x\"\n",
        "[[registry]]\nprefix=\"*x\"\n",
        "[[registry]]\nprefix=\"*.x/y\"\n",
        "[[registry]]\nlocation=\"x\"\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation=\"y\"\npull-from-mirror=\"tag-only\"\n",
        "[registries.search]\nregistries=[\"x\"]\n",
        "nonsense",
        "[[registry]]\nlocation=\"x\"\n[[registry.mirror]]\nlocation=\"y\"\npull-from-mirror=\"never\"\n",
    ] {
        assert!(
            Registries::parse(text, Path::new("test.conf")).is_err(),
            "{text}"
        );
    }
}

#[test]
fn drop_ins_replace_entries_of_the_same_prefix() {
    let directory = tempfile::tempdir().unwrap();
    let d = directory.path();
    std::fs::create_dir(d.join("registries.conf.d")).unwrap();
    std::fs::write(
        d.join("registries.conf"),
        "[[registry]]\nlocation=\"a.example\"\n",
    )
    .unwrap();
    std::fs::write(
        d.join("registries.conf.d/1.conf"),
        "[[registry]]\nprefix=\"a.example\"\nlocation=\"b.example\"\n",
    )
    .unwrap();
    let registries = Registries::read(&RegistriesEnvironment {
        system: Some(d.to_owned()),
        ..RegistriesEnvironment::default()
    })
    .unwrap();
    let endpoints = registries
        .pull_endpoints(&"a.example/x".parse().unwrap())
        .unwrap();
    assert_eq!(endpoints[0].host, "b.example");
    assert!(Registries::read(&RegistriesEnvironment::default()).is_ok());
}
