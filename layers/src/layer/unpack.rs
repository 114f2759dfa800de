//! From a layer's body to its tree, in one pass and on several cores.
//!
//! ```text
//! thread 1   body → (kept and hashed: the blob) →
//! thread 2   decompress → (hashed: the diff ID) →
//! caller     untar → files below snapshots/<random>/tree
//! ```
//!
//! Whatever happens, the body is read to its end before anything is believed, and nothing has
//! its final name before all digests are right: blob first, tree after it, record last.

use std::fs::File;
use std::io::{self, Read, Write};
use std::thread;

use super::record::remember;
use super::scratch::Scratch;
use super::stack::LayerStack;
use super::tree::{LayerTree, NewTree, TreeInfo, TreeKey};
use crate::spec::{Descriptor, DiffId, Hasher};
use crate::store::{BlobWriter, Store};
use crate::stream::{ReadAhead, VerifyingReader, decode};
use crate::tar::TarReader;
use crate::tree::{
    Applied, Applier, ApplyOptions, EntryList, Finished, Flavour, LowerView, RootDir,
};
use crate::{Error, Result};

/// What became of a body.
#[derive(Debug)]
pub enum Unpacked {
    /// The tree is there, keyed by diff ID.
    Tree(LayerTree),
    /// Only the blob is there.
    NeedsParents,
}

/// Unpacks layer bodies. One pass: verify, keep the blob, decode, check the diff ID, unpack.
/// A blob that is in the store already is not written again.
///
/// When the layer turns out not to be self-contained, the blob is kept and the result is
/// [`Unpacked::NeedsParents`]; call [`unpack_onto`] once its parents are there.
///
/// # Errors
/// [`Error::Unpack`] when the body is what `blob` says and is no good layer, [`Error::DiffIdMismatch`]
/// when it is another one; those of [`VerifyingReader`] when it is not what `blob` says. Nothing
/// is left in the store then.
pub fn unpack(
    store: &Store,
    blob: &Descriptor,
    diff_id: &DiffId,
    body: &mut (dyn Read + Send),
) -> Result<Unpacked> {
    let mut body = Body::new(store, blob, body)?;
    let scratch = Scratch::in_store(store)?;
    let extracted = match extract(&scratch, store.flavour(), diff_id, &mut body, None) {
        Ok(extracted) => extracted,
        Err(error) => return Err(body.blame(blob, diff_id, error)),
    };
    body.finish(blob)?;
    let unpacked = match extracted.tree {
        Some((tree, list, info)) => {
            let key = TreeKey::Diff(diff_id.clone());
            Unpacked::Tree(tree.publish(store, key, &info, &list)?)
        }
        None => Unpacked::NeedsParents,
    };
    remember(store, diff_id, extracted.size_bytes, Some(blob))?;
    Ok(unpacked)
}

/// Unpacks a layer whose blob is in the store on top of its parents, keyed by chain ID.
///
/// # Errors
/// [`Error::BlobMissing`]; else as [`unpack`].
pub fn unpack_onto(
    store: &Store,
    blob: &Descriptor,
    diff_id: &DiffId,
    parents: &LayerStack,
) -> Result<LayerTree> {
    let missing = || Error::BlobMissing {
        digest: blob.digest.clone(),
    };
    let mut file = store.blobs().get(blob)?.ok_or_else(missing)?;
    let mut body = Body::Known(&mut file);
    let scratch = Scratch::in_store(store)?;
    let extracted = match extract(&scratch, store.flavour(), diff_id, &mut body, Some(parents)) {
        Ok(extracted) => extracted,
        Err(error) => return Err(body.blame(blob, diff_id, error)),
    };
    body.finish(blob)?;
    let Extracted { tree, size_bytes } = extracted;
    // With parents to look at, an applier finds everything or fails.
    let (tree, list, info) = tree.ok_or_else(|| Error::MissingParents {
        diff_id: diff_id.clone(),
    })?;
    let key = match parents.chain_with(diff_id) {
        Some(chain) => TreeKey::Chain(chain),
        None => TreeKey::Diff(diff_id.clone()),
    };
    let tree = tree.publish(store, key, &info, &list)?;
    remember(store, diff_id, size_bytes, Some(blob))?;
    Ok(tree)
}

/// What a body was made into, before it is published.
struct Extracted {
    /// `None`: the layer needs its parents.
    tree: Option<(NewTree, EntryList, TreeInfo)>,
    size_bytes: u64,
}

/// Decodes and unpacks all of `body`, and holds it to its diff ID.
fn extract(
    scratch: &Scratch,
    flavour: Flavour,
    diff_id: &DiffId,
    body: &mut Body<'_>,
    parents: Option<&LayerStack>,
) -> Result<Extracted> {
    let mut hasher = Hasher::new(diff_id.digest().algorithm());
    let mut size_bytes = 0;
    let failed = || Error::read(format!("layer {}", diff_id.digest().short()));
    let tree = thread::scope(|scope| {
        let compressed = ReadAhead::scoped(scope, body).map_err(failed())?;
        let metered = Metered {
            inner: decode(compressed).map_err(failed())?,
            hasher: &mut hasher,
            size_bytes: &mut size_bytes,
        };
        let mut plain = ReadAhead::scoped(scope, metered).map_err(failed())?;
        let tree = untar(scratch, flavour, diff_id, &mut plain, parents)?;
        // What follows the archive's end is part of what the diff ID is of.
        io::copy(&mut plain, &mut io::sink()).map_err(failed())?;
        Ok::<_, Error>(tree)
    })?;
    let actual = DiffId(hasher.finish());
    if actual != *diff_id {
        return Err(Error::DiffIdMismatch {
            expected: diff_id.clone(),
            actual,
        });
    }
    Ok(Extracted { tree, size_bytes })
}

fn untar(
    scratch: &Scratch,
    flavour: Flavour,
    diff_id: &DiffId,
    plain: &mut ReadAhead,
    parents: Option<&LayerStack>,
) -> Result<Option<(NewTree, EntryList, TreeInfo)>> {
    let tree = NewTree::new(scratch)?;
    let options = ApplyOptions {
        lower: parents.map(|parents| parents as &dyn LowerView),
        ..ApplyOptions::default()
    };
    let mut applier = Applier::new(RootDir::open(&tree.fs())?, flavour, options)?;
    let mut reader = TarReader::new(plain);
    while let Some((entry, mut content)) = reader.next_entry()? {
        if let Applied::NotSelfContained(why) = applier.apply(entry, &mut content)? {
            tracing::debug!(%diff_id, path = %why.path, reason = ?why.reason, "layer needs its parents");
            return Ok(None);
        }
    }
    Ok(match applier.finish()? {
        Finished::Tree(applied) => {
            let info = TreeInfo::new(diff_id, &applied.list, &applied.statistics);
            Some((tree, applied.list, info))
        }
        Finished::NotSelfContained(why) => {
            tracing::debug!(%diff_id, path = %why.path, reason = ?why.reason, "layer needs its parents");
            None
        }
    })
}

/// A body on its way through: either new, and kept while it is read, or a blob that is known.
enum Body<'a> {
    New {
        body: &'a mut (dyn Read + Send),
        writer: Box<BlobWriter>,
    },
    Stored(Box<VerifyingReader<&'a mut (dyn Read + Send)>>),
    Known(&'a mut VerifyingReader<File>),
}

impl<'a> Body<'a> {
    fn new(store: &Store, blob: &Descriptor, body: &'a mut (dyn Read + Send)) -> Result<Self> {
        Ok(if store.blobs().has(blob)? {
            Self::Stored(Box::new(VerifyingReader::new(body, blob)))
        } else {
            let writer = Box::new(store.blobs().ingest_for(blob)?);
            Self::New { body, writer }
        })
    }

    /// Reads what the decoder left, then publishes the blob if it is what it should be.
    fn finish(mut self, blob: &Descriptor) -> Result<()> {
        let what = || format!("blob {}", blob.digest.short());
        io::copy(&mut self, &mut io::sink()).map_err(Error::read(what()))?;
        if let Self::New { writer, .. } = self {
            writer.commit(Some(blob))?;
        }
        Ok(())
    }

    /// The error that matters. A body that is not what its descriptor says fails anywhere, in the
    /// decoder or as bad tar; then that is the error, not what it looked like from further on.
    fn blame(mut self, blob: &Descriptor, diff_id: &DiffId, error: Error) -> Error {
        let by_disk = matches!(
            error,
            Error::Io { .. } | Error::DiskFull { .. } | Error::ReadOnly { .. }
        );
        if !by_disk {
            match io::copy(&mut self, &mut io::sink()).map_err(Error::read(String::new())) {
                Err(truth @ (Error::DigestMismatch { .. } | Error::SizeMismatch { .. })) => {
                    return truth;
                }
                // The stream itself broke: `error` says so already.
                Err(_) => {}
                Ok(_) => {
                    if let Self::New { writer, .. } = self
                        && let Err(truth) = writer.check(blob)
                    {
                        return truth;
                    }
                }
            }
        }
        Error::Unpack {
            diff_id: diff_id.clone(),
            source: Box::new(error),
        }
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stored(reader) => reader.read(buffer),
            Self::Known(reader) => reader.read(buffer),
            Self::New { body, writer } => {
                let length = body.read(buffer)?;
                writer.write_all(buffer.get(..length).unwrap_or_default())?;
                Ok(length)
            }
        }
    }
}

/// Hashes and counts what is read.
struct Metered<'a, R> {
    inner: R,
    hasher: &'a mut Hasher,
    size_bytes: &'a mut u64,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..length).unwrap_or_default());
        *self.size_bytes += length as u64;
        Ok(length)
    }
}
