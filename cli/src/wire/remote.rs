//! The builder's remote files: over http by the registry crate's engine, repositories by `git`.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use wythe_builder::{
    BoxError, Cancel, CheckedOut, GitCheckout, GitCommit, GitRemote, RemoteAnswer, RemoteFile,
    RemoteRequest, RemoteSource,
};
use wythe_layers::tree::Timestamp;
use wythe_registry::{Download, Downloaded, Downloader, Secret};

use super::git::Git;

/// Gets what `ADD` and contexts name.
#[derive(Debug)]
pub(crate) struct Remote {
    downloader: Downloader,
    git: Git,
}

impl Remote {
    pub(crate) fn new(downloader: Downloader, git: Git) -> Self {
        Self { downloader, git }
    }
}

impl RemoteSource for Remote {
    fn open_http(&self, wanted: &RemoteRequest<'_>) -> Result<RemoteAnswer, BoxError> {
        let authorization = match &wanted.authorization {
            Some(secret) => Some(Secret::new(std::str::from_utf8(secret.expose())?)),
            None => None,
        };
        let found = self.downloader.get(&Download {
            url: wanted.url,
            authorization,
            etag: wanted.etag,
            last_modified: wanted.last_modified,
        })?;
        Ok(match found {
            Downloaded::Unchanged => RemoteAnswer::Unchanged,
            Downloaded::File(file) => RemoteAnswer::File(RemoteFile {
                name: file.name,
                etag: file.etag,
                last_modified: file.last_modified,
                modified: file.modified.map(timestamp),
                body: file.body,
            }),
        })
    }

    fn find_commit(&self, remote: &GitRemote<'_>, cancel: &Cancel) -> Result<GitCommit, BoxError> {
        Ok(self.git.find_commit(remote, cancel)?)
    }

    fn checkout(
        &self,
        wanted: &GitCheckout<'_>,
        into: &Path,
        cancel: &Cancel,
    ) -> Result<CheckedOut, BoxError> {
        Ok(self.git.checkout(wanted, into, cancel)?)
    }
}

/// Seconds since 1970; times before that are 1970.
fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
