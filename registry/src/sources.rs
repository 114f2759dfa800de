//! Notes of which repositories were seen to have which blob, so that a push can mount it from
//! there instead of uploading it.
//!
//! ```text
//! <directory>/v1/<algorithm>/<hex>    one `registry/repository` a line, latest first
//! ```
//! Best effort: a note may be lost or wrong, then the blob is uploaded. Nothing here ever fails a
//! push or a pull.

use std::io::Write;
use std::path::PathBuf;

use wythe_layers::spec::Digest;

/// Notes kept per blob.
const MAX_SOURCES: usize = 8;
/// Longest file read, in bytes.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// A directory of notes.
#[derive(Debug, Clone)]
pub(crate) struct SourceRecords {
    directory: PathBuf,
}

impl SourceRecords {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory
            .join("v1")
            .join(digest.algorithm().as_str())
            .join(digest.hex())
    }

    fn read(&self, digest: &Digest) -> Vec<String> {
        let path = self.path(digest);
        let small = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= MAX_FILE_BYTES);
        if !small {
            return Vec::new();
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        text.lines()
            .take(MAX_SOURCES)
            .filter(|line| line.contains('/'))
            .map(str::to_owned)
            .collect()
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
        let mut lines = self.read(digest);
        if lines.first() == Some(&line) {
            return;
        }
        lines.retain(|other| *other != line);
        lines.insert(0, line);
        lines.truncate(MAX_SOURCES);
        if let Err(error) = self.write(digest, &lines) {
            tracing::debug!(%digest, %error, "cannot note where a blob is");
        }
    }

    fn write(&self, digest: &Digest, lines: &[String]) -> std::io::Result<()> {
        let path = self.path(digest);
        let directory = path.parent().unwrap_or(&self.directory);
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        for line in lines {
            writeln!(file, "{line}")?;
        }
        file.persist(&path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_sources_of_a_registry_come_first() {
        let directory = tempfile::tempdir().unwrap();
        let records = SourceRecords::new(directory.path().join("sources"));
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
