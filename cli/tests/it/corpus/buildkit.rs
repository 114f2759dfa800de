//! The corpus built with a BuildKit daemon beside wythe: same config, same history, same tree, or
//! a reason in `fixtures/corpus/buildkit.txt`. No distribution packages BuildKit, so this is for
//! who has one: `BUILDKIT_HOST=unix:///run/buildkit/buildkitd.sock cargo test -p wythe --test it
//! -- --ignored buildkit`, as root, with `buildctl` in `PATH` and a daemon on this machine that has
//! host networking for its workers.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::case::{self, Case};
use super::known::Known;
use super::tree;
use super::{BASES, Built, Corpus};

#[test]
#[ignore = "needs BUILDKIT_HOST, buildctl and root"]
fn peer_buildkit_builds_the_corpus_alike() {
    assert!(crate::support::is_root(), "needs root");
    let corpus = Corpus::new();
    let known = Known::read("buildkit");
    let mut cases = case::all();
    cases.retain(|case| !known.is_skipped(case));
    let bases = Bases::new(&corpus);
    let ours = corpus.each(&cases, |case| corpus.build(case));
    let theirs = corpus.each(&cases, |case| bases.build(&corpus, case));
    let each = cases.iter().zip(ours).zip(theirs);
    known.check(each.map(|((case, ours), theirs)| (case, ours, theirs)));
}

/// The base images as OCI layouts that `buildctl` hands to the daemon.
struct Bases {
    /// Name of an image → its layout and digest.
    layouts: BTreeMap<String, (PathBuf, String)>,
}

impl Bases {
    fn new(corpus: &Corpus) -> Self {
        let mut layouts = BTreeMap::new();
        for (stage, names) in BASES {
            for name in names {
                let folder = corpus.sandbox.path(&format!("layouts/{stage}"));
                layouts.insert((*name).to_owned(), layout(corpus, names[0], &folder));
            }
        }
        Self { layouts }
    }

    fn build(&self, corpus: &Corpus, case: &Case) -> Result<Built, String> {
        let folder = corpus.sandbox.path(&Corpus::folder(case));
        let mut layouts = self.layouts.clone();
        for (number, args) in case.first.iter().enumerate() {
            // What has no name is built for what it leaves in a cache.
            let Some(at) = args.iter().position(|arg| arg == "-t") else {
                buildctl(&layouts, args, &folder, &[])?;
                continue;
            };
            let tag = &args[at + 1];
            let files = corpus
                .sandbox
                .path(&format!("layouts/{}-{number}", case.name));
            layouts.insert(tag.clone(), layout(corpus, tag, &files));
        }
        let outputs = ["type=tar,dest=theirs.tar", "type=oci,dest=theirs.oci"];
        buildctl(&layouts, &case.build, &folder, &outputs)?;
        let base = corpus.base(case);
        let tree = tree::of_tar(&folder.join("theirs.tar"), &corpus.known);
        let built = super::built(&config(&folder.join("theirs.oci")), base.history);
        let suffix = " # buildkit";
        Ok(Built {
            tree: tree::beside(&tree, &base.tree),
            history: (built.history.iter())
                .map(|line| line.strip_suffix(suffix).unwrap_or(line).to_owned())
                .collect(),
            ..built
        })
    }
}

fn buildctl(
    layouts: &BTreeMap<String, (PathBuf, String)>,
    args: &[String],
    folder: &Path,
    outputs: &[&str],
) -> Result<(), String> {
    let mut command = Command::new("buildctl");
    command.args(["build", "--progress", "plain"]);
    // `# syntax=` would be fetched.
    command.args(["--frontend", "dockerfile.v0", "--opt", "cmdline=none"]);
    for (number, (name, (layout, digest))) in layouts.iter().enumerate() {
        let context = format!("context:{name}=oci-layout://base{number}@{digest}");
        let layout = format!("base{number}={}", layout.display());
        command.args(["--oci-layout", &layout, "--opt", &context]);
    }
    flags(&mut command, args, folder);
    for output in outputs {
        command.args(["--output", output]);
    }
    command
        .current_dir(folder)
        .env("CORPUS_VARIABLE", "from the environment");
    // It would hand them on as build arguments.
    for name in [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "ftp_proxy",
        "all_proxy",
    ] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let output = command.output().expect("buildctl");
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Writes an image as an OCI layout.
fn layout(corpus: &Corpus, name: &str, folder: &Path) -> (PathBuf, String) {
    if !folder.exists() {
        corpus
            .sandbox
            .ok(["push", "-q", name, &format!("oci:{}:x", folder.display())]);
    }
    let index = json(std::fs::read(folder.join("index.json")).unwrap());
    let digest = index["manifests"][0]["digest"].as_str().unwrap().to_owned();
    (folder.to_owned(), digest)
}

/// Docker's flags as those of `buildctl`.
fn flags(command: &mut Command, args: &[String], folder: &Path) {
    let mut file = None;
    let mut args = args.iter();
    let mut opt = |text: String| {
        command.args(["--opt", &text]);
    };
    let mut others: Vec<[String; 2]> = Vec::new();
    while let (Some(flag), Some(value)) = (args.next(), args.next()) {
        match flag.as_str() {
            "-f" => file = Some(folder.join(value)),
            "--target" => opt(format!("target={value}")),
            "--platform" => opt(format!("platform={value}")),
            "--label" => opt(format!("label:{value}")),
            "--add-host" => opt(format!("add-hosts={}", value.replacen(':', "=", 1))),
            "--ulimit" | "--shm-size" => opt(format!("{}={value}", &flag[2..])),
            "--build-arg" if value.contains('=') => opt(format!("build-arg:{value}")),
            "--build-arg" => {
                if value == "CORPUS_VARIABLE" {
                    opt(format!("build-arg:{value}=from the environment"));
                }
            }
            "--build-context" => {
                let (name, source) = value.split_once('=').unwrap();
                if source.contains("://") {
                    opt(format!("context:{name}={source}"));
                } else {
                    opt(format!("context:{name}=local:{name}"));
                    let files = folder.join(source).display().to_string();
                    others.push(["--local".to_owned(), format!("{name}={files}")]);
                }
            }
            "--secret" | "--ssh" | "--allow" => others.push([flag.clone(), value.clone()]),
            other => panic!("no flag of buildctl is known for {other}"),
        }
    }
    let context = folder.join("context");
    let file = file.unwrap_or_else(|| {
        let mut names = ["Dockerfile", "Containerfile"].iter();
        let there = names.find(|name| context.join(name).exists());
        context.join(there.expect("a Dockerfile"))
    });
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    opt(format!("filename={name}"));
    let parent = file.parent().unwrap().display();
    command.args(["--local", &format!("dockerfile={parent}")]);
    command.args(["--local", &format!("context={}", context.display())]);
    command.args(others.as_flattened());
}

/// The image config in an OCI archive.
fn config(archive: &Path) -> Value {
    let mut files = BTreeMap::new();
    let mut archive = tar::Archive::new(std::fs::File::open(archive).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        files.insert(path, bytes);
    }
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        json(files[&format!("blobs/{}", digest.replace(':', "/"))].clone())
    };
    let index = json(files["index.json"].clone());
    let manifest = blob(&index["manifests"][0]);
    blob(&manifest["config"])
}

fn json(bytes: Vec<u8>) -> Value {
    serde_json::from_slice(&bytes).unwrap()
}
