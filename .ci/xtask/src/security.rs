//! `docs/SECURITY.md` promises tests: each one that it names must be there.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// Fewest names that the page must have, so that a changed layout does not pass for an empty one.
const FEWEST: usize = 50;

pub(crate) fn check(repository: &Path) -> anyhow::Result<()> {
    let path = repository.join("docs/SECURITY.md");
    let page = std::fs::read_to_string(&path).context("cannot read docs/SECURITY.md")?;
    let promised = promised(&page);
    ensure!(
        promised.len() >= FEWEST,
        "docs/SECURITY.md names {} tests only: has its layout changed?",
        promised.len()
    );
    let there = functions(repository)?;
    let missing: Vec<&str> = promised.difference(&there).map(String::as_str).collect();
    if !missing.is_empty() {
        bail!(
            "docs/SECURITY.md names tests that are not there:\n  {}",
            missing.join("\n  ")
        );
    }
    Ok(())
}

/// The names in backticks in the third column of every table.
fn promised(page: &str) -> BTreeSet<String> {
    let rows = page.lines().filter(|line| line.starts_with('|'));
    let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// The names of all functions in the workspace's sources.
fn functions(repository: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let crates = ["layers", "registry", "runtime", "builder", "cli"];
    let mut folders: Vec<_> = crates.iter().map(|name| repository.join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)?;
                let names = text.split("fn ").skip(1).filter_map(|rest| {
                    let (name, _) = rest.split_once(['(', '<'])?;
                    Some(name.to_owned())
                });
                found.extend(names);
            }
        }
    }
    Ok(found)
}
