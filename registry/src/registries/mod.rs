//! containers-registries.conf(5), version 2: where a reference's registry really is.
//!
//! Read: `[[registry]]` with `prefix`, `location`, `insecure`, `blocked`, `mirror-by-digest-only`
//! and mirrors (`location`, `insecure`, `pull-from-mirror`). Not read: `[aliases]` and
//! `unqualified-search-registries`. A short name is `docker.io`'s on every machine, so that one
//! Dockerfile means one image; a `prefix` can still send it to a mirror.

mod file;

use std::path::{Path, PathBuf};

use wythe_layers::spec::Reference;

use self::file::{Mirror, PullFrom, Registry};
use crate::error::{Error, Result};

/// Where the files are; read by the command line, never here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistriesEnvironment {
    /// `CONTAINERS_REGISTRIES_CONF`: the only file read when set. Default none.
    pub registries_conf: Option<PathBuf>,
    /// `HOME`: `.config/containers/registries.conf` there goes before the system's. Default none.
    pub home: Option<PathBuf>,
    /// The system's directory. Default none; `/etc/containers` as a rule.
    pub system: Option<PathBuf>,
}

/// Parsed registries configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    registries: Vec<Registry>,
}

/// One place to ask for a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Endpoint {
    /// `host[:port]` as in a reference.
    pub(crate) host: String,
    /// The repository there.
    pub(crate) repository: String,
    /// Plain HTTP and certificates that cannot be checked are allowed.
    pub(crate) insecure: bool,
    pub(crate) is_mirror: bool,
}

impl Registries {
    /// Reads the configuration: the main file, then `registries.conf.d/*.conf` beside it in
    /// the order of their names, later entries replacing earlier ones of the same prefix.
    ///
    /// # Errors
    /// When a file cannot be read or understood.
    pub fn read(environment: &RegistriesEnvironment) -> Result<Self> {
        let mut merged = Self::default();
        if let Some(only) = &environment.registries_conf {
            merged.merge(file::read(only)?, only)?;
            return Ok(merged);
        }
        let user = environment
            .home
            .as_ref()
            .map(|home| home.join(".config/containers"));
        let system = environment.system.clone();
        // The user's main file replaces the system's; drop-ins of both count.
        let main = [&user, &system]
            .into_iter()
            .flatten()
            .map(|directory| directory.join("registries.conf"))
            .find(|path| path.is_file());
        if let Some(path) = main {
            merged.merge(file::read(&path)?, &path)?;
        }
        for directory in [&system, &user].into_iter().flatten() {
            for path in drop_ins(&directory.join("registries.conf.d"))? {
                merged.merge(file::read(&path)?, &path)?;
            }
        }
        Ok(merged)
    }

    /// Parses one file's text; `path` is for messages.
    ///
    /// # Errors
    /// When it is not a registries.conf of version 2.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut merged = Self::default();
        merged.merge(file::parse(text, path)?, path)?;
        Ok(merged)
    }

    fn merge(&mut self, file: file::File, path: &Path) -> Result<()> {
        for registry in file.registries {
            registry.check().map_err(|reason| Error::Config {
                path: path.to_owned(),
                source: reason.into(),
            })?;
            self.registries
                .retain(|other| other.prefix() != registry.prefix());
            self.registries.push(registry);
        }
        Ok(())
    }

    /// Where to pull `reference` from: mirrors in order, then the registry itself.
    pub(crate) fn pull_endpoints(&self, reference: &Reference) -> Result<Vec<Endpoint>> {
        let name = reference.name();
        let Some(registry) = self.find(&name) else {
            return Ok(vec![plain_endpoint(reference)]);
        };
        if registry.blocked {
            return Err(Error::Blocked {
                reference: reference.to_string(),
                prefix: registry.prefix().to_owned(),
            });
        }
        let by_digest = reference.digest().is_some();
        let mut endpoints = Vec::new();
        for mirror in &registry.mirrors {
            if serves(registry, mirror, by_digest) {
                let place = remap(&name, registry, &mirror.location);
                endpoints.push(endpoint(&place, mirror.insecure, true)?);
            }
        }
        endpoints.push(registry.main_endpoint(&name)?);
        Ok(endpoints)
    }

    /// Where to push to: never a mirror.
    pub(crate) fn push_endpoint(&self, reference: &Reference) -> Result<Endpoint> {
        let name = reference.name();
        match self.find(&name) {
            None => Ok(plain_endpoint(reference)),
            Some(registry) if registry.blocked => Err(Error::Blocked {
                reference: reference.to_string(),
                prefix: registry.prefix().to_owned(),
            }),
            Some(registry) => registry.main_endpoint(&name),
        }
    }

    /// A registry by itself, for logging in.
    pub(crate) fn host_endpoint(&self, host: &str) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            repository: String::new(),
            insecure: self.find(host).is_some_and(|registry| registry.insecure),
            is_mirror: false,
        }
    }

    /// The entry with the longest prefix that covers `name`.
    fn find(&self, name: &str) -> Option<&Registry> {
        self.registries
            .iter()
            .filter(|registry| covers(registry.prefix(), name))
            .max_by_key(|registry| registry.prefix().len())
    }
}

impl Registry {
    fn main_endpoint(&self, name: &str) -> Result<Endpoint> {
        let place = match self.location.as_deref() {
            Some(location) if !location.is_empty() => remap(name, self, location),
            _ => name.to_owned(),
        };
        endpoint(&place, self.insecure, false)
    }
}

fn serves(registry: &Registry, mirror: &Mirror, by_digest: bool) -> bool {
    match mirror.pull_from {
        PullFrom::DigestOnly => by_digest,
        PullFrom::TagOnly => !by_digest,
        PullFrom::All => !registry.mirror_by_digest_only || by_digest,
    }
}

fn plain_endpoint(reference: &Reference) -> Endpoint {
    Endpoint {
        host: reference.registry().to_owned(),
        repository: reference.repository().to_owned(),
        insecure: false,
        is_mirror: false,
    }
}

/// Whether a prefix covers a name: whole parts only, and `*.example.com` covers subdomains.
fn covers(prefix: &str, name: &str) -> bool {
    if let Some(suffix) = prefix.strip_prefix('*') {
        let host = name.split('/').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        return host.len() > suffix.len() && host.ends_with(suffix);
    }
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name with what the prefix covers replaced by the location.
fn remap(name: &str, registry: &Registry, location: &str) -> String {
    let prefix = registry.prefix();
    let rest = if prefix.starts_with('*') {
        // A wildcard covers the host; the location takes its place.
        name.split_once('/').map_or("", |(_, path)| path)
    } else {
        name.strip_prefix(prefix)
            .unwrap_or_default()
            .trim_start_matches('/')
    };
    if rest.is_empty() {
        location.to_owned()
    } else {
        format!("{location}/{rest}")
    }
}

/// Parses what remapping made, with the rules of references.
fn endpoint(place: &str, insecure: bool, is_mirror: bool) -> Result<Endpoint> {
    let invalid = |source| Error::Document {
        what: format!("{place:?} (from registries.conf)"),
        source,
    };
    let reference: Reference = place.parse().map_err(invalid)?;
    Ok(Endpoint {
        insecure,
        is_mirror,
        ..plain_endpoint(&reference)
    })
}

fn drop_ins(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", directory)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("read", directory))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "conf")
        {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests;
