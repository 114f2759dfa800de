//! What `docker save` writes, from 1.10 to today: `manifest.json`, configs and layers under any
//! names; plain or compressed layers; layers that are links to others.
//!
//! The form has no manifests, so one is made here for each image, in one fixed way: the same
//! archive always gives the same digests.

use std::collections::BTreeMap;
use std::io::Read;

use wythe_layers::spec::{Descriptor, Digest, ImageConfig, Manifest, MediaType, Raw};
use wythe_layers::stream::{Compression, DigestReader};

use super::MAX_LIST_BYTES;
use super::index::{Slice, TarIndex};
use super::select::ArchivedImage;
use crate::error::{Error, Result};
use crate::pull::MAX_CONFIG_BYTES;

/// Images in one archive.
const MAX_IMAGES: usize = 10_000;

/// One entry of `manifest.json`.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An open archive: where each blob lies.
#[derive(Debug, Clone)]
pub(super) struct DockerArchive {
    layers: BTreeMap<Digest, Slice>,
    documents: BTreeMap<Digest, Vec<u8>>,
}

impl DockerArchive {
    /// Reads `manifest.json` and all configs.
    pub(super) fn read(tar: TarIndex) -> Result<(Self, Vec<ArchivedImage>)> {
        let bytes = tar
            .document("manifest.json", MAX_LIST_BYTES)?
            .ok_or_else(|| tar.refuse("it has no manifest.json"))?;
        let items: Vec<Item> = serde_json::from_slice(&bytes).map_err(|source| Error::Config {
            path: tar.path().join("manifest.json"),
            source: Box::new(source),
        })?;
        if items.len() > MAX_IMAGES {
            return Err(tar.refuse("it has too many images"));
        }
        let mut reader = Reading {
            tar: &tar,
            archive: Self {
                layers: BTreeMap::new(),
                documents: BTreeMap::new(),
            },
            described: BTreeMap::new(),
        };
        let images = items
            .into_iter()
            .map(|item| reader.image(item))
            .collect::<Result<_>>()?;
        Ok((reader.archive, images))
    }

    /// A blob's bytes.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<Box<dyn Read + Send>>> {
        if let Some(slice) = self.layers.get(digest) {
            return Ok(Some(Box::new(slice.clone())));
        }
        let document = self.documents.get(digest).cloned();
        Ok(document.map(|bytes| Box::new(std::io::Cursor::new(bytes)) as _))
    }
}

struct Reading<'a> {
    tar: &'a TarIndex,
    archive: DockerArchive,
    /// Layers that are described already, by name: images share them.
    described: BTreeMap<String, Descriptor>,
}

impl Reading<'_> {
    fn image(&mut self, item: Item) -> Result<ArchivedImage> {
        let name = plain(&item.config);
        let what = format!("{} in {}", item.config, self.tar.path().display());
        let bytes = self
            .tar
            .document(&name, MAX_CONFIG_BYTES)?
            .ok_or_else(|| self.missing(&item.config))?;
        let config: Raw<ImageConfig> =
            Raw::parse(bytes, "image config").map_err(|source| Error::Document { what, source })?;
        let names = item.layers.unwrap_or_default();
        let diff_ids = &config.rootfs.diff_ids;
        if names.len() != diff_ids.len() {
            return Err(self.tar.refuse(format!(
                "{} lists {} layers, manifest.json {}",
                item.config,
                diff_ids.len(),
                names.len()
            )));
        }
        let layers = names
            .iter()
            .zip(diff_ids)
            .map(|(name, diff_id)| self.layer(name, diff_id.digest()))
            .collect::<Result<_>>()?;
        let described = config.descriptor(MediaType::CONFIG);
        self.keep(config.bytes());
        let manifest =
            Raw::encode(Manifest::new(described, layers), "manifest").map_err(|source| {
                Error::Document {
                    what: "the manifest made for the archive".into(),
                    source,
                }
            })?;
        self.keep(manifest.bytes());
        Ok(ArchivedImage {
            names: item.repo_tags.unwrap_or_default(),
            descriptor: manifest.descriptor(MediaType::MANIFEST),
        })
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.archive
            .documents
            .insert(Digest::of(bytes), bytes.to_vec());
    }

    /// Describes a layer. A plain one's digest is its diff ID; that of a compressed one is in its
    /// name, or has to be found out by reading it.
    fn layer(&mut self, name: &str, diff_id: &Digest) -> Result<Descriptor> {
        if let Some(known) = self.described.get(name) {
            return Ok(known.clone());
        }
        let path = plain(name);
        let slice = self.tar.find(&path)?.ok_or_else(|| self.missing(name))?;
        let mut first = Vec::new();
        slice
            .clone()
            .take(wythe_layers::stream::SNIFF_BYTES as u64)
            .read_to_end(&mut first)
            .map_err(Error::io("read", self.tar.path()))?;
        let compression = Compression::sniff(&first);
        let digest = match compression {
            Compression::None => diff_id.clone(),
            _ => match digest_in_name(&path) {
                Some(digest) => digest,
                None => self.digest_of(slice.clone())?,
            },
        };
        let descriptor =
            Descriptor::new(compression.layer_media_type(), digest.clone(), slice.size());
        self.archive.layers.insert(digest, slice);
        self.described.insert(name.to_owned(), descriptor.clone());
        Ok(descriptor)
    }

    fn digest_of(&self, slice: Slice) -> Result<Digest> {
        let mut reader = DigestReader::new(slice);
        std::io::copy(&mut reader, &mut std::io::sink())
            .map_err(Error::io("read", self.tar.path()))?;
        let (_, digest, _) = reader.finish();
        Ok(digest)
    }

    fn missing(&self, name: &str) -> Error {
        self.tar
            .refuse(format!("manifest.json names {name:?}, which is not there"))
    }
}

/// `blobs/sha256/<hex>`: a claim that reading the layer will hold it to.
fn digest_in_name(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// Without `./` in front, as the index has names.
fn plain(name: &str) -> String {
    name.trim_start_matches("./").to_owned()
}
