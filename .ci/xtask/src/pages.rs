//! The pages that the binary itself writes: manual pages and shell completions, kept in
//! `docs/man/` and `docs/completions/` so that packagers need not run it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// File name in `docs/completions/` and the shell it is for.
const COMPLETIONS: [(&str, &str); 3] = [
    ("wythe.bash", "bash"),
    ("_wythe", "zsh"),
    ("wythe.fish", "fish"),
];

pub(crate) fn write(repository: &Path) -> anyhow::Result<()> {
    for (name, bytes) in generate(repository)? {
        let path = repository.join("docs").join(name);
        std::fs::create_dir_all(path.parent().context("a page has a folder")?)?;
        std::fs::write(path, bytes)?;
    }
    Ok(())
}

pub(crate) fn check(repository: &Path) -> anyhow::Result<()> {
    for (name, bytes) in generate(repository)? {
        let path = repository.join("docs").join(&name);
        if std::fs::read(&path).ok().as_ref() != Some(&bytes) {
            bail!("docs/{name} is not up to date: run `cargo xtask pages`");
        }
    }
    Ok(())
}

/// Path below `docs/` → bytes.
fn generate(repository: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let wythe = super::wythe_binary(repository, false)?;
    let folder = tempfile::tempdir()?;
    super::run(Command::new(&wythe).arg("man").arg(folder.path()))?;
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(folder.path())? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .ok()
            .context("a page's name is text")?;
        pages.insert(format!("man/{name}"), std::fs::read(entry.path())?);
    }
    for (name, shell) in COMPLETIONS {
        let output = Command::new(&wythe).args(["completion", shell]).output()?;
        if !output.status.success() {
            bail!("`wythe completion {shell}` failed");
        }
        pages.insert(format!("completions/{name}"), output.stdout);
    }
    Ok(pages)
}
