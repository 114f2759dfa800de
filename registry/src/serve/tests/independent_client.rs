//! The `oci-distribution` crate against the server: a client that is not ours.

use std::sync::Once;

use oci_distribution::client::{ClientConfig, ClientProtocol, Config, ImageLayer};
use oci_distribution::manifest::{IMAGE_LAYER_GZIP_MEDIA_TYPE, OciDescriptor, OciManifest};
use oci_distribution::secrets::RegistryAuth;
use oci_distribution::{Client, Reference as ClientReference};

use super::*;

fn client(use_monolithic_push: bool) -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Needed even for plain HTTP; another test may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::try_from(ClientConfig {
        protocol: ClientProtocol::Http,
        use_monolithic_push,
        ..ClientConfig::default()
    })
    .unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn at(server: &TestServer, name: &str) -> ClientReference {
    format!("{}/{name}", server.address).parse().unwrap()
}

fn config() -> Config {
    let (config, _) = image_of(&[]);
    Config::oci_v1(config.bytes().to_vec(), None)
}

#[test]
fn pushes_and_pulls_in_chunks_and_at_once() {
    let server = TestServer::start();
    for use_monolithic_push in [false, true] {
        let client = client(use_monolithic_push);
        let name = at(
            &server,
            &format!("a/b/c:v{}", u8::from(use_monolithic_push)),
        );
        // More than one of the client's chunks of 4 MiB.
        let layers = [
            ImageLayer::oci_v1_gzip(vec![1; 9 << 20], None),
            ImageLayer::oci_v1_gzip(b"small".to_vec(), None),
        ];
        run(async {
            let auth = RegistryAuth::Anonymous;
            client
                .push(&name, &layers, config(), &auth, None)
                .await
                .unwrap();
            let accepted = vec![IMAGE_LAYER_GZIP_MEDIA_TYPE];
            let pulled = client.pull(&name, &auth, accepted).await.unwrap();
            let mut sizes: Vec<_> = pulled.layers.iter().map(|layer| layer.data.len()).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [5, 9 << 20]);
            let digest = client.fetch_manifest_digest(&name, &auth).await.unwrap();
            assert_eq!(Some(digest), pulled.digest);
        });
    }
    let tags = server.store.tags().unwrap();
    let names: Vec<_> = tags.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["localhost/a/b/c:v0", "localhost/a/b/c:v1"]);
    assert!(server.store.verify(2).unwrap().is_empty());
    assert_eq!(server.leftovers(), 0);
}

#[test]
fn pulls_what_was_built_here() {
    let server = TestServer::start();
    let target = store_image(&server.store, "app", b"content of the layer");
    run(async {
        let auth = RegistryAuth::Anonymous;
        for name in ["library/app:latest", "docker.io/library/app:latest"] {
            let accepted = vec![IMAGE_LAYER_GZIP_MEDIA_TYPE];
            let pulled = client(false)
                .pull(&at(&server, name), &auth, accepted)
                .await
                .unwrap();
            assert_eq!(pulled.digest, Some(target.digest.to_string()));
            assert_eq!(&pulled.layers[0].data[..], b"content of the layer");
        }
    });
}

#[test]
fn mounts_lists_and_reads_parts() {
    let server = TestServer::start();
    let blob = server.upload("source", b"0123456789");
    store_image(&server.store, "localhost/target:v1", b"1");
    store_image(&server.store, "localhost/target:v2", b"2");
    run(async {
        let client = client(false);
        let auth = RegistryAuth::Anonymous;
        let target = at(&server, "target:v1");
        let digest = blob.digest.to_string();
        client
            .mount_blob(&target, &at(&server, "source:x"), &digest)
            .await
            .unwrap();
        assert!(client.blob_exists(&target, &digest).await.unwrap());
        let absent = Digest::of(b"absent").to_string();
        assert!(!client.blob_exists(&target, &absent).await.unwrap());
        let all = client.list_tags(&target, &auth, None, None).await.unwrap();
        assert_eq!(all.tags, ["v1", "v2"]);
        let page = client
            .list_tags(&target, &auth, Some(1), Some("v1"))
            .await
            .unwrap();
        assert_eq!(page.tags, ["v2"]);
        let repositories = client.catalog(&target, &auth, None, None).await.unwrap();
        assert_eq!(repositories.repositories, ["target"]);
        let mut whole = Vec::new();
        let descriptor = OciDescriptor {
            digest: digest.clone(),
            size: 10,
            ..OciDescriptor::default()
        };
        client
            .pull_blob(&target, &descriptor, &mut whole)
            .await
            .unwrap();
        assert_eq!(whole, b"0123456789");
        let error = client
            .pull_manifest(&at(&server, "target:absent"), &auth)
            .await;
        assert!(error.is_err());
    });
}

#[test]
fn refers_to_an_image() {
    let server = TestServer::start();
    let subject = store_image(&server.store, "localhost/app:v1", b"layer");
    run(async {
        let client = client(false);
        let name = at(&server, "app:v1");
        let layer = ImageLayer::new(b"sbom".to_vec(), "text/spdx".to_owned(), None);
        let mut manifest = oci_distribution::manifest::OciImageManifest::build(
            std::slice::from_ref(&layer),
            &config(),
            None,
        );
        manifest.artifact_type = Some("text/spdx".to_owned());
        manifest.subject = Some(OciDescriptor {
            media_type: subject.media_type.to_string(),
            digest: subject.digest.to_string(),
            size: i64::try_from(subject.size).unwrap(),
            ..OciDescriptor::default()
        });
        let sbom = at(&server, "app:sbom");
        let auth = RegistryAuth::Anonymous;
        client
            .push(&sbom, &[layer], config(), &auth, Some(manifest))
            .await
            .unwrap();
        let by_digest = name.clone_with_digest(subject.digest.to_string());
        let found = client
            .pull_referrers(&by_digest, Some("text/spdx"))
            .await
            .unwrap();
        assert_eq!(found.manifests.len(), 1);
        assert_eq!(
            found.manifests[0].artifact_type.as_deref(),
            Some("text/spdx")
        );
        let (pulled, _) = client.pull_manifest(&sbom, &auth).await.unwrap();
        assert!(matches!(pulled, OciManifest::Image(image) if image.subject.is_some()));
    });
}
