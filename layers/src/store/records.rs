//! Small persisted facts that can be found out again: one JSON file each, named by a digest.
//!
//! Written atomically but without fsync: after a loss of power a record may be missing or torn,
//! and either counts as absent.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout;
use super::temp::{self, Durability};
use crate::spec::{Algorithm, Digest};
use crate::{Error, Result};

/// Largest record read, in bytes: an order of magnitude above what is ever written.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// The records of one kind. The version of their format is part of the directory's name
/// (`layers/v1`), so another version never reads them.
#[derive(Debug)]
pub struct Records<T> {
    dir: PathBuf,
    temp_dir: PathBuf,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for Records<T> {
    fn clone(&self) -> Self {
        Self::new(self.dir.clone(), self.temp_dir.clone())
    }
}

impl<T> Records<T> {
    pub(super) fn new(dir: PathBuf, temp_dir: PathBuf) -> Self {
        Self {
            dir,
            temp_dir,
            kind: PhantomData,
        }
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a record is or would be.
    pub fn path(&self, key: &Digest) -> PathBuf {
        self.dir.join(format!("{}.json", key.hex()))
    }

    /// Removes a record; `false` when there was none.
    pub fn remove(&self, key: &Digest) -> Result<bool> {
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::write("remove", &path)(error)),
        }
    }

    /// The keys of all records, sorted.
    pub fn keys(&self) -> Result<Vec<Digest>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("read directory", &self.dir)(error)),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry
                .map_err(Error::io("read directory", &self.dir))?
                .file_name();
            let hex = name.to_str().and_then(|name| name.strip_suffix(".json"));
            keys.extend(hex.and_then(parse_hex));
        }
        keys.sort();
        Ok(keys)
    }
}

impl<T: Serialize + DeserializeOwned> Records<T> {
    /// The record of `key`; `None` when there is none that can be read.
    ///
    /// # Errors
    /// Only when the file cannot be read; one that is torn is absent, with a warning in the log.
    pub fn get(&self, key: &Digest) -> Result<Option<T>> {
        let path = self.path(key);
        let Some(bytes) = layout::read_small(&path, MAX_RECORD_BYTES)? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a record is damaged and not used");
                Ok(None)
            }
        }
    }

    /// Writes the record of `key`, in place of the one there is. Equal content is not written again.
    pub fn put(&self, key: &Digest, record: &T) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|source| {
            let what = "record";
            crate::spec::SpecError::Json { what, source }
        })?;
        let path = self.path(key);
        if layout::read_small(&path, MAX_RECORD_BYTES).is_ok_and(|old| old.as_ref() == Some(&bytes))
        {
            return Ok(());
        }
        temp::write_file(&self.temp_dir, &path, &bytes, Durability::Cache)
    }
}

/// The algorithms' digests differ in length, so the digits alone tell them apart.
fn parse_hex(hex: &str) -> Option<Digest> {
    let algorithm = if hex.len() == 128 {
        Algorithm::Sha512
    } else {
        Algorithm::Sha256
    };
    format!("{}:{hex}", algorithm.as_str()).parse().ok()
}
