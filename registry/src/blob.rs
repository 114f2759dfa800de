//! A blob's bytes from a registry, as one stream however often the line breaks.

use std::io::{self, Read};

use reqwest::Method;
use reqwest::header::RANGE;
use wythe_layers::spec::Descriptor;

use crate::auth::Scopes;
use crate::client::{Client, api, header_value};
use crate::error::{Error, NetworkFailure, Result};
use crate::http::{Request, Response, ResponseBody};
use crate::registries::Endpoint;
use crate::retry::Series;

/// So many bytes in one go make the next failure count as the first again.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Reads a blob from its start; where the line breaks, it goes on from there.
///
/// The caller verifies. At most one byte more than the descriptor's size comes out, which is
/// enough for the verifier to see that the blob is too long.
#[derive(Debug)]
pub(crate) struct BlobReader {
    client: Client,
    endpoint: Endpoint,
    descriptor: Descriptor,
    body: Option<ResponseBody>,
    delivered: u64,
    /// `delivered` when the body began, or when it last counted as progress.
    begun_at: u64,
    series: Series,
}

impl BlobReader {
    /// Asks an endpoint for a blob; fails at once when it does not have it.
    pub(crate) fn open(
        client: &Client,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
    ) -> Result<Self> {
        let mut reader = Self {
            client: client.clone(),
            endpoint: endpoint.clone(),
            descriptor: descriptor.clone(),
            body: None,
            delivered: 0,
            begun_at: 0,
            series: Series::new(client.inner.options.retry.clone()),
        };
        loop {
            match reader.connect() {
                Ok(body) => {
                    reader.body = Some(body);
                    return Ok(reader);
                }
                Err(error) => reader.series.wait(error)?,
            }
        }
    }

    fn what(&self) -> String {
        format!(
            "blob {} in {}",
            self.descriptor.digest, self.endpoint.repository
        )
    }

    /// Opens the stream at `delivered`: one attempt.
    fn connect(&mut self) -> Result<ResponseBody> {
        let base = self.client.base(&self.endpoint)?;
        let digest = self.descriptor.digest.to_string();
        let url = api(&base, &["v2", &self.endpoint.repository, "blobs", &digest])?;
        let mut request = Request::new(Method::GET, url);
        if self.delivered > 0 {
            let range = format!("bytes={}-", self.delivered);
            request = request.header(RANGE, header_value(&range)?);
        }
        let scopes = Scopes::pull(&self.endpoint.repository);
        let response = self.client.attempt(&self.endpoint, &scopes, &request)?;
        let begins_at = match response.status {
            200 => 0,
            206 => self.range_start(&response)?,
            // Asked for bytes that it does not have: it is shorter than its descriptor says.
            416 if self.delivered > 0 => return Err(self.wrong_size(self.delivered)),
            _ => {
                let what = self.what();
                return Err(self
                    .client
                    .refuse(&self.endpoint, response, &Method::GET, what));
            }
        };
        if let Some(length) = response.body.length() {
            let total = length.saturating_add(begins_at);
            if total != self.descriptor.size {
                return Err(self.wrong_size(total));
            }
        }
        let mut body = response.body;
        // The server ignores ranges: what is here already has to pass by once more.
        let mut to_skip = self.delivered - begins_at;
        while to_skip > 0 {
            let mut sink = [0; 8192];
            let want = usize::try_from(to_skip).map_or(sink.len(), |n| n.min(sink.len()));
            let read = sink.get_mut(..want).map_or(Ok(0), |part| body.read(part));
            match read.map_err(error_of)? {
                0 => return Err(self.wrong_size(self.delivered - to_skip)),
                n => to_skip -= n as u64,
            }
        }
        self.begun_at = self.delivered;
        Ok(body)
    }

    /// Where a partial answer begins; only where we asked makes sense.
    fn range_start(&self, response: &Response) -> Result<u64> {
        let start = response
            .header("content-range")
            .and_then(|text| text.trim().strip_prefix("bytes"))
            .and_then(|text| text.trim().split('-').next())
            .and_then(|start| start.trim().parse::<u64>().ok());
        match start {
            Some(start) if start == self.delivered => Ok(start),
            _ => Err(response.bad("a partial answer that begins elsewhere than was asked")),
        }
    }

    fn wrong_size(&self, actual: u64) -> Error {
        Error::SizeMismatch {
            what: self.what(),
            expected: self.descriptor.size,
            actual,
        }
    }

    /// The stream ended before the blob did.
    fn broke(&self, body: &ResponseBody) -> Error {
        Error::Network {
            url: body.url().clone(),
            kind: NetworkFailure::Broken,
            attempts: 1,
            elapsed: std::time::Duration::ZERO,
            source: None,
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() || self.delivered > self.descriptor.size {
            return Ok(0);
        }
        loop {
            match self.step(buffer) {
                Ok(count) => {
                    self.delivered += count as u64;
                    if self.delivered - self.begun_at >= PROGRESS_BYTES {
                        self.begun_at = self.delivered;
                        self.series.reset();
                    }
                    return Ok(count);
                }
                Err(error) => {
                    self.body = None;
                    self.series.wait(error)?;
                }
            }
        }
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let body = match self.body.take() {
            Some(body) => self.body.insert(body),
            None => {
                let body = self.connect()?;
                self.body.insert(body)
            }
        };
        let count = body.read(buffer).map_err(error_of)?;
        match (count, self.body.as_ref()) {
            (0, Some(body)) if self.delivered < self.descriptor.size => Err(self.broke(body)),
            _ => Ok(count),
        }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer).map_err(io::Error::other)
    }
}

/// The error inside a reader's `io::Error`.
pub(crate) fn error_of(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Io {
            operation: "read",
            path: "(a download)".into(),
            source,
        },
    }
}
