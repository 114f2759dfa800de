//! Making a layer entry by entry: decision 2 of the architecture.
//!
//! Each file is read once. What is read goes to the layer's tar, which is hashed (its digest is
//! the diff ID), to the content's own digest, and to one of two places: the tree, or the
//! compressed blob. The tar itself is stored nowhere.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};

use super::LayerRecord;
use super::disk;
use super::record::{entries_path, remember, write_list};
use super::scratch::Scratch;
use super::tree::{NewTree, TreeInfo, TreeKey};
use crate::spec::{Descriptor, DiffId, Digest};
use crate::store::{BlobWriter, Store};
use crate::stream::{Compression, DigestReader, DigestWriter, Encoder};
use crate::tar::TarWriter;
use crate::tree::{
    Applied, Applier, ApplyOptions, Entry, EntryKind, EntryList, EntryPath, Finished, RootDir,
    Timestamp,
};
use crate::{Error, Result};

/// What a new layer is written for: decision 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A later step reads it from disk: make the tree, hash the tar stream, do not compress.
    Tree,
    /// Nobody reads it from disk: hash and compress in one read, make no tree.
    Blob(Compression),
}

/// A layer being written entry by entry, in canonical order (parents before children, sorted).
///
/// Dropped without [`LayerWriter::finish`] it leaves nothing.
pub struct LayerWriter {
    store: Store,
    clamp: Option<Timestamp>,
    order: Order,
    entries: Vec<Entry>,
    sink: Sink,
}

/// Where a regular file's content comes from.
enum Content<'a> {
    /// A file of its own, which may be shared with the tree.
    File(&'a mut File),
    Stream(&'a mut dyn Read),
}

enum Sink {
    Tree(Box<TreeSink>),
    Blob {
        tar: Box<TarWriter<DigestWriter<Encoder<BlobWriter>>>>,
        compression: Compression,
    },
}

/// Files in a new tree, and the tar that they would be.
struct TreeSink {
    tar: TarWriter<DigestWriter<io::Sink>>,
    applier: Applier<'static>,
    tree: NewTree,
    files: RootDir,
    // Last: removed after everything in it is closed.
    scratch: Scratch,
}

impl LayerWriter {
    /// Begins a layer. Times after `clamp` are `clamp` in the layer; a tree keeps them as they are.
    ///
    /// # Errors
    /// When the store cannot be written to.
    pub fn new(
        store: &Store,
        purpose: Purpose,
        clamp: Option<Timestamp>,
        threads: usize,
    ) -> Result<Self> {
        let sink = match purpose {
            Purpose::Tree => Sink::Tree(Box::new(TreeSink::new(store)?)),
            Purpose::Blob(compression) => {
                let encoder =
                    Encoder::new(store.blobs().ingest()?, compression, None, threads.max(1))
                        .map_err(cannot_write(store))?;
                let tar = Box::new(TarWriter::new(DigestWriter::new(encoder)));
                Sink::Blob { tar, compression }
            }
        };
        Ok(Self {
            store: store.clone(),
            clamp,
            order: Order::default(),
            entries: Vec::new(),
            sink,
        })
    }

    /// Adds an entry; `content` is read for regular files, from where it stands. Overlayfs's own
    /// attributes are dropped.
    ///
    /// # Errors
    /// As [`LayerWriter::add_from`].
    pub fn add(&mut self, entry: Entry, content: Option<File>) -> Result<()> {
        match content {
            Some(mut file) => self.add_content(entry, Content::File(&mut file)),
            None => self.add_content(entry, Content::Stream(&mut io::empty())),
        }
    }

    /// [`LayerWriter::add`] for content that is not a file of its own; read to its end for regular
    /// files, else not looked at.
    ///
    /// # Errors
    /// [`Error::EntryOrder`]; [`Error::Tree`] or [`Error::Tar`] for what no layer can hold, and
    /// for content that is not as long as its entry says.
    pub fn add_from(&mut self, entry: Entry, content: &mut dyn Read) -> Result<()> {
        self.add_content(entry, Content::Stream(content))
    }

    fn add_content(&mut self, mut entry: Entry, content: Content<'_>) -> Result<()> {
        self.order.check(&entry)?;
        entry.xattrs.retain(|name, _| !disk::is_overlay_mark(name));
        let real_mtime = entry.mtime;
        clamp(&mut entry, self.clamp);
        let digest = match (&mut self.sink, content) {
            (Sink::Tree(sink), content) => sink.add(&entry, real_mtime, content)?,
            (Sink::Blob { tar, .. }, Content::File(file)) => append(tar, &entry, file)?,
            (Sink::Blob { tar, .. }, Content::Stream(stream)) => append(tar, &entry, stream)?,
        };
        if digest.is_some() {
            entry.content_digest = digest;
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Publishes the layer (tree or blob, entry list, record).
    ///
    /// # Errors
    /// When the store cannot be written to.
    pub fn finish(self) -> Result<LayerRecord> {
        let Self {
            store,
            entries,
            sink,
            ..
        } = self;
        let list = EntryList::new(entries);
        match sink {
            Sink::Tree(sink) => sink.finish(&store, &list),
            Sink::Blob { tar, compression } => {
                let (encoder, digest, size_bytes) = tar.finish()?.finish();
                let writer = encoder.finish().map_err(cannot_write(&store))?;
                let (blob_digest, blob_bytes) = writer.commit(None)?;
                let media_type = compression.layer_media_type();
                let blob = Descriptor::new(media_type, blob_digest, blob_bytes);
                let diff_id = DiffId(digest);
                let record = remember(&store, &diff_id, size_bytes, Some(&blob))?;
                write_list(&store, &entries_path(&store, &diff_id), &list)?;
                Ok(record)
            }
        }
    }
}

impl std::fmt::Debug for LayerWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerWriter")
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl TreeSink {
    fn new(store: &Store) -> Result<Self> {
        let scratch = Scratch::in_store(store)?;
        let tree = NewTree::new(&scratch)?;
        let options = ApplyOptions::default();
        Ok(Self {
            tar: TarWriter::new(DigestWriter::new(io::sink())),
            applier: Applier::new(RootDir::open(&tree.fs())?, store.flavour(), options)?,
            files: RootDir::open(&tree.fs())?,
            tree,
            scratch,
        })
    }

    /// Small files are read once for both. Large ones are shared with the tree where the file
    /// system can, else copied, and hashed as they are there, where nobody changes them (the page
    /// cache still has them): so both are of the same bytes.
    fn add(
        &mut self,
        entry: &Entry,
        real_mtime: Timestamp,
        content: Content<'_>,
    ) -> Result<Option<Digest>> {
        let on_disk = Entry {
            mtime: real_mtime,
            ..entry.clone()
        };
        let EntryKind::File { size } = entry.kind else {
            self.apply(on_disk, &mut io::empty())?;
            return append(&mut self.tar, entry, &mut io::empty());
        };
        if size > SMALL_BYTES {
            match content {
                // Sharing is from the start.
                Content::File(file) if rustix::fs::tell(&*file) == Ok(0) => {
                    let applied = self.applier.apply_from(on_disk, file)?;
                    is_applied(entry, &applied)?;
                }
                Content::File(file) => self.apply(on_disk, file)?,
                Content::Stream(stream) => self.apply(on_disk, stream)?,
            }
            return append(
                &mut self.tar,
                entry,
                &mut self.files.open_file(&entry.path)?,
            );
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
        let stream: &mut dyn Read = match content {
            Content::File(file) => file,
            Content::Stream(stream) => stream,
        };
        stream
            .take(size + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::read(format!("the content of {}", entry.path)))?;
        self.apply(on_disk, &mut bytes.as_slice())?;
        append(&mut self.tar, entry, &mut bytes.as_slice())
    }

    fn apply(&mut self, entry: Entry, content: &mut dyn Read) -> Result<()> {
        let path = entry.path.clone();
        match self.applier.apply(entry, content)? {
            Applied::Done => Ok(()),
            Applied::NotSelfContained(_) => Err(Error::EntryOrder { path }),
        }
    }

    fn finish(self, store: &Store, list: &EntryList) -> Result<LayerRecord> {
        let Self {
            tar,
            applier,
            tree,
            scratch,
            ..
        } = self;
        let (_, digest, size_bytes) = tar.finish()?.finish();
        let diff_id = DiffId(digest);
        let statistics = match applier.finish()? {
            Finished::Tree(applied) => applied.statistics,
            Finished::NotSelfContained(why) => {
                return Err(Error::EntryOrder { path: why.path });
            }
        };
        let info = TreeInfo::new(&diff_id, list, &statistics);
        tree.publish(store, TreeKey::Diff(diff_id.clone()), &info, list)?;
        drop(scratch);
        remember(store, &diff_id, size_bytes, None)
    }
}

fn is_applied(entry: &Entry, applied: &Applied) -> Result<()> {
    match applied {
        Applied::Done => Ok(()),
        Applied::NotSelfContained(_) => Err(out_of_order(entry)),
    }
}

/// Appends an entry; gives the digest of a regular file's content.
pub(crate) fn append<W: Write>(
    tar: &mut TarWriter<W>,
    entry: &Entry,
    content: &mut dyn Read,
) -> Result<Option<Digest>> {
    if !matches!(entry.kind, EntryKind::File { .. }) {
        tar.append(entry, content)?;
        return Ok(None);
    }
    let mut hashed = DigestReader::new(content);
    tar.append(entry, &mut hashed)?;
    let (_, digest, _) = hashed.finish();
    Ok(Some(digest))
}

/// Later than `latest` becomes `latest`.
pub(crate) fn clamp(entry: &mut Entry, latest: Option<Timestamp>) {
    if let Some(latest) = latest {
        entry.mtime = entry.mtime.min(latest);
    }
}

fn cannot_write(store: &Store) -> impl FnOnce(io::Error) -> Error {
    Error::write("write a blob in", store.root())
}

fn out_of_order(entry: &Entry) -> Error {
    Error::EntryOrder {
        path: entry.path.clone(),
    }
}

/// Holds entries to canonical order, and each to a directory that came before it: what makes a
/// layer self-contained.
#[derive(Debug, Default)]
struct Order {
    // The last entry's directories (itself included where it is one), outermost first.
    directories: Vec<EntryPath>,
    last: Option<Entry>,
    links: BTreeSet<EntryPath>,
}

impl Order {
    fn check(&mut self, entry: &Entry) -> Result<()> {
        if let Some(last) = &self.last
            && last.canonical_cmp(entry) != Ordering::Less
        {
            return Err(out_of_order(entry));
        }
        self.directories
            .retain(|directory| entry.path.starts_with(directory));
        let has_parent = match entry.path.parent() {
            // The root needs no entry.
            None => true,
            Some(parent) => parent.is_root() || self.directories.last() == Some(&parent),
        };
        let is_placed = match &entry.kind {
            EntryKind::OpaqueDirectory => {
                entry.path.is_root() || self.directories.last() == Some(&entry.path)
            }
            EntryKind::HardLink { target } => has_parent && self.links.contains(target),
            _ => has_parent,
        };
        if !is_placed {
            return Err(out_of_order(entry));
        }
        match entry.kind {
            EntryKind::Directory => self.directories.push(entry.path.clone()),
            EntryKind::Whiteout | EntryKind::OpaqueDirectory | EntryKind::HardLink { .. } => {}
            _ => drop(self.links.insert(entry.path.clone())),
        }
        self.last = Some(Entry::new(entry.path.clone(), entry.kind.clone()));
        Ok(())
    }
}

/// Files up to this size are held in memory while they are written: 256 KiB.
const SMALL_BYTES: u64 = 256 << 10;
