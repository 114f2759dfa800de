//! `ADD https://…`: fetched to a nameless file, hashed, and then a source like any other.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

use wythe_layers::spec::{Algorithm, Digest, Hasher};
use wythe_layers::tree::{Entry, EntryKind};

use super::session::Mode;
use super::stage::Worker;
use crate::copy::{Found, Source};
use crate::path::clean_in_root;
use crate::plan::CopyStep;
use crate::view::Content;
use crate::{BoxError, Error, Result};

/// Dockerfile reference §ADD: remote files get this mode.
const REMOTE_MODE: u32 = 0o600;
/// What a file is called whose address ends with a slash.
const UNNAMED: &str = "__unnamed__";
const BUFFER_BYTES: usize = 128 << 10;

/// Fetches the remote files among `sources`; `false` in a probe, which asks no network.
pub(super) fn get_all(
    worker: &Worker<'_>,
    step: &CopyStep,
    sources: &mut [Source],
) -> Result<bool> {
    for source in sources {
        let Source::Http { url, unpack } = source else {
            continue;
        };
        if worker.session.mode == Mode::Probe {
            return Ok(false);
        }
        *source = get(worker, step, url, *unpack)?;
    }
    Ok(true)
}

fn get(worker: &Worker<'_>, step: &CopyStep, url: &str, unpack: bool) -> Result<Source> {
    let Some(remote) = &worker.session.builder.remote else {
        return Err(Error::NoRemote {
            url: url.to_owned(),
        });
    };
    let failed = |source: BoxError| Error::Remote {
        url: url.to_owned(),
        source,
    };
    let mut answer = remote.open_http(url).map_err(failed)?;
    let (file, length, digest) = spool(worker, &mut answer.body, &failed)?;
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
    let name = file_name(answer.name.as_deref(), url);
    let path = clean_in_root(name.as_bytes()).unwrap_or_default();
    let mut entry = Entry::new(path, EntryKind::File { size: length });
    entry.mode = REMOTE_MODE;
    entry.content_digest = Some(digest);
    entry.mtime = answer.modified.unwrap_or(worker.session.clamp);
    Ok(Source::Tree {
        name: name.into_bytes(),
        top: Found {
            entry,
            content: Content::Part {
                file: Arc::new(file),
                offset: 0,
                length,
            },
            group: None,
        },
        below: Vec::new(),
        unpack,
    })
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

/// The last part of what the server or the address says; never a path.
fn file_name(given: Option<&str>, url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let from_url = path.split_once('/').map_or("", |(_, path)| path);
    let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    let name = given.map(last).unwrap_or_else(|| last(from_url));
    if name.is_empty() || name == "." || name == ".." {
        UNNAMED.to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn names_come_from_addresses_and_are_never_paths() {
        for (given, url, expected) in [
            (None, "https://x.example/a/b.tgz?x=1#y", "b.tgz"),
            (None, "https://x.example/a/", "__unnamed__"),
            (None, "https://x.example", "__unnamed__"),
            (Some("../../etc/passwd"), "https://x.example/a", "passwd"),
            (Some(".."), "https://x.example/a", "__unnamed__"),
        ] {
            assert_eq!(file_name(given, url), expected, "{url}");
        }
    }
}
