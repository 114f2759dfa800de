//! The text of registries.conf, as serde sees it.

use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};

/// One file.
#[derive(Debug, Default, Deserialize)]
pub(super) struct File {
    #[serde(default, rename = "registry")]
    pub(super) registries: Vec<Registry>,
    /// The tables of version 1: `[registries.search]` and so on.
    #[serde(default, rename = "registries")]
    version_1: Option<serde::de::IgnoredAny>,
}

/// `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Registry {
    prefix: Option<String>,
    pub(super) location: Option<String>,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirror_by_digest_only: bool,
    #[serde(rename = "mirror")]
    pub(super) mirrors: Vec<Mirror>,
}

/// `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Mirror {
    pub(super) location: String,
    #[serde(default)]
    pub(super) insecure: bool,
    #[serde(default, rename = "pull-from-mirror")]
    pub(super) pull_from: PullFrom,
}

/// Which references a mirror serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PullFrom {
    #[default]
    All,
    DigestOnly,
    TagOnly,
}

impl Registry {
    /// The prefix, which is the location where it is not given.
    pub(super) fn prefix(&self) -> &str {
        let given = |field: &'_ Option<String>| field.as_deref().is_some_and(|t| !t.is_empty());
        let field = if given(&self.prefix) {
            &self.prefix
        } else {
            &self.location
        };
        field.as_deref().unwrap_or_default()
    }

    /// The rules of containers-registries.conf(5) that serde cannot hold.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let prefix = self.prefix();
        if prefix.is_empty() {
            return Err("a [[registry]] has neither prefix nor location".into());
        }
        if prefix.contains("://") || prefix.ends_with('/') {
            return Err(format!(
                "prefix {prefix:?} is not host[:port][/path]: no scheme, no slash at the end"
            ));
        }
        if let Some(rest) = prefix.strip_prefix('*')
            && (!rest.starts_with('.') || rest.len() < 2 || rest.contains(['/', '*', ':']))
        {
            return Err(format!(
                "prefix {prefix:?} is not of the form *.example.com"
            ));
        }
        let has_mirror_mode = self
            .mirrors
            .iter()
            .any(|mirror| mirror.pull_from != PullFrom::All);
        if self.mirror_by_digest_only && has_mirror_mode {
            return Err(format!(
                "{prefix}: mirror-by-digest-only and pull-from-mirror exclude each other"
            ));
        }
        Ok(())
    }
}

/// Parses a file.
pub(super) fn parse(text: &str, path: &Path) -> Result<File> {
    let file: File = toml::from_str(text).map_err(|source| Error::Config {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    if file.version_1.is_some() {
        return Err(Error::Config {
            path: path.to_owned(),
            source: "it is of version 1 ([registries.…]); version 2 has [[registry]]".into(),
        });
    }
    Ok(file)
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    parse(&text, path)
}
