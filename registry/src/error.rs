//! Everything that can go wrong between us and a registry or an archive.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wythe_layers::spec::{Digest, SpecError};

use crate::secret::SafeUrl;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause from a crate that is not part of our interface.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Everything that can go wrong in this crate. Each message is of its own level only; the cause
/// is in `source()`, advice is in [`Error::hint`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer, or not a whole one.
    #[error("{kind} ({url}{})", Tries(*attempts, *elapsed))]
    Network {
        /// What was asked for.
        url: SafeUrl,
        /// What happened.
        kind: NetworkFailure,
        /// How often it was tried.
        attempts: u32,
        /// From the first try to the last answer.
        elapsed: Duration,
        /// The transport's own error.
        #[source]
        source: Option<Cause>,
    },
    /// The registry answered with an error that has no variant of its own.
    #[error("{method} {url} was answered with {status}{}{}", Said(messages), Tries(*attempts, *elapsed))]
    Status {
        /// GET, PUT, …
        method: String,
        /// What was asked for.
        url: SafeUrl,
        /// HTTP status code.
        status: u16,
        /// What the registry says about it.
        messages: Vec<ServerMessage>,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
        /// How often it was tried.
        attempts: u32,
        /// From the first try to the last answer.
        elapsed: Duration,
    },
    /// The registry wants credentials, or other ones.
    #[error("{registry} refuses {}{}", if *.presented { "the credentials" } else { "access without credentials" }, Said(messages))]
    Unauthorized {
        /// The registry.
        registry: String,
        /// Whether we had credentials and showed them.
        presented: bool,
        /// What the registry says about it.
        messages: Vec<ServerMessage>,
    },
    /// The registry knows who we are and says no.
    #[error("{registry} denies {what}{}", Said(messages))]
    Denied {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the registry says about it.
        messages: Vec<ServerMessage>,
    },
    /// It is not there.
    #[error("{registry} has no {what}{}", Said(messages))]
    NotFound {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What the registry says about it (`NAME_UNKNOWN`, `MANIFEST_UNKNOWN`, …).
        messages: Vec<ServerMessage>,
    },
    /// Too many requests.
    #[error("{registry} limits the rate of requests{}{}", Said(messages), Tries(*attempts, *elapsed))]
    RateLimited {
        /// The registry.
        registry: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
        /// What the registry says about it.
        messages: Vec<ServerMessage>,
        /// How often it was tried.
        attempts: u32,
        /// From the first try to the last answer.
        elapsed: Duration,
    },
    /// The token service did not give a token.
    #[error("cannot get a token from {realm}")]
    Token {
        /// The token service.
        realm: SafeUrl,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// Something would have gone over a connection that anyone on the way can read or change.
    #[error("refusing {url}: {reason}")]
    Insecure {
        /// Where to.
        url: SafeUrl,
        /// Which rule forbids it.
        reason: &'static str,
    },
    /// An answer that breaks the distribution specification.
    #[error("{url} gave an answer that makes no sense: {reason}")]
    BadAnswer {
        /// What was asked for.
        url: SafeUrl,
        /// Which rule it breaks.
        reason: String,
    },
    /// A document has another digest than was asked for.
    #[error("{what} has the digest {actual}, not {expected}")]
    DigestMismatch {
        /// Which document.
        what: String,
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A document has another size than its descriptor says.
    #[error("{what} has {actual} bytes, not {expected}")]
    SizeMismatch {
        /// Which document.
        what: String,
        /// By the descriptor, in bytes.
        expected: u64,
        /// In bytes.
        actual: u64,
    },
    /// A document is larger than any sensible one.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which document.
        what: String,
        /// In bytes.
        limit: u64,
    },
    /// A manifest, index or config is not what it should be.
    #[error("{what} is invalid")]
    Document {
        /// Which document.
        what: String,
        /// Why.
        #[source]
        source: SpecError,
    },
    /// An image whose parts contradict each other, or that cannot be used here.
    #[error("{what} cannot be used: {reason}")]
    Unusable {
        /// Which image.
        what: String,
        /// Why.
        reason: String,
    },
    /// An index has nothing for the wanted platform.
    #[error("{what} has no image for {wanted}; it has {}", if available.is_empty() { "none at all".to_owned() } else { available.join(", ") })]
    NoPlatform {
        /// Which index.
        what: String,
        /// The wanted platform.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// registries.conf forbids this registry.
    #[error("{reference} is blocked by registries.conf (prefix {prefix})")]
    Blocked {
        /// What was asked for.
        reference: String,
        /// The entry that forbids it.
        prefix: String,
    },
    /// There is nothing that a TLS certificate could be checked against.
    #[error("no certificate authorities were found on this machine")]
    NoAuthorities {
        /// Why not.
        #[source]
        source: Option<Cause>,
    },
    /// Certificates or keys of a registry cannot be used.
    #[error("cannot use the certificates in {}: {reason}", path.display())]
    Certificates {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A configuration or credentials file is not what it should be.
    #[error("cannot understand {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Cause,
    },
    /// A credential helper failed.
    #[error("credential helper {helper} failed: {reason}")]
    Helper {
        /// The program.
        helper: String,
        /// How.
        reason: String,
    },
    /// An archive or a layout is not what it should be.
    #[error("{} is not a usable image archive: {reason}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Which rule it breaks.
        reason: String,
    },
    /// The name of an image's place is not one.
    #[error("invalid image location {text:?}: {reason}")]
    Location {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// An operation on a file failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The server cannot have the address.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system does not let the server run (threads, descriptors).
    #[error("cannot start the server")]
    StartServer {
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The local store failed.
    #[error("the local store failed")]
    Store(#[source] wythe_layers::Error),
    /// The network engine could not be started.
    #[error("cannot start the network engine")]
    Engine(#[source] io::Error),
}

/// What happened to a request that got no whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkFailure {
    /// The name has no address.
    NameUnknown,
    /// Nobody listens there.
    Refused,
    /// Could not connect for another reason.
    Unreachable,
    /// The connection could not be made in time.
    ConnectTimeout,
    /// The other side fell silent, or so slow as if it were.
    Timeout,
    /// The connection broke.
    Broken,
    /// The certificate is of an authority that this machine does not trust.
    UnknownAuthority,
    /// The certificate is not valid: expired, for another name, ….
    Certificate,
    /// TLS was spoken to a port that does not speak TLS.
    NotTls,
    /// TLS failed in another way.
    Tls,
    /// The answer was not HTTP.
    NotHttp,
    /// None of these.
    Unknown,
}

impl fmt::Display for NetworkFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameUnknown => "the host name cannot be resolved",
            Self::Refused => "connection refused",
            Self::Unreachable => "cannot connect",
            Self::ConnectTimeout => "no connection in time",
            Self::Timeout => "no answer in time",
            Self::Broken => "the connection broke",
            Self::UnknownAuthority => "the certificate is signed by an unknown authority",
            Self::Certificate => "the certificate is not valid",
            Self::NotTls => "the server does not speak TLS on this port",
            Self::Tls => "the TLS handshake failed",
            Self::NotHttp => "the answer is not HTTP",
            Self::Unknown => "the request failed",
        })
    }
}

/// One entry of a registry's error answer (distribution-spec §Error Codes). Unknown codes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerMessage {
    /// `MANIFEST_UNKNOWN`, `DENIED`, …; empty when the answer had none.
    pub code: String,
    /// For people; cut to a printable length.
    pub message: String,
}

struct Said<'a>(&'a [ServerMessage]);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, said) in self.0.iter().take(3).enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            match (said.code.as_str(), said.message.as_str()) {
                ("", message) => f.write_str(message)?,
                (code, "") => f.write_str(code)?,
                (code, message) => write!(f, "{message} ({code})")?,
            }
        }
        Ok(())
    }
}

struct Tries(u32, Duration);

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 1 {
            write!(f, ", {} attempts in {:.1} s", self.0, self.1.as_secs_f64())?;
        }
        Ok(())
    }
}

impl Error {
    /// For `map_err`: an I/O error with the operation and the path.
    pub(crate) fn io(
        operation: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path: path.as_ref().to_path_buf(),
            source,
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Network { kind, .. } => matches!(
                kind,
                NetworkFailure::Refused
                    | NetworkFailure::Unreachable
                    | NetworkFailure::ConnectTimeout
                    | NetworkFailure::Timeout
                    | NetworkFailure::Broken
            ),
            Self::Status { status, .. } => is_transient_status(*status),
            Self::RateLimited { .. } => true,
            // The token request was retried by itself already.
            _ => false,
        }
    }

    /// Whether this says that the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// How long the registry asks to wait before the next try.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } | Self::RateLimited { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unauthorized { registry, .. } => Some(format!("wythe login {registry}")),
            Self::Denied { registry, .. } => Some(format!(
                "the account may lack the right; to use another one: wythe login {registry}"
            )),
            Self::Network { kind, .. } => match kind {
                NetworkFailure::UnknownAuthority => Some(
                    "put the authority's certificate into /etc/containers/certs.d/HOST:PORT/ca.crt"
                        .into(),
                ),
                NetworkFailure::NotTls => Some(
                    "if the registry speaks plain HTTP, set insecure = true for it in registries.conf or give --tls-verify=false".into(),
                ),
                _ => None,
            },
            Self::NoAuthorities { .. } => Some(
                "install the package ca-certificates, or set SSL_CERT_FILE".into(),
            ),
            Self::RateLimited { registry, retry_after, .. } => Some(match retry_after {
                Some(wait) => format!("try again in {} s, or log in: wythe login {registry}", wait.as_secs()),
                None => format!("try again later, or log in: wythe login {registry}"),
            }),
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => Some(
                "another server has this port: stop it, or give another one".into(),
            ),
            Self::Token { source, .. } => source.hint(),
            _ => None,
        }
    }

    /// The same error, knowing how often and how long it was tried.
    pub(crate) fn tried(mut self, tries: u32, time: Duration) -> Self {
        if let Self::Network {
            attempts, elapsed, ..
        }
        | Self::Status {
            attempts, elapsed, ..
        }
        | Self::RateLimited {
            attempts, elapsed, ..
        } = &mut self
        {
            *attempts = tries;
            *elapsed = time;
        }
        self
    }
}

/// Statuses after which the same request may succeed: RFC 9110 §15.5.9, §15.6, RFC 6585 §4.
pub(crate) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// As the [`wythe_layers::image::ImageSource`] trait wants it.
pub(crate) fn as_source(what: String) -> impl FnOnce(Error) -> wythe_layers::Error {
    move |source| wythe_layers::Error::Source {
        what,
        source: Box::new(source),
    }
}
