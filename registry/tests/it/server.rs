//! A registry that behaves as a test says: std threads, one connection a request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// `GET /v2/…`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// What the server does with a request.
#[derive(Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Says this instead of the true length; `None` says nothing and closes at the end.
    length: Option<u64>,
    /// Closes after so many bytes of the body.
    cut: Option<usize>,
    /// Sends the body again and again.
    endless: bool,
    /// Waits before anything, and between pieces.
    delay: Duration,
    piece: usize,
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            length: Some(0),
            cut: None,
            endless: false,
            delay: Duration::ZERO,
            piece: usize::MAX,
        }
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.length = Some(self.body.len() as u64);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn length(mut self, length: Option<u64>) -> Self {
        self.length = length;
        self
    }

    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    pub(crate) fn endless(mut self) -> Self {
        self.endless = true;
        self.length = None;
        self
    }

    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn send(&self, mut to: &TcpStream, head_only: bool) -> std::io::Result<()> {
        std::thread::sleep(self.delay);
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        if let Some(length) = self.length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        to.write_all(head.as_bytes())?;
        if head_only {
            return Ok(());
        }
        loop {
            let end = self.cut.unwrap_or(self.body.len()).min(self.body.len());
            for piece in self.body[..end].chunks(self.piece.max(1)) {
                to.write_all(piece)?;
            }
            if !self.endless {
                return Ok(());
            }
        }
    }
}

/// An address of this machine on which nothing listens and no other process or test will, unlike
/// a port of 127.0.0.1 that was free a moment ago: by the number of this process, which has at most
/// 22 bits.
pub(crate) fn unused_address() -> String {
    static PORT: AtomicU16 = AtomicU16::new(10_000);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    format!("127.{}.{middle}.{low}:{port}", 64 + high)
}

type Handler = dyn Fn(&Call) -> Answer + Send + Sync;

/// A running server; ends with the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    /// Answers every request by `handler`.
    pub(crate) fn start(handler: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_breaking(handler, |_| None)
    }

    /// Breaks the connection after so many bytes of a request's body, where `breaks` says so.
    pub(crate) fn start_breaking(
        handler: impl Fn(&Call) -> Answer + Send + Sync + 'static,
        breaks: impl Fn(&Call) -> Option<usize> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let seen = Arc::clone(&calls);
        let handler: Arc<Handler> = Arc::new(handler);
        let breaks = Arc::new(breaks);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, breaks, seen) =
                    (Arc::clone(&handler), Arc::clone(&breaks), Arc::clone(&seen));
                std::thread::spawn(move || {
                    let _ = serve(&stream, &*handler, &*breaks, &seen);
                    // What the client still sends is read, so that it sees an end and not a reset.
                    let _ = stream.shutdown(Shutdown::Write);
                    let mut rest = [0; 4096];
                    while matches!((&stream).read(&mut rest), Ok(n) if n > 0) {}
                });
            }
        });
        Self { address, calls }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Method and target of every request but the first look.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.calls()
            .iter()
            .filter(|call| call.target != "/v2/")
            .map(Call::line)
            .collect()
    }
}

fn serve(
    stream: &TcpStream,
    handler: &Handler,
    breaks: &(dyn Fn(&Call) -> Option<usize> + Send + Sync),
    seen: &Mutex<Vec<Call>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut words = first.split_ascii_whitespace().map(str::to_owned);
    let mut call = Call {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers: BTreeMap::new(),
        body: Vec::new(),
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            call.headers
                .insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let length: usize = call
        .header("content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let limit = breaks(&call);
    let read = limit.unwrap_or(length).min(length);
    call.body = vec![0; read];
    reader.read_exact(&mut call.body)?;
    seen.lock().unwrap().push(call.clone());
    if limit.is_some() {
        let _ = stream.shutdown(Shutdown::Both);
        return Ok(());
    }
    handler(&call).send(stream, call.method == "HEAD")
}
