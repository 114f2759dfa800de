//! The server over real sockets: by hand, by an independent client, by hostile ones, by peers.

mod hostile;
mod independent_client;
mod peers;
mod protocol;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wythe_layers::image;
use wythe_layers::spec::{
    Descriptor, DiffId, Digest, ImageConfig, Manifest, MediaType, Platform, Raw, Reference,
};
use wythe_layers::store::Store;
use wythe_layers::tree::Flavour;

use super::{ServeOptions, Server, Shutdown};

/// How long what must come may take, however busy the machine is: only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A server on a free port with a store of its own, stopped when dropped.
struct TestServer {
    _dir: tempfile::TempDir,
    store: Store,
    address: SocketAddr,
    shutdown: Shutdown,
    thread: Option<JoinHandle<crate::Result<()>>>,
}

impl TestServer {
    fn start() -> Self {
        Self::with(ServeOptions::default())
    }

    fn with(options: ServeOptions) -> Self {
        Self::at("127.0.0.1:0", options)
    }

    fn at(address: &str, options: ServeOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), Flavour::SingleId).unwrap();
        let server = Server::bind(address.parse().unwrap(), store.clone(), options).unwrap();
        let address = server.addr();
        let shutdown = Shutdown::new();
        let handle = shutdown.clone();
        let thread = std::thread::spawn(move || server.run(&handle));
        Self {
            _dir: dir,
            store,
            address,
            shutdown,
            thread: Some(thread),
        }
    }

    fn stop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn request(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[], b"")
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text += &format!("Host: {}\r\n", self.address);
        }
        if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        let mut stream = self.connect();
        // In one piece, so that no part of it is late for a server that waits for nobody. The
        // server may answer, and close, before it has all of a body it does not want.
        let _ = stream.write_all(&[text.as_bytes(), body].concat());
        Answer::read(&mut stream)
    }

    /// Uploads a blob in one request.
    fn upload(&self, repository: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        assert_eq!(self.send("POST", &path, &[], bytes).status, 201);
        Descriptor::of(MediaType::LAYER_GZIP, bytes)
    }

    /// Begins an upload; its path.
    fn begin(&self, repository: &str) -> String {
        let answer = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"));
        assert_eq!(answer.status, 202);
        answer.header("location").to_owned()
    }

    /// Sends less of a body than the head says, and waits until the upload is that request's.
    fn hang(&self, path: &str) -> TcpStream {
        let mut stream = self.connect();
        let head =
            format!("PATCH {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n01234");
        stream.write_all(head.as_bytes()).unwrap();
        eventually("the upload is in use", || {
            self.request("GET", path).status == 409
        });
        stream
    }

    fn put_manifest(&self, repository: &str, name: &str, manifest: &[u8]) -> Answer {
        self.put_document(&MediaType::MANIFEST, repository, name, manifest)
    }

    fn put_document(
        &self,
        media_type: &MediaType,
        repository: &str,
        name: &str,
        bytes: &[u8],
    ) -> Answer {
        let path = format!("/v2/{repository}/manifests/{name}");
        let headers = [("Content-Type", media_type.as_str())];
        self.send("PUT", &path, &headers, bytes)
    }

    fn leftovers(&self) -> usize {
        let ingest = self.store.root().join("ingest");
        std::fs::read_dir(ingest).map_or(0, Iterator::count)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An answer, read to the end of the connection.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            status: status.parse().unwrap(),
            headers,
            body: bytes[end + 4..].to_vec(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// A manifest of an image with these layers, and its config.
fn image_of(layers: &[Descriptor]) -> (Raw<ImageConfig>, Raw<Manifest>) {
    let mut config = ImageConfig::scratch(&Platform::host());
    config.rootfs.diff_ids = layers.iter().map(|l| DiffId(l.digest.clone())).collect();
    let config = Raw::encode(config, "config").unwrap();
    let manifest = Manifest::new(config.descriptor(MediaType::CONFIG), layers.to_vec());
    (config, Raw::encode(manifest, "manifest").unwrap())
}

/// Stores an image as if it had been built or pulled here.
fn store_image(store: &Store, name: &str, content: &[u8]) -> Descriptor {
    let reference: Reference = name.parse().unwrap();
    store.blobs().put(content).unwrap();
    let layer = Descriptor::of(MediaType::LAYER_GZIP, content);
    let (config, manifest) = image_of(&[layer]);
    store.blobs().put(config.bytes()).unwrap();
    store.blobs().put(manifest.bytes()).unwrap();
    let target = manifest.descriptor(MediaType::MANIFEST);
    store.set_tag(&reference, &target).unwrap();
    target
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}
