//! Parallel gzip: one member, cut into blocks that are compressed side by side.
//!
//! ```text
//! header │ block, primed with nothing │ block, primed with the last 32 KiB before it │ … │ crc32, length
//! ```
//!
//! Every block but the last ends in a sync flush, so blocks join at byte borders. The block length
//! is a constant, never derived from the threads, and each block is compressed from the same state
//! whoever does it, and whatever it did before: that is why the bytes do not depend on the number of threads.
//!
//! Memory: at most `threads + 2` blocks are under way, each with an input and an output buffer.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use flate2::{Compress, FlushCompress, Status};

use super::encode::failed_before;
use super::read_ahead::panic_error;

/// More threads are not used: with 8, all buffers together stay below 30 MiB (a process peak of
/// 44 MB was measured), and little can feed more.
pub const MAX_GZIP_THREADS: usize = 8;

/// Part of the format that we write: another value gives other bytes. Large enough that priming
/// and flushing cost 0.1 % or less.
const BLOCK_BYTES: usize = 1 << 20;
/// How far back deflate can point (RFC 1951 §2).
const WINDOW_BYTES: usize = 32 << 10;
/// RFC 1952 §2.3: deflate, no flags, no time, no extra flags, operating system unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A gzip writer. See the module's head.
pub(super) struct GzipEncoder<W> {
    sink: W,
    workers: Workers,
    /// The block being filled.
    block: Vec<u8>,
    /// Output buffers to use again; never more than there are blocks under way.
    spare: Vec<Vec<u8>>,
    /// The end of the block before it.
    window: Arc<[u8]>,
    crc: crc32fast::Hasher,
    /// Of the input, modulo 2^32 (RFC 1952 §2.3.1, ISIZE).
    length: u32,
    failed: bool,
}

/// One block on its way to a worker.
struct Job {
    input: Vec<u8>,
    window: Arc<[u8]>,
    last: bool,
    /// Where the output goes; only its capacity matters.
    output: Vec<u8>,
}

/// One block on its way back; both buffers are used again. (Were the workers to allocate them, each
/// thread's part of the heap would grow on its own: 130 MiB were seen with 16.)
struct Done {
    output: Vec<u8>,
    crc: crc32fast::Hasher,
    input: Vec<u8>,
}

enum Workers {
    /// One thread: the caller's own.
    Inline {
        level: u8,
    },
    Pool(Pool),
}

impl<W: Write> GzipEncoder<W> {
    pub(super) fn new(mut sink: W, level: u8, threads: usize) -> io::Result<Self> {
        let workers = match threads.min(MAX_GZIP_THREADS) {
            0 | 1 => Workers::Inline { level },
            threads => Workers::Pool(Pool::new(level, threads)?),
        };
        sink.write_all(&HEADER)?;
        Ok(Self {
            sink,
            workers,
            block: Vec::new(),
            spare: Vec::new(),
            window: Arc::from([]),
            crc: crc32fast::Hasher::new(),
            length: 0,
            failed: false,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failed {
            return Err(failed_before());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        // A full block waits for the next byte: only then is it known not to be the last.
        if self.block.len() == BLOCK_BYTES {
            self.guarded(|encoder| encoder.dispatch(false))?;
        }
        if self.block.capacity() < BLOCK_BYTES && self.block.len() + bytes.len() > 64 << 10 {
            self.block.reserve_exact(BLOCK_BYTES - self.block.len());
        }
        let count = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block
            .extend_from_slice(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        if self.failed {
            return Err(failed_before());
        }
        self.dispatch(true)?;
        while let Workers::Pool(pool) = &mut self.workers
            && let Some(done) = pool.take_oldest()
        {
            self.accept(done?)?;
        }
        let crc = self.crc.finalize();
        self.sink.write_all(&crc.to_le_bytes())?;
        self.sink.write_all(&self.length.to_le_bytes())?;
        Ok(self.sink)
    }

    fn guarded(&mut self, act: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        act(self).inspect_err(|_| self.failed = true)
    }

    /// Hands the filled block on.
    fn dispatch(&mut self, last: bool) -> io::Result<()> {
        let input = std::mem::take(&mut self.block);
        let tail = input.len().saturating_sub(WINDOW_BYTES);
        let window = Arc::from(input.get(tail..).unwrap_or_default());
        let job = Job {
            window: std::mem::replace(&mut self.window, window),
            input,
            last,
            output: self.spare.pop().unwrap_or_default(),
        };
        match &mut self.workers {
            Workers::Inline { level } => {
                let done = compress_block(job, *level)?;
                self.accept(done)
            }
            Workers::Pool(pool) => {
                let oldest = pool.is_full().then(|| pool.take_oldest()).flatten();
                pool.submit(job)?;
                match oldest {
                    Some(done) => self.accept(done?),
                    None => Ok(()),
                }
            }
        }
    }

    /// Writes a compressed block out, in order.
    fn accept(&mut self, done: Done) -> io::Result<()> {
        self.sink.write_all(&done.output)?;
        self.crc.combine(&done.crc);
        // A block's length fits; the sum wraps as the format wants it.
        let length = u32::try_from(done.input.len()).unwrap_or_default();
        self.length = self.length.wrapping_add(length);
        if self.block.capacity() == 0 {
            self.block = done.input;
            self.block.clear();
        }
        self.spare.push(done.output);
        Ok(())
    }
}

/// Deflates a block. The same job and level give the same bytes, whatever was done before.
fn compress_block(job: Job, level: u8) -> io::Result<Done> {
    let mut output = job.output;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&job.input);
    // A new one for each block: one that was used before keeps its window, and zlib-rs lets what
    // stands behind the end of the input sway which matches it takes.
    let mut deflate = Compress::new(flate2::Compression::new(level.into()), false);
    if !job.window.is_empty() {
        deflate
            .set_dictionary(&job.window)
            .map_err(io::Error::other)?;
    }
    // Room for the worst case: a second call for want of room could repeat the flush marker,
    // and the bytes would depend on how much the allocator gave.
    output.clear();
    output.reserve_exact(job.input.len() + job.input.len() / 8 + (1 << 10));
    let flush = if job.last {
        FlushCompress::Finish
    } else {
        FlushCompress::Sync
    };
    loop {
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = job.input.get(consumed..).unwrap_or_default();
        let status = deflate
            .compress_vec(rest, &mut output, flush)
            .map_err(io::Error::other)?;
        // A sync flush is complete when the input is used up and there was room to spare.
        let consumed = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let flushed = consumed == job.input.len() && output.len() < output.capacity();
        match status {
            Status::StreamEnd => break,
            _ if !job.last && flushed => break,
            _ => output.reserve((job.input.len() / 4).max(1 << 10)),
        }
    }
    Ok(Done {
        output,
        crc,
        input: job.input,
    })
}

/// A job and where its result goes.
type Ticket = (Job, SyncSender<io::Result<Done>>);

struct Pool {
    jobs: Option<Sender<Ticket>>,
    /// Results in the order of the input.
    pending: VecDeque<Receiver<io::Result<Done>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    fn new(level: u8, threads: usize) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Self {
            jobs: Some(jobs),
            pending: VecDeque::new(),
            threads: Vec::new(),
        };
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            let builder = thread::Builder::new().name("gzip".into());
            // On failure the drop of `pool` ends those that were started.
            let handle = builder.spawn(move || work(&queue, level))?;
            pool.threads.push(handle);
        }
        Ok(pool)
    }

    fn is_full(&self) -> bool {
        self.pending.len() > self.threads.len()
    }

    fn submit(&mut self, job: Job) -> io::Result<()> {
        let (sender, receiver) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(failed_before)?;
        jobs.send((job, sender)).map_err(|_| worker_gone())?;
        self.pending.push_back(receiver);
        Ok(())
    }

    /// Waits for the oldest block; `None` when none is under way.
    fn take_oldest(&mut self) -> Option<io::Result<Done>> {
        let receiver = self.pending.pop_front()?;
        Some(receiver.recv().unwrap_or_else(|_| Err(worker_gone())))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Without a sender the workers end after what is queued, which is little.
        self.jobs = None;
        self.pending.clear();
        for thread in self.threads.drain(..) {
            // Panics were caught and reported.
            let _ = thread.join();
        }
    }
}

fn worker_gone() -> io::Error {
    io::Error::other("a compressing thread is gone")
}

fn work(queue: &Mutex<Receiver<Ticket>>, level: u8) {
    loop {
        // The lock is held while waiting: others wait for the lock instead, which is the same.
        let ticket = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((job, result)) = ticket else { return };
        let done = catch_unwind(AssertUnwindSafe(|| compress_block(job, level)));
        let done = done.unwrap_or_else(|panic| Err(panic_error("compressing", &*panic)));
        // Fails when the encoder was dropped.
        let _ = result.send(done);
    }
}
