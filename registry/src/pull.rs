//! From a reference to a manifest and a config, and to the bytes of blobs.

use std::io::Read;

use reqwest::Method;
use reqwest::header::{ACCEPT, HeaderValue};
use wythe_layers::image::{ImageSource, ResolvedImage};
use wythe_layers::spec::{
    Descriptor, Digest, Document, Hasher, ImageConfig, Index, MAX_MANIFEST_BYTES, Manifest,
    MediaType, Platform, Raw, Reference,
};

use crate::auth::Scopes;
use crate::blob::{BlobReader, error_of};
use crate::client::{Client, api, lock};
use crate::error::{Error, Result, as_source};
use crate::http::Request;
use crate::registries::Endpoint;

/// Largest image config read, in bytes: 8 MiB; real ones stay below 100 KiB.
pub(crate) const MAX_CONFIG_BYTES: u64 = 8 << 20;
/// Indexes inside indexes; nothing real nests deeper than two.
const MAX_INDEX_DEPTH: u32 = 4;
/// Every form of manifest that we can use. Schema 1 is not asked for.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
application/vnd.oci.image.index.v1+json, \
application/vnd.docker.distribution.manifest.v2+json, \
application/vnd.docker.distribution.manifest.list.v2+json";

/// A document as a registry gave it, verified.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) document: Document,
    pub(crate) descriptor: Descriptor,
}

/// Names a manifest within a repository.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    Tag(&'a str),
    Digest(&'a Digest),
}

impl std::fmt::Display for Which<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

/// The manifest that a reference names: by digest if there is one, else by tag.
pub(crate) fn which(reference: &Reference) -> Which<'_> {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => Which::Digest(digest),
        (None, Some(tag)) => Which::Tag(tag),
        (None, None) => Which::Tag(wythe_layers::spec::DEFAULT_TAG),
    }
}

impl ImageSource for Client {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> wythe_layers::Result<ResolvedImage> {
        self.resolve_image(reference, platform)
            .map_err(as_source(reference.to_string()))
    }

    fn open(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> wythe_layers::Result<Box<dyn Read + Send>> {
        self.open_blob(reference, blob)
            .map(|reader| Box::new(reader) as _)
            .map_err(as_source(format!(
                "blob {} of {reference}",
                blob.digest.short()
            )))
    }
}

impl Client {
    /// As [`ImageSource::resolve`], with this crate's error.
    ///
    /// # Errors
    /// The last endpoint's error; earlier ones (mirrors') are logged.
    pub fn resolve_image(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage> {
        self.at_endpoints(reference, |endpoint| {
            self.resolve_at(endpoint, reference, platform)
        })
    }

    /// A blob as one stream, resumed where the line breaks. The caller verifies.
    ///
    /// # Errors
    /// As [`Self::resolve_image`].
    pub fn open_blob(
        &self,
        reference: &Reference,
        blob: &Descriptor,
    ) -> Result<impl Read + Send + use<>> {
        self.at_endpoints(reference, |endpoint| {
            let reader = BlobReader::open(self, endpoint, blob)?;
            if let Some(sources) = &self.inner.options.sources
                && blob.media_type.is_layer()
                && !endpoint.is_mirror
            {
                sources.note(&blob.digest, &endpoint.host, &endpoint.repository);
            }
            Ok(reader)
        })
    }

    /// Tries the endpoints of a reference in order, the one that worked last time first.
    fn at_endpoints<T>(
        &self,
        reference: &Reference,
        attempt: impl Fn(&Endpoint) -> Result<T>,
    ) -> Result<T> {
        let mut endpoints = self.inner.options.registries.pull_endpoints(reference)?;
        let name = reference.name();
        if endpoints.len() > 1
            && let Some(found) = lock(&self.inner.found_at).get(&name).cloned()
            && let Some(position) = endpoints.iter().position(|other| *other == found)
        {
            endpoints.remove(position);
            endpoints.insert(0, found);
        }
        let several = endpoints.len() > 1;
        let mut last = None;
        for endpoint in &endpoints {
            match attempt(endpoint) {
                Ok(value) => {
                    if several {
                        lock(&self.inner.found_at).insert(name, endpoint.clone());
                    }
                    return Ok(value);
                }
                Err(error) => {
                    if several {
                        tracing::warn!(host = %endpoint.host, error = %error, "an endpoint failed");
                    }
                    // The registry's own word counts, wherever in the order it stands.
                    if last.is_none() || !endpoint.is_mirror {
                        last = Some(error);
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::Unusable {
            what: reference.to_string(),
            reason: "registries.conf leaves no place to get it from".into(),
        }))
    }

    fn resolve_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage> {
        let mut fetched = self.fetch_manifest(endpoint, which(reference), None)?;
        let mut top_index = None;
        for _ in 0..MAX_INDEX_DEPTH {
            let index = match fetched.document {
                Document::Manifest(manifest) => {
                    let config = self.fetch_config(endpoint, reference, &manifest)?;
                    return Ok(ResolvedImage {
                        reference: reference.clone(),
                        index: top_index,
                        descriptor: fetched.descriptor,
                        manifest,
                        config,
                    });
                }
                Document::Index(index) => index,
            };
            let child = choose(&index, platform, &reference.to_string())?.clone();
            top_index.get_or_insert(index);
            fetched = self.fetch_manifest(endpoint, Which::Digest(&child.digest), Some(&child))?;
        }
        Err(Error::Unusable {
            what: reference.to_string(),
            reason: format!("more than {MAX_INDEX_DEPTH} indexes lie inside each other"),
        })
    }

    /// One GET; held to the digest that was asked for, to the descriptor that named it, and to
    /// what the registry itself says it is.
    pub(crate) fn fetch_manifest(
        &self,
        endpoint: &Endpoint,
        which: Which<'_>,
        named_by: Option<&Descriptor>,
    ) -> Result<Fetched> {
        let what = format!("manifest {} in {}", which, endpoint.repository);
        let base = self.base(endpoint)?;
        let url = api(
            &base,
            &["v2", &endpoint.repository, "manifests", &which.to_string()],
        )?;
        let request =
            Request::new(Method::GET, url).header(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let scopes = Scopes::pull(&endpoint.repository);
        let policy = &self.inner.options.retry;
        // The body belongs to the attempt: a line that breaks in it is one more reason to try again.
        let (served_as, claimed, bytes) = crate::retry::run(policy, || {
            let response = self.attempt(endpoint, &scopes, &request)?;
            if response.status != 200 {
                return Err(self.refuse(endpoint, response, &Method::GET, what.clone()));
            }
            let served_as = response.header("content-type").map(MediaType::new);
            let claimed = response
                .header("docker-content-digest")
                .and_then(|text| text.parse::<Digest>().ok());
            let bytes = response.read_document(&what, MAX_MANIFEST_BYTES)?;
            Ok((served_as, claimed, bytes))
        })?;
        let asked = match which {
            Which::Digest(digest) => Some(digest),
            Which::Tag(_) => None,
        };
        for expected in [asked, claimed.as_ref()].into_iter().flatten() {
            check_digest(&what, expected, &bytes)?;
        }
        if let Some(descriptor) = named_by {
            check_size(&what, descriptor.size, &bytes)?;
        }
        let document = parse_document(&what, bytes, served_as.as_ref())?;
        let mut descriptor = document.descriptor();
        if let Some(digest) = asked {
            // A digest of another algorithm than ours stays the name it was asked by.
            descriptor.digest = digest.clone();
        }
        Ok(Fetched {
            document,
            descriptor,
        })
    }

    fn fetch_config(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        manifest: &Raw<Manifest>,
    ) -> Result<Raw<ImageConfig>> {
        let what = format!("the config of {reference}");
        check_config_type(reference, manifest)?;
        let descriptor = &manifest.config;
        if descriptor.size > MAX_CONFIG_BYTES {
            return Err(Error::TooLarge {
                what,
                limit: MAX_CONFIG_BYTES,
            });
        }
        let mut reader = BlobReader::open(self, endpoint, descriptor)?;
        let bytes = read_document(&mut reader, &what, descriptor)?;
        parse_config(&what, bytes, manifest)
    }
}

/// A whole small blob, held to its descriptor.
pub(crate) fn read_document(
    reader: &mut dyn Read,
    what: &str,
    descriptor: &Descriptor,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(descriptor.size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(error_of)?;
    check_size(what, descriptor.size, &bytes)?;
    check_digest(what, &descriptor.digest, &bytes)?;
    Ok(bytes)
}

pub(crate) fn parse_document(
    what: &str,
    bytes: Vec<u8>,
    served_as: Option<&MediaType>,
) -> Result<Document> {
    Document::parse(bytes, served_as).map_err(|source| Error::Document {
        what: what.to_owned(),
        source,
    })
}

/// A manifest whose config is something else names an artifact, not an image.
pub(crate) fn check_config_type(
    reference: impl std::fmt::Display,
    manifest: &Manifest,
) -> Result<()> {
    let media_type = &manifest.config.media_type;
    if media_type.is_config() {
        return Ok(());
    }
    Err(Error::Unusable {
        what: reference.to_string(),
        reason: format!("it is not an image but an artifact of type {media_type}"),
    })
}

/// Parses a config and holds it against the manifest that names it.
pub(crate) fn parse_config(
    what: &str,
    bytes: Vec<u8>,
    manifest: &Manifest,
) -> Result<Raw<ImageConfig>> {
    let invalid = |source| Error::Document {
        what: what.to_owned(),
        source,
    };
    let config: Raw<ImageConfig> = Raw::parse(bytes, "image config").map_err(invalid)?;
    config.validate().map_err(invalid)?;
    let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
    if diff_ids != layers {
        return Err(Error::Unusable {
            what: what.to_owned(),
            reason: format!("it lists {diff_ids} layers, the manifest {layers}"),
        });
    }
    Ok(config)
}

pub(crate) fn check_digest(what: &str, expected: &Digest, bytes: &[u8]) -> Result<()> {
    let mut hasher = Hasher::new(expected.algorithm());
    hasher.update(bytes);
    let actual = hasher.finish();
    if actual == *expected {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        what: what.to_owned(),
        expected: expected.clone(),
        actual,
    })
}

fn check_size(what: &str, expected: u64, bytes: &[u8]) -> Result<()> {
    let actual = bytes.len() as u64;
    if actual == expected {
        return Ok(());
    }
    Err(Error::SizeMismatch {
        what: what.to_owned(),
        expected,
        actual,
    })
}

/// The entry of an index that suits a platform best; the first of equals.
pub(crate) fn choose<'a>(
    index: &'a Index,
    platform: &Platform,
    what: &str,
) -> Result<&'a Descriptor> {
    let images = || index.manifests.iter().filter(|entry| is_image(entry));
    let best = images()
        .filter_map(|entry| {
            let rank = platform.match_rank(entry.platform.as_ref()?)?;
            Some((rank, entry))
        })
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry);
    if let Some(entry) = best {
        return Ok(entry);
    }
    // A single image that says nothing about its platform is taken at its word.
    let mut unmarked = images().filter(|entry| entry.platform.is_none());
    if let (Some(entry), None) = (unmarked.next(), unmarked.next()) {
        return Ok(entry);
    }
    let mut available: Vec<_> = images()
        .filter_map(|entry| entry.platform.as_ref().map(ToString::to_string))
        .collect();
    available.sort();
    available.dedup();
    Err(Error::NoPlatform {
        what: what.to_owned(),
        wanted: platform.to_string(),
        available,
    })
}

/// Attestations stand in indexes as images for `unknown/unknown`.
fn is_image(entry: &Descriptor) -> bool {
    let known = entry
        .platform
        .as_ref()
        .is_none_or(|platform| platform.os != "unknown");
    let kind = &entry.media_type;
    known
        && (kind.is_manifest() || kind.is_index())
        && !entry.annotations.contains_key("vnd.docker.reference.type")
}

#[cfg(test)]
mod tests;
