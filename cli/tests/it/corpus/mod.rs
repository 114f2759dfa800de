//! Dockerfiles as people write them, built, and what came out compared with golden text.
//! `fixtures/README.md` has the format; `WYTHE_BLESS=1` writes the golden files anew,
//! `WYTHE_CORPUS=name` takes only the cases whose name has that in it.

mod buildah;
mod buildkit;
mod case;
mod known;
mod tree;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value};
use wythe_layers::spec::Digest;

use crate::support::{Sandbox, busybox, root};
use case::Case;
use tree::Tree;

/// Stage of the bases' Dockerfile → the names that cases know it by.
const BASES: [(&str, &[&str]); 12] = [
    (
        "common",
        &["busybox:1.36", "registry.example:5000/team/base:2.1"],
    ),
    (
        "debian",
        &[
            "debian:bookworm-slim",
            "debian:stable",
            "ubuntu:24.04",
            "gcc:14",
        ],
    ),
    ("alpine", &["alpine:3.20"]),
    ("python", &["python:3.12-slim"]),
    ("node", &["node:22", "node:22-alpine"]),
    ("golang", &["golang:1.23", "golang:1.23-alpine"]),
    ("rust", &["rust:1.82", "rust:1.82-slim"]),
    (
        "java",
        &[
            "eclipse-temurin:21-jdk",
            "eclipse-temurin:21-jre",
            "maven:3.9-eclipse-temurin-21",
            "gradle:8-jdk21",
        ],
    ),
    ("nginx", &["nginx:1.27", "nginx:1.27-alpine"]),
    ("postgres", &["postgres:16"]),
    (
        "other",
        &[
            "php:8.3-fpm",
            "ruby:3.3-slim",
            "elixir:1.17",
            "mcr.microsoft.com/dotnet/sdk:8.0",
            "mcr.microsoft.com/dotnet/aspnet:8.0",
        ],
    ),
    ("distroless", &["gcr.io/distroless/static-debian12:nonroot"]),
];

/// The sandbox with all bases in its store, and what has been read from them.
struct Corpus {
    sandbox: Sandbox,
    known: Vec<(Digest, &'static str)>,
    bases: Mutex<BTreeMap<String, Base>>,
}

#[derive(Clone)]
struct Base {
    tree: Tree,
    history: usize,
}

/// What a build came to.
pub(crate) struct Built {
    /// What differs from the base.
    pub(crate) tree: Tree,
    /// `config` of the image config, and its author.
    pub(crate) config: Map<String, Value>,
    /// The steps on top of the base's.
    pub(crate) history: Vec<String>,
}

impl Corpus {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let bases = sandbox.path("bases");
        std::fs::create_dir_all(&bases).unwrap();
        std::fs::copy(busybox(), bases.join("busybox")).unwrap();
        let mut known = vec![(Digest::of(&std::fs::read(busybox()).unwrap()), "busybox")];
        for file in ["Dockerfile", "shim"] {
            let from = case::folder().join("bases").join(file);
            known.push((Digest::of(&std::fs::read(&from).unwrap()), file));
            std::fs::copy(from, bases.join(file)).unwrap();
        }
        for (stage, names) in BASES {
            let mut args = vec!["build", "-q", "--target", stage];
            for name in names {
                args.extend(["-t", name]);
            }
            sandbox.ok(args.into_iter().chain(["bases"]));
        }
        Self {
            sandbox,
            known,
            bases: Mutex::default(),
        }
    }

    fn base(&self, case: &Case) -> Base {
        let Some(name) = &case.base else {
            return Base {
                tree: Tree::new(),
                history: 0,
            };
        };
        let mut bases = self.bases.lock().unwrap();
        if let Some(base) = bases.get(name) {
            return base.clone();
        }
        let dockerfile = format!("FROM {name}\n");
        let folder = format!("base-{}", name.replace(['/', ':'], "-"));
        self.sandbox
            .file(&format!("{folder}/Dockerfile"), dockerfile);
        let archive = format!("{folder}/root.tar");
        let output = format!("type=tar,dest={archive}");
        self.sandbox
            .ok(["build", "-q", "-t", "base", "-o", &output, &folder]);
        let base = Base {
            tree: tree::of_tar(&self.sandbox.path(&archive), &self.known),
            history: self.config(name)["history"].as_array().map_or(0, Vec::len),
        };
        bases.insert(name.clone(), base.clone());
        base
    }

    fn config(&self, name: &str) -> Value {
        serde_json::from_str(&self.sandbox.ok(["inspect", "--config", name])).unwrap()
    }

    fn folder(case: &Case) -> String {
        format!("cases/{}", case.name)
    }

    /// Builds a case with wythe.
    fn build(&self, case: &Case) -> Result<Built, String> {
        let base = self.base(case);
        let folder = self.sandbox.path(&Self::folder(case));
        case.write(&folder);
        let wythe = |args: &[String]| {
            let mut command = self.sandbox.wythe(["build", "--progress", "plain"]);
            command
                .args(args)
                .arg("context")
                .current_dir(&folder)
                .env("CORPUS_VARIABLE", "from the environment");
            let output = command.output().unwrap();
            if output.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for args in &case.first {
            wythe(args)?;
        }
        let tag = format!("localhost/case-{}", case.name);
        let mut args = case.build.clone();
        args.extend(["-t".to_owned(), tag.clone()]);
        args.extend(["-o".to_owned(), "type=tar,dest=root.tar".to_owned()]);
        wythe(&args)?;
        let tree = tree::of_tar(&folder.join("root.tar"), &self.known);
        let built = built(&self.config(&tag), base.history);
        Ok(Built {
            tree: tree::beside(&tree, &base.tree),
            ..built
        })
    }

    /// Does `work` for every case, on all processors; in the order of the cases.
    fn each<T: Send>(&self, cases: &[Case], work: impl Fn(&Case) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let results: Mutex<BTreeMap<usize, T>> = Mutex::default();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((number, case)) = {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        cases.get(number).map(|case| (number, case))
                    } {
                        let result = work(case);
                        results.lock().unwrap().insert(number, result);
                    }
                });
            }
        });
        results.into_inner().unwrap().into_values().collect()
    }
}

/// The parts of an image config that are compared; `skip` history entries are the base's.
fn built(image: &Value, skip: usize) -> Built {
    let mut config = image["config"].as_object().cloned().unwrap_or_default();
    if let Some(author) = image.get("author") {
        config.insert("author".to_owned(), author.clone());
    }
    let history = image["history"].as_array().cloned().unwrap_or_default();
    let history = history.iter().skip(skip).map(|entry| {
        let text = entry["created_by"].as_str().unwrap_or_default();
        let empty = entry["empty_layer"] == Value::Bool(true);
        format!("{} {text}", if empty { "-" } else { "+" })
    });
    Built {
        tree: Tree::new(),
        config,
        history: history.collect(),
    }
}

/// The golden text.
fn golden(built: &Built) -> String {
    let mut text = String::from("# config\n");
    for (key, value) in &built.config {
        writeln!(text, "{key}: {value}").unwrap();
    }
    text.push_str("# history\n");
    for line in &built.history {
        writeln!(text, "{}", line.replace('\n', "\\n")).unwrap();
    }
    text.push_str("# tree\n");
    for (path, line) in &built.tree {
        writeln!(text, "{path} {line}").unwrap();
    }
    // The text is of the machines that most people have.
    let architecture = wythe_layers::spec::Platform::host().architecture;
    text.replace(&architecture, "amd64")
}

fn golden_file(case: &Case) -> PathBuf {
    case::folder().join(format!("{}.golden", case.name))
}

/// Lines of one text that the other lacks.
fn difference(expected: &str, actual: &str) -> String {
    let lack = |mark: &str, left: &str, right: &str| {
        left.lines()
            .filter(|line| !right.lines().any(|other| other == *line))
            .map(|line| format!("  {mark} {line}\n"))
            .collect::<String>()
    };
    lack("-", expected, actual) + &lack("+", actual, expected)
}

#[test]
fn priv_every_case_gives_its_golden_image() {
    if !root() {
        return;
    }
    let corpus = Corpus::new();
    let cases = case::all();
    let bless = std::env::var_os("WYTHE_BLESS").is_some();
    let problems = corpus.each(&cases, |case| {
        let actual = match corpus.build(case) {
            Ok(built) => golden(&built),
            Err(error) => return Some(format!("{}: not built\n{error}", case.name)),
        };
        let file = golden_file(case);
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if expected == actual {
            return None;
        }
        if bless {
            std::fs::write(&file, &actual).unwrap();
            return None;
        }
        let lines = difference(&expected, &actual);
        Some(format!("{}:\n{lines}", case.name))
    });
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    assert!(
        problems.is_empty(),
        "{} of {} cases differ\n{}",
        problems.len(),
        cases.len(),
        problems.join("\n")
    );
}

#[test]
fn every_golden_file_has_its_case() {
    let cases: Vec<PathBuf> = case::all().iter().map(golden_file).collect();
    if std::env::var_os("WYTHE_CORPUS").is_some() {
        return;
    }
    assert!(cases.len() >= 100, "the corpus has {} cases", cases.len());
    for entry in std::fs::read_dir(case::folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "golden") {
            assert!(cases.contains(&path), "{} has no case", path.display());
        }
    }
}
