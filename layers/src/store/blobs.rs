//! Blobs: named by their digest, there whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::layout;
use super::temp::{self, Durability, TempFile};
use crate::spec::{Algorithm, Descriptor, Digest, Hasher};
use crate::stream::VerifyingReader;
use crate::{Error, Result};

/// Bytes gathered before a blob's file is written to.
const WRITE_BUFFER_BYTES: usize = 128 << 10;

/// The blobs of one OCI image layout (the store's, or a foreign `oci:` directory).
///
/// Idempotent and atomic: a blob is there whole or not at all, and several processes may ingest
/// the same one. What is there already is not written again.
#[derive(Debug, Clone)]
pub struct BlobStore {
    root: PathBuf,
    /// Where blobs are while they are written: same file system.
    pub(super) ingest: PathBuf,
    /// The lock file of `index.json`; a foreign layout is locked by its directory.
    pub(super) index_lock: Option<PathBuf>,
}

impl BlobStore {
    /// The layout at `root`, which must be one already. Nothing is written unless asked to.
    ///
    /// # Errors
    /// [`Error::NotALayout`] when it is none, or of a version that is not understood.
    pub fn open(root: &Path) -> Result<Self> {
        if layout::check(root)? {
            return Ok(Self::foreign(root));
        }
        Err(Error::NotALayout {
            path: root.to_owned(),
            reason: "it has no oci-layout file".to_owned(),
        })
    }

    /// The layout at `root`, made there when the directory is missing or empty.
    ///
    /// # Errors
    /// [`Error::NotALayout`] when the directory holds something else.
    pub fn create(root: &Path) -> Result<Self> {
        let store = Self::foreign(root);
        layout::create(root, &store.ingest)?;
        temp::remove_stale(&store.ingest);
        Ok(store)
    }

    fn foreign(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            // Beside the algorithms' directories: image-spec lets a layout hold more than it names.
            ingest: root.join("blobs"),
            index_lock: None,
        }
    }

    /// The store's own.
    pub(super) fn of_store(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            ingest: root.join("ingest"),
            index_lock: Some(root.join("locks").join("index")),
        }
    }

    /// The layout's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("blobs")
            .join(digest.algorithm().as_str())
            .join(digest.hex())
    }

    /// Reads a blob, verifying; `None` when it is not here.
    pub fn get(&self, descriptor: &Descriptor) -> Result<Option<VerifyingReader<File>>> {
        let file = layout::open_regular(&self.path(&descriptor.digest))?;
        Ok(file.map(|file| VerifyingReader::new(file, descriptor)))
    }

    /// A blob's file, **not verified**: for what seeks in it (HTTP ranges). `None` when it is not here.
    pub fn open_unverified(&self, digest: &Digest) -> Result<Option<File>> {
        layout::open_regular(&self.path(digest))
    }

    /// A whole small blob (manifest, config), verified.
    ///
    /// # Errors
    /// [`Error::BlobMissing`] when it is not here; [`Error::TooLarge`]; the two mismatches.
    pub fn read(&self, descriptor: &Descriptor, max_bytes: u64) -> Result<Vec<u8>> {
        let digest = &descriptor.digest;
        if descriptor.size > max_bytes {
            return Err(Error::TooLarge {
                digest: digest.clone(),
                size_bytes: descriptor.size,
                max_bytes,
            });
        }
        let path = self.path(digest);
        let file = layout::open_regular(&path)?.ok_or_else(|| Error::BlobMissing {
            digest: digest.clone(),
        })?;
        let mut bytes = Vec::new();
        file.take(descriptor.size + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &path))?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        check(descriptor, &hasher.finish(), bytes.len() as u64)?;
        Ok(bytes)
    }

    /// A blob's size in bytes; `None` when it is not here.
    pub fn stat(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("stat", &path)(error)),
        }
    }

    /// Whether the blob is here with the descriptor's size. A damaged one of another size is not,
    /// so it is fetched again.
    pub fn has(&self, descriptor: &Descriptor) -> Result<bool> {
        Ok(self.stat(&descriptor.digest)? == Some(descriptor.size))
    }

    /// Begins a new blob, which will be named by its SHA-256.
    pub fn ingest(&self) -> Result<BlobWriter> {
        self.writer(Algorithm::Sha256, None)
    }

    /// Begins a blob that is to become `expected`: hashed with its algorithm, and refused as soon
    /// as it is longer. Give the same descriptor to [`BlobWriter::commit`].
    pub fn ingest_for(&self, expected: &Descriptor) -> Result<BlobWriter> {
        self.writer(expected.digest.algorithm(), Some(expected.clone()))
    }

    fn writer(&self, algorithm: Algorithm, expected: Option<Descriptor>) -> Result<BlobWriter> {
        let temp = TempFile::create(&self.ingest)?;
        Ok(BlobWriter {
            blobs: self.clone(),
            file: BufWriter::with_capacity(WRITE_BUFFER_BYTES, temp),
            hasher: Hasher::new(algorithm),
            algorithm,
            size_bytes: 0,
            expected,
        })
    }

    /// Stores a small blob.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if self.stat(&digest)? == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.ingest()?;
        let path = self.path(&digest);
        writer
            .write_all(bytes)
            .map_err(Error::write("write", path))?;
        writer.commit(None)?;
        Ok(digest)
    }

    /// Stores a small blob under the digest it must have, of any algorithm.
    pub fn put_as(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        if self.has(descriptor)? {
            return Ok(());
        }
        let mut writer = self.ingest_for(descriptor)?;
        writer
            .write_all(bytes)
            .map_err(Error::write("write", self.path(&descriptor.digest)))?;
        writer.commit(Some(descriptor))?;
        Ok(())
    }

    /// Removes a blob; `false` when it was not here.
    pub fn remove(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::write("remove", &path)(error)),
        }
    }

    /// All blobs with their sizes in bytes, sorted. Files that are not named by a digest are passed over.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>> {
        let mut blobs = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.root.join("blobs").join(algorithm.as_str());
            let entries = match std::fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("read directory", &dir)(error)),
            };
            for entry in entries {
                let entry = entry.map_err(Error::io("read directory", &dir))?;
                let name = entry.file_name();
                let parsed = name
                    .to_str()
                    .and_then(|hex| format!("{}:{hex}", algorithm.as_str()).parse().ok());
                let Some(digest) = parsed else { continue };
                // Another process may remove blobs while they are listed.
                if let Some(size_bytes) = self.stat(&digest)? {
                    blobs.push((digest, size_bytes));
                }
            }
        }
        blobs.sort();
        Ok(blobs)
    }
}

/// Holds what came to what was announced.
fn check(expected: &Descriptor, digest: &Digest, size_bytes: u64) -> Result<()> {
    if size_bytes != expected.size {
        return Err(Error::SizeMismatch {
            digest: expected.digest.clone(),
            expected: expected.size,
            actual: size_bytes,
            at_least: size_bytes > expected.size,
        });
    }
    if *digest != expected.digest {
        return Err(Error::DigestMismatch {
            expected: expected.digest.clone(),
            actual: digest.clone(),
        });
    }
    Ok(())
}

fn too_long(expected: &Descriptor, seen: u64) -> Error {
    Error::SizeMismatch {
        digest: expected.digest.clone(),
        expected: expected.size,
        actual: seen,
        at_least: true,
    }
}

/// A blob being written to a temporary file; dropped without commit it leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: BlobStore,
    file: BufWriter<TempFile>,
    hasher: Hasher,
    algorithm: Algorithm,
    size_bytes: u64,
    /// Where it is known from the start: what is longer is refused at once.
    expected: Option<Descriptor>,
}

impl BlobWriter {
    /// Bytes taken in so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Verifies what was written against `expected` and throws it away: for a body that was read
    /// to its end only to tell a wrong one from a bad one.
    ///
    /// # Errors
    /// The two mismatches.
    pub fn check(self, expected: &Descriptor) -> Result<()> {
        if expected.digest.algorithm() == self.algorithm {
            check(expected, &self.hasher.finish(), self.size_bytes)?;
        }
        Ok(())
    }

    /// fsync, verify against `expected` (digest and size), rename into place, fsync the directory.
    ///
    /// # Errors
    /// The two mismatches, [`Error::DiskFull`], [`Error::ReadOnly`]; nothing is left then.
    pub fn commit(self, expected: Option<&Descriptor>) -> Result<(Digest, u64)> {
        let path = self.file.get_ref().path().to_owned();
        let mut temp = self
            .file
            .into_inner()
            .map_err(|error| Error::write("write", &path)(error.into_error()))?;
        let digest = match expected {
            Some(expected) => {
                let wanted = expected.digest.algorithm();
                let digest = if wanted == self.algorithm {
                    self.hasher.finish()
                } else {
                    hash_file(temp.file(), wanted).map_err(Error::io("read back", &path))?
                };
                check(expected, &digest, self.size_bytes)?;
                digest
            }
            None => self.hasher.finish(),
        };
        if self.blobs.stat(&digest)? != Some(self.size_bytes) {
            temp.publish(&self.blobs.path(&digest), Durability::Durable)?;
        }
        Ok((digest, self.size_bytes))
    }
}

fn hash_file(file: &mut File, algorithm: Algorithm) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    file.seek(SeekFrom::Start(0))?;
    io::copy(file, &mut hasher)?;
    Ok(hasher.finish())
}

impl Write for BlobWriter {
    /// Errors wrap [`Error`]; `map_err(Error::write(…))` gets it out again.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let seen = self.size_bytes.saturating_add(bytes.len() as u64);
        if let Some(expected) = self.expected.as_ref().filter(|blob| seen > blob.size) {
            return Err(too_long(expected, seen).into_stream());
        }
        let written = self.file.write(bytes).map_err(|error| {
            Error::write("write", self.file.get_ref().path())(error).into_stream()
        })?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
