//! Tags, deletion, and whether a login works.

use reqwest::Method;
use reqwest::Url;
use wythe_layers::spec::{Digest, Reference};

use crate::auth::Scopes;
use crate::client::{Client, api};
use crate::error::{Error, Result};
use crate::http::Request;
use crate::pull::{Which, which};

/// Largest page of tags read, in bytes.
const MAX_PAGE_BYTES: u64 = 8 << 20;
/// Most tags listed: a server that invents pages for ever ends here.
const MAX_TAGS: usize = 1_000_000;

impl Client {
    /// All tags of a reference's repository, as the registry orders them.
    ///
    /// # Errors
    /// When the repository does not exist, or an answer makes no sense.
    pub fn list_tags(&self, reference: &Reference) -> Result<Vec<String>> {
        #[derive(serde::Deserialize)]
        struct Page {
            // Registries answer `null` when the last tag was deleted.
            tags: Option<Vec<String>>,
        }
        let endpoint = self.inner.options.registries.push_endpoint(reference)?;
        let base = self.base(&endpoint)?;
        let mut url = api(&base, &["v2", &endpoint.repository, "tags", "list"])?;
        let scopes = Scopes::pull(&endpoint.repository);
        let what = format!("tags of {}", endpoint.repository);
        let mut tags = Vec::new();
        loop {
            let request = Request::new(Method::GET, url.clone());
            let response = self.call(&endpoint, &scopes, &request)?;
            if response.status != 200 {
                return Err(self.refuse(&endpoint, response, &Method::GET, what));
            }
            let next = response.header("link").and_then(|link| next(link, &url));
            let safe_url = response.safe_url();
            let bytes = response.read_document(&what, MAX_PAGE_BYTES)?;
            let page: Page = serde_json::from_slice(&bytes).map_err(|_| Error::BadAnswer {
                url: safe_url.clone(),
                reason: "it is not a list of tags".into(),
            })?;
            let page = page.tags.unwrap_or_default();
            let empty = page.is_empty();
            tags.extend(page);
            match next {
                Some(next) if !empty && next != url && next.origin() == base.origin() => url = next,
                _ => return Ok(tags),
            }
            if tags.len() > MAX_TAGS {
                return Err(Error::BadAnswer {
                    url: safe_url,
                    reason: format!("more than {MAX_TAGS} tags"),
                });
            }
        }
    }

    /// Deletes the manifest that a reference names, and with it all its tags; what was deleted.
    ///
    /// # Errors
    /// When there is none, or the registry does not allow it.
    pub fn delete(&self, reference: &Reference) -> Result<Digest> {
        let endpoint = self.inner.options.registries.push_endpoint(reference)?;
        let what = format!("manifest {} in {}", which(reference), endpoint.repository);
        let digest = match which(reference) {
            Which::Digest(digest) => digest.clone(),
            tag @ Which::Tag(_) => match self.head_manifest(&endpoint, tag)? {
                Some(digest) => digest,
                None => self.fetch_manifest(&endpoint, tag, None)?.descriptor.digest,
            },
        };
        let base = self.base(&endpoint)?;
        let parts = ["v2", &endpoint.repository, "manifests", &digest.to_string()];
        let request = Request::new(Method::DELETE, api(&base, &parts)?);
        let scopes = Scopes::delete(&endpoint.repository);
        let response = self.call(&endpoint, &scopes, &request)?;
        match response.status {
            200..=204 => Ok(digest),
            _ => Err(self.refuse(&endpoint, response, &Method::DELETE, what)),
        }
    }

    /// Whether a registry (`host[:port]`) answers and accepts the credentials we have for it.
    ///
    /// # Errors
    /// [`Error::Unauthorized`] (or the token service's error) when it does not.
    pub fn check_login(&self, registry: &str) -> Result<()> {
        let endpoint = self.inner.options.registries.host_endpoint(registry);
        let base = self.base(&endpoint)?;
        let request = Request::new(Method::GET, api(&base, &["v2", ""])?);
        let response = self.call(&endpoint, &Scopes::default(), &request)?;
        match response.status {
            200..=299 => Ok(()),
            404 => Err(response.bad("this is not a registry")),
            _ => Err(self.refuse(&endpoint, response, &Method::GET, "access")),
        }
    }
}

/// The target of `Link: <…>; rel="next"` (RFC 8288).
fn next(link: &str, base: &Url) -> Option<Url> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| {
        let parameter = parameter.trim().to_ascii_lowercase();
        parameter == "rel=next" || parameter == "rel=\"next\""
    });
    is_next.then(|| base.join(target).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        let base = Url::parse("http://h:1/v2/a/tags/list").unwrap();
        let found = |link| next(link, &base).map(|url| url.to_string());
        assert_eq!(
            found("</v2/a/tags/list?n=2&last=b>; rel=\"next\"").as_deref(),
            Some("http://h:1/v2/a/tags/list?n=2&last=b")
        );
        assert_eq!(found("</x>; rel=prev"), None);
        assert_eq!(found("/x; rel=next"), None);
        assert_eq!(found("<"), None);
    }
}
