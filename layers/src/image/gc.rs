//! Garbage collection: removes what no name leads to.
//!
//! Mark and sweep with the store held alone, so nothing can appear or be taken up in between.
//! Records go before trees and these before blobs; whoever reads a record asks whether its blob
//! is there, so being killed half-way leaves a sound store.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::Problem;
use super::closure::Closure;
use super::verify::{children, tree_directories};
use crate::layer::LayerRecord;
use crate::layer::scratch::{self, Scratch};
use crate::spec::{Descriptor, DiffId, Digest};
use crate::store::Store;
use crate::{Error, Result};

/// Where [`LayerRecord`]s are.
const LAYER_RECORDS: &str = "layers/v1";

/// What to keep beside everything that `index.json` names.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// Documents (manifests, indexes, pending manifests) or single blobs. Default: none.
    pub descriptors: Vec<Descriptor>,
    /// Stacks of layers, bottom first, as the build cache remembers them. Default: none.
    pub stacks: Vec<Vec<DiffId>>,
}

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Layer trees.
    pub trees: u64,
    /// Layer records.
    pub records: u64,
    /// Leftovers of dead processes.
    pub leftovers: u64,
    /// Trees that could not be removed, because they were made in another user namespace.
    pub trees_kept: u64,
}

/// Removes every blob, tree and record that neither `index.json` nor `roots` leads to.
///
/// No other process may use the store meanwhile, nor any other part of this one.
///
/// # Errors
/// [`Error::Locked`] when the store is in use for longer than `patience`; what is wrong with a
/// document that cannot be read, because what it keeps is not known then: nothing is removed.
pub fn collect_garbage(store: &Store, roots: &Roots, patience: Duration) -> Result<Collected> {
    let _alone = store.exclusive(patience)?;
    let mut closure = Closure::walk(store, &roots.descriptors)?;
    for problem in std::mem::take(&mut closure.problems) {
        match problem {
            Problem::DocumentInvalid { error, .. } => return Err(error),
            missing => tracing::warn!(%missing, "the store is not whole"),
        }
    }
    for stack in &roots.stacks {
        closure.add_stack(stack);
    }
    let mut collected = Collected::default();
    keep_layers_blobs(store, &mut closure)?;
    sweep_records(store, &closure, &mut collected)?;
    sweep_trees(store, &closure, &mut collected)?;
    for (digest, size_bytes) in store.blobs().list()? {
        if !closure.blobs.contains(&digest) && store.blobs().remove(&digest)? {
            collected.blobs += 1;
            collected.blob_bytes += size_bytes;
        }
    }
    collected.leftovers = store.remove_leftovers();
    scratch::sweep(store);
    Ok(collected)
}

/// What became of a blob that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobRemoval {
    /// It is gone.
    Removed,
    /// Something that `index.json` leads to needs it.
    InUse,
    /// It was not here.
    Absent,
}

/// Removes one blob unless something needs it.
///
/// # Errors
/// [`Error::Locked`] when another process uses the store for longer than `patience`.
pub fn remove_unused_blob(
    store: &Store,
    digest: &Digest,
    patience: Duration,
) -> Result<BlobRemoval> {
    if store.blobs().stat(digest)?.is_none() {
        return Ok(BlobRemoval::Absent);
    }
    let _alone = store.exclusive(patience)?;
    let mut closure = Closure::walk(store, &[])?;
    // What cannot be read may need it.
    let is_unclear = |problem: &Problem| matches!(problem, Problem::DocumentInvalid { .. });
    if closure.problems.iter().any(is_unclear) {
        return Ok(BlobRemoval::InUse);
    }
    keep_layers_blobs(store, &mut closure)?;
    if closure.blobs.contains(digest) {
        return Ok(BlobRemoval::InUse);
    }
    let was_here = store.blobs().remove(digest)?;
    Ok(if was_here {
        BlobRemoval::Removed
    } else {
        BlobRemoval::Absent
    })
}

/// The blobs that are known to be a kept layer's are kept, whether a manifest names them or not:
/// compressing again would cost more than they do.
fn keep_layers_blobs(store: &Store, closure: &mut Closure) -> Result<()> {
    let records = store.records::<LayerRecord>(LAYER_RECORDS);
    for diff_id in &closure.diff_ids {
        let blobs = records.get(diff_id.digest())?.into_iter();
        let blobs = blobs.flat_map(|record| record.blobs);
        closure.blobs.extend(blobs.map(|blob| blob.digest));
    }
    Ok(())
}

/// Removes the records and the entry lists of layers that are not kept.
fn sweep_records(store: &Store, closure: &Closure, collected: &mut Collected) -> Result<()> {
    let dir = store.root().join(LAYER_RECORDS);
    let kept: BTreeSet<&str> = closure
        .diff_ids
        .iter()
        .map(|id| id.digest().hex())
        .collect();
    for path in children(&dir)? {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if stem.is_some_and(|stem| kept.contains(stem)) {
            continue;
        }
        fs::remove_file(&path).map_err(Error::write("remove", &path))?;
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            collected.records += 1;
        }
    }
    Ok(())
}

/// Removes the trees (of every flavour) whose layer or chain is not kept.
fn sweep_trees(store: &Store, closure: &Closure, collected: &mut Collected) -> Result<()> {
    let by_diff = closure
        .diff_ids
        .iter()
        .map(|id| id.digest().hex().to_owned());
    let by_chain = closure
        .chains
        .iter()
        .map(|id| format!("chain-{}", id.digest().hex()));
    let kept: BTreeSet<String> = by_diff.chain(by_chain).collect();
    for tree in tree_directories(store)? {
        let name = tree.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| kept.contains(name)) {
            continue;
        }
        match remove_tree(store, &tree) {
            Ok(()) => collected.trees += 1,
            Err(error) => {
                tracing::warn!(path = %tree.display(), %error, "a tree cannot be removed");
                collected.trees_kept += 1;
            }
        }
    }
    Ok(())
}

/// Away at once for every reader, then removed at leisure; what is left by a kill is swept like
/// any dead process's work.
fn remove_tree(store: &Store, tree: &Path) -> Result<()> {
    let scratch = Scratch::in_store(store)?;
    let doomed = scratch.path().to_owned();
    fs::rename(tree, doomed.join("tree")).map_err(Error::write("remove", tree))?;
    drop(scratch);
    match doomed.try_exists() {
        Ok(false) => Ok(()),
        _ => Err(Error::write("remove", doomed)(
            io::ErrorKind::DirectoryNotEmpty.into(),
        )),
    }
}
