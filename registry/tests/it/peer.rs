//! Against Debian's docker-registry, and skopeo as the other side.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wythe_layers::image::{ImageSource, fetch};
use wythe_layers::progress::Silent;
use wythe_layers::spec::{Index, MediaType, Platform, Raw, Reference};
use wythe_registry::{BlobSources, Client, ClientOptions, Credential, Error, Secret};

use crate::images::{Image, chain, options, store_in};
use crate::server::unused_address;

/// `htpasswd -nbB me 's3cret:pass'`
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuuKqhJSfTIYV1SkiVqP0GjQATd/vnrS1a\n";

/// Whether the programs are here; says so, or fails where CI requires them.
pub(crate) fn have(test: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|directory| directory.join(program).is_file());
        !found
    });
    let Some(missing) = missing else { return true };
    let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
    assert!(!required.contains("peer"), "{test} needs {missing}");
    eprintln!("SKIPPED {test}: needs {missing}");
    false
}

/// Debian's registry on a free port; killed when dropped.
struct Distribution {
    child: Child,
    host: String,
    directory: tempfile::TempDir,
}

impl Distribution {
    fn start(htpasswd: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let host = unused_address();
        let root = directory.path().display();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {root}/data\n  delete:\n    enabled: true\nhttp:\n  addr: {host}\n"
        );
        if let Some(users) = htpasswd {
            std::fs::write(directory.path().join("htpasswd"), users).unwrap();
            config.push_str(&format!(
                "auth:\n  htpasswd:\n    realm: test\n    path: {root}/htpasswd\n"
            ));
        }
        let file = directory.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect(&host).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "it does not start"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self {
            child,
            host,
            directory,
        }
    }

    fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host).parse().unwrap()
    }
}

impl Drop for Distribution {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo")
        .args(["--insecure-policy"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Pulls everything into a fresh store below `directory`.
fn pull(client: &Client, reference: &Reference, directory: &Path) -> String {
    let store = store_in(directory);
    let resolved = client
        .resolve(reference, &Platform::host())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let descriptor = fetch(&store, client, &resolved, false, 3, &Silent)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    for layer in &resolved.manifest.layers {
        assert!(store.blobs().has(layer).unwrap());
    }
    descriptor.digest.to_string()
}

#[test]
fn peer_images_go_to_a_registry_and_come_back() {
    if !have(
        "peer_images_go_to_a_registry_and_come_back",
        &["docker-registry", "skopeo"],
    ) {
        return;
    }
    let registry = Distribution::start(None);
    let image = Image::new(&[b"one", &vec![7; 3 << 20], b"three"]);
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    image.put_into(&store);
    let client = Client::new(ClientOptions {
        sources: Some(BlobSources::of(&store)),
        ..options()
    })
    .unwrap();
    let reference = registry.reference("deep/er/name:v1");
    let push = |reference: &Reference| {
        client
            .push(&store, &image.descriptor, reference, 2, &Silent)
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    };
    assert_eq!(push(&reference).uploaded, 4);
    assert!(push(&reference).unchanged);
    let other = push(&registry.reference("other:v2"));
    assert_eq!((other.mounted, other.uploaded), (4, 0));
    let retag = push(&registry.reference("other:v3"));
    assert_eq!((retag.present, retag.uploaded), (4, 0));
    let mut tags = client.list_tags(&registry.reference("other")).unwrap();
    tags.sort();
    assert_eq!(tags, ["v2", "v3"]);

    let empty = tempfile::tempdir().unwrap();
    let digest = pull(&client, &reference, empty.path());
    assert_eq!(digest, image.descriptor.digest.to_string());

    let inspected = skopeo(&[
        "inspect",
        "--tls-verify=false",
        &format!("docker://{reference}"),
    ]);
    assert!(inspected.contains(&digest), "{inspected}");

    assert_eq!(
        client.delete(&registry.reference("other:v2")).unwrap(),
        image.descriptor.digest
    );
    let error = client
        .resolve_image(&registry.reference("other:v2"), &Platform::host())
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert!(registry.directory.path().join("data").is_dir());
}

#[test]
fn peer_what_skopeo_pushes_can_be_pulled() {
    if !have(
        "peer_what_skopeo_pushes_can_be_pulled",
        &["docker-registry", "skopeo"],
    ) {
        return;
    }
    let registry = Distribution::start(None);
    let image = Image::new(&[b"one", b"two"]);
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    image.put_into(&store);
    let name: Reference = "example.com/image:1".parse().unwrap();
    store.set_tag(&name, &image.descriptor).unwrap();
    let source = format!("oci:{}:{name}", store.root().display());
    let client = Client::new(options()).unwrap();
    for (tag, arguments) in [
        ("oci", vec!["--format=oci"]),
        ("v2s2", vec!["--format=v2s2"]),
        (
            "zstd",
            vec![
                "--format=oci",
                "--dest-compress-format=zstd",
                "--dest-compress",
            ],
        ),
    ] {
        let reference = registry.reference(&format!("skopeo:{tag}"));
        let target = format!("docker://{reference}");
        let mut all = vec!["copy", "--dest-tls-verify=false"];
        all.extend(arguments);
        all.extend([source.as_str(), target.as_str()]);
        skopeo(&all);
        let empty = tempfile::tempdir().unwrap();
        pull(&client, &reference, empty.path());
    }
}

#[test]
fn peer_a_whole_index_is_pushed() {
    if !have("peer_a_whole_index_is_pushed", &["docker-registry"]) {
        return;
    }
    let registry = Distribution::start(None);
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    let mut entries = Vec::new();
    for (platform, content) in [("linux/amd64", b"a"), ("linux/arm64", b"b")] {
        let platform: Platform = platform.parse().unwrap();
        let image = Image::for_platform(&[content, b"shared"], &platform);
        image.put_into(&store);
        let mut entry = image.descriptor.clone();
        entry.platform = Some(platform);
        entries.push(entry);
    }
    let index = Raw::encode(Index::new(entries), "index").unwrap();
    store.blobs().put(index.bytes()).unwrap();
    let client = Client::new(options()).unwrap();
    let reference = registry.reference("multi:1");
    client
        .push(
            &store,
            &index.descriptor(MediaType::INDEX),
            &reference,
            2,
            &Silent,
        )
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    for platform in ["linux/amd64", "linux/arm64"] {
        let resolved = client
            .resolve(&reference, &platform.parse().unwrap())
            .unwrap();
        assert_eq!(resolved.config.platform().to_string(), platform);
        assert_eq!(resolved.index.unwrap().digest(), index.digest());
    }
}

#[test]
fn peer_passwords_are_asked_for_and_checked() {
    if !have(
        "peer_passwords_are_asked_for_and_checked",
        &["docker-registry"],
    ) {
        return;
    }
    let registry = Distribution::start(Some(HTPASSWD));
    let image = Image::new(&[b"x"]);
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    image.put_into(&store);
    let reference = registry.reference("private:1");
    let with = |password: Option<&str>| {
        Client::new(ClientOptions {
            credential: password.map(|password| Credential::Basic {
                username: "me".into(),
                password: Secret::new(password),
            }),
            ..options()
        })
        .unwrap()
    };
    for (password, shown) in [(None, false), (Some("wrong"), true)] {
        let client = with(password);
        for error in [
            client
                .push(&store, &image.descriptor, &reference, 1, &Silent)
                .unwrap_err(),
            client.check_login(&registry.host).unwrap_err(),
        ] {
            assert!(
                matches!(error, Error::Unauthorized { presented, .. } if presented == shown),
                "{error:?}"
            );
        }
    }
    let client = with(Some("s3cret:pass"));
    client.check_login(&registry.host).unwrap();
    client
        .push(&store, &image.descriptor, &reference, 1, &Silent)
        .unwrap();
    let empty = tempfile::tempdir().unwrap();
    pull(&client, &reference, empty.path());
}
