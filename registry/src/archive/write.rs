//! Images into files. The same images give the same bytes: sorted, without times or owners.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use tar::{EntryType, Header};
use wythe_layers::image::{ImageSource, ResolvedImage};
use wythe_layers::progress::{Event, Observer, Outcome};
use wythe_layers::spec::{Descriptor, DiffId, Index, Manifest, MediaType, Raw, Reference};
use wythe_layers::store::{BlobStore, REF_NAME};
use wythe_layers::stream::{DigestReader, VerifyingReader, decode};

use super::blob_name;
use super::select::CONTAINERD_NAME;
use crate::error::{Error, Result};

/// Copied at a time, in bytes.
const COPY_BYTES: usize = 128 << 10;

/// An image to be written.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    /// Where its blobs come from.
    pub source: &'a dyn ImageSource,
    /// What it is.
    pub image: &'a ResolvedImage,
    /// What it is to be called: references in normal form, or for a layout any text.
    pub names: &'a [String],
}

impl Export<'_> {
    /// Its manifest; one that only its own store understands is none to write.
    fn descriptor(&self) -> Descriptor {
        if self.image.descriptor.media_type.is_manifest() {
            self.image.descriptor.clone()
        } else {
            self.image.manifest.descriptor(MediaType::MANIFEST)
        }
    }

    fn open(&self, blob: &Descriptor) -> Result<VerifyingReader<Box<dyn Read + Send>>> {
        let reader = self
            .source
            .open(&self.image.reference, blob)
            .map_err(Error::Store)?;
        Ok(VerifyingReader::new(reader, blob))
    }
}

/// Writes images as `docker save` does: plain layers under their diff IDs, and `manifest.json`.
/// `docker load`, `podman load` and skopeo read it.
///
/// A tar tells sizes first; `size_of` may know those of layers (their records do). A compressed
/// layer whose size it does not know is decompressed twice.
///
/// # Errors
/// When a blob cannot be got, is not what it should be, or the output cannot be written.
pub fn write_docker_archive(
    images: &[Export<'_>],
    size_of: &dyn Fn(&DiffId) -> Option<u64>,
    output: &mut dyn Write,
    observer: &dyn Observer,
) -> Result<()> {
    #[derive(serde::Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Item {
        config: String,
        repo_tags: Vec<String>,
        layers: Vec<String>,
    }
    let mut tar = TarOutput::new(output);
    let mut items = Vec::new();
    let mut configs = BTreeMap::new();
    let mut layers = BTreeMap::new();
    for export in images {
        let manifest = &export.image.manifest;
        let diff_ids = &export.image.config.rootfs.diff_ids;
        items.push(Item {
            config: format!("{}.json", manifest.config.digest.hex()),
            repo_tags: export.names.iter().map(|name| familiar(name)).collect(),
            layers: diff_ids.iter().map(layer_name).collect(),
        });
        configs.insert(
            format!("{}.json", manifest.config.digest.hex()),
            export.image.config.bytes(),
        );
        for (diff_id, blob) in diff_ids.iter().zip(&manifest.layers) {
            layers
                .entry(layer_name(diff_id))
                .or_insert((export, diff_id, blob));
        }
    }
    for (name, bytes) in configs {
        tar.file(&name, bytes.len() as u64, &mut &*bytes)?;
    }
    for (name, (export, diff_id, blob)) in layers {
        let progress = Progress::start(observer, blob);
        let size = match size_of(diff_id) {
            _ if is_plain(blob) => blob.size,
            Some(size) => size,
            None => count(export, blob)?,
        };
        let plain = decode(export.open(blob)?).map_err(Error::io("read", &name))?;
        let mut reader = DigestReader::new(plain);
        tar.file(&name, size, &mut progress.reader(&mut reader))?;
        // The decoder has more to say than the tar had room for when the size was wrong.
        let rest = io::copy(&mut reader, &mut io::sink()).map_err(Error::io("read", &name))?;
        let (_, digest, _) = reader.finish();
        if digest != *diff_id.digest() || rest > 0 {
            return Err(Error::DigestMismatch {
                what: format!("the decompressed layer {}", blob.digest),
                expected: diff_id.digest().clone(),
                actual: digest,
            });
        }
        progress.done();
    }
    let list = to_json(&items)?;
    tar.file("manifest.json", list.len() as u64, &mut list.as_slice())?;
    tar.finish()
}

/// Writes images as a tar of an OCI layout, each under all its names.
///
/// # Errors
/// As [`write_docker_archive`].
pub fn write_oci_archive(
    images: &[Export<'_>],
    output: &mut dyn Write,
    observer: &dyn Observer,
) -> Result<()> {
    let mut tar = TarOutput::new(output);
    tar.directory("blobs/")?;
    let mut algorithm = None;
    for (name, part) in parts(images) {
        let own = name
            .rsplit_once('/')
            .map(|(directory, _)| directory.to_owned());
        if own != algorithm {
            if let Some(directory) = &own {
                tar.directory(&format!("{directory}/"))?;
            }
            algorithm = own;
        }
        match part {
            Part::Document(bytes) => tar.file(&name, bytes.len() as u64, &mut &*bytes)?,
            Part::Blob(export, blob) => {
                let progress = Progress::start(observer, blob);
                let mut reader = export.open(blob)?;
                tar.file(&name, blob.size, &mut progress.reader(&mut reader))?;
                // The verdict comes with the end.
                io::copy(&mut reader, &mut io::sink()).map_err(Error::io("read", &name))?;
                progress.done();
            }
        }
    }
    let entries = images.iter().flat_map(index_entries).collect();
    let index = Raw::encode(Index::new(entries), "index").map_err(|source| Error::Document {
        what: "index.json".into(),
        source,
    })?;
    let bytes = index.bytes();
    tar.file("index.json", bytes.len() as u64, &mut &*bytes)?;
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    tar.file("oci-layout", layout.len() as u64, &mut layout.as_slice())?;
    tar.finish()
}

/// Adds images to an OCI layout, which is made where there is none. Blobs that it has stay; a
/// name that it has is pointed at the new image last.
///
/// # Errors
/// As [`write_docker_archive`]; and when the directory holds something else.
pub fn write_layout(
    images: &[Export<'_>],
    directory: &Path,
    observer: &dyn Observer,
) -> Result<()> {
    let blobs = BlobStore::create(directory).map_err(Error::Store)?;
    for (_, part) in parts(images) {
        match part {
            Part::Document(bytes) => {
                blobs.put(bytes).map_err(Error::Store)?;
            }
            Part::Blob(_, blob) if blobs.has(blob).map_err(Error::Store)? => {}
            Part::Blob(export, blob) => {
                let progress = Progress::start(observer, blob);
                let mut reader = export.open(blob)?;
                let mut writer = blobs.ingest_for(blob).map_err(Error::Store)?;
                let path = blobs.path(&blob.digest);
                copy(&mut progress.reader(&mut reader), &mut writer)
                    .map_err(Error::io("write", &path))?;
                writer.commit(Some(blob)).map_err(Error::Store)?;
                progress.done();
            }
        }
    }
    for export in images {
        for entry in index_entries(export) {
            match entry.annotations.get(REF_NAME) {
                Some(name) => blobs.set_entry(name, &entry),
                None => blobs.add_entry(&entry),
            }
            .map_err(Error::Store)?;
        }
    }
    Ok(())
}

/// A file of a layout.
enum Part<'a> {
    Document(&'a [u8]),
    Blob(&'a Export<'a>, &'a Descriptor),
}

/// All files of a layout below `blobs/`, sorted.
fn parts<'a>(images: &'a [Export<'a>]) -> BTreeMap<String, Part<'a>> {
    let mut parts = BTreeMap::new();
    for export in images {
        let manifest: &Raw<Manifest> = &export.image.manifest;
        for layer in &manifest.layers {
            parts
                .entry(blob_name(&layer.digest))
                .or_insert(Part::Blob(export, layer));
        }
        let config = blob_name(&manifest.config.digest);
        parts.insert(config, Part::Document(export.image.config.bytes()));
        let own = blob_name(&export.descriptor().digest);
        parts.insert(own, Part::Document(manifest.bytes()));
    }
    parts
}

/// One entry a name; an image without a name has one all the same.
fn index_entries(export: &Export<'_>) -> Vec<Descriptor> {
    let mut entry = export.descriptor();
    entry.platform = Some(export.image.config.platform());
    if export.names.is_empty() {
        return vec![entry];
    }
    let named = |name: &String| {
        let mut entry = entry.clone();
        entry.annotations.insert(REF_NAME.into(), name.clone());
        if let Some(reference) = full_reference(name) {
            entry
                .annotations
                .insert(CONTAINERD_NAME.into(), reference.to_string());
        }
        entry
    };
    export.names.iter().map(named).collect()
}

/// A name that says which repository it means; a bare tag does not.
fn full_reference(name: &str) -> Option<Reference> {
    name.contains('/').then(|| name.parse().ok()).flatten()
}

/// As Docker prints names into `RepoTags`.
fn familiar(name: &str) -> String {
    name.parse::<Reference>()
        .map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

fn layer_name(diff_id: &DiffId) -> String {
    format!("{}.tar", diff_id.digest().hex())
}

fn is_plain(blob: &Descriptor) -> bool {
    blob.media_type == MediaType::LAYER || blob.media_type == MediaType::DOCKER_LAYER
}

/// The decompressed size of a layer, by decompressing it.
fn count(export: &Export<'_>, blob: &Descriptor) -> Result<u64> {
    let what = blob.digest.to_string();
    let mut plain = decode(export.open(blob)?).map_err(Error::io("read", &what))?;
    io::copy(&mut plain, &mut io::sink()).map_err(Error::io("read", &what))
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Config {
        path: "manifest.json".into(),
        source: Box::new(source),
    })
}

fn copy(reader: &mut dyn Read, writer: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut total = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
            return Ok(total);
        };
        writer.write_all(part)?;
        total += count as u64;
    }
}

/// A tar being written: owner root, time 0.
struct TarOutput<'a> {
    output: &'a mut dyn Write,
}

impl<'a> TarOutput<'a> {
    fn new(output: &'a mut dyn Write) -> Self {
        Self { output }
    }

    fn header(&mut self, name: &str, kind: EntryType, mode: u32, size: u64) -> Result<()> {
        // GNU rather than ustar: a layer may have more than 8 GiB, which ustar cannot say.
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_path(name).map_err(Error::io("name", name))?;
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.output
            .write_all(header.as_bytes())
            .map_err(Error::io("write", name))
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.header(name, EntryType::Directory, 0o755, 0)
    }

    /// Exactly `size` bytes of `content`; fewer are an error.
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        self.header(name, EntryType::Regular, 0o644, size)?;
        let copied =
            copy(&mut content.take(size), self.output).map_err(Error::io("write", name))?;
        if copied != size {
            return Err(Error::SizeMismatch {
                what: name.to_owned(),
                expected: size,
                actual: copied,
            });
        }
        let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
        self.output
            .write_all([0; 512].get(..padding).unwrap_or_default())
            .map_err(Error::io("write", name))
    }

    fn finish(self) -> Result<()> {
        self.output
            .write_all(&[0; 1024])
            .and_then(|()| self.output.flush())
            .map_err(Error::io("write", "the archive"))
    }
}

/// Tells an observer of a blob.
struct Progress<'a> {
    observer: &'a dyn Observer,
    id: String,
}

impl<'a> Progress<'a> {
    fn start(observer: &'a dyn Observer, blob: &Descriptor) -> Self {
        let id = blob.digest.short().to_owned();
        observer.event(Event::Started {
            id: id.clone(),
            label: format!("layer {id}"),
            total_bytes: None,
        });
        Self { observer, id }
    }

    fn reader<'b>(&'b self, inner: &'b mut dyn Read) -> Telling<'b> {
        Telling {
            progress: self,
            inner,
        }
    }

    fn done(self) {
        self.observer.event(Event::Finished {
            id: self.id,
            outcome: Outcome::Done,
        });
    }
}

/// Tells of every piece that is read.
struct Telling<'a> {
    progress: &'a Progress<'a>,
    inner: &'a mut dyn Read,
}

impl Read for Telling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count > 0 {
            self.progress.observer.event(Event::Advanced {
                id: self.progress.id.clone(),
                bytes: count as u64,
            });
        }
        Ok(count)
    }
}
