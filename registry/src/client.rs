//! The client: which registry is where, and requests with authorization and retries.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};

use crate::auth::{Asking, HostAuth, Scopes};
use crate::challenge::{Challenge, parse_challenges};
use crate::credentials::{Credential, CredentialEnvironment};
use crate::error::{Error, NetworkFailure, Result, is_transient_status};
use crate::http::{Http, HttpOptions, Proxies, Request, Response, Timeouts, Verify, is_loopback};
use crate::redirect::{Home, follow};
use crate::registries::{Endpoint, Registries};
use crate::retry::{self, RetryPolicy};
use crate::secret::SafeUrl;
use crate::sources::BlobSources;

/// Where Docker Hub's registry is.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// Whether certificates are checked and plain HTTP is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsPolicy {
    /// As registries.conf says; secure where it says nothing.
    #[default]
    Configured,
    /// `--tls-verify=false`: neither, for any registry.
    Insecure,
}

/// What a client is made of.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where credentials are. Default nowhere.
    pub environment: CredentialEnvironment,
    /// Used for every registry instead of what the environment has. Default none.
    pub credential: Option<Credential>,
    /// Where registries are. Default where their names say.
    pub registries: Registries,
    /// Default [`TlsPolicy::Configured`].
    pub tls: TlsPolicy,
    /// Directories in the manner of containers-certs.d(5). Default the two of the system.
    pub certificate_directories: Vec<PathBuf>,
    /// Default none.
    pub proxies: Proxies,
    /// Default as [`Timeouts`] says.
    pub timeouts: Timeouts,
    /// Default as [`RetryPolicy`] says.
    pub retry: RetryPolicy,
    /// Where to note which repositories have which blob, for mounting across repositories.
    /// Default none: no notes.
    pub sources: Option<BlobSources>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            environment: CredentialEnvironment::default(),
            credential: None,
            registries: Registries::default(),
            tls: TlsPolicy::default(),
            certificate_directories: vec![
                "/etc/containers/certs.d".into(),
                "/etc/docker/certs.d".into(),
            ],
            proxies: Proxies::default(),
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            sources: None,
        }
    }
}

/// A client of any number of registries. Cheap to clone; clones share connections and tokens.
///
/// Blocking: call it from ordinary threads only. It starts its engine threads at the first request.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: ClientOptions,
    pub(crate) http: Http,
    hosts: Mutex<HashMap<(String, bool), Arc<HostState>>>,
    credentials: Mutex<HashMap<String, Option<Credential>>>,
    /// Which of its endpoints a repository was last found at.
    pub(crate) found_at: Mutex<HashMap<String, Endpoint>>,
}

/// What is known of one registry.
#[derive(Debug, Default)]
struct HostState {
    base: Mutex<Option<Url>>,
    auth: HostAuth,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// A client. Reads nothing and connects to nothing yet.
    ///
    /// # Errors
    /// None today; options that cannot work will be refused here.
    pub fn new(options: ClientOptions) -> Result<Self> {
        let http = Http::new(HttpOptions {
            timeouts: options.timeouts.clone(),
            proxies: options.proxies.clone(),
            certificate_directories: options.certificate_directories.clone(),
            user_agent: concat!("wythe/", env!("CARGO_PKG_VERSION")).to_owned(),
        });
        Ok(Self {
            inner: Arc::new(Inner {
                http,
                options,
                hosts: Mutex::default(),
                credentials: Mutex::default(),
                found_at: Mutex::default(),
            }),
        })
    }

    fn is_insecure(&self, endpoint: &Endpoint) -> bool {
        endpoint.insecure || self.inner.options.tls == TlsPolicy::Insecure
    }

    fn host(&self, endpoint: &Endpoint) -> Arc<HostState> {
        let key = (endpoint.host.clone(), self.is_insecure(endpoint));
        Arc::clone(lock(&self.inner.hosts).entry(key).or_default())
    }

    /// The credential for an endpoint; looked up once.
    pub(crate) fn credential(&self, endpoint: &Endpoint) -> Result<Option<Credential>> {
        if let Some(credential) = &self.inner.options.credential {
            return Ok(Some(credential.clone()));
        }
        let name = match endpoint.repository.as_str() {
            "" => endpoint.host.clone(),
            path => format!("{}/{path}", endpoint.host),
        };
        let mut known = lock(&self.inner.credentials);
        if let Some(credential) = known.get(&name) {
            return Ok(credential.clone());
        }
        let credential = self.inner.options.environment.find(&name)?;
        known.insert(name, credential.clone());
        Ok(credential)
    }

    /// Scheme, host and port of an endpoint.
    pub(crate) fn base(&self, endpoint: &Endpoint) -> Result<Url> {
        let host = self.host(endpoint);
        let mut base = lock(&host.base);
        if let Some(base) = base.as_ref() {
            return Ok(base.clone());
        }
        let found = retry::run(&self.inner.options.retry, || {
            self.find_base(endpoint, &host.auth)
        })?;
        *base = Some(found.clone());
        Ok(found)
    }

    /// https, unless this machine itself or the configuration allow http: then what answers.
    fn find_base(&self, endpoint: &Endpoint, auth: &HostAuth) -> Result<Url> {
        let name = match endpoint.host.as_str() {
            "docker.io" => DOCKER_HUB_HOST,
            other => other,
        };
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{name}/")).map_err(|error| Error::Location {
                text: name.to_owned(),
                reason: error.to_string(),
            })
        };
        let https = url("https")?;
        let http = url("http")?;
        let insecure = self.is_insecure(endpoint);
        if !insecure && !is_loopback(&https) {
            return Ok(https);
        }
        // On this machine plain HTTP is the rule, and asking it first costs no certificates.
        let http_first = is_loopback(&https) && !self.inner.http.has_certificates(&endpoint.host);
        let order = if http_first {
            [http, https]
        } else {
            [https, http]
        };
        let verify = if insecure { Verify::No } else { Verify::Yes };
        let mut first_error = None;
        for base in order {
            match self.probe(&base, verify, auth) {
                Ok(true) => return Ok(base),
                Ok(false) => {}
                Err(error) => {
                    let decided = matches!(
                        error,
                        Error::Network {
                            kind: NetworkFailure::UnknownAuthority | NetworkFailure::Certificate,
                            ..
                        } | Error::Certificates { .. }
                    );
                    if decided {
                        return Err(error);
                    }
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| Error::BadAnswer {
            url: SafeUrl::of(&http_url_of(name)),
            reason: "neither http nor https gives a registry's answer".into(),
        }))
    }

    /// Whether a registry answers there; what it wants is learnt on the way. Sends no credentials.
    fn probe(&self, base: &Url, verify: Verify, auth: &HostAuth) -> Result<bool> {
        let request = Request::new(Method::GET, api(base, &["v2", ""])?);
        let response = self.inner.http.send(&request, None, verify)?;
        if base.scheme() == "http" {
            let to_https = response
                .header("location")
                .is_some_and(|location| location.starts_with("https:"));
            if to_https && (300..400).contains(&response.status) {
                return Ok(false);
            }
            if response.status == 400 {
                // Go and nginx say so when TLS is spoken on this port.
                let said = response.read_document("the answer", 64 * 1024)?;
                return Ok(!String::from_utf8_lossy(&said).contains("HTTPS"));
            }
        }
        auth.learn(&challenges(&response));
        Ok(true)
    }

    /// Sends a request to an endpoint, with authorization, redirects and retries. Answers other
    /// than transient errors come back whatever their status is.
    pub(crate) fn call(
        &self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        request: &Request<'_>,
    ) -> Result<Response> {
        retry::run(&self.inner.options.retry, || {
            self.attempt(endpoint, scopes, request)
        })
    }

    /// One attempt of [`Self::call`].
    pub(crate) fn attempt(
        &self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        request: &Request<'_>,
    ) -> Result<Response> {
        let response = self.authorized(endpoint, scopes, request)?;
        if is_transient_status(response.status) {
            return Err(response.into_error(&request.method));
        }
        Ok(response)
    }

    fn authorized(
        &self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        request: &Request<'_>,
    ) -> Result<Response> {
        let base = self.base(endpoint)?;
        let host = self.host(endpoint);
        let insecure = self.is_insecure(endpoint);
        let credential = self.credential(endpoint)?;
        let asking = Asking {
            http: &self.inner.http,
            retry: &self.inner.options.retry,
            base: &base,
            insecure,
            credential: credential.as_ref(),
        };
        let home = Home {
            base: &base,
            insecure,
        };
        home.check(&request.url)?;
        let header = if home.owns(&request.url) {
            host.auth.header(&asking, scopes)?
        } else {
            None
        };
        let response = follow(&self.inner.http, &home, request, header.as_ref())?;
        // A challenge of another host is none of ours: CVE-2020-15157.
        if response.status != 401 || !home.owns(&response.url) {
            return Ok(response);
        }
        let answer = host
            .auth
            .answer(&asking, scopes, &challenges(&response), header.as_ref())?;
        let Some(answer) = answer else {
            return Ok(response);
        };
        follow(&self.inner.http, &home, request, Some(&answer))
    }

    /// What an answer that is not a success means.
    pub(crate) fn refuse(
        &self,
        endpoint: &Endpoint,
        response: Response,
        method: &Method,
        what: impl Into<String>,
    ) -> Error {
        let status = response.status;
        let presented = matches!(self.credential(endpoint), Ok(Some(_)));
        let registry = endpoint.host.clone();
        let error = response.into_error(method);
        let Error::Status { messages, .. } = &error else {
            return error;
        };
        let messages = messages.clone();
        let what = what.into();
        match status {
            401 => Error::Unauthorized {
                registry,
                presented,
                messages,
            },
            403 => Error::Denied {
                registry,
                what,
                messages,
            },
            404 => Error::NotFound {
                registry,
                what,
                messages,
            },
            _ => error,
        }
    }
}

fn http_url_of(name: &str) -> Url {
    Url::parse(&format!("http://{name}/")).unwrap_or_else(|_| unreachable_url())
}

fn unreachable_url() -> Url {
    Url::parse("http://invalid/").expect("it is a URL")
}

fn challenges(response: &Response) -> Vec<Challenge> {
    response
        .headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .take(16)
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse_challenges)
        .collect()
}

/// A URL of the registry's interface: `base` and these parts. A part may hold slashes.
pub(crate) fn api(base: &Url, parts: &[&str]) -> Result<Url> {
    let mut url = base.clone();
    url.set_path(&format!("/{}", parts.join("/")));
    Ok(url)
}

/// A header value of text that cannot hold anything a header may not.
pub(crate) fn header_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::Location {
        text: text.to_owned(),
        reason: "it cannot stand in a header".into(),
    })
}
