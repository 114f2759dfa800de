//! Places in git repositories, as `ADD` and contexts write them.
//!
//! Pure: an address is understood here and nowhere else; a [`RemoteSource`](crate::RemoteSource)
//! is what asks the repository. Whatever decides which files come of a place goes into
//! [`GitPlace`], so that a cache key can be made of it and of the commit alone.

mod address;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;

use crate::path::clean_in_root;
use crate::{Error, Result, Secret};

/// Where a directory of a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitPlace {
    /// The repository.
    pub repository: GitRepository,
    /// Branch, tag, other ref or full commit. `None`: the default branch.
    pub name: Option<String>,
    /// A directory in it, as written. `None`: all of it.
    pub directory: Option<String>,
    /// What the commit's name, or that of the tag, must begin with.
    pub checksum: Option<String>,
    /// Whether `.git` stays; `None` when the address does not say.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are there. Default: yes.
    pub submodules: bool,
    /// What times the files get. Default: that of the checkout.
    pub times: GitTimes,
    /// The checksum is the commit, whatever the ref says. Default: no.
    pub fetch_by_commit: bool,
}

/// What times checked out files get (`mtime=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GitTimes {
    /// When they were checked out.
    #[default]
    Checkout,
    /// That of the commit.
    Commit,
}

/// A repository's address, which may hold a password: nothing prints that.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitRepository(String);

/// What a ref came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCommit {
    /// The ref's full name (`refs/heads/main`); `None` when a commit was asked for.
    pub reference: Option<String>,
    /// What the ref points to: a commit, or a tag that has a text of its own.
    pub object: String,
    /// The commit.
    pub commit: String,
}

/// An address that begins like one of a repository and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GitPlaceError {
    /// `?ref=`.
    #[error("query {key:?} has no value")]
    NoValue {
        /// Which.
        key: String,
    },
    /// `?ref=a&ref=b`.
    #[error("query {key:?} has multiple values")]
    SeveralValues {
        /// Which.
        key: String,
    },
    /// Two that differ.
    #[error("{what} conflicts: {first:?} vs {second:?}")]
    Conflict {
        /// `ref` or `subdir`.
        what: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// `?branch=a&tag=b`.
    #[error("branch conflicts with tag")]
    BranchAndTag,
    /// `?submodules=maybe`.
    #[error("invalid {key} value: {value:?}")]
    BadValue {
        /// Which.
        key: &'static str,
        /// What it was given.
        value: String,
    },
    /// `?depth=1`.
    #[error(
        "unexpected query {key:?}; known are ref, tag, branch, subdir, commit, checksum, keep-git-dir, submodules, mtime and fetch-by-commit"
    )]
    UnknownKey {
        /// Which.
        key: String,
    },
    /// A ref that could be an option, or is no ref.
    #[error("invalid git ref {name:?}")]
    BadRef {
        /// Which.
        name: String,
    },
    /// A checksum that is none.
    #[error("invalid checksum {checksum:?} for Git URL, expected hex commit hash")]
    BadChecksum {
        /// Which.
        checksum: String,
    },
    /// `fetch-by-commit` without the commit.
    #[error("fetch-by-commit requires a full commit as ref or checksum")]
    NoCommit,
    /// The commit is not the one that was asked for.
    #[error("expected checksum to match {expected}, got {actual}")]
    WrongCommit {
        /// What was asked for.
        expected: String,
        /// What there is.
        actual: String,
    },
    /// `#main:link`, where `link` is no directory.
    #[error("{path:?} is not a directory of the repository")]
    NotADirectory {
        /// As it was written.
        path: String,
    },
}

impl GitPlace {
    /// Understands an address: `REPOSITORY[?KEY=VALUE&…][#REF[:DIRECTORY]]`. `None` when it is
    /// none of a repository: those begin with `git://` or `ssh://`, look like `user@host:path`, or
    /// are of http(s) and end with `.git`.
    ///
    /// # Errors
    /// When it is one, and what it says of the repository is wrong.
    pub fn parse(text: &str) -> Result<Option<Self>, GitPlaceError> {
        address::parse(text)
    }

    /// The same with `github.com/…`, which only contexts may be.
    ///
    /// # Errors
    /// As [`GitPlace::parse`].
    pub fn parse_context(text: &str) -> Result<Option<Self>, GitPlaceError> {
        if text.starts_with("github.com/") {
            return address::parse_http(&format!("https://{text}"));
        }
        address::parse(text)
    }

    /// The commit, where the address tells it; `None` when the repository has to be asked.
    ///
    /// # Errors
    /// When name and checksum contradict each other.
    pub fn known_commit(&self) -> Result<Option<GitCommit>, GitPlaceError> {
        if let Some(checksum) = &self.checksum
            && !checksum.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Err(GitPlaceError::BadChecksum {
                checksum: checksum.clone(),
            });
        }
        if let Some(commit) = self.name.as_ref().filter(|name| is_commit(name)) {
            let known = GitCommit::only(commit, None);
            self.check(&known)?;
            return Ok(Some(known));
        }
        if !self.fetch_by_commit {
            return Ok(None);
        }
        let commit = self.checksum.as_ref().filter(|sum| is_commit(sum));
        let commit = commit.ok_or(GitPlaceError::NoCommit)?;
        let reference = self.name.as_ref().map(|name| {
            if name.starts_with("refs/") {
                name.clone()
            } else {
                format!("refs/heads/{name}")
            }
        });
        Ok(Some(GitCommit::only(commit, reference)))
    }

    /// The commit that it must be, if it is there at all: what the cache may be asked for first.
    pub(crate) fn likely_commit(&self) -> Option<GitCommit> {
        let checksum = self.checksum.as_ref().filter(|sum| is_commit(sum))?;
        Some(GitCommit::only(checksum, None))
    }

    /// Whether a commit that was found is the one that was asked for.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, found: &GitCommit) -> Result<(), GitPlaceError> {
        let Some(expected) = &self.checksum else {
            return Ok(());
        };
        if found.object.starts_with(expected.as_str())
            || found.commit.starts_with(expected.as_str())
        {
            return Ok(());
        }
        let actual = if found.object == found.commit {
            found.commit.clone()
        } else {
            format!("{} or {}", found.object, found.commit)
        };
        Err(GitPlaceError::WrongCommit {
            expected: expected.clone(),
            actual,
        })
    }

    /// Whether `.git` is kept: never of a directory inside.
    pub fn keeps_git_dir(&self) -> bool {
        self.keep_git_dir == Some(true) && self.inner_directory().is_none()
    }

    /// The directory, normalised; `None` when it is the top.
    pub fn inner_directory(&self) -> Option<String> {
        let path = clean_in_root(self.directory.as_deref()?.as_bytes())?;
        let text = String::from_utf8_lossy(path.as_bytes()).into_owned();
        (!text.is_empty()).then_some(text)
    }

    /// The directory in a checkout: links of the repository may lead out of it, so none is followed.
    ///
    /// # Errors
    /// When it is not a directory.
    pub fn find_directory(&self, checkout: &Path) -> Result<PathBuf, GitPlaceError> {
        let mut path = checkout.to_owned();
        let Some(inner) = self.inner_directory() else {
            return Ok(path);
        };
        for part in inner.split('/') {
            path.push(part);
            let kind = std::fs::symlink_metadata(&path);
            if !kind.is_ok_and(|found| found.is_dir()) {
                return Err(GitPlaceError::NotADirectory { path: inner });
            }
        }
        Ok(path)
    }

    /// For messages.
    pub(crate) fn error(&self, source: GitPlaceError) -> Error {
        Error::Git {
            repository: self.repository.clone(),
            source,
        }
    }
}

impl GitCommit {
    fn only(commit: &str, reference: Option<String>) -> Self {
        Self {
            reference,
            object: commit.to_owned(),
            commit: commit.to_owned(),
        }
    }
}

impl GitRepository {
    pub(crate) fn new(address: String) -> Self {
        Self(address)
    }

    /// Scheme, user and password, host with port, path; the scheme of `user@host:path` is `ssh`.
    fn parts(&self) -> (&str, Option<&str>, &str, &str) {
        let Some((scheme, rest)) = self.0.split_once("://") else {
            let (user, rest) = self.0.split_once('@').unwrap_or(("", &self.0));
            let (host, path) = rest.split_once(':').unwrap_or((rest, ""));
            return ("ssh", Some(user), host, path);
        };
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) => (scheme, Some(user), host, path),
            None => (scheme, None, authority, path),
        }
    }

    /// Whether it is reached with ssh, which needs an agent.
    pub fn is_ssh(&self) -> bool {
        self.parts().0 == "ssh"
    }

    /// The address for `git`: without what opens it, if it is of http. An ssh user stays.
    pub fn address(&self) -> String {
        match self.parts() {
            (scheme @ ("http" | "https"), _, host, path) => format!("{scheme}://{host}{path}"),
            _ => self.0.clone(),
        }
    }

    /// `text`, in which this address was written, without what opens the repository.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        match self.parts() {
            ("http" | "https", Some(user), ..) => text.replacen(&format!("{user}@"), "", 1),
            _ => text.to_owned(),
        }
    }

    /// Host and port, as secrets are named after.
    pub fn host(&self) -> &str {
        self.parts().2
    }

    /// `Authorization` for it: `GIT_AUTH_HEADER` and `GIT_AUTH_TOKEN` of the host, then of any,
    /// then what the address itself has. Only http knows it.
    pub fn authorization<'s>(
        &self,
        find: impl Fn(&str) -> Option<&'s Secret>,
    ) -> Option<GitAuthorization> {
        let (scheme, user, host, _) = self.parts();
        if !matches!(scheme, "http" | "https") {
            return None;
        }
        let basic = |plain: &[u8]| {
            let mut header = b"basic ".to_vec();
            header.extend(
                base64::engine::general_purpose::STANDARD
                    .encode(plain)
                    .into_bytes(),
            );
            Secret::new(header)
        };
        for suffix in [format!(".{host}"), String::new()] {
            // Files end with a line feed, headers do not.
            let header = find(&format!("GIT_AUTH_HEADER{suffix}"))
                .map(|header| Secret::new(header.expose().trim_ascii()));
            let token = || {
                let token = find(&format!("GIT_AUTH_TOKEN{suffix}"))?;
                let token = token.expose().trim_ascii();
                Some(basic(&[b"x-access-token:", token].concat()))
            };
            if let Some(header) = header.or_else(token) {
                let address = self.address();
                // One token opens all that a user has there; submodules are mostly at the same place.
                let hub = ["https://github.com/", "https://www.github.com/"]
                    .into_iter()
                    .find(|hub| address.starts_with(hub));
                return Some(GitAuthorization {
                    scope: hub.map_or(address.clone(), str::to_owned),
                    header,
                });
            }
        }
        let (name, password) = match user? {
            "" => return None,
            user => user.split_once(':').unwrap_or((user, "")),
        };
        let plain = [
            address::decode_lossy(name),
            b":".to_vec(),
            address::decode_lossy(password),
        ];
        Some(GitAuthorization {
            scope: format!("{scheme}://{host}/"),
            header: basic(&plain.concat()),
        })
    }
}

/// `Authorization`, and the address below which it may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitAuthorization {
    /// A prefix of addresses, as `http.<url>.*` of git-config(1) has it.
    pub scope: String,
    /// The header's value.
    pub header: Secret,
}

impl fmt::Display for GitRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())
    }
}

impl fmt::Debug for GitRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.address())
    }
}

/// Whether this is a commit's full name.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64)
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
