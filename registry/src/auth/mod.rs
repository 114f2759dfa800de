//! Answering a registry's challenges: basic credentials and bearer tokens.
//!
//! Rules that nothing here breaks:
//! - Credentials go to the registry they belong to and to the token service which that registry
//!   itself names, as Docker does (Docker Hub's is on another host). A challenge of a host that a
//!   redirect or an upload location led to is never answered (CVE-2020-15157).
//! - They go over TLS, or to this machine itself. `insecure` in the configuration allows images
//!   in the clear, never credentials.
//! - A token request that fails is the error that is shown, not the 401 that would follow.

mod scopes;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use reqwest::Url;
use reqwest::header::HeaderValue;

pub(crate) use self::scopes::Scopes;
use self::token::{Token, TokenKey};
use crate::challenge::Challenge;
use crate::credentials::Credential;
use crate::error::{Error, Result};
use crate::http::{Http, Verify, is_loopback};
use crate::retry::RetryPolicy;
use crate::secret::{SafeUrl, Secret};

/// What a registry was last seen to want.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// Who asks, and how.
#[derive(Debug)]
pub(crate) struct Asking<'a> {
    pub(crate) http: &'a Http,
    pub(crate) retry: &'a RetryPolicy,
    /// Where the registry is.
    pub(crate) base: &'a Url,
    pub(crate) insecure: bool,
    pub(crate) credential: Option<&'a Credential>,
}

/// What is known of one registry: what it wants, and the tokens got for it.
#[derive(Debug, Default)]
pub(crate) struct HostAuth {
    wanted: Mutex<Option<Wanted>>,
    /// One lock per key: whoever comes second waits for the token instead of asking again.
    tokens: Mutex<HashMap<TokenKey, Arc<Mutex<Option<Token>>>>>,
}

impl HostAuth {
    /// Takes note of what a registry wants, before anything was asked of it.
    pub(crate) fn learn(&self, challenges: &[Challenge]) {
        if let Some((wanted, _)) = choose(challenges) {
            *lock(&self.wanted) = Some(wanted);
        }
    }

    /// The header to send before being asked: what worked before; none at first.
    pub(crate) fn header(
        &self,
        asking: &Asking<'_>,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>> {
        match lock(&self.wanted).clone() {
            None => Ok(None),
            Some(wanted) => self.header_for(asking, &wanted, scopes, None),
        }
    }

    /// The header that answers `challenges`; `None` when there is nothing (new) to answer with.
    pub(crate) fn answer(
        &self,
        asking: &Asking<'_>,
        scopes: &Scopes,
        challenges: &[Challenge],
        rejected: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        let Some((wanted, scope)) = choose(challenges) else {
            return Ok(None);
        };
        *lock(&self.wanted) = Some(wanted.clone());
        let scopes = scope.map_or_else(|| scopes.clone(), |text| scopes.and_text(text));
        let header = self.header_for(asking, &wanted, &scopes, rejected)?;
        Ok(header.filter(|header| Some(header) != rejected))
    }

    fn header_for(
        &self,
        asking: &Asking<'_>,
        wanted: &Wanted,
        scopes: &Scopes,
        rejected: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>> {
        if let Some(Credential::RegistryToken(token)) = asking.credential {
            refuse_cleartext(asking.base)?;
            return bearer(asking.base, token).map(Some);
        }
        match wanted {
            Wanted::Basic => match asking.credential {
                Some(Credential::Basic { username, password }) => {
                    refuse_cleartext(asking.base)?;
                    Ok(Some(basic(username, password)))
                }
                _ => Ok(None),
            },
            Wanted::Bearer { realm, service } => {
                let key = TokenKey {
                    realm: realm.clone(),
                    service: service.clone(),
                    scopes: scopes.texts(),
                };
                let token = self.token(asking, &key, rejected)?;
                bearer(asking.base, &token).map(Some)
            }
        }
    }

    /// A token from the cache, or a new one; one that was just `rejected` is not used again.
    fn token(
        &self,
        asking: &Asking<'_>,
        key: &TokenKey,
        rejected: Option<&HeaderValue>,
    ) -> Result<Secret> {
        let slot = Arc::clone(lock(&self.tokens).entry(key.clone()).or_default());
        let mut slot = lock(&slot);
        if let Some(token) = slot.as_ref().filter(|token| token.is_fresh()) {
            let same = match rejected {
                Some(rejected) => bearer(asking.base, &token.secret)? == rejected,
                None => false,
            };
            if !same {
                return Ok(token.secret.clone());
            }
        }
        let token = token::request(asking, key).map_err(|source| match source {
            insecure @ Error::Insecure { .. } => insecure,
            source => Error::Token {
                realm: SafeUrl::of(&key.realm),
                source: Box::new(source),
            },
        })?;
        let secret = token.secret.clone();
        *slot = Some(token);
        Ok(secret)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bearer before basic: where both are offered, a token keeps the password off the wire.
fn choose(challenges: &[Challenge]) -> Option<(Wanted, Option<&str>)> {
    let bearer = challenges.iter().find_map(|challenge| {
        if challenge.scheme != "bearer" {
            return None;
        }
        let realm = Url::parse(challenge.parameter("realm")?).ok()?;
        realm.host_str()?;
        let service = challenge.parameter("service").map(str::to_owned);
        Some((
            Wanted::Bearer { realm, service },
            challenge.parameter("scope"),
        ))
    });
    bearer.or_else(|| {
        challenges
            .iter()
            .any(|challenge| challenge.scheme == "basic")
            .then_some((Wanted::Basic, None))
    })
}

fn refuse_cleartext(url: &Url) -> Result<()> {
    if url.scheme() == "https" || is_loopback(url) {
        return Ok(());
    }
    Err(Error::Insecure {
        url: SafeUrl::of(url),
        reason: "credentials are not sent over plain HTTP to another machine",
    })
}

fn basic(username: &str, password: &Secret) -> HeaderValue {
    let pair = format!("{username}:{}", password.expose());
    let text = format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    );
    let mut value =
        HeaderValue::from_str(&text).expect("base64 holds nothing that a header may not");
    value.set_sensitive(true);
    value
}

fn bearer(base: &Url, token: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
        Error::BadAnswer {
            url: SafeUrl::of(base),
            reason: "the token holds characters that no header can carry".into(),
        }
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// How the certificate of a token service is checked: as the registry's only where it is the same host.
fn verify_for(asking: &Asking<'_>, realm: &Url) -> Verify {
    if asking.insecure && realm.host_str() == asking.base.host_str() {
        Verify::No
    } else {
        Verify::Yes
    }
}
