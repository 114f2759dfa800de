//! Pulling from registries that behave, more or less.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use wythe_layers::image::{ImageSource, fetch};
use wythe_layers::progress::Silent;
use wythe_layers::spec::{Index, MediaType, Platform, Raw};
use wythe_registry::{Client, Credential, Error, Secret};

use crate::images::{Image, chain, client, noise, not_found, options, reference, store_in};
use crate::server::{Answer, Server};

#[test]
fn an_image_comes_in_three_documents_and_its_layers() {
    let image = Image::new(&[b"one", b"two"]);
    let served = image.clone();
    let server = Server::start(move |call| served.answer(call).unwrap_or_else(not_found));
    let reference = reference(&server.host());
    let client = client();
    let resolved = client.resolve(&reference, &Platform::host()).unwrap();
    assert_eq!(resolved.descriptor, image.descriptor);
    assert_eq!(resolved.manifest.bytes(), image.manifest.bytes());
    assert_eq!(
        server.lines().len(),
        2,
        "manifest and config: {:?}",
        server.lines()
    );
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    let descriptor = fetch(&store, &client, &resolved, false, 4, &Silent).unwrap();
    assert_eq!(descriptor.digest, image.descriptor.digest);
    for layer in &image.manifest.layers {
        assert!(store.blobs().has(layer).unwrap());
    }
    assert_eq!(server.lines().len(), 4, "{:?}", server.lines());
}

#[test]
fn an_index_leads_to_the_platform_that_was_asked_for() {
    let arm: Platform = "linux/arm64".parse().unwrap();
    let amd: Platform = "linux/amd64".parse().unwrap();
    let images = [
        Image::for_platform(&[b"a"], &amd),
        Image::for_platform(&[b"b"], &arm),
    ];
    let entries = [&amd, &arm]
        .into_iter()
        .zip(&images)
        .map(|(platform, image)| {
            let mut entry = image.descriptor.clone();
            entry.platform = Some(platform.clone());
            entry
        })
        .collect();
    let index = Raw::encode(Index::new(entries), "index").unwrap();
    let served = index.clone();
    let server = Server::start(move |call| {
        if call.path().ends_with("/manifests/latest") {
            return Answer::new(200)
                .header("Content-Type", MediaType::INDEX.as_str())
                .body(served.bytes());
        }
        let mut answers = images.iter().filter_map(|image| image.answer(call));
        answers.next().unwrap_or_else(not_found)
    });
    let reference = reference(&server.host());
    let resolved = client().resolve(&reference, &arm).unwrap();
    assert_eq!(resolved.config.architecture, "arm64");
    assert_eq!(resolved.index.unwrap().bytes(), index.bytes());
    let wanted = "linux/riscv64".parse().unwrap();
    let error = client().resolve(&reference, &wanted).unwrap_err();
    assert!(
        chain(&error).contains("no image for linux/riscv64; it has linux/amd64, linux/arm64"),
        "{}",
        chain(&error)
    );
}

#[test]
fn a_broken_download_goes_on_where_it_broke() {
    let content = noise(300_000);
    let image = Image::new(&[&content]);
    let layer = image.manifest.layers[0].clone();
    let blob = image.blobs[&layer.digest.to_string()].clone();
    for honours_ranges in [true, false] {
        let (served, blob) = (image.clone(), blob.clone());
        let count = AtomicUsize::new(0);
        let bytes = blob.clone();
        let digest = layer.digest.to_string();
        let server = Server::start(move |call| {
            if !call.path().ends_with(&digest) {
                return served.answer(call).unwrap_or_else(not_found);
            }
            let n = count.fetch_add(1, Ordering::SeqCst);
            let range = call.header("range").filter(|_| honours_ranges);
            let start: usize = range.map_or(0, |range| {
                range
                    .trim_start_matches("bytes=")
                    .trim_end_matches('-')
                    .parse()
                    .unwrap()
            });
            let answer = match range {
                Some(_) => Answer::new(206).header(
                    "Content-Range",
                    format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()),
                ),
                None => Answer::new(200),
            };
            let answer = answer.body(&bytes[start..]);
            if n < 2 {
                answer.cut((n + 1) * 100_000 - start)
            } else {
                answer
            }
        });
        let reference = reference(&server.host());
        let mut read = Vec::new();
        client()
            .open(&reference, &layer)
            .unwrap()
            .read_to_end(&mut read)
            .unwrap();
        assert!(read == blob, "ranges: {honours_ranges}");
        assert_eq!(server.lines().len(), 3);
    }
}

#[test]
fn a_rate_limit_is_waited_out() {
    let image = Image::new(&[b"x"]);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |call| {
        if call.path().contains("/manifests/") && count.fetch_add(1, Ordering::SeqCst) == 0 {
            return Answer::new(429).header("Retry-After", "1");
        }
        image.answer(call).unwrap_or_else(not_found)
    });
    let begun = Instant::now();
    client()
        .resolve(&reference(&server.host()), &Platform::host())
        .unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_server_in_trouble_is_tried_again_and_then_named() {
    let server = Server::start(|call| {
        if call.path() == "/v2/" {
            return Answer::new(200);
        }
        Answer::new(503).body(r#"{"errors":[{"code":"UNHEARD_OF","message":"on fire"}]}"#)
    });
    let error = client()
        .resolve_image(&reference(&server.host()), &Platform::host())
        .unwrap_err();
    assert_eq!(server.lines().len(), 3);
    assert!(error.is_transient());
    let Error::Status {
        status: 503,
        attempts: 3,
        messages,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(messages[0].code, "UNHEARD_OF");
    assert!(error.to_string().contains("on fire"), "{error}");
    assert!(error.to_string().contains("3 attempts"), "{error}");
}

/// A registry that wants tokens, and its token service in the same server.
fn token_registry(image: Image, life: u32) -> (Server, Arc<OnceLock<String>>) {
    let own: Arc<OnceLock<String>> = Arc::default();
    let host = Arc::clone(&own);
    let issued = AtomicUsize::new(0);
    let server = Server::start(move |call| {
        if call.path() == "/token" {
            let n = issued.fetch_add(1, Ordering::SeqCst);
            return Answer::new(200).body(format!(r#"{{"token":"t{n}","expires_in":{life}}}"#));
        }
        let challenge = format!(
            r#"Bearer realm="http://{}/token",service="svc",scope="repository:test/image:pull""#,
            host.get().unwrap()
        );
        match call.header("authorization") {
            // Token 0 is thrown away once, as if it had been revoked.
            Some("Bearer t0") if call.path().contains("/blobs/") => {
                Answer::new(401).header("WWW-Authenticate", challenge)
            }
            Some(token) if token.starts_with("Bearer t") => {
                image.answer(call).unwrap_or_else(not_found)
            }
            _ => Answer::new(401).header("WWW-Authenticate", challenge),
        }
    });
    own.set(server.host()).unwrap();
    (server, own)
}

#[test]
fn tokens_are_got_kept_and_renewed() {
    let (server, _) = token_registry(Image::new(&[b"x"]), 300);
    let client = Client::new(wythe_registry::ClientOptions {
        credential: Some(Credential::Basic {
            username: "me".into(),
            password: Secret::new("pw"),
        }),
        ..options()
    })
    .unwrap();
    let reference = reference(&server.host());
    let resolved = client.resolve(&reference, &Platform::host()).unwrap();
    client
        .open(&reference, &resolved.manifest.layers[0])
        .unwrap();
    let calls = server.calls();
    let tokens: Vec<_> = calls.iter().filter(|c| c.path() == "/token").collect();
    assert_eq!(tokens.len(), 2, "one, and one for the revoked: {calls:#?}");
    for call in &tokens {
        assert_eq!(
            call.target,
            "/token?service=svc&scope=repository%3Atest%2Fimage%3Apull&account=me&client_id=wythe"
        );
        assert_eq!(call.header("authorization"), Some("Basic bWU6cHc="));
    }
    for call in calls.iter().filter(|c| c.path() != "/token") {
        assert!(
            !call
                .header("authorization")
                .unwrap_or_default()
                .contains("Basic"),
            "the password went to the registry: {call:?}"
        );
    }
}

#[test]
fn identity_tokens_are_changed_into_access_tokens() {
    let (server, _) = token_registry(Image::new(&[b"x"]), 300);
    let client = Client::new(wythe_registry::ClientOptions {
        credential: Some(Credential::IdentityToken(Secret::new("refresh&me"))),
        ..options()
    })
    .unwrap();
    client
        .resolve(&reference(&server.host()), &Platform::host())
        .unwrap();
    let calls = server.calls();
    let token = calls.iter().find(|c| c.path() == "/token").unwrap();
    assert_eq!(token.method, "POST");
    assert_eq!(
        String::from_utf8_lossy(&token.body),
        "grant_type=refresh_token&client_id=wythe&refresh_token=refresh%26me&scope=repository%3Atest%2Fimage%3Apull&service=svc"
    );
}

#[test]
fn mirrors_are_asked_first_and_the_registry_last() {
    let image = Image::new(&[b"x"]);
    let dead = Server::start(|_| Answer::new(200).body("not a manifest"));
    let served = image.clone();
    let mirror = Server::start(move |call| served.answer(call).unwrap_or_else(not_found));
    let conf = format!(
        "[[registry]]\nlocation=\"unreachable.invalid\"\n\
         [[registry.mirror]]\nlocation=\"{}/deep\"\n[[registry.mirror]]\nlocation=\"{}/cache\"\n",
        dead.host(),
        mirror.host()
    );
    let client = Client::new(wythe_registry::ClientOptions {
        registries: wythe_registry::Registries::parse(&conf, "x".as_ref()).unwrap(),
        ..options()
    })
    .unwrap();
    let reference = reference("unreachable.invalid");
    let resolved = client.resolve(&reference, &Platform::host()).unwrap();
    client
        .open(&reference, &resolved.manifest.layers[0])
        .unwrap();
    assert_eq!(dead.lines(), ["GET /v2/deep/test/image/manifests/latest"]);
    assert_eq!(mirror.lines().len(), 3, "{:?}", mirror.lines());
    assert!(mirror.lines()[0].starts_with("GET /v2/cache/test/image/"));
}
