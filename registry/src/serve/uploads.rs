//! `/v2/<name>/blobs/uploads/…`: distribution-spec §Pushing Blobs.
//!
//! An upload is a blob being written to the store's ingest directory. It lives as long as this
//! process and is dropped when nobody continues it; its file goes with it.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap};
use hyper::{Response, StatusCode};
use wythe_layers::spec::{Descriptor, Digest, MediaType};
use wythe_layers::store::BlobWriter;

use super::State;
use super::answer::{Answer, ApiError, Body, CONTENT_DIGEST, Code, UPLOAD_UUID};
use super::body::{Limits, blocking, receive};
use super::names::Repository;
use super::route::{Query, parse_digest};

/// Uploads that are open at once; each holds a file and a buffer.
const MAX_UPLOADS: usize = 256;
/// An upload that nobody continued for so long is given up.
const MAX_UPLOAD_AGE: Duration = Duration::from_secs(3600);

/// The uploads that are open.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    open: Mutex<HashMap<String, Upload>>,
}

#[derive(Debug)]
struct Upload {
    repository: String,
    /// `None` while a request writes to it.
    writer: Option<BlobWriter>,
    touched: Instant,
}

/// An upload that one request holds. Dropped without [`Held::give_back`], it is given up.
#[derive(Debug)]
struct Held {
    uploads: Arc<Uploads>,
    id: String,
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.open
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    /// Opens an upload; those that were given up make room first.
    fn insert(&self, repository: &Repository, writer: BlobWriter) -> Result<String, ApiError> {
        let mut open = self.lock();
        open.retain(|_, upload| {
            upload.writer.is_none() || upload.touched.elapsed() < MAX_UPLOAD_AGE
        });
        if open.len() >= MAX_UPLOADS {
            let message = "too many uploads are open";
            return Err(ApiError::new(Code::TooManyRequests, message));
        }
        let half = || RandomState::new().hash_one(open.len());
        let id = format!("{:016x}{:016x}", half(), half());
        let upload = Upload {
            repository: repository.name().to_owned(),
            writer: Some(writer),
            touched: Instant::now(),
        };
        open.insert(id.clone(), upload);
        Ok(id)
    }

    /// Takes an upload of this repository, for one request at a time.
    fn take(
        self: &Arc<Self>,
        repository: &Repository,
        id: &str,
    ) -> Result<(Held, BlobWriter), ApiError> {
        let mut open = self.lock();
        let upload = open
            .get_mut(id)
            .filter(|upload| upload.repository == repository.name())
            .ok_or_else(unknown)?;
        let writer = upload.writer.take().ok_or_else(busy)?;
        upload.touched = Instant::now();
        let held = Held {
            uploads: Arc::clone(self),
            id: id.to_owned(),
        };
        Ok((held, writer))
    }

    /// Bytes that an upload of this repository has. Nothing is taken, so a request that begins to
    /// write meanwhile is not turned away.
    fn size_bytes(&self, repository: &Repository, id: &str) -> Result<u64, ApiError> {
        let mut open = self.lock();
        let upload = open
            .get_mut(id)
            .filter(|upload| upload.repository == repository.name())
            .ok_or_else(unknown)?;
        upload.touched = Instant::now();
        Ok(upload.writer.as_ref().ok_or_else(busy)?.size_bytes())
    }
}

impl Held {
    /// The upload can be continued.
    fn give_back(self, writer: BlobWriter) {
        if let Some(upload) = self.uploads.lock().get_mut(&self.id) {
            upload.writer = Some(writer);
            upload.touched = Instant::now();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut open = self.uploads.lock();
        if open
            .get(&self.id)
            .is_some_and(|upload| upload.writer.is_none())
        {
            open.remove(&self.id);
        }
    }
}

fn busy() -> ApiError {
    ApiError::new(
        Code::BlobUploadInvalid,
        "another request writes to this upload",
    )
    .with_status(StatusCode::CONFLICT)
}

fn unknown() -> ApiError {
    ApiError::new(Code::BlobUploadUnknown, "there is no such upload")
}

/// Begins an upload, mounts a blob that is here already, or takes a whole blob at once.
pub(super) async fn begin(
    state: Arc<State>,
    repository: Repository,
    query: Query,
    body: Incoming,
) -> Result<Response<Body>, ApiError> {
    if let Some(mount) = query.get("mount") {
        let digest = parse_digest(mount)?;
        // `from` is not looked at: every repository shares the store's blobs, and whether
        // another one exists is not told.
        let store = state.store.clone();
        let wanted = digest.clone();
        if blocking(move || Ok(store.blobs().stat(&wanted)?))
            .await?
            .is_some()
        {
            return Ok(created(&repository, &digest));
        }
    }
    let digest = query.get("digest").map(parse_digest).transpose()?;
    let store = state.store.clone();
    let writer = blocking(move || Ok(store.blobs().ingest()?)).await?;
    let Some(digest) = digest else {
        let id = state.uploads.insert(&repository, writer)?;
        return Ok(accepted(&repository, &id, 0));
    };
    let (writer, received) = receive(body, writer, state.limits()).await;
    received?;
    let writer = writer.ok_or_else(unknown)?;
    commit(&repository, writer, digest).await
}

/// Appends a chunk (with `Content-Range`) or a stream (without).
pub(super) async fn append(
    state: Arc<State>,
    headers: &HeaderMap,
    repository: Repository,
    id: String,
    body: Incoming,
) -> Result<Response<Body>, ApiError> {
    let (held, writer) = state.uploads.take(&repository, &id)?;
    let writer = check_range(&held, &repository, headers, writer)?;
    let Some((held, writer)) = append_body(held, writer, body, state.limits()).await? else {
        return Err(unknown());
    };
    let size = writer.size_bytes();
    held.give_back(writer);
    Ok(accepted(&repository, &id, size))
}

/// Takes the last chunk, if there is one, and makes the upload a blob.
pub(super) async fn complete(
    state: Arc<State>,
    headers: &HeaderMap,
    repository: Repository,
    id: String,
    query: Query,
    body: Incoming,
) -> Result<Response<Body>, ApiError> {
    let digest = query
        .get("digest")
        .ok_or_else(|| ApiError::new(Code::DigestInvalid, "the digest parameter is missing"))?;
    let digest = parse_digest(digest)?;
    let (held, writer) = state.uploads.take(&repository, &id)?;
    let writer = check_range(&held, &repository, headers, writer)?;
    match append_body(held, writer, body, state.limits()).await? {
        // The upload ends here, whether the digest is right or not.
        Some((_held, writer)) => commit(&repository, writer, digest).await,
        None => Err(unknown()),
    }
}

/// How far an upload is.
pub(super) fn status(
    state: &State,
    repository: &Repository,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let size = state.uploads.size_bytes(repository, id)?;
    let answer = Answer::new(StatusCode::NO_CONTENT);
    Ok(progress(answer, repository, id, size).bytes(bytes::Bytes::new()))
}

/// Gives an upload up.
pub(super) fn cancel(
    state: &State,
    repository: &Repository,
    id: &str,
) -> Result<Response<Body>, ApiError> {
    let (held, writer) = state.uploads.take(repository, id)?;
    drop((held, writer));
    Ok(Answer::new(StatusCode::NO_CONTENT).bytes(bytes::Bytes::new()))
}

/// Receives a body into a held upload. After a body that broke off the upload stays, with what
/// had come; after a failure of the disk it is gone.
async fn append_body(
    held: Held,
    writer: BlobWriter,
    body: Incoming,
    limits: Limits,
) -> Result<Option<(Held, BlobWriter)>, ApiError> {
    match receive(body, writer, limits).await {
        (Some(writer), Ok(())) => Ok(Some((held, writer))),
        (Some(writer), Err(error)) => {
            held.give_back(writer);
            Err(error)
        }
        (None, Ok(())) => Ok(None),
        (None, Err(error)) => Err(error),
    }
}

/// A chunk must begin where the upload ends (distribution-spec §Pushing a blob in chunks).
fn check_range(
    held: &Held,
    repository: &Repository,
    headers: &HeaderMap,
    writer: BlobWriter,
) -> Result<BlobWriter, ApiError> {
    let size = writer.size_bytes();
    let refusal = match parse_chunk(headers) {
        Chunk::Stream => return Ok(writer),
        Chunk::Range(first, last) if first == size => match content_length(headers) {
            Some(length) if length != last - first + 1 => {
                ApiError::new(Code::SizeInvalid, "Content-Length and Content-Range differ")
            }
            _ => return Ok(writer),
        },
        Chunk::Range(..) => {
            ApiError::new(Code::RangeInvalid, "the chunk does not begin at the end")
        }
        Chunk::Invalid => ApiError::new(Code::RangeInvalid, "Content-Range is not valid"),
    };
    let uploads = Arc::clone(&held.uploads);
    if let Some(upload) = uploads.lock().get_mut(&held.id) {
        upload.writer = Some(writer);
    }
    Err(refusal
        .with_header(header::LOCATION, location(repository, &held.id))
        .with_header(header::RANGE, range(size)))
}

#[derive(Debug, PartialEq, Eq)]
enum Chunk {
    Stream,
    /// First and last byte.
    Range(u64, u64),
    Invalid,
}

/// `0-99` by the specification; `bytes 0-99/*` by HTTP, as some clients send it.
fn parse_chunk(headers: &HeaderMap) -> Chunk {
    let Some(value) = headers.get(header::CONTENT_RANGE) else {
        return Chunk::Stream;
    };
    let parse = || {
        let text = value.to_str().ok()?;
        let text = text
            .strip_prefix("bytes ")
            .or(text.strip_prefix("bytes="))
            .unwrap_or(text);
        let text = text.split('/').next()?;
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.parse::<u64>().ok()?, last.parse::<u64>().ok()?);
        // `last + 1` is computed later.
        (first <= last && last < u64::MAX).then_some(Chunk::Range(first, last))
    };
    parse().unwrap_or(Chunk::Invalid)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

async fn commit(
    repository: &Repository,
    writer: BlobWriter,
    digest: Digest,
) -> Result<Response<Body>, ApiError> {
    let size = writer.size_bytes();
    let expected = Descriptor::new(MediaType::new("application/octet-stream"), digest, size);
    let wanted = expected.clone();
    let committed = blocking(move || match writer.commit(Some(&wanted)) {
        Ok(_) => Ok(()),
        Err(wythe_layers::Error::DigestMismatch { actual, .. }) => {
            let message = format!("the digest of what was uploaded is {actual}");
            Err(ApiError::new(Code::DigestInvalid, message))
        }
        Err(error) => Err(error.into()),
    });
    committed.await?;
    Ok(created(repository, &expected.digest))
}

fn created(repository: &Repository, digest: &Digest) -> Response<Body> {
    let location = format!("/v2/{}/blobs/{digest}", repository.name());
    Answer::new(StatusCode::CREATED)
        .header(header::LOCATION, &location)
        .header(CONTENT_DIGEST, &digest.to_string())
        .empty()
}

fn accepted(repository: &Repository, id: &str, size: u64) -> Response<Body> {
    progress(Answer::new(StatusCode::ACCEPTED), repository, id, size).empty()
}

fn progress(answer: Answer, repository: &Repository, id: &str, size: u64) -> Answer {
    answer
        .header(header::LOCATION, &location(repository, id))
        .header(header::RANGE, &range(size))
        .header(UPLOAD_UUID, id)
}

fn location(repository: &Repository, id: &str) -> String {
    format!("/v2/{}/blobs/uploads/{id}", repository.name())
}

/// The last byte counts, so an empty upload cannot be told from one byte; everybody writes it so.
fn range(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_of_both_kinds_are_understood() {
        for (text, expected) in [
            ("0-99", Chunk::Range(0, 99)),
            ("bytes 100-199/*", Chunk::Range(100, 199)),
            ("bytes=5-5", Chunk::Range(5, 5)),
            ("9-5", Chunk::Invalid),
            ("a-b", Chunk::Invalid),
            ("5", Chunk::Invalid),
            ("0-18446744073709551615", Chunk::Invalid),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, text.parse().unwrap());
            assert_eq!(parse_chunk(&headers), expected, "{text}");
        }
        assert_eq!(parse_chunk(&HeaderMap::new()), Chunk::Stream);
    }
}
