//! `wythe serve`: the store as a registry (distribution-spec v1.1), over plain HTTP/1.1.
//!
//! Invariants:
//! - What a push leaves under a name is complete: a manifest is taken only when its blobs are here.
//! - A push changes names under `localhost/` only (see [`names`]), and a delete removes those only.
//! - Memory is bounded per connection, and connections and open uploads are bounded in number. No
//!   thread waits for a client.
//! - Names and digests are parsed before anything is looked up with them.
//!
//! There is no authentication and no TLS here: by default it listens on loopback.

mod answer;
mod blobs;
mod body;
mod connection;
mod lists;
mod manifests;
mod names;
mod route;
#[cfg(test)]
mod tests;
mod uploads;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use wythe_layers::store::Store;

use answer::{Answer, ApiError, Body, Code};
use body::Limits;
use route::{Query, Route};
use uploads::Uploads;

use crate::{Error, Result};

/// Pause after the system refused a connection (no descriptors left), instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the server serves.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Connections at once; further ones wait in the listen queue. Default: 256.
    pub max_connections: usize,
    /// Largest blob taken, in bytes. Default: no limit but the disk.
    pub max_blob_bytes: u64,
    /// How long a request's head may take, also on a connection that is kept alive. Default: 30 s.
    pub header_timeout: Duration,
    /// How long an upload may pause. Default: 60 s.
    pub body_idle_timeout: Duration,
    /// How long a client may take nothing of an answer. Default: 60 s.
    pub write_stall_timeout: Duration,
    /// How long requests may go on after the shutdown. Default: 10 s.
    pub grace: Duration,
    /// Threads for compressing an image that was never pushed or exported. Default: all.
    pub threads: usize,
    /// Accesses to the disk at once; each is short (one chunk of a blob, one look-up). Default: 64.
    pub disk_threads: usize,
    /// Host names (lower case, without port) beside localhost and plain addresses that a server
    /// on loopback answers to, for a proxy in front of it. Default: none.
    pub allowed_hosts: Vec<String>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 256,
            max_blob_bytes: u64::MAX,
            header_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(60),
            grace: Duration::from_secs(10),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            disk_threads: 64,
            allowed_hosts: Vec::new(),
        }
    }
}

/// Ends servers: from another thread, or from a signal handler's thread. Clones end the same ones.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stop: Arc<watch::Sender<bool>>,
}

impl Shutdown {
    /// A handle that was not used yet.
    pub fn new() -> Self {
        Self {
            stop: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Lets the servers that run with this handle finish their requests and return.
    pub fn trigger(&self) {
        self.stop.send_replace(true);
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

/// A server that listens and does not answer yet: see [`Server::run`].
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
}

/// What all requests share.
#[derive(Debug)]
struct State {
    store: Store,
    options: ServeOptions,
    uploads: Arc<Uploads>,
    is_loopback: bool,
    /// One pending image is made whole at a time.
    finalising: Mutex<()>,
    /// Taking a manifest and removing a blob exclude each other.
    changing: Mutex<()>,
}

impl State {
    fn take_turn(&self) -> MutexGuard<'_, ()> {
        self.changing
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    fn limits(&self) -> Limits {
        Limits {
            max_bytes: self.options.max_blob_bytes,
            idle: self.options.body_idle_timeout,
        }
    }
}

impl Server {
    /// Listens on `address` (port 0: any free one); connections wait until it runs.
    ///
    /// # Errors
    /// [`Error::Listen`].
    pub fn bind(address: SocketAddr, store: Store, options: ServeOptions) -> Result<Self> {
        let failed = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            state: Arc::new(State {
                store,
                options,
                uploads: Arc::default(),
                is_loopback: address.ip().is_loopback(),
                finalising: Mutex::new(()),
                changing: Mutex::new(()),
            }),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests until `shutdown` is triggered; then takes no more, lets those under way
    /// finish within the grace period, and returns. Blocks.
    ///
    /// # Errors
    /// [`Error::StartServer`].
    pub fn run(self, shutdown: &Shutdown) -> Result<()> {
        let start = |source| Error::StartServer { source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(self.state.options.disk_threads.max(1))
            .thread_name("wythe-serve")
            .enable_all()
            .build()
            .map_err(start)?;
        let result = runtime.block_on(accept(self, shutdown.stop.subscribe()));
        // What still reads from a disk that hangs must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(1));
        result.map_err(start)
    }
}

async fn accept(server: Server, mut stop: watch::Receiver<bool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(server.listener)?;
    let places = Arc::new(Semaphore::new(server.state.options.max_connections));
    let mut connections = JoinSet::new();
    let stopped = stop.clone();
    let accepting = async {
        loop {
            // Only closed semaphores fail, and nobody closes this one.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let served =
                        connection::serve(Arc::clone(&server.state), stream, stopped.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accepting => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(server.state.options.grace, all)
        .await
        .is_err()
    {
        tracing::warn!(
            "connections were cut off: their requests took longer than the grace period"
        );
    }
    Ok(())
}

/// Finds out what is asked for and has it answered.
async fn dispatch(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let query = Query::parse(head.uri.query());
    let route = Route::parse(&head.method, head.uri.path())?;
    let methods = route.methods();
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    match (route, head.method.as_str()) {
        (Route::Base, _) if is_read => Ok(Answer::new(StatusCode::OK)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONTENT_LENGTH, "2")
            .bytes("{}")),
        (Route::Catalog, _) if is_read => lists::catalog(state, query).await,
        (Route::Tags(repository), _) if is_read => lists::tags(state, repository, query).await,
        (Route::Referrers(repository, digest), _) if is_read => {
            manifests::referrers(state, repository, digest, query).await
        }
        (Route::Manifest(repository, name), _) if is_read => {
            manifests::get(state, &head.method, &head.headers, repository, name).await
        }
        (Route::Manifest(repository, name), "PUT") => {
            manifests::put(state, &head.headers, repository, name, body).await
        }
        (Route::Manifest(repository, name), "DELETE") => {
            manifests::delete(state, repository, name).await
        }
        (Route::Blob(digest), _) if is_read => {
            blobs::get(state, &head.method, &head.headers, digest).await
        }
        (Route::Blob(digest), "DELETE") => blobs::delete(state, digest).await,
        (Route::Uploads(repository), "POST") => {
            uploads::begin(state, repository, query, body).await
        }
        (Route::Upload(repository, id), "GET") => uploads::status(&state, &repository, &id),
        (Route::Upload(repository, id), "PATCH") => {
            uploads::append(state, &head.headers, repository, id, body).await
        }
        (Route::Upload(repository, id), "PUT") => {
            uploads::complete(state, &head.headers, repository, id, query, body).await
        }
        (Route::Upload(repository, id), "DELETE") => uploads::cancel(&state, &repository, &id),
        _ => Err(
            ApiError::new(Code::Unsupported, "the method is not for this end-point")
                .with_header(header::ALLOW, methods.to_owned()),
        ),
    }
}
