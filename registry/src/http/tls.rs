//! Which certificates are believed, and which are shown.
//!
//! ```text
//! <directory>/<host[:port]>/*.crt          authorities believed for this host, beside the system's
//!                           NAME.cert + NAME.key   certificate shown to this host
//! ```
//! The layout is that of containers-certs.d(5) and Docker.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Verify;
use crate::error::{Error, Result};

/// What a host's directories hold.
#[derive(Default)]
struct HostFiles {
    authorities: Vec<PathBuf>,
    certificate: Option<(PathBuf, PathBuf)>,
}

/// Whether any directory has something for this host.
pub(super) fn has_certificates(directories: &[PathBuf], host: &str) -> bool {
    directories
        .iter()
        .any(|directory| safe_join(directory, host).is_some_and(|path| path.is_dir()))
}

/// For a connection that speaks no TLS: costs nothing, trusts nobody.
pub(super) fn nothing_trusted() -> Result<ClientConfig> {
    Ok(builder()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// The authorities of this machine; read when the first https host is asked, and once.
#[derive(Debug, Default)]
pub(super) struct SystemAuthorities(Mutex<Option<RootCertStore>>);

impl SystemAuthorities {
    /// All that can be used, and the first reason why others cannot.
    fn get(&self) -> (RootCertStore, Option<rustls_native_certs::Error>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(roots) = known.as_ref() {
            return (roots.clone(), None);
        }
        let system = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // A system bundle may hold a few that rustls cannot read; the others still count.
        roots.add_parsable_certificates(system.certs);
        if !roots.is_empty() {
            *known = Some(roots.clone());
        }
        (roots, system.errors.into_iter().next())
    }
}

/// The configuration for one host. Reads the system's authorities, so only for https.
pub(super) fn configuration(
    directories: &[PathBuf],
    host: &str,
    verify: Verify,
    system: &SystemAuthorities,
) -> Result<ClientConfig> {
    let files = find_files(directories, host)?;
    let with_roots = match verify {
        Verify::Yes => builder()?.with_root_certificates(authorities(&files, system)?),
        Verify::No => builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BelieveAnyone(provider()))),
    };
    let mut configuration = match &files.certificate {
        None => with_roots.with_no_client_auth(),
        Some((certificate, key)) => {
            let refuse = |reason: String| Error::Certificates {
                path: certificate.clone(),
                reason,
            };
            let chain = read_certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| Error::Certificates {
                path: key.clone(),
                reason: error.to_string(),
            })?;
            with_roots
                .with_client_auth_cert(chain, key)
                .map_err(|error| refuse(error.to_string()))?
        }
    };
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(configuration)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::NoAuthorities {
            source: Some(Box::new(source)),
        })
}

fn authorities(files: &HostFiles, system: &SystemAuthorities) -> Result<RootCertStore> {
    let (mut roots, problem) = system.get();
    for path in &files.authorities {
        for certificate in read_certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| Error::Certificates {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
        }
    }
    if roots.is_empty() {
        return Err(Error::NoAuthorities {
            source: problem.map(|error| Box::new(error) as _),
        });
    }
    Ok(roots)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let refuse = |reason: String| Error::Certificates {
        path: path.to_owned(),
        reason,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| refuse(error.to_string()))?;
    if certificates.is_empty() {
        return Err(refuse("it holds no certificate".into()));
    }
    Ok(certificates)
}

/// `None` when the host could name another directory than one right below.
fn safe_join(directory: &Path, host: &str) -> Option<PathBuf> {
    let plain = !host.is_empty() && !host.contains('/') && host != "." && host != "..";
    plain.then(|| directory.join(host))
}

fn find_files(directories: &[PathBuf], host: &str) -> Result<HostFiles> {
    let mut found = HostFiles::default();
    for directory in directories {
        let Some(directory) = safe_join(directory, host) else {
            continue;
        };
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(Error::io("read", &directory))?.path());
        }
        paths.sort();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.authorities.push(path),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !key.is_file() {
                        let reason = "its .key file is missing".into();
                        return Err(Error::Certificates { path, reason });
                    }
                    found.certificate.get_or_insert((path, key));
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

/// For hosts that configuration calls insecure.
#[derive(Debug)]
struct BelieveAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
