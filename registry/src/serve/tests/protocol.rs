//! End-point by end-point, by hand.

use super::*;

#[test]
fn the_base_says_what_it_is() {
    let server = TestServer::start();
    for path in ["/v2/", "/v2"] {
        let answer = server.request("GET", path);
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("docker-distribution-api-version"),
            "registry/2.0"
        );
        assert_eq!(answer.body, b"{}");
    }
    let answer = server.request("POST", "/v2/");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (405, "UNSUPPORTED")
    );
    assert_eq!(answer.header("allow"), "GET, HEAD");
    assert_eq!(server.request("GET", "/").status, 404);
}

#[test]
fn blobs_are_served_whole_and_in_parts() {
    let server = TestServer::start();
    let content: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let blob = server.upload("a/b", &content);
    let path = format!("/v2/a/b/blobs/{}", blob.digest);
    let answer = server.request("GET", &path);
    assert_eq!((answer.status, &answer.body), (200, &content));
    assert_eq!(answer.header("content-length"), "700000");
    assert_eq!(
        answer.header("docker-content-digest"),
        blob.digest.to_string()
    );
    let head = server.request("HEAD", &path);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), "700000");
    let part = server.send("GET", &path, &[("Range", "bytes=300000-699999")], b"");
    assert_eq!((part.status, &part.body[..]), (206, &content[300_000..]));
    assert_eq!(part.header("content-range"), "bytes 300000-699999/700000");
    let outside = server.send("GET", &path, &[("Range", "bytes=700000-")], b"");
    assert_eq!(
        (outside.status, outside.code().as_str()),
        (416, "RANGE_INVALID")
    );
    assert_eq!(outside.header("content-range"), "bytes */700000");
    let absent = server.request("GET", &format!("/v2/a/b/blobs/{}", Digest::of(b"absent")));
    assert_eq!(
        (absent.status, absent.code().as_str()),
        (404, "BLOB_UNKNOWN")
    );
    let empty = server.upload("a/b", b"");
    let answer = server.request("GET", &format!("/v2/a/b/blobs/{}", empty.digest));
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}

#[test]
fn a_damaged_blob_never_arrives_whole() {
    let server = TestServer::start();
    let content = vec![5; 600_000];
    let blob = server.upload("a", &content);
    let mut damaged = content;
    damaged[10] = 6;
    std::fs::write(server.store.blobs().path(&blob.digest), damaged).unwrap();
    let answer = server.request("GET", &format!("/v2/a/blobs/{}", blob.digest));
    assert!(answer.body.len() < 600_000, "cut off before its end");
}

#[test]
fn chunks_must_follow_each_other() {
    let server = TestServer::start();
    let path = server.begin("a");
    let chunk =
        |range: &str, body: &[u8]| server.send("PATCH", &path, &[("Content-Range", range)], body);
    let first = chunk("0-4", b"01234");
    assert_eq!((first.status, first.header("range")), (202, "0-4"));
    assert_eq!(first.header("location"), path);
    for wrong in ["6-9", "0-4", "4-8", "x"] {
        let answer = chunk(wrong, b"56789");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (416, "RANGE_INVALID"),
            "{wrong}"
        );
        assert_eq!(answer.header("range"), "0-4", "{wrong}");
        assert_eq!(answer.header("location"), path);
    }
    let answer = chunk("5-20", b"56789");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "SIZE_INVALID")
    );
    let status = server.request("GET", &path);
    assert_eq!((status.status, status.header("range")), (204, "0-4"));
    assert_eq!(chunk("bytes 5-9/*", b"56789").header("range"), "0-9");
    // A stream goes on without a range, and the last chunk may come with the end.
    assert_eq!(
        server.send("PATCH", &path, &[], b"ab").header("range"),
        "0-11"
    );
    let digest = Digest::of(b"0123456789abcd");
    let end = format!("{path}?digest={digest}");
    let done = server.send("PUT", &end, &[("Content-Range", "12-13")], b"cd");
    assert_eq!(done.status, 201, "{done:?}");
    assert_eq!(done.header("location"), format!("/v2/a/blobs/{digest}"));
    assert_eq!(done.header("docker-content-digest"), digest.to_string());
    assert_eq!(server.store.blobs().stat(&digest).unwrap(), Some(14));
    assert_eq!(server.request("GET", &path).code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.leftovers(), 0);
}

#[test]
fn uploads_end_by_cancelling_lying_and_stopping() {
    let mut server = TestServer::start();
    let cancelled = server.begin("a");
    assert_eq!(server.request("DELETE", &cancelled).status, 204);
    assert_eq!(server.request("DELETE", &cancelled).status, 404);
    let lying = server.begin("a");
    let path = format!("{lying}?digest={}", Digest::of(b"other"));
    let answer = server.send("PUT", &path, &[], b"content");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "DIGEST_INVALID")
    );
    for bad in ["", "?digest=", "?digest=md5:abc", "?digest=../../x"] {
        let answer = server.send("PUT", &format!("{}{bad}", server.begin("a")), &[], b"x");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "DIGEST_INVALID")
        );
    }
    let elsewhere = server.begin("a").replace("/v2/a/", "/v2/b/");
    assert_eq!(server.request("GET", &elsewhere).status, 404);
    let monolithic = format!("/v2/a/blobs/uploads/?digest={}", Digest::of(b"other"));
    let answer = server.send("POST", &monolithic, &[], b"content");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "DIGEST_INVALID")
    );
    assert!(server.store.blobs().list().unwrap().is_empty());
    server.begin("a");
    assert!(server.leftovers() > 0);
    server.stop();
    assert_eq!(server.leftovers(), 0);
}

#[test]
fn sha512_is_taken_too() {
    let server = TestServer::start();
    let mut hasher = wythe_layers::spec::Hasher::new(wythe_layers::spec::Algorithm::Sha512);
    hasher.update(b"x");
    let digest = hasher.finish();
    let path = format!("{}?digest={digest}", server.begin("a"));
    assert_eq!(server.send("PUT", &path, &[], b"x").status, 201);
    assert_eq!(
        server
            .request("HEAD", &format!("/v2/a/blobs/{digest}"))
            .status,
        200
    );
}

#[test]
fn a_mount_succeeds_when_the_blob_is_here_and_else_begins_an_upload() {
    let server = TestServer::start();
    let blob = server.upload("a", b"shared");
    let mount = |digest: &Digest, from: &str| {
        let path = format!("/v2/b/blobs/uploads/?mount={digest}{from}");
        server.request("POST", &path)
    };
    for from in ["&from=a", "&from=never%2Fheard%2Fof", ""] {
        let answer = mount(&blob.digest, from);
        assert_eq!(answer.status, 201, "{from}");
        assert_eq!(
            answer.header("location"),
            format!("/v2/b/blobs/{}", blob.digest)
        );
    }
    let answer = mount(&Digest::of(b"absent"), "&from=a");
    assert_eq!(answer.status, 202);
    assert!(
        answer
            .header("location")
            .starts_with("/v2/b/blobs/uploads/")
    );
}

#[test]
fn manifests_come_back_as_they_went_in() {
    let server = TestServer::start();
    let layer = server.upload("a", b"layer");
    let (config, manifest) = image_of(&[layer]);
    server.upload("a", config.bytes());
    // Its bytes are kept, not its meaning.
    let bytes = [manifest.bytes(), b" \n"].concat();
    let digest = Digest::of(&bytes);
    let answer = server.put_manifest("a", "v1", &bytes);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(
        answer.header("location"),
        format!("/v2/a/manifests/{digest}")
    );
    assert_eq!(answer.header("docker-content-digest"), digest.to_string());
    for name in ["v1", &digest.to_string()] {
        let path = format!("/v2/a/manifests/{name}");
        let answer = server.request("GET", &path);
        assert_eq!((answer.status, &answer.body), (200, &bytes));
        assert_eq!(answer.header("content-type"), MediaType::MANIFEST.as_str());
        assert_eq!(answer.header("docker-content-digest"), digest.to_string());
        let head = server.request("HEAD", &path);
        assert_eq!(head.header("content-length"), bytes.len().to_string());
        let tag = answer.header("etag").to_owned();
        let again = server.send("GET", &path, &[("If-None-Match", &tag)], b"");
        assert_eq!((again.status, again.body.len()), (304, 0));
    }
    assert_eq!(
        server.store.tags().unwrap()[0].0,
        reference("localhost/a:v1")
    );
    // Another repository does not have it.
    let elsewhere = server.request("GET", &format!("/v2/b/manifests/{digest}"));
    assert_eq!(
        (elsewhere.status, elsewhere.code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    assert!(server.store.verify(1).unwrap().is_empty());
}

#[test]
fn manifests_that_are_not_right_are_refused() {
    let server = TestServer::start();
    let layer = server.upload("a", b"layer");
    let (config, manifest) = image_of(std::slice::from_ref(&layer));
    let (_, without_layer) = image_of(&[Descriptor::of(MediaType::LAYER, b"absent")]);
    let mut wrong_size = layer;
    wrong_size.size += 1;
    let (_, wrong_size) = image_of(&[wrong_size]);
    let put = |name: &str, bytes: &[u8]| {
        let answer = server.put_manifest("a", name, bytes);
        (answer.status, answer.code())
    };
    let (unknown, invalid) = (
        "MANIFEST_BLOB_UNKNOWN".to_owned(),
        "MANIFEST_INVALID".to_owned(),
    );
    assert_eq!(
        put("v1", manifest.bytes()),
        (400, unknown.clone()),
        "no config yet"
    );
    for config in [config, image_of(&[]).0] {
        server.upload("a", config.bytes());
    }
    server.upload(
        "a",
        without_layer
            .config
            .data
            .clone()
            .unwrap_or_default()
            .as_bytes(),
    );
    let other_config = image_of(&[Descriptor::of(MediaType::LAYER, b"absent")]).0;
    server.upload("a", other_config.bytes());
    assert_eq!(put("v1", without_layer.bytes()), (400, unknown));
    assert_eq!(put("v1", wrong_size.bytes()), (400, invalid.clone()));
    assert_eq!(put("v1", b"hello"), (400, invalid.clone()));
    assert_eq!(put("v1", b"{\"schemaVersion\":1}"), (400, invalid.clone()));
    assert_eq!(put("-v1", manifest.bytes()), (400, invalid.clone()));
    let digest = Digest::of(b"another").to_string();
    assert_eq!(
        put(&digest, manifest.bytes()),
        (400, "DIGEST_INVALID".to_owned())
    );
    let huge = vec![b' '; 5 << 20];
    assert_eq!(put("v1", &huge), (413, "SIZE_INVALID".to_owned()));
    let pending = String::from_utf8(manifest.bytes().to_vec())
        .unwrap()
        .replace(
            MediaType::MANIFEST.as_str(),
            MediaType::PENDING_MANIFEST.as_str(),
        );
    for content_type in [MediaType::MANIFEST, MediaType::PENDING_MANIFEST] {
        let answer = server.put_document(&content_type, "a", "v1", pending.as_bytes());
        assert_eq!((answer.status, answer.code()), (400, invalid.clone()));
    }
    let answer = server.put_document(&MediaType::INDEX, "a", "v1", manifest.bytes());
    assert_eq!((answer.status, answer.code()), (400, invalid));
    assert!(server.store.tags().unwrap().is_empty());
    // An unhelpful content type does no harm.
    let json = MediaType::new("application/json");
    let answer = server.put_document(&json, "a", "v1", manifest.bytes());
    assert_eq!(answer.status, 201);
}

#[test]
fn what_is_pushed_by_digest_survives_garbage_collection() {
    let server = TestServer::start();
    let layer = server.upload("a", b"layer");
    let (config, manifest) = image_of(&[layer]);
    server.upload("a", config.bytes());
    let digest = manifest.digest().to_string();
    for _ in 0..2 {
        assert_eq!(
            server.put_manifest("a", &digest, manifest.bytes()).status,
            201
        );
    }
    let roots = image::Roots::default();
    let collected = image::collect_garbage(&server.store, &roots, Duration::ZERO).unwrap();
    assert_eq!(collected, image::Collected::default());
    let path = format!("/v2/a/manifests/{digest}");
    assert_eq!(server.request("GET", &path).status, 200);
    assert_eq!(
        server.request("GET", "/v2/a/tags/list").json()["tags"],
        serde_json::json!([])
    );
    assert_eq!(server.request("DELETE", &path).status, 202);
    assert_eq!(server.request("GET", &path).status, 404);
    assert_eq!(
        server.request("GET", "/v2/a/tags/list").code(),
        "NAME_UNKNOWN"
    );
    let collected = image::collect_garbage(&server.store, &roots, Duration::ZERO).unwrap();
    assert_eq!(collected.blobs, 3);
}

#[test]
fn images_built_here_are_served_under_each_of_their_names() {
    let server = TestServer::start();
    let app = store_image(&server.store, "app", b"app");
    let other = store_image(&server.store, "ghcr.io/x/y:v2", b"other");
    for (path, expected) in [
        ("app/manifests/latest", &app),
        ("library/app/manifests/latest", &app),
        ("docker.io/library/app/manifests/latest", &app),
        ("ghcr.io/x/y/manifests/v2", &other),
    ] {
        let answer = server.request("GET", &format!("/v2/{path}"));
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header("docker-content-digest"),
            expected.digest.to_string()
        );
    }
    let by_digest = format!("/v2/library/app/manifests/{}", app.digest);
    assert_eq!(server.request("GET", &by_digest).status, 200);
    for path in [
        "x/y/manifests/v2",
        "library/app/manifests/v2",
        "nothing/manifests/latest",
    ] {
        assert_eq!(
            server.request("GET", &format!("/v2/{path}")).code(),
            "MANIFEST_UNKNOWN"
        );
    }
}

#[test]
fn a_push_changes_no_name_but_its_own() {
    let server = TestServer::start();
    let debian = store_image(&server.store, "debian", b"the real one");
    let layer = server.upload("x", b"an evil one");
    let (config, manifest) = image_of(&[layer]);
    server.upload("x", config.bytes());
    for name in [
        "library/debian",
        "docker.io/library/debian",
        "localhost/library/debian",
    ] {
        assert_eq!(
            server.put_manifest(name, "latest", manifest.bytes()).status,
            201
        );
        let path = format!("/v2/{name}/manifests/latest");
        let served = server
            .request("GET", &path)
            .header("docker-content-digest")
            .to_owned();
        assert_eq!(
            served,
            manifest.digest().to_string(),
            "the pusher gets what it pushed"
        );
    }
    assert_eq!(
        server.store.tag(&reference("debian")).unwrap(),
        Some(debian.clone())
    );
    // Nor does a delete.
    let path = "/v2/library/debian/manifests/latest";
    assert_eq!(server.request("DELETE", path).status, 202);
    let answer = server.request("DELETE", path);
    assert_eq!((answer.status, answer.code().as_str()), (403, "DENIED"));
    let path = format!("/v2/library/debian/manifests/{}", debian.digest);
    assert_eq!(server.request("DELETE", &path).status, 403);
    assert_eq!(
        server.store.tag(&reference("debian")).unwrap(),
        Some(debian)
    );
}

#[test]
fn tags_and_repositories_are_listed_page_by_page() {
    let server = TestServer::start();
    for tag in ["v1", "v2", "v10", "latest"] {
        store_image(&server.store, &format!("localhost/a:{tag}"), b"a");
    }
    store_image(&server.store, "a:built", b"b");
    store_image(&server.store, "a:v1", b"c");
    store_image(&server.store, "localhost:5000/x:v1", b"d");
    let answer = server.request("GET", "/v2/a/tags/list");
    assert_eq!(answer.json()["name"], "a");
    let all = serde_json::json!(["built", "latest", "v1", "v10", "v2"]);
    assert_eq!(answer.json()["tags"], all);
    assert_eq!(answer.header("link"), "");
    let answer = server.request("GET", "/v2/a/tags/list?n=2&last=built");
    assert_eq!(answer.json()["tags"], serde_json::json!(["latest", "v1"]));
    assert_eq!(
        answer.header("link"),
        "</v2/a/tags/list?n=2&last=v1>; rel=\"next\""
    );
    assert_eq!(
        server.request("GET", "/v2/a/tags/list?n=x").code(),
        "PAGINATION_NUMBER_INVALID"
    );
    assert_eq!(
        server.request("GET", "/v2/b/tags/list").code(),
        "NAME_UNKNOWN"
    );
    let answer = server.request("GET", "/v2/_catalog");
    let all = serde_json::json!(["a", "docker.io/library/a"]);
    assert_eq!(answer.json()["repositories"], all);
}

#[test]
fn blobs_that_something_needs_are_not_deleted() {
    let server = TestServer::start();
    let image = store_image(&server.store, "app", b"needed");
    let unneeded = server.upload("a", b"unneeded");
    for needed in [Digest::of(b"needed"), image.digest] {
        let answer = server.request("DELETE", &format!("/v2/a/blobs/{needed}"));
        assert_eq!((answer.status, answer.code().as_str()), (403, "DENIED"));
    }
    let path = format!("/v2/a/blobs/{}", unneeded.digest);
    assert_eq!(server.request("DELETE", &path).status, 202);
    assert_eq!(server.request("DELETE", &path).status, 404);
    // Somebody else may be about to use what looks unneeded.
    let unneeded = server.upload("a", b"unneeded again");
    let _other = Store::open(server.store.root(), Flavour::SingleId).unwrap();
    let answer = server.request("DELETE", &format!("/v2/a/blobs/{}", unneeded.digest));
    assert_eq!(answer.status, 409);
}

#[test]
fn referrers_are_found_and_filtered() {
    let server = TestServer::start();
    let layer = server.upload("a", b"layer");
    let (config, manifest) = image_of(&[layer]);
    server.upload("a", config.bytes());
    server.put_manifest("a", "v1", manifest.bytes());
    let empty = server.upload("a", b"{}");
    let refer = |artifact_type: &str, name: Option<&str>| {
        let mut config = empty.clone();
        config.media_type = MediaType::EMPTY;
        let mut referrer = Manifest::new(config, vec![]);
        referrer.artifact_type = Some(artifact_type.to_owned());
        referrer.subject = Some(manifest.descriptor(MediaType::MANIFEST));
        referrer
            .annotations
            .insert("kind".into(), artifact_type.into());
        let referrer = Raw::encode(referrer, "manifest").unwrap();
        let name = name.map_or_else(|| referrer.digest().to_string(), str::to_owned);
        let answer = server.put_manifest("a", &name, referrer.bytes());
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("oci-subject"), manifest.digest().to_string());
    };
    refer("application/x-sbom", None);
    refer("application/x-signature", Some("signature"));
    let path = format!("/v2/a/referrers/{}", manifest.digest());
    let answer = server.request("GET", &path);
    assert_eq!(answer.header("content-type"), MediaType::INDEX.as_str());
    assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 2);
    let filtered = server.request("GET", &format!("{path}?artifactType=application%2Fx-sbom"));
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let found = filtered.json()["manifests"].clone();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!(found[0]["artifactType"], "application/x-sbom");
    assert_eq!(found[0]["annotations"]["kind"], "application/x-sbom");
    for nothing in [
        format!("/v2/a/referrers/{}", Digest::of(b"x")),
        path.replace("/a/", "/b/"),
    ] {
        let answer = server.request("GET", &nothing);
        assert_eq!(
            (answer.status, answer.json()["manifests"].clone()),
            (200, serde_json::json!([]))
        );
    }
}

#[test]
fn an_index_is_taken_once_its_images_are_here() {
    let server = TestServer::start();
    let layer = server.upload("a", b"layer");
    let (config, manifest) = image_of(&[layer]);
    server.upload("a", config.bytes());
    let child = manifest.descriptor(MediaType::MANIFEST);
    let index = wythe_layers::spec::Index::new(vec![child.clone()]);
    let index = Raw::encode(index, "index").unwrap();
    let put = || server.put_document(&MediaType::INDEX, "a", "multi", index.bytes());
    assert_eq!(put().code(), "MANIFEST_BLOB_UNKNOWN");
    server.put_manifest("a", &child.digest.to_string(), manifest.bytes());
    assert_eq!(put().status, 201);
    let answer = server.request("GET", "/v2/a/manifests/multi");
    assert_eq!(answer.header("content-type"), MediaType::INDEX.as_str());
    assert_eq!(answer.body, index.bytes());
}

#[test]
fn a_read_only_store_is_served_and_refuses_writes() {
    let server = TestServer::start();
    store_image(&server.store, "app", b"app");
    if rustix_is_root() {
        eprintln!(
            "SKIPPED a_read_only_store_is_served_and_refuses_writes: root may write everywhere"
        );
        return;
    }
    let ingest = server.store.root().join("ingest");
    let set_mode = |mode| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&ingest, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(0o500);
    let answer = server.request("POST", "/v2/a/blobs/uploads/");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (405, "UNSUPPORTED")
    );
    assert_eq!(
        server.request("GET", "/v2/app/manifests/latest").status,
        200
    );
    set_mode(0o700);
}

fn rustix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| {
        use std::os::unix::fs::MetadataExt as _;
        process.uid() == 0
    })
}

#[test]
fn an_image_built_here_is_made_whole_when_it_is_first_asked_for() {
    use wythe_layers::layer::{LayerWriter, Purpose};
    use wythe_layers::tree::{Entry, EntryKind, EntryPath};
    let server = TestServer::start();
    let mut writer = LayerWriter::new(&server.store, Purpose::Tree, None, 1).unwrap();
    let path = EntryPath::parse(b"etc").unwrap();
    writer
        .add(Entry::new(path, EntryKind::Directory), None)
        .unwrap();
    let diff_id = writer.finish().unwrap().diff_id;
    let mut config = ImageConfig::scratch(&Platform::host());
    config.rootfs.diff_ids = vec![diff_id];
    let config = Raw::encode(config, "config").unwrap();
    let pending = image::commit(&server.store, &config, None, BTreeMap::new()).unwrap();
    assert_eq!(pending.media_type, MediaType::PENDING_MANIFEST);
    server.store.set_tag(&reference("built"), &pending).unwrap();
    // It cannot be had by digest, as what it is is nobody else's business.
    let by_digest = format!("/v2/library/built/manifests/{}", pending.digest);
    assert_eq!(server.request("GET", &by_digest).status, 404);
    let digests: Vec<String> = std::thread::scope(|scope| {
        let ask = || server.request("HEAD", "/v2/library/built/manifests/latest");
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        let answers = threads.into_iter().map(|thread| thread.join().unwrap());
        answers
            .map(|answer| answer.header("docker-content-digest").to_owned())
            .collect()
    });
    assert!(
        digests.iter().all(|digest| *digest == digests[0]),
        "{digests:?}"
    );
    let answer = server.request(
        "GET",
        &format!("/v2/library/built/manifests/{}", digests[0]),
    );
    assert_eq!(answer.header("content-type"), MediaType::MANIFEST.as_str());
    let layer = answer.json()["layers"][0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let blob = server.request("GET", &format!("/v2/library/built/blobs/{layer}"));
    assert_eq!((blob.status, &blob.body[..2]), (200, &[0x1f, 0x8b][..]));
    assert!(server.store.verify(1).unwrap().is_empty());
}
