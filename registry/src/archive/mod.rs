//! Images in files: OCI layouts, tars of them, and what `docker save` writes.
//!
//! Everything read here is untrusted. Documents are capped and verified; a blob's bytes are
//! verified by whoever reads them, as with any [`ImageSource`].

mod docker;
mod index;
mod select;
mod write;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use wythe_layers::image::{ImageSource, ResolvedImage};
use wythe_layers::spec::{
    Descriptor, Digest, Document, MAX_MANIFEST_BYTES, MediaType, Platform, Reference,
};
use wythe_layers::store::BlobStore;
use wythe_layers::stream::{Compression, decode};

use self::docker::DockerArchive;
use self::index::TarIndex;
pub use self::select::ArchivedImage;
pub use self::write::{Export, write_docker_archive, write_layout, write_oci_archive};
use crate::error::{Error, Result, as_source};
use crate::location::Location;
use crate::pull::{
    MAX_CONFIG_BYTES, check_config_type, choose, parse_config, parse_document, read_document,
};

/// Largest `index.json` or `manifest.json`, in bytes.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// Indexes inside indexes.
const MAX_INDEX_DEPTH: u32 = 4;
/// Largest archive unpacked to a temporary file, in bytes: 1 TiB. The disk is full before as a rule.
const MAX_SPOOL_BYTES: u64 = 1 << 40;

/// An open archive or layout.
#[derive(Debug, Clone)]
pub struct Archive {
    path: PathBuf,
    content: Content,
    images: Vec<ArchivedImage>,
}

#[derive(Debug, Clone)]
enum Content {
    Layout(BlobStore),
    LayoutTar(TarIndex),
    Docker(Box<DockerArchive>),
}

/// Which form to expect in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Oci,
    Docker,
    /// The richer one of what is there.
    Any,
}

impl Archive {
    /// Opens what a location names. `scratch` is a directory for temporary files, which are needed
    /// when the archive is compressed or comes from standard input.
    ///
    /// # Errors
    /// When it is not there, not what the location says, or hostile; and for a registry.
    pub fn open(location: &Location, scratch: &Path) -> Result<Self> {
        match location {
            Location::Registry(_) => Err(Error::Location {
                text: location.to_string(),
                reason: "it is in a registry, not in a file".into(),
            }),
            Location::Oci { path, .. } => Self::open_layout(path),
            Location::OciArchive { path, .. } => Self::open_file(path, scratch, Form::Oci),
            Location::DockerArchive { path, .. } => Self::open_file(path, scratch, Form::Docker),
        }
    }

    /// Opens a file or directory of any form, as `load` is given one.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_any(path: &Path, scratch: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::open_layout(path);
        }
        Self::open_file(path, scratch, Form::Any)
    }

    /// Opens an archive that comes as a stream.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_stream(stream: impl Read + Send, scratch: &Path) -> Result<Self> {
        let path = Path::new("(standard input)");
        let file = spool(path, stream, scratch)?;
        Self::from_tar(TarIndex::read(path, file)?, Form::Any)
    }

    fn open_layout(path: &Path) -> Result<Self> {
        let blobs = BlobStore::open(path).map_err(Error::Store)?;
        let images = select::entries(blobs.entries().map_err(Error::Store)?);
        Ok(Self {
            path: path.to_owned(),
            content: Content::Layout(blobs),
            images,
        })
    }

    fn open_file(path: &Path, scratch: &Path, form: Form) -> Result<Self> {
        if path == Path::new("-") {
            let path = Path::new("(standard input)");
            let file = spool(path, io::stdin(), scratch)?;
            return Self::from_tar(TarIndex::read(path, file)?, form);
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = file.metadata().map_err(Error::io("stat", path))?;
        let mut first = [0; 4];
        let is_plain = metadata.is_file() && {
            use std::os::unix::fs::FileExt;
            let count = file
                .read_at(&mut first, 0)
                .map_err(Error::io("read", path))?;
            Compression::sniff(first.get(..count).unwrap_or_default()) == Compression::None
        };
        let file = if is_plain {
            file
        } else {
            spool(path, file, scratch)?
        };
        Self::from_tar(TarIndex::read(path, file)?, form)
    }

    fn from_tar(tar: TarIndex, form: Form) -> Result<Self> {
        let path = tar.path().to_owned();
        let has_layout = tar.find("oci-layout")?.is_some() && tar.find("index.json")?.is_some();
        let has_list = tar.find("manifest.json")?.is_some();
        let as_layout = match form {
            Form::Oci => true,
            Form::Docker => !has_list && has_layout,
            Form::Any => has_layout,
        };
        if as_layout {
            let bytes = tar
                .document("index.json", MAX_LIST_BYTES)?
                .ok_or_else(|| tar.refuse("it has no index.json"))?;
            let index = parse_index(&path, bytes)?;
            return Ok(Self {
                path,
                content: Content::LayoutTar(tar),
                images: select::entries(index),
            });
        }
        if !has_list {
            let reason = if tar.find("repositories")?.is_some() {
                "it is in the form of Docker before 1.10, which is not read"
            } else {
                "it has neither manifest.json nor an OCI layout"
            };
            return Err(tar.refuse(reason));
        }
        let (archive, images) = DockerArchive::read(tar)?;
        Ok(Self {
            path,
            content: Content::Docker(Box::new(archive)),
            images,
        })
    }

    /// Its images, in its order.
    pub fn images(&self) -> &[ArchivedImage] {
        &self.images
    }

    /// The image that a name means (a name in the archive, a reference, `@` and a number); without
    /// a name the only one.
    ///
    /// # Errors
    /// When there is none, or none was named and there are several.
    pub fn select(&self, name: Option<&str>) -> Result<ArchiveImage> {
        let image = select::select(&self.images, name).map_err(|reason| Error::Archive {
            path: self.path.clone(),
            reason,
        })?;
        Ok(self.image(image))
    }

    /// The image or index of a digest: one that is listed, or any in a layout.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, digest: &Digest) -> Result<ArchiveImage> {
        if let Some(listed) = self.images.iter().find(|i| i.descriptor.digest == *digest) {
            return Ok(self.image(listed));
        }
        let missing = || Error::Archive {
            path: self.path.clone(),
            reason: format!("it has no image {digest}"),
        };
        let Content::Layout(blobs) = &self.content else {
            return Err(missing());
        };
        let file = blobs.open_unverified(digest).map_err(Error::Store)?;
        let mut bytes = Vec::new();
        file.ok_or_else(missing)?
            .take(MAX_MANIFEST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &self.path))?;
        let size = bytes.len() as u64;
        let what = format!("manifest {digest}");
        if size > MAX_MANIFEST_BYTES {
            return Err(Error::TooLarge {
                what,
                limit: MAX_MANIFEST_BYTES,
            });
        }
        // Whoever resolves it verifies the bytes.
        let media_type = match parse_document(&what, bytes, None)? {
            Document::Manifest(manifest) => {
                let media_type = manifest.media_type.clone();
                media_type.unwrap_or(MediaType::MANIFEST)
            }
            Document::Index(index) => index.media_type.clone().unwrap_or(MediaType::INDEX),
        };
        Ok(ArchiveImage {
            archive: self.clone(),
            descriptor: Descriptor::new(media_type, digest.clone(), size),
        })
    }

    /// One of [`Self::images`] as a source.
    pub fn image(&self, image: &ArchivedImage) -> ArchiveImage {
        ArchiveImage {
            archive: self.clone(),
            descriptor: image.descriptor.clone(),
        }
    }

    fn blob(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>> {
        let missing = || Error::Archive {
            path: self.path.clone(),
            reason: format!("blob {} is missing", blob.digest),
        };
        match &self.content {
            Content::Layout(blobs) => {
                let file = blobs
                    .open_unverified(&blob.digest)
                    .map_err(Error::Store)?
                    .ok_or_else(missing)?;
                Ok(Box::new(file))
            }
            Content::LayoutTar(tar) => {
                let slice = tar.find(&blob_name(&blob.digest))?.ok_or_else(missing)?;
                Ok(Box::new(slice))
            }
            Content::Docker(archive) => archive.blob(&blob.digest)?.ok_or_else(missing),
        }
    }

    fn document(&self, descriptor: &Descriptor, what: &str, limit: u64) -> Result<Vec<u8>> {
        if descriptor.size > limit {
            return Err(Error::TooLarge {
                what: what.to_owned(),
                limit,
            });
        }
        read_document(&mut self.blob(descriptor)?, what, descriptor)
    }
}

/// One image of an archive.
#[derive(Debug, Clone)]
pub struct ArchiveImage {
    archive: Archive,
    descriptor: Descriptor,
}

impl ArchiveImage {
    /// Its manifest or index, as the archive names it.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn resolve_image(&self, reference: &Reference, platform: &Platform) -> Result<ResolvedImage> {
        let mut descriptor = self.descriptor.clone();
        let mut top_index = None;
        for _ in 0..=MAX_INDEX_DEPTH {
            let what = format!("manifest {}", descriptor.digest);
            let bytes = self
                .archive
                .document(&descriptor, &what, MAX_MANIFEST_BYTES)?;
            match parse_document(&what, bytes, Some(&descriptor.media_type))? {
                Document::Manifest(manifest) => {
                    check_config_type(&what, &manifest)?;
                    let what = format!("config {}", manifest.config.digest);
                    let bytes = self
                        .archive
                        .document(&manifest.config, &what, MAX_CONFIG_BYTES)?;
                    let config = parse_config(&what, bytes, &manifest)?;
                    return Ok(ResolvedImage {
                        reference: reference.clone(),
                        index: top_index,
                        descriptor: Descriptor::new(
                            descriptor.media_type,
                            descriptor.digest,
                            descriptor.size,
                        ),
                        manifest,
                        config,
                    });
                }
                Document::Index(index) => {
                    descriptor = choose(&index, platform, &what)?.clone();
                    top_index.get_or_insert(index);
                }
            }
        }
        Err(Error::Archive {
            path: self.archive.path.clone(),
            reason: "too many indexes lie inside each other".into(),
        })
    }
}

impl ImageSource for ArchiveImage {
    /// The image that was selected; `reference` is only what it is called.
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> wythe_layers::Result<ResolvedImage> {
        self.resolve_image(reference, platform)
            .map_err(as_source(self.archive.path.display().to_string()))
    }

    fn open(
        &self,
        _reference: &Reference,
        blob: &Descriptor,
    ) -> wythe_layers::Result<Box<dyn Read + Send>> {
        self.archive.blob(blob).map_err(as_source(format!(
            "blob {} of {}",
            blob.digest.short(),
            self.archive.path.display()
        )))
    }
}

/// The name of a blob in a layout.
fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

fn parse_index(path: &Path, bytes: Vec<u8>) -> Result<Vec<Descriptor>> {
    #[derive(serde::Deserialize)]
    struct List {
        #[serde(default)]
        manifests: Vec<Descriptor>,
    }
    let list: List = serde_json::from_slice(&bytes).map_err(|source| Error::Config {
        path: path.join("index.json"),
        source: Box::new(source),
    })?;
    Ok(list.manifests)
}

/// A stream, decompressed, as a file that is gone when it is closed.
fn spool(path: &Path, stream: impl Read + Send, scratch: &Path) -> Result<File> {
    let mut file =
        tempfile::tempfile_in(scratch).map_err(Error::io("create a file in", scratch))?;
    let stream = decode(stream).map_err(Error::io("read", path))?;
    let copied = io::copy(&mut stream.take(MAX_SPOOL_BYTES + 1), &mut file)
        .map_err(Error::io("unpack", path))?;
    if copied > MAX_SPOOL_BYTES {
        return Err(Error::TooLarge {
            what: path.display().to_string(),
            limit: MAX_SPOOL_BYTES,
        });
    }
    Ok(file)
}
