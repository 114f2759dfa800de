//! Reading ahead in a thread, so that what comes before (network, hashing, decoding) and what
//! comes after (hashing, unpacking) use two cores.
//!
//! Invariants: at most [`BUFFERS`] buffers exist; an error or a panic of the inner reader reaches
//! the consumer as an `io::Error` after all bytes before it; dropping the reader ends the thread
//! as soon as the inner `read` that it is in returns.

use std::any::Any;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle, Scope};

/// Large enough that handing one over costs nothing beside filling it.
const BUFFER_BYTES: usize = 256 << 10;
/// One being filled, one being read, two in between: 1 MiB in all.
const BUFFERS: usize = 4;

/// A reader whose source is read in a thread of its own.
///
/// Begins reading at once. After an error it keeps failing.
#[derive(Debug)]
pub struct ReadAhead {
    full: Option<Receiver<Message>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    end: End,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Bytes(Vec<u8>),
    End,
    Failed(io::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Reached,
    Failed(io::ErrorKind),
}

impl ReadAhead {
    /// Reads `reader` ahead in a new thread. Dropping waits for the thread, which ends when the
    /// `read` that it is in returns.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn new(reader: impl Read + Send + 'static) -> io::Result<Self> {
        let (mut ahead, work) = Self::parts(reader);
        let builder = thread::Builder::new().name("read-ahead".into());
        ahead.thread = Some(builder.spawn(work)?);
        Ok(ahead)
    }

    /// Like [`ReadAhead::new`] for a reader that borrows: the scope waits for the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn scoped<'scope>(
        scope: &'scope Scope<'scope, '_>,
        reader: impl Read + Send + 'scope,
    ) -> io::Result<Self> {
        let (ahead, work) = Self::parts(reader);
        let builder = thread::Builder::new().name("read-ahead".into());
        builder.spawn_scoped(scope, work)?;
        Ok(ahead)
    }

    fn parts<R: Read + Send>(reader: R) -> (Self, impl FnOnce() + Send) {
        // One more place than buffers, for the last message: no send ever blocks.
        let (full_sender, full) = sync_channel(BUFFERS + 1);
        let (empty, empty_receiver) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            // Cannot fail: the receiver is in this function and there is room for all.
            let _ = empty.try_send(Vec::new());
        }
        let ahead = Self {
            full: Some(full),
            empty,
            current: Vec::new(),
            position: 0,
            end: End::NotYet,
            thread: None,
        };
        let work = move || {
            let run = AssertUnwindSafe(|| fill(reader, &empty_receiver, &full_sender));
            let last = match catch_unwind(run) {
                Ok(Ok(())) => Message::End,
                Ok(Err(error)) => Message::Failed(error),
                Err(panic) => Message::Failed(panic_error("the reader", &*panic)),
            };
            // Fails when nobody wants to know any more.
            let _ = full_sender.send(last);
        };
        (ahead, work)
    }

    fn next_buffer(&mut self) -> io::Result<()> {
        match self.end {
            End::NotYet => {}
            End::Reached => return Ok(()),
            End::Failed(kind) => {
                return Err(io::Error::new(kind, "reading this stream failed before"));
            }
        }
        let done = std::mem::take(&mut self.current);
        self.position = 0;
        if done.capacity() > 0 {
            // Fails when the thread has ended, which its last message will tell.
            let _ = self.empty.try_send(done);
        }
        let message = self.full.as_ref().and_then(|full| full.recv().ok());
        match message {
            Some(Message::Bytes(bytes)) => self.current = bytes,
            Some(Message::End) => self.end = End::Reached,
            Some(Message::Failed(error)) => {
                self.end = End::Failed(error.kind());
                return Err(error);
            }
            None => {
                self.end = End::Failed(io::ErrorKind::Other);
                return Err(io::Error::other("the reading thread is gone"));
            }
        }
        Ok(())
    }
}

/// Fills buffers until the end, an error, or nobody reads them any more.
fn fill(
    mut reader: impl Read,
    empty: &Receiver<Vec<u8>>,
    full: &SyncSender<Message>,
) -> io::Result<()> {
    while let Ok(mut buffer) = empty.recv() {
        buffer.resize(BUFFER_BYTES, 0);
        let mut length = 0;
        let mut outcome = Ok(());
        let mut ended = false;
        // Short reads (sockets, decoders) are gathered, or each would cost a hand-over.
        while let Some(window @ [_, ..]) = buffer.get_mut(length..) {
            match reader.read(window) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        buffer.truncate(length);
        if length > 0 && full.send(Message::Bytes(buffer)).is_err() {
            return Ok(());
        }
        outcome?;
        if ended {
            return Ok(());
        }
    }
    Ok(())
}

/// A panic of a thread as an error.
pub(super) fn panic_error(who: &str, panic: &(dyn Any + Send)) -> io::Error {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    io::Error::other(format!("{who} panicked: {text}"))
}

impl BufRead for ReadAhead {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position >= self.current.len() {
            self.next_buffer()?;
        }
        Ok(self.current.get(self.position..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.current.len());
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut available = self.fill_buf()?;
        let count = available.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // The thread sees that nobody listens: first the queue goes, then the buffers' way back.
        self.full = None;
        let (dead, _) = sync_channel(0);
        self.empty = dead;
        if let Some(thread) = self.thread.take() {
            // Its panics were caught and reported.
            let _ = thread.join();
        }
    }
}
