//! The text of an address: what belongs to the repository, what to `?…` and what to `#…`.

use std::collections::BTreeMap;

use super::{GitPlace, GitPlaceError, GitRepository, GitTimes};

/// Refs that git itself would not take for a ref (git-check-ref-format(1)), and options.
const BAD_IN_REF: &str = " ~^:?*[\\";

pub(super) fn parse(text: &str) -> Result<Option<GitPlace>, GitPlaceError> {
    if text.chars().any(|c| c.is_ascii_control()) {
        return Ok(None);
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return match scp(text) {
            Some(split) => place(split).map(Some),
            None => Ok(None),
        };
    };
    match scheme.to_ascii_lowercase().as_str() {
        "git" | "ssh" => match split(text) {
            Some(split) => place(split).map(Some),
            None => Ok(None),
        },
        "http" | "https" => match split(text) {
            Some(split) if decode_lossy(&split.repository).ends_with(b".git") => {
                place(split).map(Some)
            }
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// One of http, whatever its path ends with.
pub(super) fn parse_http(text: &str) -> Result<Option<GitPlace>, GitPlaceError> {
    match split(text) {
        Some(split) if !text.chars().any(|c| c.is_ascii_control()) => place(split).map(Some),
        _ => Ok(None),
    }
}

struct Split {
    repository: String,
    query: String,
    fragment: String,
}

/// `None` where it cannot be an address.
fn split(text: &str) -> Option<Split> {
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (repository, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = repository.split_once("://")?;
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains([' ', '"', '<', '>', '\\']) {
        return None;
    }
    Some(Split {
        repository: format!(
            "{}://{}",
            scheme.to_ascii_lowercase(),
            rest.replace(' ', "%20")
        ),
        query: query.to_owned(),
        fragment: String::from_utf8(decode(fragment)?).ok()?,
    })
}

/// `user@host:path?query#fragment`: nothing is escaped but in the query.
fn scp(text: &str) -> Option<Split> {
    let is_user = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let (user, rest) = text.split_once('@')?;
    let (host, rest) = rest.split_once(':')?;
    if user.is_empty()
        || !user.chars().all(is_user)
        || host.is_empty()
        || !host.chars().all(is_host)
    {
        return None;
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Some(Split {
        repository: format!("{user}@{host}:{path}"),
        query: query.to_owned(),
        fragment: fragment.to_owned(),
    })
}

fn place(split: Split) -> Result<GitPlace, GitPlaceError> {
    let (name, directory) = split
        .fragment
        .split_once(':')
        .unwrap_or((&split.fragment, ""));
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut place = GitPlace {
        repository: GitRepository::new(split.repository),
        name: given(name),
        directory: given(directory),
        checksum: None,
        keep_git_dir: None,
        submodules: true,
        times: GitTimes::default(),
        fetch_by_commit: false,
    };
    let mut named = Named::default();
    for (key, value) in pairs(&split.query)? {
        set(&mut place, &mut named, &key, value)?;
    }
    if let Some(tag) = named.tag.take() {
        agree(&mut place.name, "ref", prefixed("refs/tags/", tag))?;
        if named.branch.is_some() {
            return Err(GitPlaceError::BranchAndTag);
        }
    }
    if let Some(branch) = named.branch {
        agree(&mut place.name, "ref", prefixed("refs/heads/", branch))?;
    }
    if let Some(name) = &place.name {
        check_ref(name)?;
    }
    Ok(place)
}

#[derive(Default)]
struct Named {
    tag: Option<String>,
    branch: Option<String>,
}

fn set(
    place: &mut GitPlace,
    named: &mut Named,
    key: &str,
    value: String,
) -> Result<(), GitPlaceError> {
    match key {
        "ref" => return agree(&mut place.name, "ref", value),
        "subdir" => return agree(&mut place.directory, "subdir", value),
        "tag" => named.tag = Some(value),
        "branch" => named.branch = Some(value),
        "commit" | "checksum" => place.checksum = Some(value),
        "keep-git-dir" => place.keep_git_dir = Some(boolean("keep-git-dir", value)?),
        "submodules" => place.submodules = boolean("submodules", value)?,
        "fetch-by-commit" => place.fetch_by_commit = boolean("fetch-by-commit", value)?,
        "mtime" => {
            place.times = match value.as_str() {
                "checkout" => GitTimes::Checkout,
                "commit" => GitTimes::Commit,
                _ => {
                    return Err(GitPlaceError::BadValue {
                        key: "mtime",
                        value,
                    });
                }
            }
        }
        _ => {
            let key = key.to_owned();
            return Err(GitPlaceError::UnknownKey { key });
        }
    }
    Ok(())
}

/// Sorted, each once; only switches may have no value.
fn pairs(query: &str) -> Result<BTreeMap<String, String>, GitPlaceError> {
    let mut pairs = BTreeMap::new();
    for part in query.split('&') {
        // What is no pair counts for nothing.
        if part.is_empty() || part.contains(';') {
            continue;
        }
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let text = |text: &str| String::from_utf8(decode(&text.replace('+', " "))?).ok();
        let (Some(key), Some(value)) = (text(key), text(value)) else {
            continue;
        };
        let is_switch = matches!(
            key.as_str(),
            "submodules" | "keep-git-dir" | "fetch-by-commit"
        );
        if value.is_empty() && !is_switch {
            return Err(GitPlaceError::NoValue { key });
        }
        if pairs.contains_key(&key) {
            return Err(GitPlaceError::SeveralValues { key });
        }
        pairs.insert(key, value);
    }
    Ok(pairs)
}

fn agree(
    known: &mut Option<String>,
    what: &'static str,
    value: String,
) -> Result<(), GitPlaceError> {
    match known {
        Some(first) if *first != value => Err(GitPlaceError::Conflict {
            what,
            first: first.clone(),
            second: value,
        }),
        _ => {
            *known = Some(value);
            Ok(())
        }
    }
}

fn prefixed(prefix: &str, name: String) -> String {
    if name.starts_with(prefix) {
        name
    } else {
        format!("{prefix}{name}")
    }
}

fn boolean(key: &'static str, value: String) -> Result<bool, GitPlaceError> {
    match value.as_str() {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(GitPlaceError::BadValue { key, value }),
    }
}

/// Refs come out of Dockerfiles: none may be an option, or a pattern that finds another.
fn check_ref(name: &str) -> Result<(), GitPlaceError> {
    let bad = name.is_empty()
        || name.starts_with('-')
        || name.starts_with('/')
        || name.ends_with('/')
        || name.contains("..")
        || name
            .chars()
            .any(|c| c.is_control() || BAD_IN_REF.contains(c));
    if bad {
        let name = name.to_owned();
        return Err(GitPlaceError::BadRef { name });
    }
    Ok(())
}

/// `%41` is `A`; `None` for what is no such escape.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(out)
}

/// The same, where what is no escape stays.
pub(super) fn decode_lossy(text: &str) -> Vec<u8> {
    decode(text).unwrap_or_else(|| text.as_bytes().to_vec())
}
