//! Notes of which repositories were seen to have which blob, so that a push can mount it from
//! there instead of uploading it.
//!
//! Best effort: a note may be lost or wrong, then the blob is uploaded. Nothing here ever fails a
//! push or a pull.

use serde::{Deserialize, Serialize};
use wythe_layers::spec::Digest;
use wythe_layers::store::{Records, Store};

/// The kind of record, in the store.
const KIND: &str = "sources/v1";
/// Notes kept per blob.
const MAX_SOURCES: usize = 8;

/// Where a blob was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// `registry/repository`, latest first.
    repositories: Vec<String>,
}

/// The notes of one store.
#[derive(Debug, Clone)]
pub struct BlobSources(Records<Seen>);

impl BlobSources {
    /// The notes that lie in `store`.
    pub fn of(store: &Store) -> Self {
        Self(store.records(KIND))
    }

    fn read(&self, digest: &Digest) -> Vec<String> {
        match self.0.get(digest) {
            Ok(seen) => seen.unwrap_or_default().repositories,
            Err(error) => {
                tracing::debug!(%digest, %error, "cannot read where a blob is");
                Vec::new()
            }
        }
    }

    /// Repositories of `registry` other than `but` that were seen to have the blob.
    pub(crate) fn repositories(&self, digest: &Digest, registry: &str, but: &str) -> Vec<String> {
        self.read(digest)
            .iter()
            .filter_map(|line| line.split_once('/'))
            .filter(|(host, repository)| *host == registry && *repository != but)
            .map(|(_, repository)| repository.to_owned())
            .collect()
    }

    /// Notes that a repository has a blob.
    pub(crate) fn note(&self, digest: &Digest, registry: &str, repository: &str) {
        let line = format!("{registry}/{repository}");
        let mut repositories = self.read(digest);
        if repositories.first() == Some(&line) {
            return;
        }
        repositories.retain(|other| *other != line);
        repositories.insert(0, line);
        repositories.truncate(MAX_SOURCES);
        if let Err(error) = self.0.put(digest, &Seen { repositories }) {
            tracing::debug!(%digest, %error, "cannot note where a blob is");
        }
    }
}

#[cfg(test)]
mod tests {
    use wythe_layers::tree::Flavour;

    use super::*;

    #[test]
    fn the_latest_sources_of_a_registry_come_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), Flavour::SingleId).unwrap();
        let records = BlobSources::of(&store);
        let digest = Digest::of(b"x");
        assert!(records.repositories(&digest, "r", "a").is_empty());
        for repository in ["a", "b", "c/d", "a"] {
            records.note(&digest, "r", repository);
        }
        records.note(&digest, "other:5000", "z");
        assert_eq!(records.repositories(&digest, "r", "b"), ["a", "c/d"]);
        for n in 0..20 {
            records.note(&digest, "r", &format!("n{n}"));
        }
        assert_eq!(records.repositories(&digest, "r", "").len(), MAX_SOURCES);
    }
}
