//! `/v2/<name>/manifests/<reference>` and `/v2/<name>/referrers/<digest>`.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::{Method, Response, StatusCode};
use wythe_layers::image;
use wythe_layers::progress::Silent;
use wythe_layers::spec::{
    Descriptor, Digest, Document, Hasher, Index, MAX_MANIFEST_BYTES, MediaType,
};
use wythe_layers::store::Store;

use super::State;
use super::answer::{Answer, ApiError, Body, CONTENT_DIGEST, Code};
use super::body::{Limits, blocking, collect};
use super::names::Repository;
use super::route::{ManifestName, Query};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Serves what is stored, whatever the client says it would rather have. An image that was built
/// here and never left is made whole first.
pub(super) async fn get(
    state: Arc<State>,
    method: &Method,
    headers: &HeaderMap,
    repository: Repository,
    name: ManifestName,
) -> Result<Response<Body>, ApiError> {
    let (target, bytes) = blocking(move || {
        let target = find(&state, &repository, &name)?.ok_or_else(unknown)?;
        let bytes = state.store.blobs().read(&target, MAX_MANIFEST_BYTES);
        match bytes {
            Ok(bytes) => Ok((target, bytes)),
            Err(wythe_layers::Error::BlobMissing { .. }) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    })
    .await?;
    let tag = format!("\"{}\"", target.digest);
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let status = if is_known {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    };
    let answer = Answer::new(status)
        .header(header::CONTENT_TYPE, target.media_type.as_str())
        .header(header::ETAG, &tag)
        .header(CONTENT_DIGEST, &target.digest.to_string());
    if is_known || *method == Method::HEAD {
        return Ok(answer.only_length(target.size));
    }
    Ok(answer
        .header(header::CONTENT_LENGTH, &target.size.to_string())
        .bytes(bytes))
}

/// Takes a manifest whose blobs are all here.
pub(super) async fn put(
    state: Arc<State>,
    headers: &HeaderMap,
    repository: Repository,
    name: ManifestName,
    body: hyper::body::Incoming,
) -> Result<Response<Body>, ApiError> {
    let served_as = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(MediaType::new);
    let limits = Limits {
        max_bytes: MAX_MANIFEST_BYTES,
        idle: state.options.body_idle_timeout,
    };
    let bytes = collect(body, limits).await?;
    blocking(move || {
        let (document, media_type) = parse(bytes, served_as)?;
        let target = describe(&document, media_type, &name)?;
        // A blob may not be removed between the look and the tag.
        let _turn = state.take_turn();
        require_blobs(&state.store, &document)?;
        state.store.blobs().put_as(&target, document.bytes())?;
        match &name {
            ManifestName::Digest(_) => repository.keep_untagged(&state.store, &target)?,
            ManifestName::Tag(tag) => {
                let reference = repository.own_tag(tag).ok_or_else(unknown)?;
                state.store.set_tag(&reference, &target)?;
            }
        }
        let location = format!("/v2/{}/manifests/{}", repository.name(), target.digest);
        let mut answer = Answer::new(StatusCode::CREATED)
            .header(header::LOCATION, &location)
            .header(CONTENT_DIGEST, &target.digest.to_string());
        if let Some(subject) = subject(&document) {
            answer = answer.header(SUBJECT, &subject.digest.to_string());
        }
        Ok(answer.empty())
    })
    .await
}

/// Removes a tag, or everything that was pushed to this repository with a digest. What else is in
/// the store (images built or pulled here) is not to be removed from outside.
pub(super) async fn delete(
    state: Arc<State>,
    repository: Repository,
    name: ManifestName,
) -> Result<Response<Body>, ApiError> {
    blocking(move || {
        let removed = match &name {
            ManifestName::Digest(digest) => repository.remove_digest(&state.store, digest)?,
            ManifestName::Tag(tag) => match repository.own_tag(tag) {
                Some(reference) => state.store.remove_tag(&reference)?,
                None => false,
            },
        };
        if removed {
            return Ok(Answer::new(StatusCode::ACCEPTED).empty());
        }
        let is_there = find_target(&state.store, &repository, &name)?.is_some();
        Err(if is_there {
            let message = "it was not pushed to this registry, and only its machine removes it";
            ApiError::new(Code::Denied, message)
        } else {
            unknown()
        })
    })
    .await
}

/// The manifests of the repository that refer to a digest, as an index.
pub(super) async fn referrers(
    state: Arc<State>,
    repository: Repository,
    digest: Digest,
    query: Query,
) -> Result<Response<Body>, ApiError> {
    let wanted_type = query.get("artifactType").map(str::to_owned);
    let is_filtered = wanted_type.is_some();
    let bytes = blocking(move || {
        let mut found = Vec::new();
        for target in reachable(&state.store, &repository)? {
            let Ok(document) = image::read_document(&state.store, &target) else {
                continue;
            };
            if subject(&document).is_none_or(|subject| subject.digest != digest) {
                continue;
            }
            let referrer = describe_referrer(&target, &document);
            if wanted_type.is_none() || referrer.artifact_type == wanted_type {
                found.push(referrer);
            }
        }
        found.sort_by(|a, b| a.digest.cmp(&b.digest));
        serde_json::to_vec(&Index::new(found)).map_err(|error| ApiError::internal(&error))
    })
    .await?;
    let mut answer = Answer::new(StatusCode::OK)
        .header(header::CONTENT_TYPE, MediaType::INDEX.as_str())
        .header(header::CONTENT_LENGTH, &bytes.len().to_string());
    if is_filtered {
        answer = answer.header(FILTERS_APPLIED, "artifactType");
    }
    Ok(answer.bytes(bytes))
}

fn unknown() -> ApiError {
    ApiError::new(Code::ManifestUnknown, "there is no such manifest")
}

/// What a name leads to, made whole.
fn find(
    state: &State,
    repository: &Repository,
    name: &ManifestName,
) -> Result<Option<Descriptor>, ApiError> {
    let Some(pending) = find_target(&state.store, repository, name)? else {
        return Ok(None);
    };
    if pending.media_type != MediaType::PENDING_MANIFEST {
        return Ok(Some(pending));
    }
    // One at a time: the second who asks finds it done, and compressing uses all cores anyway.
    let _turn = state.finalising.lock();
    let threads = state.options.threads;
    Ok(Some(image::finalise(
        &state.store,
        &pending,
        None,
        threads,
        &Silent,
    )?))
}

fn find_target(
    store: &Store,
    repository: &Repository,
    name: &ManifestName,
) -> Result<Option<Descriptor>, ApiError> {
    match name {
        ManifestName::Tag(tag) => repository.find_tag(store, tag),
        ManifestName::Digest(digest) => {
            let found = reachable(store, repository)?.into_iter();
            Ok(found.into_iter().find(|target| target.digest == *digest))
        }
    }
}

/// Every manifest and index of a repository that is here: those it names, and those in its indexes.
fn reachable(store: &Store, repository: &Repository) -> Result<Vec<Descriptor>, ApiError> {
    let entries = repository.entries(store)?.into_iter();
    let mut queue: VecDeque<_> = entries.map(|entry| entry.target).collect();
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(target) = queue.pop_front() {
        let is_document = target.media_type.is_manifest() || target.media_type.is_index();
        if !is_document || !seen.insert(target.digest.clone()) || !store.blobs().has(&target)? {
            continue;
        }
        if target.media_type.is_index() {
            match image::read_document(store, &target) {
                Ok(Document::Index(index)) => queue.extend(index.manifests.iter().cloned()),
                Ok(Document::Manifest(_)) => {}
                Err(error) => tracing::warn!(%error, digest = %target.digest, "damaged index"),
            }
        }
        found.push(target);
    }
    Ok(found)
}

/// A manifest or an index, and the media type to keep it as. One whose own `mediaType` is not
/// what it is sent as would be another thing to another reader.
fn parse(bytes: Vec<u8>, served_as: Option<MediaType>) -> Result<(Document, MediaType), ApiError> {
    let invalid = |message: String| ApiError::new(Code::ManifestInvalid, message);
    let is_known = |media_type: &MediaType| media_type.is_manifest() || media_type.is_index();
    // `application/json` and the like say nothing.
    let served_as = served_as.filter(is_known);
    let document =
        Document::parse(bytes, served_as.as_ref()).map_err(|error| invalid(error.to_string()))?;
    let own = match &document {
        Document::Manifest(manifest) => manifest.media_type.clone(),
        Document::Index(index) => index.media_type.clone(),
    };
    let media_type = match (own, served_as) {
        (Some(own), Some(served_as)) if own != served_as => {
            return Err(invalid(format!(
                "it is a {own} and was sent as {served_as}"
            )));
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type,
        (None, None) => document.media_type(),
    };
    if is_known(&media_type) {
        return Ok((document, media_type));
    }
    Err(invalid(format!("{media_type} is not taken as a manifest")))
}

/// The descriptor under which it is kept; its digest is the client's where that named one.
fn describe(
    document: &Document,
    media_type: MediaType,
    name: &ManifestName,
) -> Result<Descriptor, ApiError> {
    let bytes = document.bytes();
    let digest = match name {
        ManifestName::Tag(_) => Digest::of(bytes),
        ManifestName::Digest(expected) => {
            let mut hasher = Hasher::new(expected.algorithm());
            hasher.update(bytes);
            let actual = hasher.finish();
            if actual != *expected {
                let message = format!("the manifest's digest is {actual}");
                return Err(ApiError::new(Code::DigestInvalid, message));
            }
            actual
        }
    };
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}

/// Everything a manifest names must be here, except what lies elsewhere by design.
fn require_blobs(store: &Store, document: &Document) -> Result<(), ApiError> {
    let needed: Vec<&Descriptor> = match document {
        Document::Index(index) => index.manifests.iter().collect(),
        Document::Manifest(manifest) => std::iter::once(&manifest.config)
            .chain(&manifest.layers)
            .filter(|blob| blob.urls.is_empty())
            .collect(),
    };
    for blob in needed {
        match store.blobs().stat(&blob.digest)? {
            Some(size) if size == blob.size => {}
            Some(size) => {
                let message = format!("{} has {size} bytes, not {}", blob.digest, blob.size);
                return Err(ApiError::new(Code::ManifestInvalid, message));
            }
            None => {
                let message = format!("{} was not uploaded", blob.digest);
                return Err(ApiError::new(Code::ManifestBlobUnknown, message));
            }
        }
    }
    Ok(())
}

fn subject(document: &Document) -> Option<&Descriptor> {
    match document {
        Document::Manifest(manifest) => manifest.subject.as_ref(),
        Document::Index(index) => index.subject.as_ref(),
    }
}

/// distribution-spec §Listing Referrers: with the artifact type and the annotations.
fn describe_referrer(target: &Descriptor, document: &Document) -> Descriptor {
    let mut referrer = Descriptor::new(
        target.media_type.clone(),
        target.digest.clone(),
        target.size,
    );
    match document {
        Document::Manifest(manifest) => {
            let of_config = || manifest.config.media_type.to_string();
            let artifact_type = manifest.artifact_type.clone().unwrap_or_else(of_config);
            referrer.artifact_type = Some(artifact_type);
            referrer.annotations.clone_from(&manifest.annotations);
        }
        Document::Index(index) => {
            referrer.artifact_type.clone_from(&index.artifact_type);
            referrer.annotations.clone_from(&index.annotations);
        }
    }
    referrer
}
