//! What can be reached from the names of a layout: the documents, their blobs, their layers.

use std::collections::{BTreeSet, VecDeque};

use super::open::{read_config, read_document, read_pending};
use super::{LayerAndBlob, Problem};
use crate::spec::{ChainId, Descriptor, DiffId, Digest, Document, Manifest, MediaType};
use crate::store::Store;
use crate::{Error, Result};

/// Everything that a set of roots keeps.
#[derive(Debug, Default)]
pub(super) struct Closure {
    /// Blobs, whether they are here or not.
    pub(super) blobs: BTreeSet<Digest>,
    /// Layers, by whatever names them.
    pub(super) diff_ids: BTreeSet<DiffId>,
    /// Stacks of layers.
    pub(super) chains: BTreeSet<ChainId>,
    /// Stacks of pending images with the blobs they know, which nothing but the store can make whole.
    pub(super) pending: Vec<(Digest, Vec<LayerAndBlob>)>,
    /// What is missing or cannot be read.
    pub(super) problems: Vec<Problem>,
}

/// A descriptor on the way, and who named it.
struct Step {
    target: Descriptor,
    needed_by: Option<Digest>,
    /// An index may name images that were never pulled.
    is_optional: bool,
}

impl Closure {
    /// Everything reachable from the entries of `index.json` and from `roots`.
    pub(super) fn walk(store: &Store, roots: &[Descriptor]) -> Result<Self> {
        let entries = store.blobs().entries()?;
        let mut closure = Self::default();
        let mut seen: BTreeSet<(Digest, MediaType)> = BTreeSet::new();
        let mut queue: VecDeque<Step> = entries
            .into_iter()
            .map(|target| (target, false))
            // What a cache remembers may be gone without harm.
            .chain(roots.iter().cloned().map(|target| (target, true)))
            .map(|(target, is_optional)| Step {
                target,
                needed_by: None,
                is_optional,
            })
            .collect();
        while let Some(step) = queue.pop_front() {
            let key = (step.target.digest.clone(), step.target.media_type.clone());
            if seen.insert(key) {
                closure.visit(store, &step, &mut queue)?;
            }
        }
        Ok(closure)
    }

    /// Adds a stack of layers, bottom first.
    pub(super) fn add_stack(&mut self, diff_ids: &[DiffId]) {
        self.diff_ids.extend(diff_ids.iter().cloned());
        let mut chain: Option<ChainId> = None;
        for diff_id in diff_ids {
            let next = match &chain {
                None => ChainId(diff_id.digest().clone()),
                // ChainId::of of the whole prefix, without doing the prefix again each time.
                Some(chain) => ChainId(Digest::of(format!("{chain} {diff_id}").as_bytes())),
            };
            self.chains.insert(next.clone());
            chain = Some(next);
        }
    }

    fn visit(&mut self, store: &Store, step: &Step, queue: &mut VecDeque<Step>) -> Result<()> {
        let target = &step.target;
        self.blobs.insert(target.digest.clone());
        match store.blobs().stat(&target.digest)? {
            None if step.is_optional => return Ok(()),
            None => {
                self.problems.push(Problem::BlobMissing {
                    digest: target.digest.clone(),
                    needed_by: step.needed_by.clone(),
                });
                return Ok(());
            }
            Some(_) => {}
        }
        let result = if target.media_type == MediaType::PENDING_MANIFEST {
            self.visit_pending(store, target, queue)
        } else if target.media_type.is_manifest() || target.media_type.is_index() {
            self.visit_document(store, target, queue)
        } else {
            Ok(())
        };
        match result {
            // Found by `visit` of the config itself, with who needs it.
            Ok(()) | Err(Error::BlobMissing { .. }) => {}
            Err(error) => self.problems.push(Problem::DocumentInvalid {
                digest: target.digest.clone(),
                error,
            }),
        }
        Ok(())
    }

    fn visit_pending(
        &mut self,
        store: &Store,
        target: &Descriptor,
        queue: &mut VecDeque<Step>,
    ) -> Result<()> {
        let pending = read_pending(store, target)?;
        let needed_by = Some(target.digest.clone());
        for blob in pending.blobs.iter().flatten() {
            queue.push_back(Step {
                target: blob.clone(),
                needed_by: needed_by.clone(),
                is_optional: true,
            });
        }
        queue.push_back(Step {
            target: pending.config.clone(),
            needed_by,
            is_optional: false,
        });
        self.add_stack(&pending.diff_ids);
        let layers = pending.diff_ids.into_iter().zip(pending.blobs).collect();
        self.pending.push((target.digest.clone(), layers));
        read_config(store, &pending.config).map(|_| ())
    }

    fn visit_document(
        &mut self,
        store: &Store,
        target: &Descriptor,
        queue: &mut VecDeque<Step>,
    ) -> Result<()> {
        match read_document(store, target)? {
            Document::Index(index) => {
                queue.extend(index.manifests.iter().map(|child| Step {
                    target: child.clone(),
                    needed_by: Some(target.digest.clone()),
                    is_optional: true,
                }));
                Ok(())
            }
            Document::Manifest(manifest) => self.visit_manifest(store, target, &manifest, queue),
        }
    }

    fn visit_manifest(
        &mut self,
        store: &Store,
        target: &Descriptor,
        manifest: &Manifest,
        queue: &mut VecDeque<Step>,
    ) -> Result<()> {
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            queue.push_back(Step {
                target: blob.clone(),
                needed_by: Some(target.digest.clone()),
                // Foreign layers stay where their `urls` say.
                is_optional: !blob.urls.is_empty(),
            });
        }
        match read_config(store, &manifest.config) {
            Ok(config) => {
                self.add_stack(&config.rootfs.diff_ids);
                Ok(())
            }
            // An artifact has no layers in our sense.
            Err(Error::NotAnImage { .. }) => Ok(()),
            Err(Error::TooLarge { .. }) if !manifest.config.media_type.is_config() => Ok(()),
            Err(error) => Err(error),
        }
    }
}
