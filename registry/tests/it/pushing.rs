//! Pushing to registries that behave, more or less.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use wythe_layers::progress::Silent;
use wythe_layers::spec::Digest;
use wythe_layers::store::Store;
use wythe_registry::{BlobSources, Client, ClientOptions, Error, PushReport};

use crate::images::{Image, chain, client, noise, not_found, options, reference, store_in};
use crate::server::{Answer, Call, Server};

/// What a registry has taken.
#[derive(Default)]
struct Taken {
    blobs: Vec<String>,
    session: Vec<u8>,
    tags: Vec<String>,
}

/// An honest registry's answers to a push.
fn accept(taken: &Mutex<Taken>, call: &Call) -> Answer {
    let mut taken = taken.lock().unwrap();
    let last = call
        .path()
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .to_owned();
    match call.method.as_str() {
        _ if call.path() == "/v2/" => Answer::new(200),
        "HEAD" if taken.blobs.contains(&last) || taken.tags.contains(&last) => Answer::new(200),
        "HEAD" => not_found(),
        "POST" => {
            taken.session.clear();
            Answer::new(202).header("Location", "/v2/test/image/blobs/uploads/s?state=1")
        }
        "GET" if last == "s" => Answer::new(204)
            .header("Location", "/v2/test/image/blobs/uploads/s?state=2")
            .header(
                "Range",
                format!("0-{}", taken.session.len().saturating_sub(1)),
            ),
        "PATCH" => {
            taken.session.extend_from_slice(&call.body);
            Answer::new(202)
                .header("Location", "/v2/test/image/blobs/uploads/s?state=3")
                .header("Range", format!("0-{}", taken.session.len() - 1))
        }
        "PUT" if call.path().contains("/blobs/") => {
            taken.session.extend_from_slice(&call.body);
            let digest = Digest::of(&taken.session);
            let wanted = format!("digest={digest}").replace(':', "%3A");
            if !call.target.ends_with(&wanted) {
                return Answer::new(400)
                    .body(r#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#);
            }
            taken.session.clear();
            taken.blobs.push(digest.to_string());
            Answer::new(201)
        }
        "PUT" => {
            taken.tags.push(last);
            Answer::new(201)
        }
        _ => not_found(),
    }
}

/// A store with an image, and a registry to push it to.
struct Scene {
    image: Image,
    store: Store,
    taken: Arc<Mutex<Taken>>,
    server: Server,
    _directory: tempfile::TempDir,
}

impl Scene {
    /// The registry answers by `answer`.
    fn new(
        layers: &[&[u8]],
        answer: impl Fn(&Mutex<Taken>, &Call) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let image = Image::new(layers);
        let directory = tempfile::tempdir().unwrap();
        let store = store_in(directory.path());
        image.put_into(&store);
        let taken = Arc::new(Mutex::new(Taken::default()));
        let state = Arc::clone(&taken);
        Self {
            image,
            store,
            taken,
            server: Server::start(move |call| answer(&state, call)),
            _directory: directory,
        }
    }

    fn push_by(&self, client: &Client, jobs: usize) -> wythe_registry::Result<PushReport> {
        let reference = reference(&self.server.host());
        client.push(
            &self.store,
            &self.image.descriptor,
            &reference,
            jobs,
            &Silent,
        )
    }

    fn tags(&self) -> Vec<String> {
        self.taken.lock().unwrap().tags.clone()
    }
}

#[test]
fn a_registry_that_renames_blobs_is_not_believed() {
    let digest = Digest::of(b"other").to_string();
    let scene = Scene::new(&[b"one"], move |taken, call| {
        accept(taken, call).header("Docker-Content-Digest", digest.clone())
    });
    let error = scene.push_by(&client(), 1).unwrap_err();
    assert!(matches!(error, Error::BadAnswer { .. }), "{error}");
    assert!(scene.tags().is_empty());
}

#[test]
fn layers_then_config_then_manifest() {
    let layers: [&[u8]; 2] = [b"one", b"two"];
    let digest = Image::new(&layers).descriptor.digest.to_string();
    let scene = Scene::new(&layers, move |taken, call| {
        let answer = accept(taken, call);
        if call.path().contains("/manifests/") && call.method == "HEAD" {
            return answer.header("Docker-Content-Digest", digest.clone());
        }
        answer
    });
    let client = client();
    let report = scene.push_by(&client, 3).unwrap();
    assert_eq!((report.uploaded, report.unchanged), (3, false));
    let lines = scene.server.lines();
    let puts: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("PUT"))
        .collect();
    assert_eq!(puts.len(), 4);
    let config = scene.image.manifest.config.digest.hex();
    assert!(puts[2].contains(config), "{puts:?}");
    assert_eq!(puts[3], "PUT /v2/test/image/manifests/latest");
    let report = scene.push_by(&client, 3).unwrap();
    assert!(report.unchanged);
    assert_eq!(scene.server.lines().len(), lines.len() + 1);
}

#[test]
fn a_broken_upload_goes_on_in_chunks() {
    let big = noise(400_000);
    let image = Image::new(&[&big]);
    let size = image.manifest.layers[0].size as usize;
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    image.put_into(&store);
    let taken = Arc::new(Mutex::new(Taken::default()));
    let (state, broken) = (Arc::clone(&taken), Arc::clone(&taken));
    let count = AtomicUsize::new(0);
    let first_part = store.blobs().path(&image.manifest.layers[0].digest);
    let server = Server::start_breaking(
        move |call| accept(&state, call),
        move |call| {
            let layer = call.method == "PUT" && call.header("content-length")? == size.to_string();
            (layer && count.fetch_add(1, Ordering::SeqCst) == 0).then(|| {
                // It keeps half of what came.
                let bytes = std::fs::read(&first_part).unwrap();
                broken.lock().unwrap().session = bytes[..size / 2].to_vec();
                size / 2
            })
        },
    );
    let reference = reference(&server.host());
    client()
        .push(&store, &image.descriptor, &reference, 1, &Silent)
        .unwrap();
    let calls = server.calls();
    let patch = calls.iter().find(|call| call.method == "PATCH").unwrap();
    assert_eq!(patch.body.len(), size - size / 2, "only the rest was sent");
    assert_eq!(
        patch.header("content-range"),
        Some(format!("{}-{}", size / 2, size - 1).as_str())
    );
    assert_eq!(taken.lock().unwrap().tags, ["latest"]);
}

#[test]
fn a_request_too_large_becomes_chunks() {
    let scene = Scene::new(&[b"content"], |taken, call| {
        if call.method == "PUT" && call.path().contains("/blobs/") && !call.body.is_empty() {
            return Answer::new(413);
        }
        accept(taken, call)
    });
    scene.push_by(&client(), 1).unwrap();
    assert_eq!(scene.tags(), ["latest"]);
}

#[test]
fn a_blob_is_mounted_where_it_is_known_to_be() {
    for mounts in [true, false] {
        let scene = Scene::new(&[b"content"], move |taken, call| {
            if call.target.contains("mount=") && mounts {
                return Answer::new(201);
            }
            accept(taken, call)
        });
        let client = Client::new(ClientOptions {
            sources: Some(BlobSources::of(&scene.store)),
            ..options()
        })
        .unwrap();
        let other = format!("{}/other/name:1", scene.server.host());
        client
            .push(
                &scene.store,
                &scene.image.descriptor,
                &other.parse().unwrap(),
                1,
                &Silent,
            )
            .unwrap();
        *scene.taken.lock().unwrap() = Taken::default();
        let report = scene.push_by(&client, 1).unwrap();
        let expected = if mounts { (2, 0) } else { (0, 2) };
        assert_eq!((report.mounted, report.uploaded), expected);
        let posts: Vec<_> = scene
            .server
            .lines()
            .into_iter()
            .filter(|line| line.starts_with("POST /v2/test/image/"))
            .collect();
        assert_eq!(posts.len(), 2, "a 202 goes on in the same session");
        assert!(posts[0].ends_with("&from=other%2Fname"), "{posts:?}");
    }
}

#[test]
fn a_failed_look_is_not_a_missing_blob() {
    let scene = Scene::new(&[b"content"], |taken, call| {
        if call.method == "HEAD" && call.path().contains("/blobs/") {
            return Answer::new(500);
        }
        accept(taken, call)
    });
    let error = scene.push_by(&client(), 2).unwrap_err();
    assert!(error.to_string().contains("500"), "{error}");
    let lines = scene.server.lines();
    assert!(lines.iter().all(|line| !line.starts_with("POST")));
    assert!(scene.tags().is_empty());
}

#[test]
fn upload_locations_elsewhere_get_no_credentials() {
    let bucket = Server::start(|_| Answer::new(401).header("WWW-Authenticate", "Basic realm=x"));
    let elsewhere = bucket.host();
    let scene = Scene::new(&[b"content"], move |_, call| {
        if call.header("authorization").is_none() {
            return Answer::new(401).header("WWW-Authenticate", "Basic realm=x");
        }
        match call.method.as_str() {
            "POST" => Answer::new(202).header("Location", format!("http://{elsewhere}/up")),
            _ => not_found(),
        }
    });
    let client = Client::new(ClientOptions {
        credential: Some(wythe_registry::Credential::Basic {
            username: "me".into(),
            password: wythe_registry::Secret::new("pw"),
        }),
        ..options()
    })
    .unwrap();
    let error = scene.push_by(&client, 1).unwrap_err();
    assert!(
        matches!(error, Error::Unauthorized { .. }),
        "{}",
        chain(&error)
    );
    assert!(!bucket.calls().is_empty());
    for call in bucket.calls() {
        assert_eq!(call.header("authorization"), None, "{call:?}");
    }
}
