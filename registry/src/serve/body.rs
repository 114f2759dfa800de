//! Bodies in both directions, with bounded memory and without holding a thread while a client
//! is slow: the disk is touched by one short blocking task per chunk.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, Read, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::{Frame, Incoming};
use tokio::task::{JoinHandle, spawn_blocking};
use wythe_layers::store::BlobWriter;

use super::answer::{ApiError, Code};

/// Bytes read from or written to the disk at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Runs what blocks (the store) beside the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::internal(&error)),
    }
}

/// A blob, or a part of one, as a body.
pub(super) struct BlobBody {
    state: State,
}

enum State {
    Idle(Source),
    Reading(JoinHandle<io::Result<(Source, Bytes)>>),
    Ended,
}

/// What is read from, and how much is still to come.
struct Source {
    reader: Box<dyn Read + Send>,
    remaining: u64,
}

impl BlobBody {
    /// Yields `length` bytes of `reader`; fails when there are fewer, or when a verifying reader
    /// finds them wrong (which it does before it gives the last ones).
    pub(super) fn new(reader: Box<dyn Read + Send>, length: u64) -> Self {
        Self {
            state: State::Idle(Source {
                reader,
                remaining: length,
            }),
        }
    }

    /// A part of a file, which cannot be verified.
    pub(super) fn part(mut file: File, first: u64, length: u64) -> io::Result<Self> {
        io::Seek::seek(&mut file, io::SeekFrom::Start(first))?;
        Ok(Self::new(Box::new(file), length))
    }
}

impl Source {
    fn next(mut self) -> io::Result<(Self, Bytes)> {
        let wanted = self.remaining.min(CHUNK_BYTES as u64);
        let mut chunk = Vec::with_capacity(CHUNK_BYTES.min(usize::try_from(wanted).unwrap_or(0)));
        self.reader.by_ref().take(wanted).read_to_end(&mut chunk)?;
        if (chunk.len() as u64) < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.remaining -= wanted;
        Ok((self, chunk.into()))
    }
}

impl hyper::body::Body for BlobBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(source) if source.remaining == 0 => return Poll::Ready(None),
                State::Idle(source) => {
                    self.state = State::Reading(spawn_blocking(move || source.next()));
                }
                State::Reading(mut task) => {
                    let Poll::Ready(done) = Pin::new(&mut task).poll(context) else {
                        self.state = State::Reading(task);
                        return Poll::Pending;
                    };
                    return Poll::Ready(Some(match done {
                        Ok(Ok((source, chunk))) => {
                            self.state = State::Idle(source);
                            Ok(Frame::data(chunk))
                        }
                        Ok(Err(error)) => {
                            tracing::error!(%error, "a blob could not be sent");
                            Err(error)
                        }
                        Err(panic) => Err(io::Error::other(panic)),
                    }));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Ended => true,
            State::Idle(source) => source.remaining == 0,
            State::Reading(_) => false,
        }
    }
}

/// How much of a body is taken, and how long is waited for its next bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_bytes: u64,
    pub(super) idle: Duration,
}

/// Streams a body into a blob being written. The writer comes back also after an error, with
/// what had come until then, so that an upload can be taken up again; it is only lost when the
/// disk failed.
pub(super) async fn receive(
    mut body: Incoming,
    mut writer: BlobWriter,
    limits: Limits,
) -> (Option<BlobWriter>, Result<(), ApiError>) {
    let mut gathered: Vec<u8> = Vec::new();
    let received = loop {
        match next_data(&mut body, limits.idle).await {
            Ok(Some(data)) => gathered.extend_from_slice(&data),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        let total = writer.size_bytes() + gathered.len() as u64;
        if total > limits.max_bytes {
            gathered.clear();
            break Err(too_large(limits.max_bytes));
        }
        if gathered.len() >= CHUNK_BYTES {
            let full = std::mem::take(&mut gathered);
            writer = match write(writer, full).await {
                Ok(writer) => writer,
                Err(error) => return (None, Err(error)),
            };
        }
    };
    match write(writer, gathered).await {
        Ok(writer) => (Some(writer), received),
        Err(error) => (None, Err(error)),
    }
}

async fn write(mut writer: BlobWriter, bytes: Vec<u8>) -> Result<BlobWriter, ApiError> {
    if bytes.is_empty() {
        return Ok(writer);
    }
    blocking(move || {
        writer
            .write_all(&bytes)
            .map_err(wythe_layers::Error::read("the upload"))?;
        Ok(writer)
    })
    .await
}

/// A whole small body.
pub(super) async fn collect(mut body: Incoming, limits: Limits) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(data) = next_data(&mut body, limits.idle).await? {
        if bytes.len() as u64 + data.len() as u64 > limits.max_bytes {
            return Err(too_large(limits.max_bytes));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn next_data(body: &mut Incoming, idle: Duration) -> Result<Option<Bytes>, ApiError> {
    loop {
        let slow = |_| {
            ApiError::new(Code::BlobUploadInvalid, "the body stopped coming")
                .with_status(StatusCode::REQUEST_TIMEOUT)
        };
        match tokio::time::timeout(idle, body.frame())
            .await
            .map_err(slow)?
        {
            None => return Ok(None),
            Some(Err(error)) => {
                tracing::debug!(%error, "a body broke off");
                let message = "the body broke off";
                return Err(ApiError::new(Code::BlobUploadInvalid, message));
            }
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

fn too_large(max_bytes: u64) -> ApiError {
    ApiError::new(
        Code::SizeInvalid,
        format!("the body is larger than the {max_bytes} bytes allowed"),
    )
    .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}
