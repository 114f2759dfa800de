//! Files of other machines, as `ADD` wants them: a trait that the outside implements.

use std::io::Read;
use std::path::Path;

use wythe_layers::tree::Timestamp;

use crate::{BoxError, Cancel, Secret};

/// Gets what `ADD https://…` and `ADD git@…` name.
pub trait RemoteSource: Send + Sync {
    /// Opens a file over http or https. The caller hashes what it reads.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    fn open_http(&self, wanted: &RemoteRequest<'_>) -> Result<RemoteAnswer, BoxError>;

    /// The commit that a branch, tag or other ref of a repository names now, in hexadecimal; of an
    /// annotated tag, the commit that it marks. `None` is the repository's default branch.
    ///
    /// # Errors
    /// When the repository cannot be reached, or has no such ref.
    fn find_commit(&self, repository: &str, name: Option<&str>) -> Result<String, BoxError> {
        let _ = name;
        Err(format!("{repository}: git repositories are not available here").into())
    }

    /// Puts the files of a commit into `into`, an empty directory.
    ///
    /// # Errors
    /// When the repository cannot be reached, or has no such commit.
    fn checkout(
        &self,
        wanted: &GitCheckout<'_>,
        into: &Path,
        cancel: &Cancel,
    ) -> Result<(), BoxError> {
        let (_, _) = (into, cancel);
        Err(format!(
            "{}: git repositories are not available here",
            wanted.repository
        )
        .into())
    }
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

/// A commit that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct GitCheckout<'a> {
    /// Where.
    pub repository: &'a str,
    /// A branch or tag that leads to it, for servers that hand out nothing else.
    pub name: Option<&'a str>,
    /// The commit, in full.
    pub commit: &'a str,
    /// Whether `.git` is kept.
    pub keep_git_dir: bool,
    /// Whether submodules are checked out too.
    pub submodules: bool,
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
