//! Files of other machines, as `ADD` wants them: a trait that the outside implements.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use wythe_layers::tree::Timestamp;

use crate::{
    Agent, BoxError, Cancel, GitAuthorization, GitCommit, GitRepository, GitTimes, Secret,
};

/// Gets what `ADD https://…` and `ADD git@…` name.
pub trait RemoteSource: Send + Sync {
    /// Opens a file over http or https. The caller hashes what it reads.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    fn open_http(&self, wanted: &RemoteRequest<'_>) -> Result<RemoteAnswer, BoxError>;

    /// What a branch, tag or other ref of a repository names now. Of a branch and a tag of one name
    /// it is the branch.
    ///
    /// # Errors
    /// When the repository cannot be reached, or has no such ref.
    fn find_commit(&self, remote: &GitRemote<'_>, cancel: &Cancel) -> Result<GitCommit, BoxError> {
        let _ = cancel;
        Err(format!(
            "{}: git repositories are not available here",
            remote.repository
        )
        .into())
    }

    /// Puts the files of a commit into `into`, an empty directory: with modes as a mask of 022
    /// leaves them, and nothing of git's own unless that is kept.
    ///
    /// # Errors
    /// When the repository cannot be reached, or has no such commit.
    fn checkout(
        &self,
        wanted: &GitCheckout<'_>,
        into: &Path,
        cancel: &Cancel,
    ) -> Result<CheckedOut, BoxError> {
        let (_, _) = (into, cancel);
        let repository = wanted.remote.repository;
        Err(format!("{repository}: git repositories are not available here").into())
    }
}

/// `Authorization` of a file over http: the secret `HTTP_AUTH_HEADER_<host>` is all of it,
/// `HTTP_AUTH_TOKEN_<host>` a bearer token; a host with its port goes before one without.
pub fn http_authorization(url: &str, secrets: &BTreeMap<String, Secret>) -> Option<Secret> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?', '#']).next()?;
    let with_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match with_port.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => with_port,
    };
    let find = |kind: &str| {
        let full = secrets.get(&format!("HTTP_AUTH_{kind}_{with_port}"));
        full.or_else(|| secrets.get(&format!("HTTP_AUTH_{kind}_{host}")))
    };
    if let Some(header) = find("HEADER") {
        return Some(header.clone());
    }
    let mut bearer = b"Bearer ".to_vec();
    bearer.extend_from_slice(find("TOKEN")?.expose().trim_ascii());
    Some(Secret::new(bearer))
}

/// A file that is asked for.
#[derive(Debug, Clone, Default)]
pub struct RemoteRequest<'a> {
    /// Where it is.
    pub url: &'a str,
    /// `Authorization` for the URL's own origin.
    pub authorization: Option<Secret>,
    /// The `ETag` of what is known already.
    pub etag: Option<&'a str>,
    /// The `Last-Modified` of what is known already.
    pub last_modified: Option<&'a str>,
}

/// What a server said.
#[derive(Debug)]
pub enum RemoteAnswer {
    /// The file is what the request says is known.
    Unchanged,
    /// A file.
    File(RemoteFile),
}

/// A repository that is asked.
#[derive(Debug, Clone)]
pub struct GitRemote<'a> {
    /// Where it is.
    pub repository: &'a GitRepository,
    /// The ref; `None`: the default branch.
    pub name: Option<&'a str>,
    /// `Authorization`, for this repository only.
    pub authorization: Option<GitAuthorization>,
    /// The agent that opens it, for ssh. No other key is used.
    pub ssh_agent: Option<&'a Agent>,
}

/// A commit that is asked for.
#[derive(Debug, Clone)]
pub struct GitCheckout<'a> {
    /// Where.
    pub remote: GitRemote<'a>,
    /// What.
    pub commit: &'a GitCommit,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out too.
    pub submodules: bool,
    /// What times the files get.
    pub times: GitTimes,
}

/// What is known of a commit once it is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedOut {
    /// When it was committed.
    pub committed: Timestamp,
}

/// A file of another machine.
pub struct RemoteFile {
    /// The name that the server gives it; `None`: the URL's last part. May hold anything.
    pub name: Option<String>,
    /// `ETag`, as the server wrote it.
    pub etag: Option<String>,
    /// `Last-Modified`, as the server wrote it.
    pub last_modified: Option<String>,
    /// The same as a time.
    pub modified: Option<Timestamp>,
    /// Its content.
    pub body: Box<dyn Read + Send>,
}

impl std::fmt::Debug for RemoteFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteFile")
            .field("name", &self.name)
            .field("modified", &self.modified)
            .finish_non_exhaustive()
    }
}
