//! TLS: whom the client believes, what it shows, and what it never falls back to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use wythe_layers::image::ImageSource;
use wythe_layers::spec::Platform;
use wythe_registry::{Client, ClientOptions, Error, NetworkFailure, TlsPolicy};

use crate::images::{Image, chain, not_found, options, reference};
use crate::server::{Answer, Server};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(fixture(name)).unwrap()
}

/// Speaks TLS before a server that speaks none.
fn terminate(backend: SocketAddr, wants_certificate: bool) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if wants_certificate {
        let mut roots = RootCertStore::empty();
        roots.add(certificate("authority.crt")).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let config = builder
        .with_single_cert(
            vec![certificate("server.crt")],
            PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || pass_on(stream, config, backend));
        }
    });
    host
}

fn pass_on(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    backend: SocketAddr,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut tls = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut to = TcpStream::connect(backend)?;
    to.write_all(&head)?;
    std::io::copy(&mut to, &mut tls)?;
    tls.conn.send_close_notify();
    tls.flush()?;
    tls.sock.shutdown(Shutdown::Write)
}

/// A certs.d directory with these fixtures for a host.
fn certificates(host: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let own = directory.path().join(host);
    std::fs::create_dir(&own).unwrap();
    for (from, to) in files {
        std::fs::copy(fixture(from), own.join(to)).unwrap();
    }
    directory
}

fn client(directory: &tempfile::TempDir, tls: TlsPolicy) -> Client {
    Client::new(ClientOptions {
        certificate_directories: vec![directory.path().to_owned()],
        tls,
        ..options()
    })
    .unwrap()
}

fn registry() -> Server {
    let image = Image::new(&[b"x"]);
    Server::start(move |call| image.answer(call).unwrap_or_else(not_found))
}

#[test]
fn a_configured_authority_is_believed_and_a_strange_one_is_not() {
    let host = terminate(registry().address, false);
    let known = certificates(&host, &[("authority.crt", "ca.crt")]);
    client(&known, TlsPolicy::Configured)
        .resolve(&reference(&host), &Platform::host())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let strange = certificates(&host, &[("stranger.crt", "ca.crt")]);
    let error = client(&strange, TlsPolicy::Configured)
        .resolve_image(&reference(&host), &Platform::host())
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Network {
                kind: NetworkFailure::UnknownAuthority,
                attempts: 1,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("certs.d"));
    client(&strange, TlsPolicy::Insecure)
        .resolve(&reference(&host), &Platform::host())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
}

#[test]
fn a_certificate_is_shown_where_it_is_configured() {
    let host = terminate(registry().address, true);
    let both = certificates(
        &host,
        &[
            ("authority.crt", "ca.crt"),
            ("client.crt", "client.cert"),
            ("client.key", "client.key"),
        ],
    );
    client(&both, TlsPolicy::Configured)
        .resolve(&reference(&host), &Platform::host())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
    let without = certificates(&host, &[("authority.crt", "ca.crt")]);
    assert!(
        client(&without, TlsPolicy::Configured)
            .resolve_image(&reference(&host), &Platform::host())
            .is_err()
    );
    let half = certificates(
        &host,
        &[("authority.crt", "ca.crt"), ("client.crt", "client.cert")],
    );
    let error = client(&half, TlsPolicy::Configured)
        .resolve_image(&reference(&host), &Platform::host())
        .unwrap_err();
    assert!(
        error.to_string().contains(".key file is missing"),
        "{error}"
    );
    assert!(error.to_string().contains("client.cert"), "{error}");
}

/// Asks `server`, behind TLS, which sends the client to `plain`.
fn refuses_to_go_on_in_the_clear(server: &Server, plain: &Server) {
    let host = terminate(server.address, false);
    let known = certificates(&host, &[("authority.crt", "ca.crt")]);
    let error = client(&known, TlsPolicy::Configured)
        .resolve_image(&reference(&host), &Platform::host())
        .unwrap_err();
    assert!(matches!(error, Error::Insecure { .. }), "{error:?}");
    assert!(plain.calls().is_empty());
}

#[test]
fn tls_is_never_left_again() {
    let plain = registry();
    let target = plain.host();
    let image = Image::new(&[b"x"]);
    let server = Server::start(move |call| {
        if call.path().contains("/manifests/") {
            let to = format!("http://{target}{}", call.target);
            return Answer::new(307).header("Location", to);
        }
        image.answer(call).unwrap_or_else(not_found)
    });
    refuses_to_go_on_in_the_clear(&server, &plain);
}

#[test]
fn a_token_service_in_the_clear_is_refused() {
    let plain = registry();
    let realm = format!("Bearer realm=\"http://{}/token\"", plain.host());
    let server = Server::start(move |_| Answer::new(401).header("WWW-Authenticate", realm.clone()));
    refuses_to_go_on_in_the_clear(&server, &plain);
}

#[test]
fn plain_http_is_found_on_this_machine_even_with_certificates_configured() {
    let server = registry();
    let host = server.host();
    let known = certificates(&host, &[("authority.crt", "ca.crt")]);
    client(&known, TlsPolicy::Configured)
        .resolve(&reference(&host), &Platform::host())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
}

#[test]
fn tls_is_found_on_this_machine_without_configuration() {
    // Asked over http first, the server only breaks off; https then fails for its certificate,
    // not for being plain.
    let host = terminate(registry().address, false);
    let none = tempfile::tempdir().unwrap();
    let error = client(&none, TlsPolicy::Configured)
        .resolve_image(&reference(&host), &Platform::host())
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Network {
                kind: NetworkFailure::UnknownAuthority,
                ..
            } | Error::NoAuthorities { .. }
        ),
        "{error:?}"
    );
    client(&none, TlsPolicy::Insecure)
        .resolve(&reference(&host), &Platform::host())
        .unwrap_or_else(|error| panic!("{}", chain(&error)));
}
