//! One HTTP exchange at a time, blocking: the only place where async code runs.
//!
//! Invariants: redirects are followed only as `follow` (the client's `redirect.rs`) decides; nothing
//! goes through a proxy to a loopback host; every wait has an end; a response body is read only as
//! far as its reader asks.

mod body;
mod engine;
mod failure;
mod tls;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};

pub(crate) use self::body::{RequestBody, ResponseBody};
use self::engine::Engine;
pub(crate) use self::failure::{failure, host_of, is_loopback};
use crate::error::{Error, Result, ServerMessage};
use crate::retry::parse_retry_after;
use crate::secret::SafeUrl;

/// How long to wait for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Making a connection, TLS included. Default 10 s.
    pub connect: Duration,
    /// First byte of an answer to a request that asks for no work. Default 60 s.
    pub answer: Duration,
    /// Silence in the middle of a body, either way. Default 30 s.
    pub idle: Duration,
    /// The answer to the last byte of an upload: registries copy and hash then. Default 10 min.
    pub commit: Duration,
    /// A whole small document (manifest, token, config). Default 2 min.
    pub document: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            commit: Duration::from_secs(600),
            document: Duration::from_secs(120),
        }
    }
}

/// Proxies, as the environment variables of the same names give them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `HTTP_PROXY`. Default none.
    pub http: Option<String>,
    /// `HTTPS_PROXY`. Default none.
    pub https: Option<String>,
    /// `NO_PROXY`. Default none.
    pub none_for: Option<String>,
}

/// A request; sent as often as need be.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: RequestBody<'a>,
}

impl Request<'_> {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: Vec::new(),
            body: RequestBody::Empty,
        }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) url: Url,
    pub(crate) body: ResponseBody,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn safe_url(&self) -> SafeUrl {
        SafeUrl::of(&self.url)
    }

    /// The whole body, or [`Error::TooLarge`].
    pub(crate) fn read_document(mut self, what: &str, limit: u64) -> Result<Vec<u8>> {
        self.body.read_all(what, limit)
    }

    /// The error that this answer is. Reads what the registry says about it.
    pub(crate) fn into_error(mut self, method: &Method) -> Error {
        /// Longest error answer looked at, in bytes.
        const MAX_ERROR_BYTES: u64 = 64 * 1024;
        let retry_after = self
            .header("retry-after")
            .and_then(|text| parse_retry_after(text, SystemTime::now()));
        let messages = match self.body.read_all("the error answer", MAX_ERROR_BYTES) {
            Ok(bytes) => server_messages(&bytes),
            Err(_) => Vec::new(),
        };
        if self.status == 429 {
            return Error::RateLimited {
                registry: host_of(&self.url),
                retry_after,
                messages,
                attempts: 1,
                elapsed: Duration::ZERO,
            };
        }
        Error::Status {
            method: method.to_string(),
            url: self.safe_url(),
            status: self.status,
            messages,
            retry_after,
            attempts: 1,
            elapsed: Duration::ZERO,
        }
    }

    pub(crate) fn bad(&self, reason: impl Into<String>) -> Error {
        Error::BadAnswer {
            url: self.safe_url(),
            reason: reason.into(),
        }
    }
}

/// The entries of an error answer: the specification's form, and that of token services.
fn server_messages(bytes: &[u8]) -> Vec<ServerMessage> {
    #[derive(serde::Deserialize)]
    struct Answer {
        #[serde(default)]
        errors: Vec<Entry>,
        details: Option<String>,
        message: Option<String>,
        error: Option<String>,
        error_description: Option<String>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: serde_json::Value,
        #[serde(default)]
        message: Option<String>,
    }
    let printable = |text: &str| -> String {
        text.chars()
            .filter(|c| !c.is_control())
            .take(400)
            .collect::<String>()
    };
    let Ok(answer) = serde_json::from_slice::<Answer>(bytes) else {
        let text = printable(&String::from_utf8_lossy(bytes));
        let plain = !text.trim().is_empty() && !text.trim_start().starts_with(['<', '{']);
        return plain
            .then(|| ServerMessage {
                code: String::new(),
                message: text.trim().chars().take(200).collect(),
            })
            .into_iter()
            .collect();
    };
    let mut messages: Vec<_> = answer
        .errors
        .iter()
        .take(8)
        .map(|entry| ServerMessage {
            code: match &entry.code {
                serde_json::Value::String(code) => printable(code),
                serde_json::Value::Null => String::new(),
                other => printable(&other.to_string()),
            },
            message: printable(entry.message.as_deref().unwrap_or_default()),
        })
        .collect();
    if messages.is_empty() {
        let text = [
            answer.details,
            answer.message,
            answer.error_description,
            answer.error,
        ];
        messages.extend(text.into_iter().flatten().next().map(|text| ServerMessage {
            code: String::new(),
            message: printable(&text),
        }));
    }
    messages
}

/// How the certificate of a host is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verify {
    Yes,
    /// Only for hosts that configuration calls insecure.
    No,
}

/// Everything that one exchange depends on.
#[derive(Debug, Clone, Default)]
pub(crate) struct HttpOptions {
    pub(crate) timeouts: Timeouts,
    pub(crate) proxies: Proxies,
    pub(crate) certificate_directories: Vec<PathBuf>,
    pub(crate) user_agent: String,
}

/// Sends requests; one connection pool per host, so that no host sees another's certificates.
#[derive(Debug)]
pub(crate) struct Http {
    options: HttpOptions,
    engine: Engine,
    authorities: tls::SystemAuthorities,
    clients: Mutex<HashMap<(String, String, Verify), reqwest::Client>>,
}

impl Http {
    pub(crate) fn new(options: HttpOptions) -> Self {
        Self {
            options,
            engine: Engine::default(),
            authorities: tls::SystemAuthorities::default(),
            clients: Mutex::default(),
        }
    }

    /// Whether certificates are configured for this very host.
    pub(crate) fn has_certificates(&self, host: &str) -> bool {
        tls::has_certificates(&self.options.certificate_directories, host)
    }

    /// Sends `request` once. Any status is an answer; redirects are not followed.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
        verify: Verify,
    ) -> Result<Response> {
        let begun = Instant::now();
        let client = self.client(&request.url, verify)?;
        let mut builder = client.request(request.method.clone(), request.url.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(value) = authorization {
            builder = builder.header(reqwest::header::AUTHORIZATION, value);
        }
        let engine = self.engine.get()?;
        let answer = body::send(&engine, &self.options.timeouts, builder, request)?;
        tracing::debug!(
            method = %request.method,
            url = %SafeUrl::of(&request.url),
            status = answer.status().as_u16(),
            authorized = authorization.is_some(),
            elapsed = ?begun.elapsed(),
            "answered"
        );
        Ok(Response {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            url: request.url.clone(),
            body: ResponseBody::new(engine, answer, &self.options.timeouts),
        })
    }

    fn client(&self, url: &Url, verify: Verify) -> Result<reqwest::Client> {
        let host = host_of(url);
        let key = (url.scheme().to_owned(), host.clone(), verify);
        let mut clients = self
            .clients
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let tls = if url.scheme() == "https" {
            tls::configuration(
                &self.options.certificate_directories,
                &host,
                verify,
                &self.authorities,
            )?
        } else {
            tls::nothing_trusted()?
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // Layers side by side want connections side by side: one HTTP/2 connection is one
            // congestion window and one thread's worth of decryption.
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .user_agent(self.options.user_agent.clone())
            .connect_timeout(self.options.timeouts.connect)
            .tcp_nodelay(true);
        if !is_loopback(url) {
            for proxy in self.proxies()? {
                builder = builder.proxy(proxy);
            }
        }
        let client = builder
            .build()
            .map_err(|source| failure(&SafeUrl::of(url), source))?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn proxies(&self) -> Result<Vec<reqwest::Proxy>> {
        let proxies = &self.options.proxies;
        let none_for = proxies
            .none_for
            .as_deref()
            .and_then(reqwest::NoProxy::from_string);
        let mut list = Vec::new();
        for (scheme, url) in [("http", &proxies.http), ("https", &proxies.https)] {
            let Some(url) = url.as_deref().filter(|url| !url.is_empty()) else {
                continue;
            };
            let made = match scheme {
                "http" => reqwest::Proxy::http(url),
                _ => reqwest::Proxy::https(url),
            };
            let proxy = made.map_err(|source| Error::Config {
                path: PathBuf::from("(proxy settings)"),
                source: Box::new(source.without_url()),
            })?;
            list.push(proxy.no_proxy(none_for.clone()));
        }
        Ok(list)
    }
}
