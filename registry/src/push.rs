//! An image (or an index of images) from the store into a registry.
//!
//! Order: layers side by side, then configs, then manifests from the inside out, the tag last. A
//! push that fails leaves blobs at most, never a tag.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use wythe_layers::progress::{Event, Observer, Outcome};
use wythe_layers::spec::{Descriptor, Digest, Document, MAX_MANIFEST_BYTES, MediaType, Reference};
use wythe_layers::store::Store;

use crate::auth::Scopes;
use crate::client::{Client, api, header_value, lock};
use crate::error::{Error, Result};
use crate::http::{Request, RequestBody};
use crate::pull::{Which, parse_document, which};
use crate::registries::Endpoint;
use crate::upload::{Arrival, Upload};

/// Indexes inside indexes.
const MAX_INDEX_DEPTH: u32 = 4;

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushReport {
    /// What the reference names in the registry now.
    pub descriptor: Descriptor,
    /// The reference named it already; nothing was sent.
    pub unchanged: bool,
    /// Blobs that the repository had.
    pub present: usize,
    /// Blobs that the registry took from another repository.
    pub mounted: usize,
    /// Blobs that were sent.
    pub uploaded: usize,
    /// Bytes of those.
    pub uploaded_bytes: u64,
}

/// A manifest or index to put, with its exact bytes.
struct Node {
    descriptor: Descriptor,
    bytes: Vec<u8>,
}

/// Everything that a push may have to send.
#[derive(Default)]
struct Work {
    layers: Vec<Descriptor>,
    configs: Vec<Descriptor>,
    /// Inside out: the last one is the image itself.
    nodes: Vec<Node>,
    seen: BTreeSet<Digest>,
}

impl Client {
    /// Pushes what `image` describes (a manifest or an index in `store`) as `reference`, up to
    /// `jobs` blobs at once.
    ///
    /// # Errors
    /// The first error of any blob; nothing is tagged then.
    pub fn push(
        &self,
        store: &Store,
        image: &Descriptor,
        reference: &Reference,
        jobs: usize,
        observer: &dyn Observer,
    ) -> Result<PushReport> {
        let endpoint = self.inner.options.registries.push_endpoint(reference)?;
        if let Some(digest) = reference.digest()
            && *digest != image.digest
        {
            return Err(Error::DigestMismatch {
                what: format!("the image to push as {reference}"),
                expected: digest.clone(),
                actual: image.digest.clone(),
            });
        }
        let mut report = PushReport {
            descriptor: image.clone(),
            unchanged: true,
            present: 0,
            mounted: 0,
            uploaded: 0,
            uploaded_bytes: 0,
        };
        // Where both are given, the digest was checked above and the tag is what is set.
        let target = match reference.tag() {
            Some(tag) => Which::Tag(tag),
            None => which(reference),
        };
        if self.head_manifest(&endpoint, target)?.as_ref() == Some(&image.digest) {
            return Ok(report);
        }
        report.unchanged = false;
        let mut work = Work::default();
        collect(store, image, 0, &mut work)?;
        self.send_blobs(store, &endpoint, &work.layers, jobs, observer, &mut report)?;
        self.send_blobs(store, &endpoint, &work.configs, jobs, observer, &mut report)?;
        let Some((top, children)) = work.nodes.split_last() else {
            return Ok(report);
        };
        for child in children {
            self.put_manifest(&endpoint, Which::Digest(&child.descriptor.digest), child)?;
        }
        self.put_manifest(&endpoint, target, top)?;
        Ok(report)
    }

    /// The digest of what a tag or digest names in the registry; `None` when it names nothing, or
    /// the registry does not say.
    pub(crate) fn head_manifest(
        &self,
        endpoint: &Endpoint,
        which: Which<'_>,
    ) -> Result<Option<Digest>> {
        let base = self.base(endpoint)?;
        let url = api(
            &base,
            &["v2", &endpoint.repository, "manifests", &which.to_string()],
        )?;
        let types = [
            MediaType::MANIFEST,
            MediaType::INDEX,
            MediaType::DOCKER_MANIFEST,
            MediaType::DOCKER_INDEX,
        ];
        let accept: Vec<_> = types.iter().map(MediaType::as_str).collect();
        let request =
            Request::new(Method::HEAD, url).header(ACCEPT, header_value(&accept.join(", "))?);
        let scopes = Scopes::push(&endpoint.repository);
        let response = self.call(endpoint, &scopes, &request)?;
        match response.status {
            200..=299 => Ok(response
                .header("docker-content-digest")
                .and_then(|text| text.parse().ok())),
            401 | 403 => {
                let what = format!("access to {}", endpoint.repository);
                Err(self.refuse(endpoint, response, &Method::HEAD, what))
            }
            _ => Ok(None),
        }
    }

    fn send_blobs(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        blobs: &[Descriptor],
        jobs: usize,
        observer: &dyn Observer,
        report: &mut PushReport,
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let first_error = Mutex::new(None);
        let tally = Mutex::new(report);
        let worker = || {
            while !failed.load(Ordering::Relaxed) {
                let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                match self.send_blob(store, endpoint, blob, observer) {
                    Ok(arrival) => lock(&tally).count(blob, arrival),
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        lock(&first_error).get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs.clamp(1, blobs.len().max(1)) {
                scope.spawn(worker);
            }
            worker();
        });
        let error = lock(&first_error).take();
        error.map_or(Ok(()), Err)
    }

    fn send_blob(
        &self,
        store: &Store,
        endpoint: &Endpoint,
        blob: &Descriptor,
        observer: &dyn Observer,
    ) -> Result<Arrival> {
        let id = blob.digest.short().to_owned();
        let kind = if blob.media_type.is_layer() {
            "layer"
        } else {
            "blob"
        };
        observer.event(Event::Started {
            id: id.clone(),
            label: format!("{kind} {id}"),
            total_bytes: Some(blob.size),
        });
        let sent = |bytes| {
            observer.event(Event::Advanced {
                id: id.clone(),
                bytes,
            });
        };
        let upload = Upload {
            client: self,
            endpoint,
            blobs: store.blobs(),
            descriptor: blob,
            sent: &sent,
        };
        let result = upload.run();
        if result.is_ok()
            && let Some(sources) = &self.inner.options.sources
        {
            sources.note(&blob.digest, &endpoint.host, &endpoint.repository);
        }
        let outcome = match &result {
            Ok(Arrival::Uploaded) => Outcome::Done,
            Ok(Arrival::Present | Arrival::Mounted) => Outcome::Cached,
            Err(_) => Outcome::Failed,
        };
        observer.event(Event::Finished {
            id: id.clone(),
            outcome,
        });
        result
    }

    fn put_manifest(&self, endpoint: &Endpoint, which: Which<'_>, node: &Node) -> Result<()> {
        let base = self.base(endpoint)?;
        let url = api(
            &base,
            &["v2", &endpoint.repository, "manifests", &which.to_string()],
        )?;
        let media_type: HeaderValue = header_value(node.descriptor.media_type.as_str())?;
        let mut request = Request::new(Method::PUT, url).header(CONTENT_TYPE, media_type);
        request.body = RequestBody::Bytes(node.bytes.clone().into());
        let scopes = Scopes::push(&endpoint.repository);
        let response = self.call(endpoint, &scopes, &request)?;
        if !matches!(response.status, 200..=204) {
            let what = format!("manifest {which} in {}", endpoint.repository);
            return Err(self.refuse(endpoint, response, &Method::PUT, what));
        }
        let claimed = response
            .header("docker-content-digest")
            .and_then(|text| text.parse::<Digest>().ok());
        match claimed {
            Some(claimed)
                if claimed.algorithm() == node.descriptor.digest.algorithm()
                    && claimed != node.descriptor.digest =>
            {
                Err(response.bad(format!("it stored {} as {claimed}", node.descriptor.digest)))
            }
            _ => Ok(()),
        }
    }
}

impl PushReport {
    fn count(&mut self, blob: &Descriptor, arrival: Arrival) {
        match arrival {
            Arrival::Present => self.present += 1,
            Arrival::Mounted => self.mounted += 1,
            Arrival::Uploaded => {
                self.uploaded += 1;
                self.uploaded_bytes += blob.size;
            }
        }
    }
}

/// Reads a manifest or an index, and all it leads to, from the store.
fn collect(store: &Store, image: &Descriptor, depth: u32, work: &mut Work) -> Result<()> {
    let what = format!("manifest {}", image.digest);
    let unusable = |reason: String| Error::Unusable {
        what: what.clone(),
        reason,
    };
    if !(image.media_type.is_manifest() || image.media_type.is_index()) {
        return Err(unusable(format!(
            "{} cannot be pushed as it is",
            image.media_type
        )));
    }
    if depth > MAX_INDEX_DEPTH {
        return Err(unusable("too many indexes lie inside each other".into()));
    }
    if !work.seen.insert(image.digest.clone()) {
        return Ok(());
    }
    let bytes = store
        .blobs()
        .read(image, MAX_MANIFEST_BYTES)
        .map_err(Error::Store)?;
    match parse_document(&what, bytes.clone(), Some(&image.media_type))? {
        Document::Index(index) => {
            for child in &index.manifests {
                collect(store, child, depth + 1, work)?;
            }
        }
        Document::Manifest(manifest) => {
            for layer in &manifest.layers {
                // Such layers may not be passed on; whoever pulls gets them where their URLs say.
                let foreign = !layer.urls.is_empty() && is_foreign(&layer.media_type);
                if !foreign && work.seen.insert(layer.digest.clone()) {
                    work.layers.push(layer.clone());
                }
            }
            if work.seen.insert(manifest.config.digest.clone()) {
                work.configs.push(manifest.config.clone());
            }
        }
    }
    work.nodes.push(Node {
        descriptor: image.clone(),
        bytes,
    });
    Ok(())
}

fn is_foreign(media_type: &MediaType) -> bool {
    let text = media_type.as_str();
    text.contains(".nondistributable.") || text.contains(".foreign.")
}
