//! Getting a bearer token (distribution `auth/token`, `auth/oauth`).

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};

use super::{Asking, basic, refuse_cleartext, verify_for};
use crate::credentials::Credential;
use crate::error::{Error, Result, is_transient_status};
use crate::http::{Request, RequestBody, Response, is_loopback};
use crate::retry;
use crate::secret::{SafeUrl, Secret};

/// Largest token answer, in bytes; real ones have some 4 KiB.
const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// How long a token is good for when the service does not say: the specification's default.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is not used in its last moments: the request has to arrive too.
const MARGIN: Duration = Duration::from_secs(10);
/// How we name ourselves to token services.
const CLIENT_ID: &str = "wythe";

/// What a token was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TokenKey {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    pub(super) scopes: Vec<String>,
}

/// A token and when to ask for a new one.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) secret: Secret,
    expires: Instant,
}

impl Token {
    pub(super) fn is_fresh(&self) -> bool {
        Instant::now() < self.expires
    }
}

/// Asks the token service.
pub(super) fn request(asking: &Asking<'_>, key: &TokenKey) -> Result<Token> {
    check_realm(asking, &key.realm)?;
    let request = match asking.credential {
        Some(Credential::IdentityToken(token)) => refresh_request(key, token),
        _ => plain_request(asking, key),
    };
    let authorization = match asking.credential {
        Some(Credential::Basic { username, password }) => Some(basic(username, password)),
        _ => None,
    };
    if asking.credential.is_some() {
        refuse_cleartext(&key.realm)?;
    }
    let verify = verify_for(asking, &key.realm);
    let response = retry::run(asking.retry, || {
        let response = asking.http.send(&request, authorization.as_ref(), verify)?;
        if is_transient_status(response.status) {
            return Err(response.into_error(&request.method));
        }
        Ok(response)
    })?;
    read_token(asking, response, &request.method)
}

/// A realm in the clear is believed only on this machine, or from an insecure registry that gets
/// no credentials; a registry elsewhere may not send us to ports of this machine.
fn check_realm(asking: &Asking<'_>, realm: &Url) -> Result<()> {
    let refuse = |reason| {
        Err(Error::Insecure {
            url: SafeUrl::of(realm),
            reason,
        })
    };
    let tls = asking.base.scheme() == "https";
    match realm.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(realm) && is_loopback(asking.base) && !tls => Ok(()),
        "http" if asking.insecure && asking.credential.is_none() => Ok(()),
        "http" => refuse("a token service must be reached over https"),
        _ => refuse("a token service must have an http or https address"),
    }
}

fn plain_request<'a>(asking: &Asking<'_>, key: &TokenKey) -> Request<'a> {
    let mut url = key.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &key.service {
            query.append_pair("service", service);
        }
        for scope in &key.scopes {
            query.append_pair("scope", scope);
        }
        if let Some(Credential::Basic { username, .. }) = asking.credential {
            query.append_pair("account", username);
        }
        query.append_pair("client_id", CLIENT_ID);
    }
    Request::new(Method::GET, url)
}

/// OAuth 2 with the identity token that a login left (distribution `auth/oauth`).
fn refresh_request<'a>(key: &TokenKey, token: &Secret) -> Request<'a> {
    // Only the encoder is wanted; the URL around it is thrown away.
    let mut form = key.realm.clone();
    form.set_query(None);
    {
        let mut pairs = form.query_pairs_mut();
        pairs
            .append_pair("grant_type", "refresh_token")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("refresh_token", token.expose())
            .append_pair("scope", &key.scopes.join(" "));
        if let Some(service) = &key.service {
            pairs.append_pair("service", service);
        }
    }
    let body = form.query().unwrap_or_default().to_owned();
    let mut request = Request::new(Method::POST, key.realm.clone()).header(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    request.body = RequestBody::Bytes(Bytes::from(body));
    request
}

fn read_token(asking: &Asking<'_>, response: Response, method: &Method) -> Result<Token> {
    #[derive(serde::Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<f64>,
    }
    match response.status {
        200..=299 => {}
        401 | 403 => {
            let registry = crate::http::host_of(asking.base);
            let messages = match response.into_error(method) {
                Error::Status { messages, .. } => messages,
                _ => Vec::new(),
            };
            return Err(Error::Unauthorized {
                registry,
                presented: asking.credential.is_some(),
                messages,
            });
        }
        _ => return Err(response.into_error(method)),
    }
    let url = response.safe_url();
    let bad = |reason: &str| Error::BadAnswer {
        url: url.clone(),
        reason: reason.into(),
    };
    let bytes = response.read_document("the token", MAX_TOKEN_BYTES)?;
    let answer: Answer =
        serde_json::from_slice(&bytes).map_err(|_| bad("it is not a token answer"))?;
    let token = answer
        .token
        .or(answer.access_token)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| bad("it holds no token"))?;
    let life = answer
        .expires_in
        .filter(|seconds| seconds.is_finite() && *seconds > 0.0)
        .map_or(DEFAULT_LIFE, |seconds| {
            Duration::from_secs_f64(seconds.min(86_400.0))
        });
    Ok(Token {
        secret: Secret::new(token),
        expires: Instant::now() + life.saturating_sub(MARGIN).max(life / 2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Http, HttpOptions};
    use crate::retry::RetryPolicy;

    #[test]
    fn realms_in_the_clear_are_for_this_machine_alone() {
        let http = Http::new(HttpOptions::default());
        let retry = RetryPolicy::default();
        let credential = Credential::IdentityToken(Secret::new("x"));
        for (base, realm, insecure, has_credential, allowed) in [
            (
                "https://r.example/",
                "https://t.example/",
                false,
                true,
                true,
            ),
            (
                "https://r.example/",
                "http://t.example/",
                false,
                false,
                false,
            ),
            (
                "https://r.example/",
                "http://127.0.0.1/",
                false,
                false,
                false,
            ),
            (
                "https://127.0.0.1/",
                "http://127.0.0.1/",
                false,
                false,
                false,
            ),
            (
                "http://127.0.0.1/",
                "http://localhost:1/",
                false,
                true,
                true,
            ),
            (
                "http://127.0.0.1/",
                "http://t.example/",
                false,
                false,
                false,
            ),
            ("http://r.example/", "http://t.example/", true, false, true),
            ("http://r.example/", "http://t.example/", true, true, false),
            ("http://r.example/", "ftp://t.example/", true, false, false),
        ] {
            let base = Url::parse(base).unwrap();
            let asking = Asking {
                http: &http,
                retry: &retry,
                base: &base,
                insecure,
                credential: has_credential.then_some(&credential),
            };
            let result = check_realm(&asking, &Url::parse(realm).unwrap());
            assert_eq!(result.is_ok(), allowed, "{base} {realm}");
        }
    }
}
