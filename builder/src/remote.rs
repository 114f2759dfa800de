//! Files of other machines, as `ADD` wants them: a trait that the outside implements.

use std::io::Read;

use wythe_layers::tree::Timestamp;

use crate::BoxError;

/// Gets what `ADD https://…` names.
pub trait RemoteSource: Send + Sync {
    /// Opens a file over http or https. The caller caps and hashes what it reads.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    fn open_http(&self, url: &str) -> Result<RemoteFile, BoxError>;
}

/// A file of another machine.
pub struct RemoteFile {
    /// The name that the server gives it, without any directory; `None`: the URL's last part.
    pub name: Option<String>,
    /// `Last-Modified`.
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
