//! `ADD https://…`: fetched to a nameless file, hashed, and then a source like any other. Of a
//! repository the commit is found out here, and no more.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use wythe_layers::spec::{Algorithm, Digest, Hasher};
use wythe_layers::tree::{Entry, EntryKind, Timestamp};

use super::session::Mode;
use super::stage::Worker;
use crate::cache::RemoteRecord;
use crate::copy::{Found, Source};
use crate::path::clean_in_root;
use crate::plan::CopyStep;
use crate::view::Content;
use crate::{BoxError, Error, RemoteAnswer, RemoteRequest, Result, http_authorization};

/// Dockerfile reference §ADD: remote files get this mode.
const REMOTE_MODE: u32 = 0o600;
/// What a file is called whose address ends with a slash.
const UNNAMED: &str = "__unnamed__";
const BUFFER_BYTES: usize = 128 << 10;

/// Whether what is known of a file will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Where the server says that nothing changed, the digest is enough: for a cache key.
    Enough,
    /// The content is needed.
    TooLittle,
}

/// What came of the remote files among the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// All are here.
    Everything,
    /// Of some only the digest is known.
    DigestsOnly,
    /// Nothing was asked: a probe asks no network.
    Nothing,
}

/// Fetches the remote files among `sources`.
pub(super) fn get_all(
    worker: &Worker<'_>,
    step: &CopyStep,
    sources: &mut [Source],
    known: Known,
) -> Result<Got> {
    let mut got = Got::Everything;
    for source in sources {
        if let Source::Git(git) = source {
            let session = worker.session;
            git.commit = match session.mode {
                Mode::Build => Some(
                    session
                        .repositories
                        .find_commit(&git.place, &session.cancel)?,
                ),
                Mode::Probe => git
                    .place
                    .known_commit()
                    .map_err(|error| git.place.error(error))?,
            };
            if git.commit.is_none() {
                return Ok(Got::Nothing);
            }
            continue;
        }
        let Source::Http { url, unpack } = source else {
            continue;
        };
        if worker.session.mode == Mode::Probe {
            return Ok(Got::Nothing);
        }
        let fetched = get(worker, step, url, *unpack, known)?;
        if let Source::Tree { top, .. } = &fetched
            && matches!(top.content, Content::None)
        {
            got = Got::DigestsOnly;
        }
        *source = fetched;
    }
    Ok(got)
}

fn get(
    worker: &Worker<'_>,
    step: &CopyStep,
    url: &str,
    unpack: bool,
    known: Known,
) -> Result<Source> {
    let Some(remote) = &worker.session.builder.remote else {
        return Err(Error::NoRemote {
            url: url.to_owned(),
        });
    };
    let failed = |source: BoxError| Error::Remote {
        url: url.to_owned(),
        source,
    };
    let index = &worker.session.index;
    let record = match known {
        Known::Enough => index.remote_file(url),
        Known::TooLittle => None,
    };
    let wanted = RemoteRequest {
        url,
        authorization: http_authorization(url, &worker.session.request.secrets),
        etag: record.as_ref().and_then(|record| record.etag.as_deref()),
        last_modified: record
            .as_ref()
            .and_then(|record| record.last_modified.as_deref()),
    };
    let fetched = match (remote.open_http(&wanted).map_err(failed)?, record) {
        (RemoteAnswer::Unchanged, Some(record)) => Fetched {
            content: Content::None,
            record,
            modified: None,
        },
        (RemoteAnswer::Unchanged, None) => {
            return Err(failed("the server says that nothing changed".into()));
        }
        (RemoteAnswer::File(mut answer), _) => {
            let (file, length, digest) = spool(worker, &mut answer.body, &failed)?;
            let record = RemoteRecord {
                url: Digest::of(url.as_bytes()),
                etag: answer.etag,
                last_modified: answer.last_modified,
                name: file_name(url),
                digest,
                size: length,
            };
            index.put_remote_file(url, &record)?;
            Fetched {
                content: Content::Part {
                    file: Arc::new(file),
                    offset: 0,
                    length,
                },
                record,
                modified: answer.modified,
            }
        }
    };
    let digest = fetched.record.digest;
    if let Some(expected) = step
        .checksum
        .as_ref()
        .filter(|sum| **sum != digest.to_string())
    {
        return Err(Error::ChecksumMismatch {
            url: url.to_owned(),
            expected: expected.clone(),
            actual: digest.to_string(),
        });
    }
    let name = file_name(url);
    let path = clean_in_root(name.as_bytes()).unwrap_or_default();
    let mut entry = Entry::new(
        path,
        EntryKind::File {
            size: fetched.record.size,
        },
    );
    entry.mode = REMOTE_MODE;
    entry.content_digest = Some(digest);
    entry.mtime = fetched.modified.unwrap_or(worker.session.made_at());
    Ok(Source::Tree {
        name: name.into_bytes(),
        top: Box::new(Found {
            entry,
            content: fetched.content,
            group: None,
        }),
        below: Vec::new(),
        unpack,
    })
}

/// A file, or what is known of it.
struct Fetched {
    content: Content,
    record: RemoteRecord,
    modified: Option<Timestamp>,
}

/// Reads a body into a nameless file.
fn spool(
    worker: &Worker<'_>,
    body: &mut dyn Read,
    failed: &dyn Fn(BoxError) -> Error,
) -> Result<(File, u64, Digest)> {
    let scratch = worker.session.scratch()?;
    let mut file =
        tempfile::tempfile_in(&scratch).map_err(Error::io("create a file in", &scratch))?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut length = 0_u64;
    loop {
        worker.session.check_cancelled()?;
        let count = body
            .read(&mut buffer)
            .map_err(|error| failed(error.into()))?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok((file, length, hasher.finish()));
        }
        hasher.update(bytes);
        file.write_all(bytes)
            .map_err(Error::io("write to", &scratch))?;
        length += bytes.len() as u64;
    }
}

/// The last part of the address, decoded; never a path. What the server calls the file does not
/// count, nor where it sends us.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path);
    let decoded = percent_decoded(path).unwrap_or_else(|| path.to_owned());
    match decoded.trim_end_matches('/').rsplit('/').next() {
        None | Some("" | "." | "..") => UNNAMED.to_owned(),
        Some(name) => name.to_owned(),
    }
}

/// `None` when that is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn names_come_from_addresses_and_are_never_paths() {
        for (url, expected) in [
            ("https://x.example/a/b.tgz?x=1#y", "b.tgz"),
            ("https://x.example/a/", "a"),
            ("https://x.example/a//", "a"),
            ("https://x.example/", "__unnamed__"),
            ("https://x.example", "__unnamed__"),
            ("https://x.example?a/b", "__unnamed__"),
            ("https://x.example/a/..", "__unnamed__"),
            ("https://x.example/a%20b", "a b"),
            ("https://x.example/..%2f..%2Fpasswd", "passwd"),
            ("https://x.example/%2e%2e", "__unnamed__"),
            ("https://x.example/a%zz", "a%zz"),
            ("https://x.example/%ff", "%ff"),
            ("https://x.example/a%00", "a%00"),
            ("https://x.example/a%2", "a%2"),
        ] {
            assert_eq!(file_name(url), expected, "{url}");
        }
    }
}
