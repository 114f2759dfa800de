//! Which redirects are followed, and with what.
//!
//! Never from https to http; never with credentials to another origin; a plain-HTTP answer of this
//! machine leads only to this machine or to https.

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Url};

use crate::error::{Error, Result};
use crate::http::{Http, Request, Response, Verify, is_loopback};
use crate::secret::SafeUrl;

/// Redirects in a row; browsers and Go stop at 10 too.
const MAX_REDIRECTS: u32 = 10;

/// Where a request belongs: who may see its credentials, and how strictly it is guarded.
#[derive(Debug)]
pub(crate) struct Home<'a> {
    pub(crate) base: &'a Url,
    pub(crate) insecure: bool,
}

impl Home<'_> {
    /// Same scheme, host and port.
    pub(crate) fn owns(&self, url: &Url) -> bool {
        self.base.origin() == url.origin()
    }

    fn verify(&self, url: &Url) -> Verify {
        if self.insecure && self.base.host_str() == url.host_str() {
            Verify::No
        } else {
            Verify::Yes
        }
    }

    /// Whether a URL that an answer names may be asked at all.
    pub(crate) fn check(&self, url: &Url) -> Result<()> {
        let refuse = |reason| {
            Err(Error::Insecure {
                url: SafeUrl::of(url),
                reason,
            })
        };
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.base.scheme() == "https" => {
                refuse("a registry on https may not send us to plain http")
            }
            "http" if self.insecure || is_loopback(url) => Ok(()),
            "http" => refuse("plain http is for this machine and for registries marked insecure"),
            _ => refuse("it is neither http nor https"),
        }
    }
}

/// Sends a request and follows redirects. `authorization` goes to the home origin only.
pub(crate) fn follow(
    http: &Http,
    home: &Home<'_>,
    request: &Request<'_>,
    authorization: Option<&HeaderValue>,
) -> Result<Response> {
    let mut request = request.clone();
    for _ in 0..=MAX_REDIRECTS {
        let own = home.owns(&request.url);
        let response = http.send(
            &request,
            authorization.filter(|_| own),
            home.verify(&request.url),
        )?;
        let Some(target) = target(&response, &request.method)? else {
            return Ok(response);
        };
        home.check(&target)?;
        tracing::debug!(to = %SafeUrl::of(&target), "redirected");
        request.url = target;
    }
    Err(Error::BadAnswer {
        url: SafeUrl::of(&request.url),
        reason: format!("more than {MAX_REDIRECTS} redirects"),
    })
}

/// Where an answer redirects this method to; `None` when the answer is final.
fn target(response: &Response, method: &Method) -> Result<Option<Url>> {
    let reading = *method == Method::GET || *method == Method::HEAD;
    let follows = match response.status {
        301..=303 => reading,
        // Method and body stay as they are.
        307 | 308 => true,
        _ => false,
    };
    if !follows {
        return Ok(None);
    }
    location(&response.headers, &response.url)
        .map(Some)
        .ok_or_else(|| response.bad("a redirect without a usable Location"))
}

/// A `Location`, relative ones resolved. User and password in it are not taken over.
pub(crate) fn location(headers: &HeaderMap, base: &Url) -> Option<Url> {
    let text = headers.get(reqwest::header::LOCATION)?.to_str().ok()?;
    let mut url = base.join(text).ok()?;
    url.host_str()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_fragment(None);
    Some(url)
}
