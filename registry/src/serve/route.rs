//! From a request's path and query to what is meant.

use hyper::Method;
use wythe_layers::spec::Digest;

use super::answer::{ApiError, Code};
use super::names::Repository;

/// An end-point of distribution-spec §Endpoints, and `_catalog`.
#[derive(Debug)]
pub(super) enum Route {
    Base,
    Catalog,
    Tags(Repository),
    Manifest(Repository, ManifestName),
    /// The repository's name is checked and does not matter: blobs are shared.
    Blob(Digest),
    /// Begins uploads.
    Uploads(Repository),
    Upload(Repository, String),
    Referrers(Repository, Digest),
}

/// The last part of a manifest's path.
#[derive(Debug)]
pub(super) enum ManifestName {
    Tag(String),
    Digest(Digest),
}

impl Route {
    /// Repository names contain slashes, so the path is read from its end.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self, ApiError> {
        let unknown = || ApiError::new(Code::NameUnknown, "there is no such end-point");
        let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
        if rest.is_empty() || rest == "/" {
            return Ok(Self::Base);
        }
        // Decoded part by part: an encoded slash stays within its part and is no name then.
        let parts: Vec<String> = rest
            .split('/')
            .skip(1)
            .map(percent_decode)
            .collect::<Option<_>>()
            .ok_or_else(|| ApiError::new(Code::NameInvalid, "the path is not valid"))?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let repository = |name: &[&str]| Repository::parse(&name.join("/"));
        match parts.as_slice() {
            ["_catalog"] => Ok(Self::Catalog),
            [name @ .., "tags", "list"] => Ok(Self::Tags(repository(name)?)),
            [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
                Ok(Self::Uploads(repository(name)?))
            }
            [name @ .., "blobs", "uploads", id] => {
                Ok(Self::Upload(repository(name)?, (*id).to_owned()))
            }
            [name @ .., "blobs", digest] => {
                repository(name)?;
                parse_digest(digest).map(Self::Blob)
            }
            [name @ .., "referrers", digest] => {
                Ok(Self::Referrers(repository(name)?, parse_digest(digest)?))
            }
            [name @ .., "manifests", last] => {
                let repository = repository(name)?;
                let name = parse_manifest_name(method, &repository, last)?;
                Ok(Self::Manifest(repository, name))
            }
            _ => Err(unknown().with_status(hyper::StatusCode::NOT_FOUND)),
        }
    }

    /// For the `Allow` header of 405.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => "GET, HEAD",
            Self::Manifest(..) => "GET, HEAD, PUT, DELETE",
            Self::Blob(_) => "GET, HEAD, DELETE",
            Self::Uploads(_) => "POST",
            Self::Upload(..) => "GET, PATCH, PUT, DELETE",
        }
    }
}

fn parse_manifest_name(
    method: &Method,
    repository: &Repository,
    text: &str,
) -> Result<ManifestName, ApiError> {
    if text.contains(':') {
        return parse_digest(text).map(ManifestName::Digest);
    }
    if repository.own_tag(text).is_some() {
        return Ok(ManifestName::Tag(text.to_owned()));
    }
    // Who reads only learns that there is none; who writes should learn why.
    Err(if *method == Method::PUT {
        ApiError::new(Code::ManifestInvalid, "the tag is not valid")
    } else {
        ApiError::new(Code::ManifestUnknown, "there is no such manifest")
    })
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse()
        .map_err(|_| ApiError::new(Code::DigestInvalid, "the digest is not valid"))
}

/// The parameters of a query. What is not decodable is dropped, as unknown parameters are.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&');
        let decode = |text: &str| percent_decode(&text.replace('+', " "));
        Self(
            pairs
                .filter_map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    Some((decode(name)?, decode(value)?))
                })
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// `%41` is `A`; `None` for what is not such a text, or not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Route, ApiError> {
        Route::parse(&Method::GET, path)
    }

    #[test]
    fn paths_are_read_from_their_end() {
        let digest = Digest::of(b"");
        for (path, expected) in [
            ("/v2", "Base"),
            ("/v2/", "Base"),
            ("/v2/_catalog", "Catalog"),
            ("/v2/a/tags/list", "Tags a"),
            ("/v2/a/b/c/tags/list", "Tags a/b/c"),
            ("/v2/blobs/uploads/tags/list", "Tags blobs/uploads"),
            ("/v2/a/manifests/v1", "Manifest a"),
            ("/v2/manifests/manifests/v1", "Manifest manifests"),
            ("/v2/a/blobs/uploads/", "Uploads a"),
            ("/v2/a/blobs/uploads", "Uploads a"),
            ("/v2/a/blobs/uploads/17", "Upload a"),
            (&format!("/v2/a/blobs/{digest}"), "Blob"),
            (&format!("/v2/a/blobs/sha256%3A{}", digest.hex()), "Blob"),
            (&format!("/v2/a/referrers/{digest}"), "Referrers a"),
        ] {
            let text = match parse(path).unwrap() {
                Route::Base => "Base".to_owned(),
                Route::Catalog => "Catalog".to_owned(),
                Route::Tags(r) => format!("Tags {}", r.name()),
                Route::Manifest(r, _) => format!("Manifest {}", r.name()),
                Route::Blob(_) => "Blob".to_owned(),
                Route::Uploads(r) => format!("Uploads {}", r.name()),
                Route::Upload(r, _) => format!("Upload {}", r.name()),
                Route::Referrers(r, _) => format!("Referrers {}", r.name()),
            };
            assert_eq!(text, expected, "{path}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for path in [
            "/",
            "/v1/",
            "/v2x/",
            "/v2/a",
            "/v2//tags/list",
            "/v2/tags/list",
            "/v2/../tags/list",
            "/v2/a/../b/tags/list",
            "/v2/a/%2e%2e/tags/list",
            "/v2/a%2f..%2fb/tags/list",
            "/v2/a%00/tags/list",
            "/v2/a%ff/tags/list",
            "/v2/a%4/tags/list",
            "/v2/A/tags/list",
            "/v2/a:b/tags/list",
            "/v2/a@b/tags/list",
            "/v2/a/blobs/sha256:abc",
            "/v2/a/blobs/../../oci-layout",
            "/v2/a/manifests/.hidden",
            "/v2/a/manifests/..",
            "/v2/a/manifests/sha256:abc",
        ] {
            assert!(parse(path).is_err(), "{path}");
        }
        let long = format!("/v2/{}/tags/list", "a".repeat(300));
        assert!(parse(&long).is_err());
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(Some("digest=sha256%3Aab&from=a%2Fb&n=&x=a+b&bad=%zz"));
        assert_eq!(query.get("digest"), Some("sha256:ab"));
        assert_eq!(query.get("from"), Some("a/b"));
        assert_eq!(query.get("n"), Some(""));
        assert_eq!(query.get("x"), Some("a b"));
        assert_eq!(query.get("bad"), None);
    }
}
