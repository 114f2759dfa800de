//! `cargo xtask check`: everything that must hold of every commit, except the tests.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;

/// The arrows between crates (docs/ARCHITECTURE.md §Crates and arrows): who may depend on whom.
const ARROWS: [(&str, &[&str]); 5] = [
    ("wythe-layers", &[]),
    ("wythe-registry", &["wythe-layers"]),
    ("wythe-runtime", &["wythe-layers"]),
    ("wythe-builder", &["wythe-layers"]),
    (
        "wythe",
        &[
            "wythe-layers",
            "wythe-registry",
            "wythe-runtime",
            "wythe-builder",
        ],
    ),
];

/// Longest source file, in lines, its tests not counted: a file answers one question.
const MAX_LINES: usize = 700;

pub(crate) fn run(repository: &Path) -> anyhow::Result<()> {
    step("arrows between crates", arrows)?;
    step("file lengths", || file_lengths(repository))?;
    step("tests named in docs/SECURITY.md", || {
        super::security::check(repository)
    })?;
    step("formatting", || {
        super::run(
            super::cargo()
                .current_dir(repository)
                .args(["fmt", "--all", "--check"]),
        )
    })?;
    step("lints", || {
        let lint = [
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        super::run(super::cargo().current_dir(repository).args(lint))
    })?;
    step("documentation", || {
        let mut doc = super::cargo();
        doc.current_dir(repository)
            .env("RUSTDOCFLAGS", "-D warnings");
        super::run(doc.args([
            "doc",
            "--quiet",
            "--workspace",
            "--no-deps",
            "--document-private-items",
        ]))
    })?;
    step("generated pages", || super::pages::check(repository))
}

fn step(name: &str, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    println!("check: {name}");
    check()
}

fn arrows() -> anyhow::Result<()> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec()?;
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for package in metadata.workspace_packages() {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            continue;
        };
        for dependency in &package.dependencies {
            let is_ours = ARROWS.iter().any(|(name, _)| *name == dependency.name);
            if is_ours && !allowed.contains(&dependency.name.as_str()) {
                bail!("{} must not depend on {}", package.name, dependency.name);
            }
        }
    }
    Ok(())
}

fn file_lengths(repository: &Path) -> anyhow::Result<()> {
    let mut too_long = Vec::new();
    let mut folders: Vec<_> = ["layers", "registry", "runtime", "builder", "cli", ".ci"]
        .iter()
        .map(|name| repository.join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_test = path.ends_with("tests.rs")
                || path.components().any(|part| part.as_os_str() == "tests");
            if path.extension().is_none_or(|extension| extension != "rs") || is_test {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let lines = text
                .lines()
                .take_while(|line| !line.starts_with("mod tests {"))
                .count();
            if lines > MAX_LINES {
                too_long.push(format!(
                    "{} has {lines} lines without its tests",
                    path.display()
                ));
            }
        }
    }
    if too_long.is_empty() {
        return Ok(());
    }
    bail!("more than {MAX_LINES} lines:\n  {}", too_long.join("\n  "))
}
