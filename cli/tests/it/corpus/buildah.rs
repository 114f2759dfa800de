//! The corpus built with Debian's buildah beside wythe: same config, same tree, or a reason in
//! `fixtures/corpus/buildah.txt`.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::case::{self, Case};
use super::tree::{self, Tree};
use super::{BASES, Built, Corpus};
use crate::peers::{STORES, script};
use crate::support::peers;

/// One line of the list: `case`, what differs (`config.Env`, `/path`, `build`), why. A `*` at the
/// end of the first two stands for any rest.
struct Known {
    case: String,
    what: String,
    used: std::cell::Cell<bool>,
}

impl Known {
    fn read() -> Vec<Self> {
        let text = std::fs::read_to_string(case::folder().join("buildah.txt")).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines
            .map(|line| {
                let mut fields = line.splitn(3, '\t');
                let mut field = || fields.next().filter(|text| !text.is_empty());
                let (case, what) = (field().expect(line), field().expect(line));
                field().unwrap_or_else(|| panic!("no reason: {line}"));
                Self {
                    case: case.to_owned(),
                    what: what.to_owned(),
                    used: false.into(),
                }
            })
            .collect()
    }

    fn is_for(&self, case: &str, what: &str) -> bool {
        let fits = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => pattern == text,
        };
        fits(&self.case, case) && fits(&self.what, what)
    }
}

#[test]
fn peer_buildah_builds_the_corpus_alike() {
    if !peers(&["buildah"]) {
        return;
    }
    let known = Known::read();
    let corpus = Corpus::new();
    let skipped = |case: &Case| {
        let mut lines = known.iter();
        let line = lines.find(|line| line.what == "build" && line.is_for(&case.name, "build"));
        line.inspect(|line| line.used.set(true)).is_some()
    };
    let cases: Vec<Case> = case::all()
        .into_iter()
        .filter(|case| !skipped(case))
        .collect();
    let ours = corpus.each(&cases, |case| corpus.build(case));
    build_all(&corpus, &cases);
    let images = images(&corpus);

    let mut problems = String::new();
    for (case, ours) in cases.iter().zip(ours) {
        let ours = match ours {
            Ok(ours) => ours,
            Err(error) => {
                writeln!(problems, "{}: not built by wythe\n{error}", case.name).unwrap();
                continue;
            }
        };
        let Some(theirs) = theirs(&corpus, case, &images) else {
            let log = corpus
                .sandbox
                .path(&format!("{}/log", Corpus::folder(case)));
            let log = std::fs::read_to_string(log).unwrap_or_default();
            writeln!(problems, "{}\tbuild\t{log}", case.name).unwrap();
            continue;
        };
        for (what, ours, theirs) in differences(&ours, &theirs) {
            let mut lines = known.iter();
            match lines.find(|line| line.is_for(&case.name, &what)) {
                Some(line) => line.used.set(true),
                None => {
                    let name = &case.name;
                    writeln!(problems, "{name}\t{what}\twythe {ours} buildah {theirs}").unwrap();
                }
            }
        }
    }
    if std::env::var_os("WYTHE_CORPUS").is_none() {
        for line in known.iter().filter(|line| !line.used.get()) {
            let (case, what) = (&line.case, &line.what);
            writeln!(
                problems,
                "{case}\t{what}\tno longer differs: take it off the list"
            )
            .unwrap();
        }
    }
    assert!(problems.is_empty(), "\n{problems}");
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

/// What differs: `config.Key` or a path, ours, theirs.
fn differences(ours: &Built, theirs: &Built) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let (our_config, their_config) = (plain(&ours.config), plain(&theirs.config));
    let keys = our_config.keys().chain(their_config.keys());
    for key in keys.collect::<std::collections::BTreeSet<_>>() {
        let show = |config: &Map<String, Value>| {
            config.get(key).map_or("nothing".into(), Value::to_string)
        };
        if our_config.get(key) != their_config.get(key) {
            found.push((
                format!("config.{key}"),
                show(&our_config),
                show(&their_config),
            ));
        }
    }
    let paths = ours.tree.keys().chain(theirs.tree.keys());
    for path in paths.collect::<std::collections::BTreeSet<_>>() {
        let show = |tree: &Tree| tree.get(path).map_or("as the base".into(), String::clone);
        if ours.tree.get(path) != theirs.tree.get(path) {
            found.push((path.clone(), show(&ours.tree), show(&theirs.tree)));
        }
    }
    found
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
