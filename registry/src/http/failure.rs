//! What kind of failure a failed exchange was, and what counts as this machine.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::Url;

use crate::error::{Error, NetworkFailure};
use crate::secret::SafeUrl;

/// `host` or `host:port`, as directories of certificates and credentials are named.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Whether a URL's host is this machine itself: `localhost`, 127/8, `::1`.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// A failed exchange as our error. The URL inside is dropped: its query may be a signature.
pub(crate) fn failure(url: &SafeUrl, source: reqwest::Error) -> Error {
    let source = source.without_url();
    Error::Network {
        url: url.clone(),
        kind: kind(&source),
        attempts: 1,
        elapsed: Duration::ZERO,
        source: Some(Box::new(source)),
    }
}

/// Nothing came in time.
pub(super) fn timeout(url: &SafeUrl) -> Error {
    Error::Network {
        url: url.clone(),
        kind: NetworkFailure::Timeout,
        attempts: 1,
        elapsed: Duration::ZERO,
        source: None,
    }
}

fn kind(error: &reqwest::Error) -> NetworkFailure {
    if error.is_timeout() {
        return if error.is_connect() {
            NetworkFailure::ConnectTimeout
        } else {
            NetworkFailure::Timeout
        };
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(kind) = kind_of_cause(inner) {
            return kind;
        }
        cause = inner.source();
    }
    if error.is_dns() {
        NetworkFailure::NameUnknown
    } else if error.is_connect() {
        NetworkFailure::Unreachable
    } else {
        NetworkFailure::Unknown
    }
}

fn kind_of_cause(error: &(dyn std::error::Error + 'static)) -> Option<NetworkFailure> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(kind_of_tls(tls));
    }
    if let Some(http) = error.downcast_ref::<hyper::Error>() {
        if http.is_incomplete_message() || http.is_closed() || http.is_canceled() {
            return Some(NetworkFailure::Broken);
        }
        if http.is_parse() {
            return Some(NetworkFailure::NotHttp);
        }
        return None;
    }
    let io = error.downcast_ref::<io::Error>()?;
    // An io::Error may only carry the true cause, and does not always show it as its source.
    if let Some(inner) = io.get_ref()
        && let Some(kind) = kind_of_cause(inner)
    {
        return Some(kind);
    }
    match io.kind() {
        io::ErrorKind::ConnectionRefused => Some(NetworkFailure::Refused),
        io::ErrorKind::TimedOut => Some(NetworkFailure::Timeout),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::NotConnected => Some(NetworkFailure::Broken),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some(NetworkFailure::Unreachable)
        }
        _ => None,
    }
}

fn kind_of_tls(error: &rustls::Error) -> NetworkFailure {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            NetworkFailure::UnknownAuthority
        }
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            NetworkFailure::Certificate
        }
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
            NetworkFailure::NotTls
        }
        _ => NetworkFailure::Tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, loopback) in [
            ("http://localhost:5000/", true),
            ("http://LOCALHOST/", true),
            ("http://127.0.0.1/", true),
            ("http://127.9.8.7:1/", true),
            ("http://[::1]:5000/", true),
            ("http://localhost.example.com/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://10.0.0.1/", false),
            ("http://[::2]/", false),
            ("http://0.0.0.0/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
        }
    }
}
