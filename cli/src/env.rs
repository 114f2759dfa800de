//! The environment variables that wythe reads, and the only place that reads them.
//!
//! Libraries get what they need as values. `docs/environment.md` lists the same names for users;
//! a test holds the two together.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Every variable that is read, and what it does.
pub(crate) const REGISTER: &[(&str, &str)] = &[
    ("WYTHE_ROOT", "directory of the store, as `--root`"),
    (
        "WYTHE_BUILD_NETWORK",
        "network of RUN steps, as `build --network`",
    ),
    (
        "WYTHE_LOG",
        "what to log on standard error, as `tracing` directives; overrides `--debug`",
    ),
    (
        "SOURCE_DATE_EPOCH",
        "seconds since 1970 that times in new layers and configs are clamped to; the build argument of this name, where that is not given",
    ),
    ("CONTAINERS_REGISTRIES_CONF", "path of registries.conf"),
    ("REGISTRY_AUTH_FILE", "path of the credentials file"),
    ("DOCKER_CONFIG", "directory of Docker's config.json"),
    (
        "HOME",
        "where the user's configuration and data are, and `.ssh/known_hosts`",
    ),
    ("XDG_CONFIG_HOME", "where the user's configuration is"),
    ("XDG_DATA_HOME", "where the user's data is"),
    ("XDG_RUNTIME_DIR", "where short-lived credentials are"),
    ("PATH", "where helper programs are looked up"),
    ("TMPDIR", "where input from a pipe is kept while it is read"),
    (
        "HTTP_PROXY",
        "proxy for plain HTTP; also passed to RUN steps",
    ),
    ("HTTPS_PROXY", "proxy for HTTPS; also passed to RUN steps"),
    ("FTP_PROXY", "passed to RUN steps"),
    (
        "ALL_PROXY",
        "proxy for everything; also passed to RUN steps",
    ),
    (
        "NO_PROXY",
        "hosts that need no proxy; also passed to RUN steps",
    ),
    (
        "SSH_AUTH_SOCK",
        "agent socket behind `--ssh default`, and for contexts that are repositories over ssh",
    ),
    ("NO_COLOR", "no colours, whatever its value"),
    ("TERM", "passed to containers that have a terminal"),
    (
        "COLUMNS",
        "width to wrap at where the terminal does not tell",
    ),
];

/// The environment at start, read once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The process's environment.
    pub(crate) fn capture() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
        }
    }

    /// A variable that is set and not empty, as a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        debug_assert!(
            REGISTER.iter().any(|(known, _)| *known == name),
            "{name} is not registered"
        );
        self.variables
            .get(std::ffi::OsStr::new(name))
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    }

    /// A registered variable as text; what is not UTF-8 counts as not set.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        debug_assert!(
            REGISTER.iter().any(|(known, _)| *known == name),
            "{name} is not registered"
        );
        self.user_text(name)
    }

    /// A variable that the user named (`-e NAME`, `--build-arg NAME`).
    pub(crate) fn user_text(&self, name: &str) -> Option<String> {
        self.variables
            .get(std::ffi::OsStr::new(name))?
            .to_str()
            .map(str::to_owned)
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }

    /// `$XDG_DATA_HOME`, else `~/.local/share`.
    pub(crate) fn data_home(&self) -> Option<PathBuf> {
        self.path("XDG_DATA_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| Some(self.home()?.join(".local/share")))
    }

    /// `$XDG_CONFIG_HOME`, else `~/.config`.
    pub(crate) fn config_home(&self) -> Option<PathBuf> {
        self.path("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| Some(self.home()?.join(".config")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_variable() {
        let page = include_str!("../../docs/environment.md");
        for (name, _) in REGISTER {
            assert!(
                page.contains(&format!("`{name}`")),
                "docs/environment.md lacks {name}"
            );
        }
    }
}
