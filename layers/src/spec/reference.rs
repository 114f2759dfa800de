//! Image references: where an image is and which one is meant.
//!
//! The grammar is Docker's (distribution `reference` package), with its normal form:
//! `ubuntu` is `docker.io/library/ubuntu:latest`.

use std::fmt;
use std::str::FromStr;

use super::{Digest, SpecError};

/// The registry of a reference that names none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of a reference that has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";
/// Longest repository name, in bytes, registry included (distribution `reference`).
const MAX_NAME_BYTES: usize = 255;
/// Longest tag, in bytes (distribution-spec §Pulling manifests).
const MAX_TAG_BYTES: usize = 128;

/// A normalised image reference.
///
/// ```
/// use wythe_layers::spec::Reference;
/// let reference: Reference = "ubuntu".parse()?;
/// assert_eq!(reference.to_string(), "docker.io/library/ubuntu:latest");
/// assert_eq!(reference.familiar(), "ubuntu:latest");
/// # Ok::<(), wythe_layers::spec::SpecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port of the registry, e.g. `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, e.g. `library/ubuntu`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` if neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest; where both are given it decides.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository, by another digest and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository, by another tag and no digest.
    ///
    /// # Errors
    /// [`SpecError::Reference`] when `tag` is not a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, SpecError> {
        check_tag(tag).map_err(|reason| refuse(tag, reason))?;
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The short form people type: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else {
            return full;
        };
        let rest = match rest.strip_prefix("library/") {
            Some(official) if !official.contains('/') => official,
            _ => rest,
        };
        // `localhost/x` cannot lose its registry: it would be read as one.
        rest.to_owned()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        parse(text).map_err(|reason| refuse(text, reason))
    }
}

fn refuse(text: &str, reason: &'static str) -> SpecError {
    SpecError::Reference {
        text: text.chars().take(300).collect(),
        reason,
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    if text.is_empty() {
        return Err("it is empty");
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse()
                .map_err(|_| "what follows the @ is not a digest")?;
            (rest, Some(digest))
        }
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    let (registry, path) = split_registry(name);
    let registry = match registry {
        Some("index.docker.io") | None => DEFAULT_REGISTRY.to_owned(),
        Some(host) => {
            check_host(host)?;
            host.to_ascii_lowercase()
        }
    };
    check_path(path)?;
    if digest.is_none()
        && tag.is_none()
        && path.len() == 64
        && path.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Err("64 hexadecimal digits are an image ID, not a name");
    }
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("library/{path}")
    } else {
        path.to_owned()
    };
    if registry.len() + 1 + repository.len() > MAX_NAME_BYTES {
        return Err("the name is longer than 255 bytes");
    }
    let tag = match (tag, &digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (None, Some(_)) => None,
    };
    Ok(Reference {
        registry,
        repository,
        tag,
        digest,
    })
}

/// A colon after the last slash, and not inside an IPv6 host, starts the tag.
fn split_tag(rest: &str) -> (&str, Option<&str>) {
    let last_part = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (_, tail) = rest.split_at(last_part);
    match tail.rfind(':') {
        Some(colon) if !tail.contains(']') => {
            let (name, tag) = rest.split_at(last_part + colon);
            (name, tag.strip_prefix(':'))
        }
        _ => (rest, None),
    }
}

/// The first part is a registry when it could not be part of a repository of Docker Hub.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, path))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (Some(first), path)
        }
        _ => (None, name),
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let port_is_valid = |port: &str| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    };
    if let Some(rest) = host.strip_prefix('[') {
        let (address, port) = rest
            .split_once(']')
            .ok_or("the IPv6 address has no closing bracket")?;
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("what stands in brackets is not an IPv6 address");
        }
        return match port.strip_prefix(':') {
            Some(port) if port_is_valid(port) => Ok(()),
            None if port.is_empty() => Ok(()),
            _ => Err("the registry's port is not a number from 0 to 65535"),
        };
    }
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    if port.is_some_and(|port| !port_is_valid(port)) {
        return Err("the registry's port is not a number from 0 to 65535");
    }
    let label_is_valid = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if name.split('.').all(label_is_valid) {
        Ok(())
    } else {
        Err("the registry is not a host name")
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` parts with slashes between them.
fn check_path(path: &str) -> Result<(), &'static str> {
    for part in path.split('/') {
        if part.is_empty() {
            return Err("a part of the repository name is empty");
        }
        if part.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("the repository name must be lower case");
        }
        let mut separators = "";
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
                .unwrap_or(rest.len());
            if end == 0 && (separators.is_empty() && rest.len() == part.len()) {
                return Err("a part of the repository name must start with a letter or a digit");
            }
            let (_, tail) = rest.split_at(end);
            let start = tail
                .find(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                .unwrap_or(tail.len());
            (separators, rest) = tail.split_at(start);
            let dashes = !separators.is_empty() && separators.bytes().all(|b| b == b'-');
            if !(matches!(separators, "" | "." | "_" | "__") || dashes) {
                return Err(
                    "the repository name has a character or a run of separators that is not allowed",
                );
            }
        }
        if !separators.is_empty() {
            return Err("a part of the repository name must end with a letter or a digit");
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match tag.as_bytes() {
        [] => Err("the tag is empty"),
        bytes if bytes.len() > MAX_TAG_BYTES => Err("the tag is longer than 128 bytes"),
        [first, ..] if !word(*first) => {
            Err("the tag must start with a letter, a digit or an underscore")
        }
        bytes if !bytes.iter().all(|&b| word(b) || b == b'.' || b == b'-') => {
            Err("the tag has a character other than letters, digits, _ . and -")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_have_one_normal_form() {
        let with_digest = format!("ubuntu@sha256:{HEX}");
        let both = format!("localhost:5000/a/b:v1@sha256:{HEX}");
        for (text, normal) in [
            ("ubuntu", "docker.io/library/ubuntu:latest"),
            ("ubuntu:24.04", "docker.io/library/ubuntu:24.04"),
            ("me/app", "docker.io/me/app:latest"),
            ("docker.io/ubuntu", "docker.io/library/ubuntu:latest"),
            (
                "index.docker.io/library/ubuntu",
                "docker.io/library/ubuntu:latest",
            ),
            ("ghcr.io/a/b-c_d.e:1", "ghcr.io/a/b-c_d.e:1"),
            ("localhost/a", "localhost/a:latest"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("[::1]:5000/a/b:t", "[::1]:5000/a/b:t"),
            ("[fe80::1]/a", "[fe80::1]/a:latest"),
            ("Registry.Example/a", "registry.example/a:latest"),
            ("a__b/c---d", "docker.io/a__b/c---d:latest"),
            ("x:_t", "docker.io/library/x:_t"),
            (both.as_str(), both.as_str()),
            (
                with_digest.as_str(),
                &format!("docker.io/library/{with_digest}"),
            ),
        ] {
            let reference: Reference = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), normal, "{text}");
            assert_eq!(
                reference.to_string().parse::<Reference>().unwrap(),
                reference,
                "{text}"
            );
            assert_eq!(
                reference.familiar().parse::<Reference>().unwrap(),
                reference,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = format!("ghcr.io/{}", "a/".repeat(150) + "a");
        for bad in [
            "",
            ":",
            "/",
            "a/",
            "/a",
            "a//b",
            "Ubuntu",
            "a/B",
            "a:b:c",
            "a:",
            "a@",
            "a@sha256:12",
            "a:-x",
            "a:.x",
            "a b",
            "-a",
            "a-",
            "a_",
            "a___b",
            "a..b",
            "a._b",
            "localhost:99999/a",
            "localhost:x/a",
            "[::1/a",
            "[zz]:1/a",
            "http://a/b",
            "a:t/../b",
            "../a",
            "a/../b",
            "a\0b",
            "ü",
            "ghcr.io/",
            "-x.io/a",
            HEX,
            &long_tag,
            &long_name,
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
    }
}
