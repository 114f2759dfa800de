//! Who we are to which registry: Docker's and containers' credential files, and helpers.
//!
//! Looked through in this order, the first that knows the registry wins (explicit places before
//! customary ones): `REGISTRY_AUTH_FILE`, `DOCKER_CONFIG/config.json`,
//! `XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`,
//! `~/.docker/config.json`. When `REGISTRY_AUTH_FILE` is set, it is the only one.
//!
//! Own reading rather than a crate's, because keys may name a path within a registry
//! (containers-auth.json(5)), helpers must end in time, and environment variables are read by
//! nobody below the command line.

mod file;
mod helper;

use std::path::PathBuf;

use self::file::AuthFile;
use crate::error::Result;
use crate::secret::Secret;

/// What to show a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// A user and a password (or an access token that stands for one).
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token that a login left; the token service changes it into access tokens.
    IdentityToken(Secret),
    /// An access token that goes to the registry as it is.
    RegistryToken(Secret),
}

/// The places that environment variables point at; read by the command line, never here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialEnvironment {
    /// `REGISTRY_AUTH_FILE`: a file. Default none.
    pub registry_auth_file: Option<PathBuf>,
    /// `DOCKER_CONFIG`: a directory. Default none.
    pub docker_config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`. Default none.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `HOME`. Default none.
    pub home: Option<PathBuf>,
    /// `PATH`, where helpers are looked for; the process's own when absent. Default none.
    pub path: Option<std::ffi::OsString>,
}

impl CredentialEnvironment {
    /// Files to look through, in order.
    fn files(&self) -> Vec<PathBuf> {
        if let Some(only) = &self.registry_auth_file {
            return vec![only.clone()];
        }
        let places = [
            self.docker_config
                .as_ref()
                .map(|dir| dir.join("config.json")),
            self.xdg_runtime_dir
                .as_ref()
                .map(|dir| dir.join("containers/auth.json")),
            self.home
                .as_ref()
                .map(|home| home.join(".config/containers/auth.json")),
            self.home
                .as_ref()
                .map(|home| home.join(".docker/config.json")),
        ];
        places.into_iter().flatten().collect()
    }

    /// The file that a login writes to: an explicit place, else Docker's own, which all tools read.
    fn file_to_write(&self) -> Option<PathBuf> {
        self.registry_auth_file
            .clone()
            .or_else(|| Some(self.docker_config.as_ref()?.join("config.json")))
            .or_else(|| Some(self.home.as_ref()?.join(".docker/config.json")))
    }

    /// The credential for a repository (`host[:port]/path`) or a registry (`host[:port]`).
    ///
    /// # Errors
    /// When a file cannot be read or understood, or a helper that should know fails.
    pub fn find(&self, name: &str) -> Result<Option<Credential>> {
        for path in self.files() {
            let Some(file) = AuthFile::read(&path)? else {
                continue;
            };
            if let Some(credential) = file.find(name, self.path.as_deref())? {
                tracing::debug!(file = %path.display(), name, "credential found");
                return Ok(Some(credential));
            }
        }
        Ok(None)
    }

    /// Keeps a credential for a registry (`host[:port]`) or a path within it, and says where.
    ///
    /// # Errors
    /// When there is no place for it, or the file or the helper cannot take it.
    pub fn store(&self, name: &str, credential: &Credential) -> Result<Stored> {
        let path = self
            .file_to_write()
            .ok_or_else(|| crate::error::Error::Config {
                path: PathBuf::from("~/.docker/config.json"),
                source: "neither HOME nor DOCKER_CONFIG nor REGISTRY_AUTH_FILE is set".into(),
            })?;
        file::store(&path, name, credential, self.path.as_deref())
    }

    /// Forgets the credentials for exactly this name, in every file; the places it was in.
    ///
    /// # Errors
    /// When a file or a helper cannot be changed.
    pub fn erase(&self, name: &str) -> Result<Vec<Stored>> {
        let mut places = Vec::new();
        for path in self.files() {
            places.extend(file::erase(&path, name, self.path.as_deref())?);
        }
        Ok(places)
    }
}

/// Where a credential is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// In a file, readable to whoever can read it.
    File(PathBuf),
    /// With a helper program.
    Helper(String),
}

/// The name without what it may carry beside host and path; Docker Hub by its one name.
fn normal_name(key: &str) -> String {
    let legacy = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    // A key with a scheme is Docker's old form: what follows the host is an API version.
    let name = match legacy {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let (host, path) = match name.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (name, None),
    };
    let host = host.to_ascii_lowercase();
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => host,
    };
    match path {
        Some(path) => format!("{host}/{path}"),
        None => host,
    }
}

/// A name and its parents, longest first: `h/a/b`, `h/a`, `h`.
fn candidates(name: &str) -> Vec<&str> {
    let mut list = vec![name];
    let mut rest = name;
    while let Some((parent, _)) = rest.rsplit_once('/') {
        list.push(parent);
        rest = parent;
    }
    list
}

#[cfg(test)]
mod tests;
