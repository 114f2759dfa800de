//! Small images, stores and clients for the tests.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use wythe_layers::spec::{
    Descriptor, Digest, ImageConfig, Manifest, MediaType, Platform, Raw, Reference,
};
use wythe_layers::store::Store;
use wythe_layers::tree::Flavour;
use wythe_registry::{Client, ClientOptions, RetryPolicy};

use crate::server::{Answer, Call};

/// An image in memory: every blob by its digest, the manifest and the tag.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) manifest: Raw<Manifest>,
    pub(crate) descriptor: Descriptor,
}

/// A tar with one file of these bytes.
pub(crate) fn tar_of(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = wythe_layers::stream::Encoder::new(
        Vec::new(),
        wythe_layers::stream::Compression::Gzip,
        None,
        1,
    )
    .unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Image {
    /// An image of gzipped layers, each of one file.
    pub(crate) fn new(contents: &[&[u8]]) -> Self {
        Self::for_platform(contents, &Platform::host())
    }

    pub(crate) fn for_platform(contents: &[&[u8]], platform: &Platform) -> Self {
        let mut blobs = BTreeMap::new();
        let mut config = ImageConfig::scratch(platform);
        let mut layers = Vec::new();
        for (n, content) in contents.iter().enumerate() {
            let tar = tar_of(&format!("file{n}"), content);
            config
                .rootfs
                .diff_ids
                .push(wythe_layers::spec::DiffId(Digest::of(&tar)));
            let blob = gzip(&tar);
            layers.push(Descriptor::of(MediaType::LAYER_GZIP, &blob));
            blobs.insert(Digest::of(&blob).to_string(), blob);
        }
        let config = Raw::encode(config, "config").unwrap();
        blobs.insert(config.digest().to_string(), config.bytes().to_vec());
        let manifest = Manifest::new(config.descriptor(MediaType::CONFIG), layers);
        let manifest = Raw::encode(manifest, "manifest").unwrap();
        Self {
            blobs,
            descriptor: manifest.descriptor(MediaType::MANIFEST),
            manifest,
        }
    }

    /// The whole image in a store.
    pub(crate) fn put_into(&self, store: &Store) {
        for bytes in self.blobs.values() {
            store.blobs().put(bytes).unwrap();
        }
        store.blobs().put(self.manifest.bytes()).unwrap();
    }

    /// What an honest registry answers to reads; `None` for anything else.
    pub(crate) fn answer(&self, call: &Call) -> Option<Answer> {
        let last = call.path().rsplit('/').next()?;
        if call.path() == "/v2/" {
            return Some(Answer::new(200));
        }
        if call.path().contains("/manifests/") {
            let known = last == "latest" || last == self.descriptor.digest.to_string();
            return known.then(|| {
                Answer::new(200)
                    .header("Content-Type", MediaType::MANIFEST.as_str())
                    .header("Docker-Content-Digest", self.descriptor.digest.to_string())
                    .body(self.manifest.bytes())
            });
        }
        let blob = self.blobs.get(last)?;
        Some(Answer::new(200).body(blob.clone()))
    }
}

pub(crate) fn not_found() -> Answer {
    Answer::new(404).body(r#"{"errors":[{"code":"NAME_UNKNOWN","message":"gone"}]}"#)
}

pub(crate) fn store_in(directory: &Path) -> Store {
    Store::open(&directory.join("store"), Flavour::SingleId).unwrap()
}

pub(crate) fn reference(host: &str) -> Reference {
    format!("{host}/test/image:latest").parse().unwrap()
}

/// Options that see nothing of this machine. They wait for an answer however busy it is.
pub(crate) fn options() -> ClientOptions {
    ClientOptions {
        certificate_directories: Vec::new(),
        retry: RetryPolicy {
            attempts: 3,
            first_wait: Duration::from_millis(5),
            ..RetryPolicy::default()
        },
        ..ClientOptions::default()
    }
}

pub(crate) fn client() -> Client {
    Client::new(options()).unwrap()
}

/// The whole chain of messages.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    })
    .take(length)
    .collect()
}
