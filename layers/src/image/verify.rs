//! Checking a store: every blob's content, everything a name leads to, every tree's frame.

use std::fmt;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Mutex;

use super::closure::Closure;
use super::{LayerAndBlob, pool};
use crate::layer;
use crate::spec::{ChainId, DiffId, Digest, Hasher};
use crate::store::Store;
use crate::{Error, Result};

/// Bytes hashed at a time.
const HASH_BUFFER_BYTES: usize = 256 << 10;

/// Something that is not as it should be.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// A blob's content is not what its name says: remove it and pull again.
    BlobDamaged {
        /// Its name.
        digest: Digest,
        /// The digest of its content.
        actual: Digest,
    },
    /// A blob's content cannot be read.
    BlobUnreadable {
        /// Its name.
        digest: Digest,
        /// Why not.
        error: Error,
    },
    /// A blob is not here though something needs it.
    BlobMissing {
        /// Its name.
        digest: Digest,
        /// The document that names it; `None` for `index.json`.
        needed_by: Option<Digest>,
    },
    /// A manifest, an index or a config is not one.
    DocumentInvalid {
        /// Its name.
        digest: Digest,
        /// What is wrong with it.
        error: Error,
    },
    /// A layer of a pending image has neither a tree nor a blob.
    LayerMissing {
        /// The layer.
        diff_id: DiffId,
        /// The pending manifest.
        needed_by: Digest,
    },
    /// A layer tree lacks its files or its entry list.
    TreeIncomplete {
        /// Its directory.
        path: PathBuf,
        /// What it lacks.
        lacks: &'static str,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlobDamaged { digest, actual } => {
                write!(f, "the content of blob {digest} has the digest {actual}")
            }
            Self::BlobUnreadable { digest, error } => {
                write!(f, "blob {digest} cannot be read: {error}")
            }
            Self::BlobMissing { digest, needed_by } => match needed_by {
                Some(needed_by) => write!(f, "blob {digest}, needed by {needed_by}, is missing"),
                None => write!(f, "blob {digest}, named by index.json, is missing"),
            },
            Self::DocumentInvalid { digest, error } => {
                write!(f, "document {digest} is not valid: {error}")
            }
            Self::LayerMissing { diff_id, needed_by } => {
                write!(f, "layer {diff_id}, needed by {needed_by}, is missing")
            }
            Self::TreeIncomplete { path, lacks } => {
                write!(f, "layer tree {} has no {lacks}", path.display())
            }
        }
    }
}

impl Store {
    /// Checks everything and changes nothing: every blob against its name, with `jobs` threads;
    /// whether what the names in `index.json` lead to is here and valid; whether each layer tree
    /// has its files and its entry list. No problem: an empty list.
    ///
    /// # Errors
    /// Only when the store itself cannot be read; [`Error::CorruptIndex`].
    pub fn verify(&self, jobs: usize) -> Result<Vec<Problem>> {
        let mut problems = verify_blobs(self, jobs)?;
        let mut closure = Closure::walk(self, &[])?;
        problems.append(&mut closure.problems);
        let trees = tree_directories(self)?;
        for (needed_by, layers) in &closure.pending {
            verify_pending(self, needed_by, layers, &trees, &mut problems)?;
        }
        for path in trees {
            let lacks = ["fs", "entries", "info.json"];
            let lacks = lacks.into_iter().find(|name| !path.join(name).exists());
            // Another process may have removed the whole tree meanwhile.
            if let Some(lacks) = lacks.filter(|_| path.exists()) {
                problems.push(Problem::TreeIncomplete { path, lacks });
            }
        }
        Ok(problems)
    }
}

fn verify_blobs(store: &Store, jobs: usize) -> Result<Vec<Problem>> {
    let blobs = store.blobs().list()?;
    let problems = Mutex::new(Vec::new());
    pool::for_each(jobs, &blobs, |(digest, _), _| {
        let problem = match hash_blob(store, digest) {
            Ok(Some(actual)) if actual != *digest => Problem::BlobDamaged {
                digest: digest.clone(),
                actual,
            },
            Ok(_) => return Ok(()),
            Err(error) => Problem::BlobUnreadable {
                digest: digest.clone(),
                error,
            },
        };
        let mut problems = problems.lock().unwrap_or_else(|poison| poison.into_inner());
        problems.push((digest.clone(), problem));
        Ok(())
    })?;
    let mut problems = problems
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    // In the order of the blobs, whichever thread was faster.
    problems.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(problems.into_iter().map(|(_, problem)| problem).collect())
}

fn hash_blob(store: &Store, digest: &Digest) -> Result<Option<Digest>> {
    let Some(mut file) = store.blobs().open_unverified(digest)? else {
        return Ok(None);
    };
    let mut hasher = Hasher::new(digest.algorithm());
    let mut buffer = vec![0; HASH_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finish())),
            Ok(count) => hasher.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read", store.blobs().path(digest))(error)),
        }
    }
}

/// Every layer of a pending image needs a tree of any flavour, or a blob.
fn verify_pending(
    store: &Store,
    needed_by: &Digest,
    layers: &[LayerAndBlob],
    trees: &[PathBuf],
    problems: &mut Vec<Problem>,
) -> Result<()> {
    let has_tree = |name: &str| trees.iter().any(|tree| tree.ends_with(name));
    let mut below = Vec::new();
    for (diff_id, blob) in layers {
        below.push(diff_id.clone());
        let chain = ChainId::of(&below).map(|chain| format!("chain-{}", chain.digest().hex()));
        if has_tree(diff_id.digest().hex()) || chain.is_some_and(|chain| has_tree(&chain)) {
            continue;
        }
        let record = layer::record(store, diff_id)?;
        let known = record.into_iter().flat_map(|record| record.blobs);
        let mut is_here = false;
        for blob in blob.iter().cloned().chain(known) {
            is_here = is_here || store.blobs().has(&blob)?;
        }
        if !is_here {
            problems.push(Problem::LayerMissing {
                diff_id: diff_id.clone(),
                needed_by: needed_by.clone(),
            });
        }
    }
    Ok(())
}

/// The directories of all layer trees, of every flavour, sorted.
pub(super) fn tree_directories(store: &Store) -> Result<Vec<PathBuf>> {
    let mut trees = Vec::new();
    for flavour in children(&store.root().join("trees").join("v1"))? {
        trees.extend(children(&flavour)?);
    }
    trees.sort();
    Ok(trees)
}

/// What a directory contains; nothing when it is not there.
pub(super) fn children(dir: &std::path::Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| Ok(entry.map_err(Error::io("read directory", dir))?.path()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read directory", dir)(error)),
    }
}
