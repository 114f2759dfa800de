//! From a layer to its blob, when somebody first wants it: decision 3 of the architecture.
//!
//! Sources, best first: a blob of the wanted compression; any other blob (a pulled layer's tar is
//! whatever its author's tool wrote, and only its blob has it); else the tree, whose canonical tar
//! is rebuilt. Whichever it is, the bytes are hashed on their way, and a blob is only published
//! when they have the diff ID.

use std::io::{self, Read, Write};

use super::record::{self, remember};
use super::tree::{LayerTree, TreeKey};
use crate::progress::{Event, Observer, Outcome};
use crate::spec::{Descriptor, DiffId, Hasher, MediaType};
use crate::store::{BlobWriter, Store};
use crate::stream::{Compression, Encoder, decode};
use crate::tar::TarWriter;
use crate::tree::EntryKind;
use crate::{Error, Result};

/// Bytes between two reports of progress.
const REPORT_BYTES: u64 = 1 << 20;

/// The layer's blob in the wanted compression, compressing it now if it never was (decision 3).
/// `compression: None` takes any blob there is, else gzip.
///
/// # Errors
/// [`Error::LayerMissing`]; [`Error::TreeChanged`] when the files no longer are what was recorded.
pub fn compress(
    store: &Store,
    diff_id: &DiffId,
    compression: Option<Compression>,
    threads: usize,
    observer: &dyn Observer,
) -> Result<Descriptor> {
    let record = record::record(store, diff_id)?;
    let mut present = Vec::new();
    for blob in record.iter().flat_map(|record| &record.blobs) {
        if store.blobs().has(blob)? {
            present.push(blob);
        }
    }
    let fits = |blob: &&&Descriptor| {
        compression.is_none_or(|wanted| compression_of(&blob.media_type) == Some(wanted))
    };
    if let Some(blob) = present.iter().find(fits) {
        return Ok((*blob).clone());
    }
    let id = diff_id.digest().short().to_owned();
    observer.event(Event::Started {
        label: format!("compressing layer {id}"),
        total_bytes: record.as_ref().map(|record| record.size_bytes),
        id: id.clone(),
    });
    let job = Job {
        store,
        diff_id,
        compression: compression.unwrap_or_default(),
        threads: threads.max(1),
        observer,
        id: &id,
    };
    let made = match present.first() {
        Some(blob) => job.transcode(blob),
        None => job.rebuild(),
    };
    let outcome = match made {
        Ok(_) => Outcome::Done,
        Err(_) => Outcome::Failed,
    };
    observer.event(Event::Finished {
        id: id.clone(),
        outcome,
    });
    made
}

/// Which compression a layer's media type stands for; `None` for what is no layer of ours.
fn compression_of(media_type: &MediaType) -> Option<Compression> {
    let text = media_type.as_str();
    // OCI says `tar+gzip`, Docker `tar.gzip`; both leave plain tars without a suffix.
    if text.ends_with("+gzip") || text.ends_with(".gzip") {
        Some(Compression::Gzip)
    } else if text.ends_with("+zstd") || text.ends_with(".zstd") {
        Some(Compression::Zstd)
    } else if text.ends_with(".tar") {
        Some(Compression::None)
    } else {
        None
    }
}

struct Job<'a> {
    store: &'a Store,
    diff_id: &'a DiffId,
    compression: Compression,
    threads: usize,
    observer: &'a dyn Observer,
    id: &'a str,
}

impl Job<'_> {
    /// From another blob of the same layer.
    fn transcode(&self, blob: &Descriptor) -> Result<Descriptor> {
        let missing = || Error::BlobMissing {
            digest: blob.digest.clone(),
        };
        let failed = || Error::read(format!("blob {}", blob.digest.short()));
        let body = self.store.blobs().get(blob)?.ok_or_else(missing)?;
        let mut plain = decode(body).map_err(failed())?;
        let mut sink = self.sink()?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let length = plain.read(&mut buffer).map_err(failed())?;
            let Some(bytes @ [_, ..]) = buffer.get(..length) else {
                break;
            };
            sink.write_all(bytes).map_err(self.cannot_write())?;
        }
        let (actual, size_bytes, encoder) = sink.finish();
        if actual != *self.diff_id {
            return Err(Error::DiffIdMismatch {
                expected: self.diff_id.clone(),
                actual,
            });
        }
        self.publish(encoder, size_bytes)
    }

    /// From the tree and its entry list.
    fn rebuild(&self) -> Result<Descriptor> {
        let tree = LayerTree::open(self.store, TreeKey::Diff(self.diff_id.clone()))?;
        let tree = tree.ok_or_else(|| Error::LayerMissing {
            diff_id: self.diff_id.clone(),
        })?;
        let sink = match self.write_tar(&tree) {
            // Of another length, gone, or no file any more.
            Err(Error::Tar { .. } | Error::Io { .. }) => return Err(self.changed(&tree)),
            other => other?,
        };
        let (actual, size_bytes, encoder) = sink.finish();
        if actual != *self.diff_id {
            return Err(self.changed(&tree));
        }
        self.publish(encoder, size_bytes)
    }

    fn write_tar(&self, tree: &LayerTree) -> Result<Sink<'_>> {
        let root = tree.open_root()?;
        let mut tar = TarWriter::new(self.sink()?);
        for entry in tree.entries()? {
            if let EntryKind::File { .. } = entry.kind {
                tar.append(&entry, &mut root.open_file(&entry.path)?)?;
            } else {
                tar.append(&entry, &mut io::empty())?;
            }
        }
        tar.finish()
    }

    fn changed(&self, tree: &LayerTree) -> Error {
        Error::TreeChanged {
            diff_id: self.diff_id.clone(),
            path: tree.fs().to_owned(),
        }
    }

    fn sink(&self) -> Result<Sink<'_>> {
        let writer = self.store.blobs().ingest()?;
        let encoder = Encoder::new(writer, self.compression, None, self.threads)
            .map_err(self.cannot_write())?;
        Ok(Sink {
            encoder,
            hasher: Hasher::new(self.diff_id.digest().algorithm()),
            size_bytes: 0,
            reported_bytes: 0,
            job: self,
        })
    }

    fn publish(&self, encoder: Encoder<BlobWriter>, size_bytes: u64) -> Result<Descriptor> {
        let writer = encoder.finish().map_err(self.cannot_write())?;
        let (digest, blob_bytes) = writer.commit(None)?;
        let blob = Descriptor::new(self.compression.layer_media_type(), digest, blob_bytes);
        remember(self.store, self.diff_id, size_bytes, Some(&blob))?;
        Ok(blob)
    }

    fn cannot_write(&self) -> impl FnOnce(io::Error) -> Error {
        Error::write("write a blob in", self.store.root())
    }
}

/// Takes the plain tar: hashes, counts, reports and compresses it.
struct Sink<'a> {
    encoder: Encoder<BlobWriter>,
    hasher: Hasher,
    size_bytes: u64,
    reported_bytes: u64,
    job: &'a Job<'a>,
}

impl Sink<'_> {
    fn finish(mut self) -> (DiffId, u64, Encoder<BlobWriter>) {
        self.report(0);
        (DiffId(self.hasher.finish()), self.size_bytes, self.encoder)
    }

    fn report(&mut self, at_least: u64) {
        let bytes = self.size_bytes - self.reported_bytes;
        if bytes > at_least {
            self.reported_bytes = self.size_bytes;
            self.job.observer.event(Event::Advanced {
                id: self.job.id.to_owned(),
                bytes,
            });
        }
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.encoder.write(bytes)?;
        self.hasher.update(bytes.get(..length).unwrap_or_default());
        self.size_bytes += length as u64;
        self.report(REPORT_BYTES);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}
