//! Images through files, by us and by others.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use wythe_layers::image::{ImageSource, ResolvedImage, fetch};
use wythe_layers::progress::Silent;
use wythe_layers::spec::{Digest, Platform, Reference};
use wythe_layers::store::Store;
use wythe_registry::{
    Archive, ArchiveImage, Export, Location, write_docker_archive, write_layout, write_oci_archive,
};

use crate::images::{Image, chain, gzip, noise, store_in, tar_of};
use crate::peer::{have, skopeo};

struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
    image: Image,
    resolved: ResolvedImage,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    let image = Image::new(&[b"one", &noise(100_000), b"three"]);
    image.put_into(&store);
    let name: Reference = "example.com/app:1".parse().unwrap();
    store.set_tag(&name, &image.descriptor).unwrap();
    let resolved = store.resolve(&name, &Platform::host()).unwrap();
    Fixture {
        directory,
        store,
        image,
        resolved,
    }
}

impl Fixture {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, form: &str, names: &[String], path: &str) {
        let export = Export {
            source: &self.store,
            image: &self.resolved,
            names,
        };
        let result = match form {
            "oci" => write_layout(&[export], Path::new(path), &Silent),
            "oci-archive" => {
                write_oci_archive(&[export], &mut File::create(path).unwrap(), &Silent)
            }
            _ => write_docker_archive(
                &[export],
                &|_| None,
                &mut File::create(path).unwrap(),
                &Silent,
            ),
        };
        result.unwrap_or_else(|error| panic!("{form}: {}", chain(&error)));
    }

    fn open(&self, location: &str) -> wythe_registry::Result<ArchiveImage> {
        let location: Location = location.parse().unwrap();
        let name = match &location {
            Location::Oci { name, .. }
            | Location::OciArchive { name, .. }
            | Location::DockerArchive { name, .. } => name.clone(),
            _ => None,
        };
        Archive::open(&location, self.directory.path())?.select(name.as_deref())
    }
}

/// Everything of an image into a fresh store; the digests of its layers, decompressed.
fn take(source: &dyn ImageSource) -> (String, String) {
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    let name: Reference = "x".parse().unwrap();
    let resolved = source
        .resolve(&name, &Platform::host())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    fetch(&store, source, &resolved, false, 2, &Silent)
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    for (layer, diff_id) in resolved
        .manifest
        .layers
        .iter()
        .zip(&resolved.config.rootfs.diff_ids)
    {
        let blob = store.blobs().get(layer).unwrap().unwrap();
        let mut plain = Vec::new();
        wythe_layers::stream::decode(blob)
            .unwrap()
            .read_to_end(&mut plain)
            .unwrap();
        assert_eq!(Digest::of(&plain), *diff_id.digest());
    }
    (
        resolved.descriptor.digest.to_string(),
        resolved.config.digest().to_string(),
    )
}

#[test]
fn what_is_written_can_be_read() {
    let fixture = fixture();
    let names = ["example.com/app:1".to_owned(), "example.com/app:2".into()];
    for form in ["oci", "oci-archive", "docker-archive"] {
        let path = fixture.path(form);
        fixture.write(form, &names, &path);
        for name in ["", ":example.com/app:1", ":example.com/app:2"] {
            let image = fixture.open(&format!("{form}:{path}{name}")).unwrap();
            let (manifest, config) = take(&image);
            assert_eq!(config, fixture.image.manifest.config.digest.to_string());
            if form != "docker-archive" {
                assert_eq!(manifest, fixture.image.descriptor.digest.to_string());
            }
        }
        let error = fixture.open(&format!("{form}:{path}:other:1")).unwrap_err();
        assert!(error.to_string().contains("holds no image"), "{error}");
        let any = Archive::open_any(Path::new(&path), fixture.directory.path()).unwrap();
        assert_eq!(any.images().len(), 1);
        assert_eq!(any.images()[0].references().len(), 2);
    }
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let fixture = fixture();
    for form in ["oci-archive", "docker-archive"] {
        let (one, two) = (fixture.path("one"), fixture.path("two"));
        fixture.write(form, &["example.com/app:1".into()], &one);
        fixture.write(form, &["example.com/app:1".into()], &two);
        assert!(std::fs::read(one).unwrap() == std::fs::read(two).unwrap());
    }
}

#[test]
fn compressed_archives_and_streams_are_read() {
    let fixture = fixture();
    let path = fixture.path("plain.tar");
    fixture.write("docker-archive", &[], &path);
    let plain = std::fs::read(&path).unwrap();
    let packed = fixture.path("packed.tar.gz");
    std::fs::write(&packed, gzip(&plain)).unwrap();
    let expected = fixture.image.manifest.config.digest.to_string();
    let image = fixture.open(&format!("docker-archive:{packed}")).unwrap();
    assert_eq!(take(&image).1, expected);
    let scratch = fixture.directory.path();
    let archive = Archive::open_stream(gzip(&plain).as_slice(), scratch).unwrap();
    assert_eq!(take(&archive.select(None).unwrap()).1, expected);
    let left: Vec<_> = std::fs::read_dir(scratch)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Names and bytes.
type Files<'a> = Vec<(&'a str, Vec<u8>)>;
/// Names and targets.
type Links<'a> = Vec<(&'a str, &'a str)>;

/// An archive put together by hand: config, layers by name and bytes, and links.
fn by_hand(path: &str, manifest: &str, files: &[(&str, Vec<u8>)], links: &[(&str, &str)]) {
    let mut builder = tar::Builder::new(File::create(path).unwrap());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    for (name, bytes) in files {
        add(name, bytes);
    }
    add("manifest.json", manifest.as_bytes());
    for (name, target) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    }
    builder.finish().unwrap();
}

#[test]
fn every_generation_of_docker_save_is_read() {
    let fixture = fixture();
    let (a, b) = (tar_of("a", b"aaa"), tar_of("b", b"bbb"));
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","rootfs":{{"type":"layers","diff_ids":["{}","{}","{}"]}}}}"#,
        Platform::host().architecture,
        Digest::of(&a),
        Digest::of(&b),
        Digest::of(&a)
    );
    let zipped = gzip(&b);
    let blob = format!("blobs/sha256/{}", Digest::of(&zipped).hex());
    let cases: Vec<(&str, Files<'_>, Links<'_>, [&str; 3])> = vec![
        (
            "directories, and a link for a layer that comes again",
            vec![("1/layer.tar", a.clone()), ("2/layer.tar", b.clone())],
            vec![("3/layer.tar", "../1/layer.tar")],
            ["1/layer.tar", "2/layer.tar", "3/layer.tar"],
        ),
        (
            "the same file named twice, one layer compressed",
            vec![("a.tar", a.clone()), ("b.tar.gz", zipped.clone())],
            vec![],
            ["a.tar", "b.tar.gz", "a.tar"],
        ),
        (
            "blobs under their digests",
            vec![("x/a", a.clone()), (&blob, zipped.clone())],
            vec![],
            ["x/a", &blob, "x/a"],
        ),
    ];
    for (what, files, links, layers) in cases {
        let path = fixture.path("hand.tar");
        let manifest = format!(
            r#"[{{"Config":"c.json","RepoTags":["app:1"],"Layers":{}}}]"#,
            serde_json::to_string(&layers).unwrap()
        );
        let mut files = files;
        files.push(("c.json", config.clone().into_bytes()));
        by_hand(&path, &manifest, &files, &links);
        let image = fixture
            .open(&format!("docker-archive:{path}:app:1"))
            .unwrap_or_else(|error| panic!("{what}: {}", chain(&error)));
        assert_eq!(
            take(&image).1,
            Digest::of(config.as_bytes()).to_string(),
            "{what}"
        );
    }
}

#[test]
fn hostile_archives_are_refused() {
    let fixture = fixture();
    let layer = tar_of("a", b"aaa");
    let config = |diff_id: &Digest| {
        format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#).into_bytes()
    };
    let honest = config(&Digest::of(&layer));
    let list =
        |config: &str, layer: &str| format!(r#"[{{"Config":"{config}","Layers":["{layer}"]}}]"#);
    let secret = fixture.path("secret");
    std::fs::write(&secret, "secret").unwrap();
    let cases: Vec<(&str, String, Files<'_>, Links<'_>)> = vec![
        (
            "a config that is a link out",
            list("c.json", "l.tar"),
            vec![("l.tar", layer.clone())],
            vec![("c.json", &secret)],
        ),
        (
            "a layer that is a link up and out",
            list("c.json", "l.tar"),
            vec![("c.json", honest.clone())],
            vec![("l.tar", "../../../../etc/passwd")],
        ),
        (
            "names that lead out",
            list("../secret", "/etc/passwd"),
            vec![],
            vec![],
        ),
        (
            "two configs of one name",
            list("c.json", "l.tar"),
            vec![
                ("c.json", honest.clone()),
                ("c.json", honest.clone()),
                ("l.tar", layer.clone()),
            ],
            vec![],
        ),
        ("no list", "[".into(), vec![], vec![]),
        (
            "fewer layers than diff IDs",
            r#"[{"Config":"c.json","Layers":[]}]"#.into(),
            vec![("c.json", honest.clone())],
            vec![],
        ),
    ];
    for (what, manifest, files, links) in cases {
        let path = fixture.path("bad.tar");
        by_hand(&path, &manifest, &files, &links);
        assert!(
            fixture.open(&format!("docker-archive:{path}")).is_err(),
            "{what}"
        );
    }
    // Wrong content under a right name shows when it is read.
    let path = fixture.path("bad.tar");
    let files = [
        ("c.json", config(&Digest::of(b"other"))),
        ("l.tar", layer.clone()),
    ];
    by_hand(&path, &list("c.json", "l.tar"), &files, &[]);
    let image = fixture.open(&format!("docker-archive:{path}")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    let name: Reference = "x".parse().unwrap();
    let resolved = image.resolve(&name, &Platform::host()).unwrap();
    assert!(fetch(&store, &image, &resolved, false, 1, &Silent).is_err());
    assert!(store.blobs().list().unwrap().is_empty());
    for bytes in [b"not a tar at all".repeat(100), vec![0x1f, 0x8b, 0x08, 1]] {
        std::fs::write(&path, bytes).unwrap();
        assert!(fixture.open(&format!("oci-archive:{path}")).is_err());
    }
    assert!(fixture.open("oci:/nonexistent").is_err());
    assert!(fixture.open("oci-archive:/nonexistent").is_err());
}

#[test]
fn a_source_that_lies_spoils_the_export() {
    struct Liar<'a>(&'a Store);
    impl ImageSource for Liar<'_> {
        fn resolve(
            &self,
            reference: &Reference,
            platform: &Platform,
        ) -> wythe_layers::Result<ResolvedImage> {
            self.0.resolve(reference, platform)
        }
        fn open(
            &self,
            _reference: &Reference,
            blob: &wythe_layers::spec::Descriptor,
        ) -> wythe_layers::Result<Box<dyn Read + Send>> {
            let length = usize::try_from(blob.size).unwrap();
            Ok(Box::new(std::io::Cursor::new(vec![0; length])))
        }
    }
    let fixture = fixture();
    let export = Export {
        source: &Liar(&fixture.store),
        image: &fixture.resolved,
        names: &[],
    };
    assert!(write_oci_archive(&[export], &mut Vec::new(), &Silent).is_err());
    assert!(write_docker_archive(&[export], &|_| Some(10), &mut Vec::new(), &Silent).is_err());
    let target = fixture.directory.path().join("target");
    assert!(write_layout(&[export], &target, &Silent).is_err());
    assert!(
        !std::fs::read_to_string(target.join("index.json"))
            .unwrap()
            .contains("sha256"),
        "nothing is named"
    );
}

#[test]
fn peer_skopeo_reads_what_we_write_and_we_what_it_writes() {
    if !have(
        "peer_skopeo_reads_what_we_write_and_we_what_it_writes",
        &["skopeo"],
    ) {
        return;
    }
    let fixture = fixture();
    let name = "example.com/app:1";
    for form in ["oci", "oci-archive", "docker-archive"] {
        let path = fixture.path(&format!("ours-{form}"));
        fixture.write(form, &[name.into()], &path);
        for back in ["oci", "oci-archive", "docker-archive"] {
            let theirs = fixture.path(&format!("theirs-{form}-{back}"));
            let (from, to) = (
                format!("{form}:{path}:{name}"),
                format!("{back}:{theirs}:{name}"),
            );
            skopeo(&["copy", &from, &to]);
            take(&fixture.open(&to).unwrap());
            take(&fixture.open(&format!("{back}:{theirs}")).unwrap());
        }
    }
}

#[test]
fn peer_podman_loads_what_we_write() {
    let test = "peer_podman_loads_what_we_write";
    if !have(test, &["podman"]) {
        return;
    }
    let fixture = fixture();
    for form in ["oci-archive", "docker-archive"] {
        let path = fixture.path(&format!("load-{form}"));
        fixture.write(form, &["example.com/app:1".into()], &path);
        let root = fixture.path("podman");
        let output = std::process::Command::new("podman")
            .args(["--root", &root, "--runroot", &fixture.path("run")])
            .args(["--storage-driver=vfs", "load", "-q", "-i", &path])
            .env("XDG_RUNTIME_DIR", fixture.directory.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("example.com/app:1"), "{said}");
    }
    // Without root podman leaves a process behind that holds its user namespace.
    let pause = std::fs::read_to_string(fixture.path("libpod/tmp/pause.pid"));
    if let Ok(id) = pause {
        let killed = std::process::Command::new("kill").arg(id.trim()).status();
        assert!(killed.unwrap().success());
    }
}

#[test]
fn a_layout_has_the_files_of_one_and_no_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let fixture = fixture();
    let path = fixture.path("layout");
    std::fs::create_dir(&path).unwrap();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode();
    let before = mode();
    fixture.write("oci", &[], &path);
    let names = std::fs::read_dir(&path).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    assert_eq!(mode(), before);
}
