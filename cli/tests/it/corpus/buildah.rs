//! The corpus built with Debian's buildah beside wythe: same config, same tree, or a reason in
//! `fixtures/corpus/buildah.txt`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::case::{self, Case};
use super::known::Known;
use super::tree::{self, Tree};
use super::{BASES, Built, Corpus};
use crate::peers::{STORES, script};
use crate::support::peers;

#[test]
fn peer_buildah_builds_the_corpus_alike() {
    if !peers(&["buildah"]) {
        return;
    }
    let known = Known::read("buildah");
    let corpus = Corpus::new();
    let mut cases = case::all();
    cases.retain(|case| !known.is_skipped(case));
    let ours = corpus.each(&cases, |case| corpus.build(case));
    build_all(&corpus, &cases);
    let images = images(&corpus);
    let theirs = cases.iter().map(|case| {
        theirs(&corpus, case, &images).ok_or_else(|| {
            let log = format!("{}/log", Corpus::folder(case));
            std::fs::read_to_string(corpus.sandbox.path(&log)).unwrap_or_default()
        })
    });
    // How it tells its history is its own.
    let comparable = |built: Built| Built {
        config: plain(&built.config),
        history: Vec::new(),
        ..built
    };
    let each = cases.iter().zip(ours).zip(theirs);
    let each =
        each.map(|((case, ours), theirs)| (case, ours.map(comparable), theirs.map(comparable)));
    known.check(each);
}

/// buildah waits for its locks and the disk more than for the processor.
const AT_ONCE: usize = 6;

/// Loads the bases into buildah's store and builds every case, in one mount namespace.
fn build_all(corpus: &Corpus, cases: &[Case]) {
    let registries =
        "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"permissive\"\n";
    corpus.sandbox.file("registries.conf", registries);
    let mut text = String::from(
        "export CONTAINERS_REGISTRIES_CONF=$PWD/registries.conf\nexport CORPUS_VARIABLE='from the environment'\n",
    );
    writeln!(
        text,
        "b='buildah {}'",
        STORES.replace("$PWD", &corpus.sandbox.path("").to_string_lossy())
    )
    .unwrap();
    for (stage, names) in BASES {
        let first = names.first().unwrap();
        let archive = format!("{stage}.tar");
        corpus.sandbox.ok(["save", "-o", &archive, first]);
        writeln!(text, "id=$($b pull -q docker-archive:{archive})").unwrap();
        for name in names {
            let whole: wythe_layers::spec::Reference = name.parse().unwrap();
            writeln!(text, "$b tag $id {whole}").unwrap();
        }
    }
    for (number, case) in cases.iter().enumerate() {
        let folder = Corpus::folder(case);
        let tag = format!("localhost/case-{}", case.name);
        let mut commands = String::new();
        let lines = case.first.iter().chain([&case.build]);
        for (line, args) in lines.enumerate() {
            let tag = if line == case.first.len() {
                format!("-t {tag}")
            } else {
                String::new()
            };
            let file = if args.iter().any(|arg| arg == "-f") {
                ""
            } else {
                "-f $(ls context/Dockerfile context/Containerfile 2>/dev/null)"
            };
            let args = args.join(" ");
            write!(commands, "$b bud -q --isolation chroot --format docker --layers=false {tag} {file} {args} context && ").unwrap();
        }
        // Debian's buildah now and then fails to seal its copy of itself (EBUSY) when several run
        // at once; that says nothing of the case.
        writeln!(
            text,
            "{{ for try in 1 2 3; do (cd {folder} && {commands} true) >{folder}/log 2>&1 || true; \
             grep -q 'sealing memfd copy' {folder}/log || break; done; }} &"
        )
        .unwrap();
        if number % AT_ONCE == AT_ONCE - 1 {
            text.push_str("wait\n");
        }
    }
    text.push_str("wait\n");
    script(&corpus.sandbox.path(""), &text);
}

/// Name → (image ID, top layer), from containers/storage's own list.
fn images(corpus: &Corpus) -> BTreeMap<String, (String, String)> {
    let list = std::fs::read(corpus.sandbox.path("c-root/vfs-images/images.json")).unwrap();
    let list: Vec<Value> = serde_json::from_slice(&list).unwrap();
    let mut images = BTreeMap::new();
    for image in &list {
        let text = |key: &str| image[key].as_str().unwrap_or_default().to_owned();
        for name in image["names"].as_array().into_iter().flatten() {
            let name = name.as_str().unwrap_or_default().to_owned();
            images.insert(name, (text("id"), text("layer")));
        }
    }
    images
}

/// What buildah made of a case.
fn theirs(
    corpus: &Corpus,
    case: &Case,
    images: &BTreeMap<String, (String, String)>,
) -> Option<Built> {
    let (id, layer) = images.get(&format!("localhost/case-{}:latest", case.name))?;
    let folder = corpus.sandbox.path(&format!("c-root/vfs-images/{id}"));
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let config = files
        .filter_map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).ok()?).ok())
        .find(|value| value.get("rootfs").is_some())?;
    let root = corpus.sandbox.path(&format!("c-root/vfs/dir/{layer}"));
    let tree = if layer.is_empty() {
        Tree::new()
    } else {
        tree::of_directory(&root, &corpus.known)
    };
    let built = super::built(&config, 0);
    Some(Built {
        tree: tree::beside(&tree, &corpus.base(case).tree),
        ..built
    })
}

/// Without what means nothing: empty values, the marks of other builders.
fn plain(config: &Map<String, Value>) -> Map<String, Value> {
    let means_nothing = |key: &str, value: &Value| {
        let is_default = match value {
            Value::Null => true,
            Value::Bool(value) => !value,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Number(_) => false,
        };
        // ArgsEscaped is for Windows; the others are buildah's.
        is_default || ["ArgsEscaped", "Image", "Hostname", "Domainname"].contains(&key)
    };
    let mut plain = config.clone();
    plain.retain(|key, value| !means_nothing(key, value));
    if let Some(Value::Array(env)) = plain.get_mut("Env") {
        // buildah moves a variable that is set again to the end.
        env.sort_by_key(Value::to_string);
    }
    if let Some(Value::Object(labels)) = plain.get_mut("Labels") {
        labels.remove("io.buildah.version");
    }
    plain.retain(|key, value| !means_nothing(key, value));
    plain
}
