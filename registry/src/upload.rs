//! One blob into a registry (distribution-spec §Pushing blobs).
//!
//! First the whole blob in one request. When the line breaks, the registry is asked how far it
//! got and the rest follows in chunks; when the registry (or what stands before it) finds the
//! request too large, chunks from the start.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use wythe_layers::spec::Descriptor;
use wythe_layers::store::BlobStore;

use crate::auth::Scopes;
use crate::client::{Client, api, header_value};
use crate::error::{Error, Result};
use crate::http::{Request, RequestBody, Response};
use crate::redirect::location;
use crate::registries::Endpoint;
use crate::retry::Series;

/// Chunk of an upload that goes in chunks, in bytes: below the 100 MB that common front ends allow.
const CHUNK_BYTES: u64 = 32 << 20;
/// Largest minimum that a registry may ask of our chunks, in bytes.
const MAX_MIN_CHUNK_BYTES: u64 = 1 << 30;
/// How often an upload whose session the registry forgot begins anew.
const MAX_RESTARTS: u32 = 3;

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was there.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// A blob on its way.
pub(crate) struct Upload<'a> {
    pub(crate) client: &'a Client,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) blobs: &'a BlobStore,
    pub(crate) descriptor: &'a Descriptor,
    /// Told of every piece that leaves; a piece sent twice counts twice.
    pub(crate) sent: &'a dyn Fn(u64),
}

/// An upload session.
#[derive(Debug, Clone)]
struct Session {
    location: Url,
    /// Bytes that the registry has.
    offset: u64,
    chunk_bytes: u64,
}

impl Upload<'_> {
    /// Brings the blob into the repository, the cheapest way that works.
    pub(crate) fn run(&self) -> Result<Arrival> {
        if self.exists()? {
            return Ok(Arrival::Present);
        }
        let session = match self.mount()? {
            Mount::Done => return Ok(Arrival::Mounted),
            Mount::Session(session) => Some(session),
            Mount::Nowhere => None,
        };
        self.send(session)?;
        Ok(Arrival::Uploaded)
    }

    fn scopes(&self) -> Scopes {
        Scopes::push(&self.endpoint.repository)
    }

    fn what(&self) -> String {
        format!(
            "blob {} in {}",
            self.descriptor.digest.short(),
            self.endpoint.repository
        )
    }

    fn uploads_url(&self) -> Result<Url> {
        let base = self.client.base(self.endpoint)?;
        api(
            &base,
            &["v2", &self.endpoint.repository, "blobs", "uploads", ""],
        )
    }

    /// Whether the repository has the blob. Only a clear "no" is a no: a registry in trouble
    /// would otherwise get every layer again.
    fn exists(&self) -> Result<bool> {
        let base = self.client.base(self.endpoint)?;
        let digest = self.descriptor.digest.to_string();
        let url = api(&base, &["v2", &self.endpoint.repository, "blobs", &digest])?;
        let request = Request::new(Method::HEAD, url);
        let response = self.client.call(self.endpoint, &self.scopes(), &request)?;
        match response.status {
            200..=299 => Ok(true),
            404 => Ok(false),
            // The registry found it and sent us to a bucket whose signature is for GET only.
            403 if response.url.origin() != base.origin() => Ok(true),
            _ => Err(self.refuse(response, &Method::HEAD)),
        }
    }

    /// Asks the registry to take the blob from another of its repositories that has it.
    fn mount(&self) -> Result<Mount> {
        let Some(sources) = &self.client.inner.options.sources else {
            return Ok(Mount::Nowhere);
        };
        let endpoint = self.endpoint;
        let found = sources.repositories(
            &self.descriptor.digest,
            &endpoint.host,
            &endpoint.repository,
        );
        let Some(from) = found.first() else {
            return Ok(Mount::Nowhere);
        };
        let mut url = self.uploads_url()?;
        url.query_pairs_mut()
            .append_pair("mount", &self.descriptor.digest.to_string())
            .append_pair("from", from);
        let request = post(url);
        let scopes = self.scopes().and_pull(from);
        let response = match self.client.call(endpoint, &scopes, &request) {
            Ok(response) => response,
            // The note may be old, or the right to read there gone.
            Err(error @ (Error::Token { .. } | Error::Unauthorized { .. })) => {
                tracing::debug!(%from, %error, "cannot mount");
                return Ok(Mount::Nowhere);
            }
            Err(error) => return Err(error),
        };
        match response.status {
            201 => Ok(Mount::Done),
            202 => self.session(&response).map(Mount::Session),
            _ => Ok(Mount::Nowhere),
        }
    }

    fn start(&self) -> Result<Session> {
        let request = post(self.uploads_url()?);
        let response = self.client.call(self.endpoint, &self.scopes(), &request)?;
        match response.status {
            202 => self.session(&response),
            _ => Err(self.refuse(response, &Method::POST)),
        }
    }

    fn session(&self, response: &Response) -> Result<Session> {
        let location = location(&response.headers, &response.url)
            .ok_or_else(|| response.bad("an upload session without a usable Location"))?;
        let least = response
            .header("oci-chunk-min-length")
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or(0);
        Ok(Session {
            location,
            offset: 0,
            chunk_bytes: CHUNK_BYTES.max(least.min(MAX_MIN_CHUNK_BYTES)),
        })
    }

    /// Sends the bytes, with recovery.
    fn send(&self, first: Option<Session>) -> Result<()> {
        let mut series = Series::new(self.client.inner.options.retry.clone());
        let mut session = first;
        let mut chunked = false;
        let mut restarts = 0;
        loop {
            let current = match session.take() {
                Some(session) => session,
                None => self.start()?,
            };
            let mut current = current;
            let before = current.offset;
            let result = if chunked {
                self.send_chunks(&mut current)
            } else {
                self.send_whole(&current)
            };
            let Err(error) = result else { return Ok(()) };
            if current.offset > before {
                series.reset();
            }
            match trouble(&error) {
                Trouble::TooLarge if !chunked => chunked = true,
                Trouble::Forgotten if restarts < MAX_RESTARTS => restarts += 1,
                Trouble::Broken => {
                    series.wait(error)?;
                    session = self.ask_progress(&current);
                    // A registry that keeps what it got is given the rest only.
                    chunked = session.as_ref().is_some_and(|s| s.offset > 0) || chunked;
                    if !chunked {
                        session = None;
                    }
                }
                _ => return Err(error),
            }
            tracing::debug!(digest = %self.descriptor.digest, chunked, "uploading again");
        }
    }

    fn send_whole(&self, session: &Session) -> Result<()> {
        self.finish(session, self.descriptor.size)
    }

    fn send_chunks(&self, session: &mut Session) -> Result<()> {
        while session.offset < self.descriptor.size {
            let end = self
                .descriptor
                .size
                .min(session.offset.saturating_add(session.chunk_bytes));
            let range = format!("{}-{}", session.offset, end - 1);
            let open = || self.open(session.offset);
            let mut request = Request::new(Method::PATCH, session.location.clone())
                .header(CONTENT_TYPE, octets())
                .header(CONTENT_RANGE, header_value(&range)?);
            request.body = RequestBody::Stream {
                length: end - session.offset,
                open: &open,
                sent: self.sent,
            };
            let response = self
                .client
                .attempt(self.endpoint, &self.scopes(), &request)?;
            if !matches!(response.status, 201 | 202 | 204) {
                return Err(self.refuse(response, &Method::PATCH));
            }
            if let Some(next) = location(&response.headers, &response.url) {
                session.location = next;
            }
            session.offset = match range_end(&response) {
                // It may have kept less than it was sent, never more.
                Some(kept) if kept <= end => kept,
                Some(_) => return Err(response.bad("it claims to have more than was sent")),
                None => end,
            };
        }
        self.finish(session, 0)
    }

    /// The last request: the remaining `length` bytes and the digest.
    fn finish(&self, session: &Session, length: u64) -> Result<()> {
        let mut url = session.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", &self.descriptor.digest.to_string());
        let open = || self.open(0);
        let mut request = Request::new(Method::PUT, url).header(CONTENT_TYPE, octets());
        request.body = if length == 0 {
            RequestBody::Bytes(bytes::Bytes::new())
        } else {
            RequestBody::Stream {
                length,
                open: &open,
                sent: self.sent,
            }
        };
        let response = self
            .client
            .attempt(self.endpoint, &self.scopes(), &request)?;
        if !matches!(response.status, 201 | 204) {
            return Err(self.refuse(response, &Method::PUT));
        }
        let claimed = response.header("docker-content-digest").map(str::to_owned);
        let ours = self.descriptor.digest.to_string();
        match claimed {
            Some(claimed) if claimed != ours => {
                Err(response.bad(format!("it stored {ours} as {claimed}")))
            }
            _ => Ok(()),
        }
    }

    /// How far a session got; `None` when the registry does not know it (any more).
    fn ask_progress(&self, session: &Session) -> Option<Session> {
        let request = Request::new(Method::GET, session.location.clone());
        let response = self
            .client
            .attempt(self.endpoint, &self.scopes(), &request)
            .ok()?;
        if !matches!(response.status, 200 | 204) {
            return None;
        }
        let offset = range_end(&response).unwrap_or(0);
        (offset <= self.descriptor.size).then(|| Session {
            location: location(&response.headers, &response.url)
                .unwrap_or_else(|| session.location.clone()),
            offset,
            chunk_bytes: session.chunk_bytes,
        })
    }

    fn open(&self, offset: u64) -> Result<Box<dyn Read + Send>> {
        let path = self.blobs.path(&self.descriptor.digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Store(wythe_layers::Error::BlobMissing {
                    digest: self.descriptor.digest.clone(),
                }));
            }
            Err(error) => return Err(Error::io("open", &path)(error)),
        };
        file.seek(SeekFrom::Start(offset))
            .map_err(Error::io("seek in", &path))?;
        Ok(Box::new(file))
    }

    fn refuse(&self, response: Response, method: &Method) -> Error {
        // 404 for an upload session is not "no such blob", and 404 for its start is "no such name".
        self.client
            .refuse(self.endpoint, response, method, self.what())
    }
}

/// What came of asking for a mount.
enum Mount {
    Done,
    /// Not mounted, but the upload it opened can go on.
    Session(Session),
    Nowhere,
}

/// What an upload's error asks for.
enum Trouble {
    TooLarge,
    Forgotten,
    Broken,
    Final,
}

fn trouble(error: &Error) -> Trouble {
    match error {
        Error::Status { status: 413, .. } => Trouble::TooLarge,
        Error::Status { status: 416, .. } | Error::NotFound { .. } => Trouble::Forgotten,
        error if error.is_transient() => Trouble::Broken,
        _ => Trouble::Final,
    }
}

/// The number of bytes that `Range: 0-N` speaks of. `0-0` is what registries say for none.
fn range_end(response: &Response) -> Option<u64> {
    let text = response.header("range")?;
    let text = text.trim();
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let (start, end) = text.split_once('-')?;
    let (start, end) = (start.parse::<u64>().ok()?, end.parse::<u64>().ok()?);
    match (start, end) {
        (0, 0) => Some(0),
        (0, end) => end.checked_add(1),
        _ => None,
    }
}

fn post<'a>(url: Url) -> Request<'a> {
    let mut request = Request::new(Method::POST, url);
    // Makes `Content-Length: 0`, without which some front ends answer 411.
    request.body = RequestBody::Bytes(bytes::Bytes::new());
    request
}

fn octets() -> HeaderValue {
    HeaderValue::from_static("application/octet-stream")
}
