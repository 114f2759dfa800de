//! Registries that lie, stall, flood and fish for credentials.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use wythe_layers::image::{ImageSource, fetch};
use wythe_layers::progress::Silent;
use wythe_layers::spec::{Digest, MediaType, Platform};
use wythe_registry::{Client, ClientOptions, Credential, Error, NetworkFailure, Secret, Timeouts};

use crate::images::{Image, chain, client, not_found, options, reference, store_in};
use crate::server::{Answer, Call, Server, unused_address};

fn resolve_error(server: &Server) -> Error {
    client()
        .resolve_image(&reference(&server.host()), &Platform::host())
        .unwrap_err()
}

/// Looks like a registry and answers manifests so.
fn manifests(answer: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |call| {
        if call.path() == "/v2/" {
            Answer::new(200)
        } else {
            answer(call)
        }
    })
}

fn with_password() -> Client {
    Client::new(ClientOptions {
        credential: Some(Credential::Basic {
            username: "me".into(),
            password: Secret::new("pw"),
        }),
        ..options()
    })
    .unwrap()
}

#[test]
fn a_manifest_of_another_digest_is_refused() {
    let image = Image::new(&[b"x"]);
    let served = image.clone();
    let server = manifests(move |call| served.answer(call).unwrap_or_else(not_found));
    let other = Digest::of(b"other");
    let by_digest = reference(&server.host()).with_digest(other.clone());
    assert!(
        client()
            .resolve_image(&by_digest, &Platform::host())
            .unwrap_err()
            .is_not_found()
    );
    // Served under the asked digest all the same.
    let served = image.clone();
    let server = manifests(move |_| Answer::new(200).body(served.manifest.bytes()));
    let by_digest = reference(&server.host()).with_digest(other.clone());
    let error = client()
        .resolve_image(&by_digest, &Platform::host())
        .unwrap_err();
    assert!(
        matches!(&error, Error::DigestMismatch { expected, .. } if *expected == other),
        "{error}"
    );
    // A registry that contradicts itself.
    let server = manifests(move |_| {
        Answer::new(200)
            .header("Docker-Content-Digest", Digest::of(b"z").to_string())
            .body(image.manifest.bytes())
    });
    assert!(matches!(
        resolve_error(&server),
        Error::DigestMismatch { .. }
    ));
}

#[test]
fn huge_documents_are_not_read() {
    let claimed = manifests(|_| {
        Answer::new(200)
            .body(vec![b' '; 1000])
            .length(Some(100 << 20))
    });
    assert!(matches!(resolve_error(&claimed), Error::TooLarge { .. }));
    let endless = manifests(|_| Answer::new(200).body(vec![b' '; 1 << 20]).endless());
    assert!(matches!(resolve_error(&endless), Error::TooLarge { .. }));
    let error = manifests(|_| Answer::new(400).body(vec![b'x'; 1 << 20]).endless());
    assert!(matches!(
        resolve_error(&error),
        Error::Status { status: 400, .. }
    ));
}

#[test]
fn what_is_not_a_manifest_is_said_so() {
    for (body, said) in [
        ("<html>captive portal</html>", "invalid manifest"),
        ("{\"schemaVersion\":1,\"fsLayers\":[]}", "schema 1"),
        ("{\"schemaVersion\":2}", "contradicts"),
        ("", "invalid manifest"),
        ("[[[[[[[[[[", "invalid manifest"),
    ] {
        let server = manifests(move |_| Answer::new(200).body(body));
        let error = chain(&resolve_error(&server));
        assert!(error.contains(said), "{body}: {error}");
    }
    let deep = "[".repeat(3 << 20);
    let server = manifests(move |_| Answer::new(200).body(deep.clone()));
    assert!(chain(&resolve_error(&server)).contains("invalid manifest"));
}

#[test]
fn an_index_of_itself_ends() {
    // It cannot name its own digest, so every document here is an index that names a next one.
    let server = manifests(|call| {
        let n = call.path().len();
        let next = Digest::of(format!("{n}{}", call.path()).as_bytes());
        let body = format!(
            r#"{{"schemaVersion":2,"mediaType":"{0}","manifests":[{{"mediaType":"{0}","digest":"{next}","size":10}}]}}"#,
            MediaType::INDEX
        );
        Answer::new(200)
            .header("Content-Type", MediaType::INDEX.as_str())
            .body(body)
    });
    assert!(matches!(
        resolve_error(&server),
        Error::DigestMismatch { .. }
    ));
}

#[test]
fn a_blob_that_lies_leaves_nothing_behind() {
    let image = Image::new(&[b"some content that is long enough to lie about"]);
    let layer = image.manifest.layers[0].clone();
    let blob = image.blobs[&layer.digest.to_string()].clone();
    let mut flipped = blob.clone();
    flipped[10] ^= 1;
    let long: Vec<u8> = blob.iter().copied().chain(*b"more").collect();
    let short = blob[..blob.len() - 5].to_vec();
    let lies: Vec<(&str, Answer)> = vec![
        ("flipped", Answer::new(200).body(flipped)),
        ("long", Answer::new(200).body(long.clone())),
        (
            "long, chunk by chunk",
            Answer::new(200).body(long).length(None),
        ),
        ("short", Answer::new(200).body(short.clone())),
        (
            "short, no length",
            Answer::new(200).body(short).length(None),
        ),
        ("endless", Answer::new(200).body(blob.clone()).endless()),
        ("cut off", Answer::new(200).body(blob.clone()).cut(7)),
    ];
    for (lie, answer) in lies {
        let (served, digest) = (image.clone(), layer.digest.to_string());
        let server = manifests(move |call| {
            if call.path().ends_with(&digest) {
                return answer.clone();
            }
            served.answer(call).unwrap_or_else(not_found)
        });
        let directory = tempfile::tempdir().unwrap();
        let store = store_in(directory.path());
        let client = client();
        let resolved = client
            .resolve(&reference(&server.host()), &Platform::host())
            .unwrap();
        let error = fetch(&store, &client, &resolved, false, 1, &Silent).unwrap_err();
        assert!(!store.blobs().has(&layer).unwrap(), "{lie}: {error}");
        assert!(
            store.blobs().list().unwrap().is_empty(),
            "{lie}: blobs without a manifest"
        );
    }
}

#[test]
fn a_silent_registry_is_given_up() {
    let soon = Duration::from_millis(500);
    let client = Client::new(ClientOptions {
        timeouts: Timeouts {
            connect: soon,
            answer: soon,
            idle: soon,
            commit: soon,
            document: soon,
        },
        ..options()
    })
    .unwrap();
    let resolve_error = |host: &str| {
        client
            .resolve_image(&reference(host), &Platform::host())
            .unwrap_err()
    };
    // A thread of its own sleeps there, which nobody waits for.
    let slow = manifests(|_| Answer::new(200).delay(Duration::from_secs(3600)));
    let error = resolve_error(&slow.host());
    assert!(
        matches!(
            error,
            Error::Network {
                kind: NetworkFailure::Timeout,
                attempts: 3,
                ..
            }
        ),
        "{error:?}"
    );
    // Accepts and says nothing at all, not even to the first look.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let error = resolve_error(&listener.local_addr().unwrap().to_string());
    assert!(error.is_transient(), "{error:?}");
}

#[test]
fn nobody_there_is_said_so() {
    let error = client()
        .resolve_image(&reference(&unused_address()), &Platform::host())
        .unwrap_err();
    assert!(
        error.to_string().starts_with("connection refused"),
        "{error}"
    );
}

#[test]
fn redirects_elsewhere_get_no_credentials() {
    let image = Image::new(&[b"x"]);
    let layer = image.manifest.layers[0].clone();
    let served = image.clone();
    let bucket = Server::start(move |call| {
        if call.target.contains("fish") {
            return Answer::new(401).header("WWW-Authenticate", "Basic realm=fish");
        }
        served.answer(call).unwrap_or_else(not_found)
    });
    for fish in ["", "?fish"] {
        let (served, digest) = (image.clone(), layer.digest.to_string());
        let elsewhere = bucket.host();
        let server = Server::start(move |call| {
            if call.header("authorization").is_none() {
                return Answer::new(401).header("WWW-Authenticate", "Basic realm=x");
            }
            if call.path().ends_with(&digest) {
                let to = format!("http://user:pw@{elsewhere}/x/{digest}{fish}");
                return Answer::new(307).header("Location", to);
            }
            served.answer(call).unwrap_or_else(not_found)
        });
        let reference = reference(&server.host());
        let client = with_password();
        client.resolve(&reference, &Platform::host()).unwrap();
        let opened = client.open_blob(&reference, &layer).map(|mut reader| {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).unwrap();
            bytes
        });
        match (fish, opened) {
            ("", Ok(bytes)) => assert_eq!(bytes.len() as u64, layer.size),
            ("?fish", Err(Error::Unauthorized { .. })) => {}
            (_, other) => panic!("{fish:?}: {other:?}"),
        }
    }
    assert_eq!(bucket.calls().len(), 2);
    for call in bucket.calls() {
        assert_eq!(call.header("authorization"), None, "{call:?}");
    }
}

#[test]
fn redirects_that_go_round_end() {
    let server = manifests(|call| Answer::new(302).header("Location", call.target.clone()));
    let error = resolve_error(&server);
    assert!(error.to_string().contains("redirects"), "{error}");
    let server = manifests(|_| Answer::new(302));
    assert!(matches!(resolve_error(&server), Error::BadAnswer { .. }));
    for target in [
        "http://example.invalid/v2/x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
    ] {
        let server = manifests(move |_| Answer::new(302).header("Location", target));
        let error = resolve_error(&server);
        assert!(
            matches!(error, Error::Insecure { .. } | Error::BadAnswer { .. }),
            "{target}: {error:?}"
        );
    }
}

#[test]
fn a_failing_token_service_is_the_error_that_is_shown() {
    for (status, body, said) in [
        (500, "", "500"),
        (403, r#"{"details":"account locked"}"#, "account locked"),
        (200, "{}", "no token"),
        (200, "nonsense", "not a token answer"),
        (200, r#"{"token":"a\nb"}"#, "characters"),
        (302, "", "302"),
    ] {
        let own: Arc<OnceLock<String>> = Arc::default();
        let host = Arc::clone(&own);
        let server = Server::start(move |call| {
            if call.path() == "/token" {
                return Answer::new(status).body(body);
            }
            let realm = format!("Bearer realm=\"http://{}/token\"", host.get().unwrap());
            Answer::new(401).header("WWW-Authenticate", realm)
        });
        own.set(server.host()).unwrap();
        let error = resolve_error(&server);
        let text = chain(&error);
        assert!(text.contains(said), "{status}: {text}");
        assert!(
            server
                .lines()
                .iter()
                .filter(|line| line.contains("/manifests/"))
                .count()
                <= 1,
            "the request does not go out without its token"
        );
    }
}

#[test]
fn credentials_never_leave_in_the_clear() {
    for realm in [
        "http://token.example.invalid/token",
        "ftp://127.0.0.1/token",
        "http://10.1.2.3/token",
    ] {
        let server = Server::start(move |_| {
            Answer::new(401).header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""))
        });
        let error = with_password()
            .resolve_image(&reference(&server.host()), &Platform::host())
            .unwrap_err();
        assert!(
            matches!(error, Error::Insecure { .. }),
            "{realm}: {error:?}"
        );
    }
}

#[test]
fn an_artifact_is_not_an_image() {
    let mut image = Image::new(&[b"x"]);
    let text = String::from_utf8(image.manifest.bytes().to_vec()).unwrap();
    let text = text.replace(
        MediaType::CONFIG.as_str(),
        "application/vnd.example.thing.v1+json",
    );
    image.manifest = wythe_layers::spec::Raw::parse(text.into_bytes(), "manifest").unwrap();
    let server = manifests(move |_| Answer::new(200).body(image.manifest.bytes()));
    let error = resolve_error(&server);
    assert!(error.to_string().contains("vnd.example.thing"), "{error}");
}

#[test]
fn a_config_that_contradicts_its_manifest_is_refused() {
    let image = Image::new(&[b"x", b"y"]);
    let text = String::from_utf8(image.manifest.bytes().to_vec()).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["layers"].as_array_mut().unwrap().pop();
    let manifest = value.to_string();
    let server = manifests(move |call| {
        if call.path().contains("/manifests/") {
            return Answer::new(200).body(manifest.clone());
        }
        image.answer(call).unwrap_or_else(not_found)
    });
    let error = resolve_error(&server);
    assert!(
        error.to_string().contains("2 layers, the manifest 1"),
        "{error}"
    );
}

#[test]
fn wrong_credentials_are_told_from_none() {
    let server =
        Server::start(|_| Answer::new(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let error = resolve_error(&server);
    assert!(
        matches!(
            error,
            Error::Unauthorized {
                presented: false,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        error.hint().unwrap(),
        format!("wythe login {}", server.host())
    );
    let error = with_password().check_login(&server.host()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unauthorized {
                presented: true,
                ..
            }
        ),
        "{error:?}"
    );
}
