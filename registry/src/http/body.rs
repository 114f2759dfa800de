//! Bodies both ways, between blocking readers and the async engine.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::engine::Running;
use super::{Request, Timeouts, failure};
use crate::error::{Error, Result};
use crate::secret::SafeUrl;

/// Piece in which a file goes to the engine, in bytes.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces on their way to the engine: what an upload holds in memory.
const PIECES: usize = 4;
/// Below this many bytes per [`SLOW_WINDOW`] a download counts as stalled: a server that sends
/// a byte now and then would otherwise never be given up.
const SLOW_BYTES: u64 = 16 * 1024;
/// See [`SLOW_BYTES`].
const SLOW_WINDOW: Duration = Duration::from_secs(60);

/// What a request carries.
#[derive(Clone)]
pub(crate) enum RequestBody<'a> {
    /// Nothing.
    Empty,
    /// A small document.
    Bytes(Bytes),
    /// `length` bytes of a reader that can be opened again for another attempt.
    Stream {
        length: u64,
        open: &'a dyn Fn() -> Result<Box<dyn Read + Send>>,
        /// Told of every piece handed over.
        sent: &'a dyn Fn(u64),
    },
}

impl fmt::Debug for RequestBody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream { length, .. } => write!(f, "Stream({length})"),
        }
    }
}

/// Sends a request and waits for the head of the answer.
pub(super) fn send(
    engine: &Running,
    timeouts: &Timeouts,
    builder: reqwest::RequestBuilder,
    request: &Request<'_>,
) -> Result<reqwest::Response> {
    let url = SafeUrl::of(&request.url);
    let runtime = engine.runtime();
    let (builder, patience) = match &request.body {
        RequestBody::Empty => (builder, timeouts.answer),
        // Some front ends answer 411 to a POST without a length; reqwest sends `0` for this one.
        RequestBody::Bytes(bytes) => (builder.body(bytes.clone()), timeouts.commit),
        RequestBody::Stream { length, open, sent } => {
            return send_stream(engine, timeouts, builder, &url, *length, (*open)()?, *sent);
        }
    };
    match runtime.block_on(async { timeout(patience, builder.send()).await }) {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) => Err(failure(&url, error)),
        Err(_) => Err(super::failure::timeout(&url)),
    }
}

/// The caller's thread reads the file; the engine writes to the socket.
fn send_stream(
    engine: &Running,
    timeouts: &Timeouts,
    builder: reqwest::RequestBuilder,
    url: &SafeUrl,
    length: u64,
    mut reader: Box<dyn Read + Send>,
    sent: &dyn Fn(u64),
) -> Result<reqwest::Response> {
    let runtime = engine.runtime();
    let (pieces, incoming) = mpsc::channel(PIECES);
    let body = reqwest::Body::wrap(Pieces {
        incoming,
        left: length,
    });
    let mut answer = runtime.spawn(builder.body(body).send());
    let mut left = length;
    let mut local_error = None;
    while left > 0 {
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
        if let Err(source) = reader.read_exact(&mut piece) {
            local_error = Some(source);
            break;
        }
        let bytes = piece.len() as u64;
        let given = async { timeout(timeouts.idle, pieces.send(piece.into())).await };
        match runtime.block_on(given) {
            Ok(Ok(())) => {
                left -= bytes;
                sent(bytes);
            }
            // The other end is gone: the answer says why.
            Ok(Err(_)) => break,
            Err(_) => {
                answer.abort();
                return Err(super::failure::timeout(url));
            }
        }
    }
    // Closing before all bytes are through makes the engine break off the request.
    drop(pieces);
    let patience = if left == 0 {
        timeouts.commit
    } else {
        timeouts.idle
    };
    let answered = runtime.block_on(async { timeout(patience, &mut answer).await });
    if let Some(source) = local_error {
        answer.abort();
        return Err(Error::Store(wythe_layers::Error::Read {
            what: "the blob to upload".into(),
            source,
        }));
    }
    match answered {
        Ok(Ok(Ok(response))) => Ok(response),
        Ok(Ok(Err(error))) => Err(failure(url, error)),
        Ok(Err(_)) => Err(Error::Network {
            url: url.clone(),
            kind: crate::error::NetworkFailure::Unknown,
            attempts: 1,
            elapsed: Duration::ZERO,
            source: None,
        }),
        Err(_) => {
            answer.abort();
            Err(super::failure::timeout(url))
        }
    }
}

/// A request body fed piece by piece, of a length known before.
struct Pieces {
    incoming: mpsc::Receiver<Bytes>,
    left: u64,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        match self.incoming.poll_recv(context) {
            Poll::Ready(Some(piece)) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// The body of an answer, as a blocking reader. Errors of `read` wrap [`Error`].
pub(crate) struct ResponseBody {
    engine: Arc<Running>,
    response: reqwest::Response,
    url: SafeUrl,
    length: Option<u64>,
    idle: Duration,
    document: Duration,
    piece: Bytes,
    waited: Duration,
    waited_bytes: u64,
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("url", &self.url)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl ResponseBody {
    pub(super) fn new(
        engine: Arc<Running>,
        response: reqwest::Response,
        timeouts: &Timeouts,
    ) -> Self {
        Self {
            engine,
            url: SafeUrl::of(response.url()),
            length: response.content_length(),
            response,
            idle: timeouts.idle,
            document: timeouts.document,
            piece: Bytes::new(),
            waited: Duration::ZERO,
            waited_bytes: 0,
        }
    }

    /// What the answer says its length is, in bytes.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Where it comes from, for messages.
    pub(crate) fn url(&self) -> &SafeUrl {
        &self.url
    }

    /// The next bytes; empty at the end.
    pub(crate) fn next_piece(&mut self) -> Result<Bytes> {
        if !self.piece.is_empty() {
            return Ok(std::mem::take(&mut self.piece));
        }
        let chunk = self.response.chunk();
        let idle = self.idle;
        let runtime = self.engine.runtime();
        let begun = Instant::now();
        let piece = match runtime.block_on(async { timeout(idle, chunk).await }) {
            Ok(Ok(piece)) => piece.unwrap_or_default(),
            Ok(Err(error)) => return Err(broken(failure(&self.url, error))),
            Err(_) => return Err(super::failure::timeout(&self.url)),
        };
        // Only our own waiting counts: a slow disk on this side is not the server's fault.
        self.waited += begun.elapsed();
        self.waited_bytes += piece.len() as u64;
        if self.waited >= SLOW_WINDOW {
            if self.waited_bytes < SLOW_BYTES && !piece.is_empty() {
                return Err(super::failure::timeout(&self.url));
            }
            self.waited = Duration::ZERO;
            self.waited_bytes = 0;
        }
        Ok(piece)
    }

    /// A whole small document.
    pub(crate) fn read_all(&mut self, what: &str, limit: u64) -> Result<Vec<u8>> {
        let too_large = || Error::TooLarge {
            what: what.to_owned(),
            limit,
        };
        if self.length.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let begun = Instant::now();
        let mut bytes = Vec::new();
        loop {
            let piece = self.next_piece()?;
            if piece.is_empty() {
                return Ok(bytes);
            }
            if bytes.len() as u64 + piece.len() as u64 > limit {
                return Err(too_large());
            }
            if begun.elapsed() > self.document {
                return Err(super::failure::timeout(&self.url));
            }
            bytes.extend_from_slice(&piece);
        }
    }
}

impl Read for ResponseBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.piece = self.next_piece().map_err(io::Error::other)?;
        }
        let count = self.piece.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), self.piece.get(..count)) {
            to.copy_from_slice(from);
        }
        self.piece.advance(count);
        Ok(count)
    }
}

/// In the middle of a body, whatever the transport says, the line broke.
fn broken(error: Error) -> Error {
    use crate::error::NetworkFailure;
    match error {
        Error::Network {
            url,
            kind: NetworkFailure::Unknown | NetworkFailure::NotHttp,
            attempts,
            elapsed,
            source,
        } => Error::Network {
            url,
            kind: NetworkFailure::Broken,
            attempts,
            elapsed,
            source,
        },
        other => other,
    }
}
