//! From a source into the store, layers side by side, and from blobs to trees.

use std::io::{self, Read};
use std::sync::Mutex;

use super::open::check_layer_count;
use super::pool::{self, Cancel};
use super::{ImageSource, LayerAndBlob, ResolvedImage, StoredImage};
use crate::layer::{self, LayerStack, Unpacked, scratch};
use crate::progress::{Event, Observer, Outcome};
use crate::spec::{Descriptor, DiffId, MediaType, Reference};
use crate::store::Store;
use crate::{Error, Result};

/// Bytes between two progress events of one layer.
const PROGRESS_STEP_BYTES: u64 = 256 << 10;
/// Bytes copied at a time when a body is stored without being unpacked.
const COPY_BUFFER_BYTES: usize = 128 << 10;

/// Brings an image into the store: config, layers (blobs, and trees where `unpack`), manifest,
/// index; several layers at once, the largest first; what is here already not again. Sets no tag.
/// Returns what to tag: the index where there is one, else the manifest.
///
/// A layer that is not self-contained is unpacked once its parents are.
///
/// # Errors
/// The first one; the other layers stop then. [`Error::NotALayer`] for an artifact's blob that
/// was to be unpacked.
pub fn fetch(
    store: &Store,
    source: &dyn ImageSource,
    image: &ResolvedImage,
    unpack: bool,
    jobs: usize,
    observer: &dyn Observer,
) -> Result<Descriptor> {
    check_layer_count(image.manifest.layers.len(), &image.config)?;
    let diff_ids = image.config.rootfs.diff_ids.iter().cloned();
    let layers: Vec<_> = diff_ids
        .zip(image.manifest.layers.iter().cloned().map(Some))
        .collect();
    let is_pending = image.descriptor.media_type == MediaType::PENDING_MANIFEST;
    if is_pending && store.blobs().has(&image.descriptor)? {
        // This store's own: its layers are trees here, and get blobs when they leave.
        let origin = Origin::new(store, None, observer);
        if unpack {
            origin.unpack_all(&layers, jobs)?;
        }
        return Ok(image.descriptor.clone());
    }
    let origin = Origin::new(store, Some((source, &image.reference)), observer);
    if unpack {
        origin.unpack_all(&layers, jobs)?;
    } else {
        origin.store_all(&layers, jobs)?;
    }
    store_documents(store, image)
}

/// Config, manifest, index: each after what it names.
fn store_documents(store: &Store, image: &ResolvedImage) -> Result<Descriptor> {
    let blobs = store.blobs();
    blobs.put_as(&image.manifest.config, image.config.bytes())?;
    let descriptor = if image.descriptor.media_type == MediaType::PENDING_MANIFEST {
        // Another store's: its layers came as plain ones.
        image.manifest.descriptor(MediaType::MANIFEST)
    } else {
        image.descriptor.clone()
    };
    blobs.put_as(&descriptor, image.manifest.bytes())?;
    let Some(index) = &image.index else {
        return Ok(descriptor);
    };
    let media_type = index.media_type.clone().unwrap_or(MediaType::INDEX);
    blobs.put(index.bytes())?;
    Ok(index.descriptor(media_type))
}

/// The unpacked layers of an image in the store, unpacking from blobs what is not unpacked yet.
///
/// # Errors
/// [`Error::BlobMissing`] when a layer has neither a tree nor a blob here.
pub fn stack(
    store: &Store,
    image: &StoredImage,
    jobs: usize,
    observer: &dyn Observer,
) -> Result<LayerStack> {
    let diff_ids = &image.config.rootfs.diff_ids;
    if let Some(stack) = LayerStack::open(store, diff_ids)? {
        return Ok(stack);
    }
    let origin = Origin::new(store, None, observer);
    origin.unpack_all(&image.layers(), jobs)?;
    LayerStack::open(store, diff_ids)?.ok_or_else(|| Error::BlobMissing {
        digest: image.descriptor.digest.clone(),
    })
}

/// Where bodies come from.
struct Origin<'a> {
    store: &'a Store,
    /// `None`: only blobs that are here.
    remote: Option<(&'a dyn ImageSource, &'a Reference)>,
    observer: &'a dyn Observer,
}

impl<'a> Origin<'a> {
    fn new(
        store: &'a Store,
        remote: Option<(&'a dyn ImageSource, &'a Reference)>,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            store,
            remote,
            observer,
        }
    }

    /// Blobs only.
    fn store_all(&self, layers: &[LayerAndBlob], jobs: usize) -> Result<()> {
        let mut blobs: Vec<_> = layers.iter().filter_map(|(_, blob)| blob.clone()).collect();
        blobs.sort_by(|a, b| (b.size, &a.digest).cmp(&(a.size, &b.digest)));
        blobs.dedup_by(|a, b| a.digest == b.digest);
        pool::for_each(jobs, &blobs, |blob, cancel| self.store_blob(blob, cancel))
    }

    /// Blobs and trees. What could not be unpacked on its own is unpacked afterwards, bottom up.
    fn unpack_all(&self, layers: &[LayerAndBlob], jobs: usize) -> Result<()> {
        let mut work = Vec::new();
        let mut below = Some(LayerStack::default());
        for (diff_id, blob) in layers {
            // A tree keyed by chain ID is only found on top of all its parents.
            below = match below {
                Some(stack) => stack.with(self.store, diff_id)?,
                None => None,
            };
            let has_tree = below.is_some() || opens_alone(self.store, diff_id)?;
            let has_blob = match blob {
                // Without a remote there is nothing to be gained by looking for the blob.
                Some(blob) if self.remote.is_some() => self.store.blobs().has(blob)?,
                _ => true,
            };
            if !(has_tree && has_blob) {
                // Before anything is fetched that would be in vain.
                blob.as_ref().map_or(Ok(()), require_layer)?;
                work.push((diff_id.clone(), blob.clone(), has_tree));
            } else if let Some(blob) = blob {
                self.tell_cached(blob);
            }
        }
        if !work.is_empty() {
            // What a pull that was killed had half unpacked.
            scratch::sweep(self.store);
        }
        let size = |blob: &Option<Descriptor>| blob.as_ref().map_or(0, |blob| blob.size);
        work.sort_by(|a, b| size(&b.1).cmp(&size(&a.1)).then_with(|| a.0.cmp(&b.0)));
        work.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
        let dependent = Mutex::new(Vec::new());
        pool::for_each(jobs, &work, |(diff_id, blob, has_tree), cancel| {
            let blob = self.blob_of(diff_id, blob.as_ref())?;
            if *has_tree && self.record_knows(diff_id, &blob)? {
                return self.store_blob(&blob, cancel);
            }
            if let Unpacked::NeedsParents = self.unpack_blob(diff_id, &blob, cancel)? {
                let mut dependent = dependent
                    .lock()
                    .unwrap_or_else(|poison| poison.into_inner());
                dependent.push(diff_id.clone());
            }
            Ok(())
        })?;
        let dependent = dependent
            .into_inner()
            .unwrap_or_else(|poison| poison.into_inner());
        if dependent.is_empty() {
            return Ok(());
        }
        self.unpack_dependent(layers)
    }

    fn unpack_dependent(&self, layers: &[LayerAndBlob]) -> Result<()> {
        let mut stack = LayerStack::default();
        for (diff_id, blob) in layers {
            if let Some(next) = stack.with(self.store, diff_id)? {
                stack = next;
                continue;
            }
            let blob = self.blob_of(diff_id, blob.as_ref())?;
            layer::unpack_onto(self.store, &blob, diff_id, &stack)?;
            let next = stack.with(self.store, diff_id)?;
            stack = next.ok_or_else(|| Error::BlobMissing {
                digest: diff_id.digest().clone(),
            })?;
        }
        Ok(())
    }

    /// The manifest's blob, else any that is known to be this layer's and is here.
    fn blob_of(&self, diff_id: &DiffId, blob: Option<&Descriptor>) -> Result<Descriptor> {
        if let Some(blob) = blob
            && (self.remote.is_some() || self.store.blobs().has(blob)?)
        {
            return Ok(blob.clone());
        }
        let record = layer::record(self.store, diff_id)?;
        for known in record.into_iter().flat_map(|record| record.blobs) {
            if self.store.blobs().has(&known)? {
                return Ok(known);
            }
        }
        let digest = blob.map_or_else(|| diff_id.digest().clone(), |blob| blob.digest.clone());
        Err(Error::BlobMissing { digest })
    }

    /// Whether it was checked once that this blob decodes to this layer.
    fn record_knows(&self, diff_id: &DiffId, blob: &Descriptor) -> Result<bool> {
        let record = layer::record(self.store, diff_id)?;
        Ok(record.is_some_and(|record| record.blobs.iter().any(|b| b.digest == blob.digest)))
    }

    fn store_blob(&self, blob: &Descriptor, cancel: &Cancel) -> Result<()> {
        if self.store.blobs().has(blob)? {
            self.tell_cached(blob);
            return Ok(());
        }
        self.observed(blob, cancel, |body| {
            let mut writer = self.store.blobs().ingest_for(blob)?;
            copy(body, &mut writer, blob)?;
            writer.commit(Some(blob)).map(|_| ())
        })
    }

    fn unpack_blob(
        &self,
        diff_id: &DiffId,
        blob: &Descriptor,
        cancel: &Cancel,
    ) -> Result<Unpacked> {
        self.observed(blob, cancel, |body| {
            layer::unpack(self.store, blob, diff_id, body)
        })
    }

    /// Opens a body (from here, if it is here), and tells the observer how it goes.
    fn observed<R>(
        &self,
        blob: &Descriptor,
        cancel: &Cancel,
        work: impl FnOnce(&mut (dyn Read + Send)) -> Result<R>,
    ) -> Result<R> {
        let id = blob.digest.short().to_owned();
        self.observer.event(Event::Started {
            id: id.clone(),
            label: format!("layer {id}"),
            total_bytes: Some(blob.size),
        });
        let result = self.body(blob).and_then(|inner| {
            let mut body = Metered {
                inner,
                id: &id,
                observer: self.observer,
                cancel,
                untold_bytes: 0,
            };
            let result = work(&mut body);
            body.tell();
            result
        });
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(_) => Outcome::Failed,
        };
        self.observer.event(Event::Finished { id, outcome });
        result
    }

    fn body(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        if self.store.blobs().has(blob)?
            && let Some(reader) = self.store.blobs().get(blob)?
        {
            return Ok(Box::new(reader));
        }
        match self.remote {
            Some((source, reference)) => source.open(reference, blob),
            None => Err(Error::BlobMissing {
                digest: blob.digest.clone(),
            }),
        }
    }

    fn tell_cached(&self, blob: &Descriptor) {
        let id = blob.digest.short().to_owned();
        self.observer.event(Event::Started {
            id: id.clone(),
            label: format!("layer {id}"),
            total_bytes: Some(blob.size),
        });
        self.observer.event(Event::Finished {
            id,
            outcome: Outcome::Cached,
        });
    }
}

/// An artifact's blob is nothing to unpack.
fn require_layer(blob: &Descriptor) -> Result<()> {
    if blob.media_type.is_layer() {
        return Ok(());
    }
    Err(Error::NotALayer {
        digest: blob.digest.clone(),
        media_type: blob.media_type.to_string(),
    })
}

/// Whether the layer has a tree that needs no parents.
fn opens_alone(store: &Store, diff_id: &DiffId) -> Result<bool> {
    Ok(LayerStack::open(store, std::slice::from_ref(diff_id))?.is_some())
}

fn copy(body: &mut dyn Read, writer: &mut dyn io::Write, blob: &Descriptor) -> Result<()> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let what = || format!("the body of {}", blob.digest);
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::read(what())(error)),
        };
        let part = buffer.get(..count).unwrap_or_default();
        // The writer's errors carry their own path.
        writer.write_all(part).map_err(Error::read(what()))?;
    }
}

/// Tells the observer about bytes that go by, and ends the stream when the others failed.
struct Metered<'a> {
    inner: Box<dyn Read + Send>,
    id: &'a str,
    observer: &'a dyn Observer,
    cancel: &'a Cancel,
    untold_bytes: u64,
}

impl Metered<'_> {
    fn tell(&mut self) {
        let bytes = std::mem::take(&mut self.untold_bytes);
        if bytes > 0 {
            let id = self.id.to_owned();
            self.observer.event(Event::Advanced { id, bytes });
        }
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            // Not `Interrupted`: that would be tried again.
            return Err(io::Error::other("another layer failed"));
        }
        let count = self.inner.read(buffer)?;
        self.untold_bytes += count as u64;
        if self.untold_bytes >= PROGRESS_STEP_BYTES {
            self.tell();
        }
        Ok(count)
    }
}
