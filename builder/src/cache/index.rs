//! The index from cache key to result, one small file per key.
//!
//! ```text
//! STORE/cache/v1/keys/ab/<64 hex digits>          {"key":…,"result":{"layer":<diff ID>}} or {"empty"}
//!                     ab/<64 hex digits>.inputs   what the key was made of, for people
//!              v1/remote/<64 hex digits>          a remote file's digest and validators, by address
//!              v1/context/<64 hex digits>         digests of a context directory's files
//! ```
//!
//! Records are written whole or not at all, and never changed. One that cannot be read (torn by a
//! crash, of a newer version) is a miss, never an error. Readers need no lock.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use wythe_layers::spec::{DiffId, Digest};
use wythe_layers::store::Store;

use super::CacheKey;
use crate::{Error, Result};

/// A record is some hundred bytes; what is longer is not one.
const MAX_RECORD_BYTES: u64 = 4096;

/// Of a record of a remote file, whose strings are a server's.
const MAX_REMOTE_BYTES: u64 = 64 << 10;

/// What a step gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CachedResult {
    /// A layer.
    Layer(DiffId),
    /// It changed no file.
    Empty,
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: Digest,
    result: CachedResult,
}

/// A file of another machine, as it was when it was last fetched.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RemoteRecord {
    /// Of its address, which may hold a password.
    pub(crate) url: Digest,
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
    pub(crate) name: String,
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
}

/// The index of a store.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    directory: PathBuf,
}

impl Index {
    /// The index of `store`.
    pub(crate) fn new(store: &Store) -> Self {
        Self {
            directory: store.root().join("cache").join("v1"),
        }
    }

    /// Where the digests of a context directory are remembered.
    pub(crate) fn context_memo(&self, directory: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let name = Digest::of(directory.as_os_str().as_bytes());
        self.directory.join("context").join(name.hex())
    }

    /// The result recorded for a key; `None` when there is none that can be read.
    pub(crate) fn get(&self, key: &CacheKey) -> Option<CachedResult> {
        let path = self.path(key.digest());
        let bytes = read_bounded(&path, MAX_RECORD_BYTES).ok()??;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.key == *key.digest()).then_some(record.result)
    }

    /// Records the result for a key.
    pub(crate) fn put(&self, key: &CacheKey, result: &CachedResult) -> Result<()> {
        let path = self.path(key.digest());
        let mut inputs = String::new();
        for (name, value) in key.inputs() {
            inputs.push_str(name);
            inputs.push(' ');
            inputs.push_str(&value.escape_debug().to_string());
            inputs.push('\n');
        }
        write_atomically(&path.with_extension("inputs"), inputs.as_bytes())?;
        let record = Record {
            key: key.digest().clone(),
            result: result.clone(),
        };
        let bytes = serde_json::to_vec(&record).map_err(|source| Error::Io {
            operation: "encode",
            path: path.clone(),
            source: source.into(),
        })?;
        write_atomically(&path, &bytes)
    }

    /// What is known of a remote file.
    pub(crate) fn remote_file(&self, url: &str) -> Option<RemoteRecord> {
        let bytes = read_bounded(&self.remote_path(url), MAX_REMOTE_BYTES).ok()??;
        let record: RemoteRecord = serde_json::from_slice(&bytes).ok()?;
        let revalidates = record.etag.is_some() || record.last_modified.is_some();
        (revalidates && record.url == Digest::of(url.as_bytes())).then_some(record)
    }

    /// Keeps what is known of a remote file.
    pub(crate) fn put_remote_file(&self, url: &str, record: &RemoteRecord) -> Result<()> {
        let path = self.remote_path(url);
        let bytes = serde_json::to_vec(record).map_err(|source| Error::Io {
            operation: "encode",
            path: path.clone(),
            source: source.into(),
        })?;
        write_atomically(&path, &bytes)
    }

    fn remote_path(&self, url: &str) -> PathBuf {
        let name = Digest::of(url.as_bytes());
        self.directory.join("remote").join(name.hex())
    }

    fn path(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        let shard = hex.get(..2).unwrap_or(hex);
        self.directory.join("keys").join(shard).join(hex)
    }
}

/// The layers that the build cache of `store` knows, each as a stack of its own: what garbage
/// collection must keep for them to be found again.
///
/// # Errors
/// When the index cannot be listed. Records that cannot be read are passed over.
pub fn cached_stacks(store: &Store) -> Result<Vec<Vec<DiffId>>> {
    let keys = Index::new(store).directory.join("keys");
    let mut stacks = Vec::new();
    for shard in list(&keys)? {
        for path in list(&shard)? {
            if path.extension().is_some() {
                continue;
            }
            let bytes = read_bounded(&path, MAX_RECORD_BYTES).ok().flatten();
            let record = bytes.and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
            if let Some(CachedResult::Layer(diff_id)) = record.map(|record| record.result) {
                stacks.push(vec![diff_id]);
            }
        }
    }
    stacks.sort();
    stacks.dedup();
    Ok(stacks)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", directory)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", directory))?;
        paths.push(entry.path());
    }
    Ok(paths)
}

/// Reads a file of at most `max` bytes; `None` when there is none, or it is longer.
pub(crate) fn read_bounded(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= max).then_some(bytes))
}

/// Writes a file beside its place and renames it there. No fsync: what a crash tears is a miss.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
    let (temporary, mut file) =
        create_temporary(directory).map_err(Error::io("create a file in", directory))?;
    let written = file
        .write_all(bytes)
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // Best effort: nobody else uses this name.
        let _ = fs::remove_file(&temporary);
        Error::Io {
            operation: "write",
            path: path.to_owned(),
            source,
        }
    })
}

fn create_temporary(directory: &Path) -> io::Result<(PathBuf, File)> {
    let process = std::process::id();
    let mut number = 0_u32;
    loop {
        let path = directory.join(format!(".tmp-{process}-{number}"));
        match File::create_new(&path) {
            Ok(file) => return Ok((path, file)),
            // Another thread's, or what a process of the same id left behind.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyBuilder;
    use super::*;

    #[test]
    fn a_torn_or_foreign_record_is_a_miss() {
        let directory = tempfile::tempdir().unwrap();
        let index = Index {
            directory: directory.path().to_owned(),
        };
        let mut builder = KeyBuilder::new("copy");
        builder.push("file", "a\nb");
        let key = builder.finish();
        assert_eq!(index.get(&key), None);
        let result = CachedResult::Layer(DiffId(Digest::of(b"x")));
        index.put(&key, &result).unwrap();
        assert_eq!(index.get(&key), Some(result));
        index.put(&key, &CachedResult::Empty).unwrap();
        assert_eq!(index.get(&key), Some(CachedResult::Empty));

        let path = index.path(key.digest());
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(index.get(&key), None, "cut at {cut}");
        }
        let other = KeyBuilder::new("run").finish();
        fs::create_dir_all(index.path(other.digest()).parent().unwrap()).unwrap();
        fs::write(index.path(other.digest()), &whole).unwrap();
        assert_eq!(index.get(&other), None, "a record of another key");
        fs::write(&path, vec![b' '; 1 << 20]).unwrap();
        assert_eq!(index.get(&key), None, "too long");
    }
}
