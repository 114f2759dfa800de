//! What a `COPY` reads, as input of its cache key.

use std::collections::BTreeMap;
use std::sync::Arc;

use wythe_layers::spec::{Algorithm, Digest, Hasher};
use wythe_layers::tree::{EntryKind, EntryPath};

use super::sources::{Below, Role};
use super::{Found, GitSource, Source};
use crate::cache::KeyBuilder;
use crate::context::Item;
use crate::view::Content;
use crate::{Error, GitTimes, Result};

/// Gives the key everything that was found, and the entries their digests. `false` when more
/// bytes than `limit_bytes` would have to be read for it.
pub(crate) fn inputs(
    sources: &mut [Source],
    key: &mut KeyBuilder,
    jobs: usize,
    limit_bytes: Option<u64>,
) -> Result<bool> {
    if !fill_digests(sources, jobs, limit_bytes)? {
        return Ok(false);
    }
    for source in sources.iter() {
        match source {
            Source::Tree {
                name,
                top,
                below,
                unpack,
            } => {
                key.push("source", String::from_utf8_lossy(name));
                if *unpack {
                    key.push("unpack", "archives");
                }
                let mut groups = BTreeMap::new();
                describe(&EntryPath::ROOT, top, Role::Wanted, &mut groups, key);
                for Below { path, found, role } in below {
                    describe(path, found, *role, &mut groups, key);
                }
            }
            Source::Http { url, .. } => key.push("source", url.as_str()),
            Source::Git(source) => describe_git(source, key),
        }
    }
    Ok(true)
}

/// One line a file: what would change the layer if it changed. Not the time, which is clamped.
fn describe(
    path: &EntryPath,
    found: &Found,
    role: Role,
    groups: &mut BTreeMap<(u64, u64), usize>,
    key: &mut KeyBuilder,
) {
    let entry = &found.entry;
    let what = match &entry.kind {
        EntryKind::Directory => "directory".to_owned(),
        EntryKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
        EntryKind::File { .. } | EntryKind::HardLink { .. } => match &entry.content_digest {
            Some(digest) => digest.to_string(),
            None => "unread".to_owned(),
        },
        EntryKind::Fifo => "named pipe".to_owned(),
        EntryKind::CharDevice { major, minor } => format!("c {major}:{minor}"),
        EntryKind::BlockDevice { major, minor } => format!("b {major}:{minor}"),
        EntryKind::Whiteout | EntryKind::OpaqueDirectory => "mark".to_owned(),
    };
    let mut line = format!(
        "{} {:o} {}:{} {what}",
        escape(path.as_bytes()),
        entry.mode,
        entry.uid,
        entry.gid
    );
    for (name, value) in &entry.xattrs {
        line.push_str(&format!(" {}={}", escape(name), Digest::of(value)));
    }
    if let Some(group) = found.group {
        let next = groups.len();
        let number = *groups.entry(group).or_insert(next);
        line.push_str(&format!(" link {number}"));
    }
    match role {
        Role::Wanted => key.push("file", line),
        Role::OnTheWay => key.push("parent", line),
    }
}

/// A commit names all its files. Where it was got from shows in `.git` only.
fn describe_git(source: &GitSource, key: &mut KeyBuilder) {
    let GitSource {
        place,
        commit,
        exclude,
    } = source;
    let Some(commit) = commit else {
        key.push("repository", place.repository.to_string());
        return;
    };
    key.push("commit", commit.commit.as_str());
    if let Some(directory) = place.inner_directory() {
        key.push("directory", directory);
    }
    if place.keeps_git_dir() {
        key.push("repository", place.repository.to_string());
        key.push("object", commit.object.as_str());
        key.extend("ref", commit.reference.as_slice());
    }
    if !place.submodules {
        key.push("flag", "without submodules");
    }
    if place.times == GitTimes::Commit {
        key.push("flag", "times of the commit");
    }
    key.extend("exclude", exclude);
}

/// Unambiguous text of any bytes.
fn escape(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn fill_digests(sources: &mut [Source], jobs: usize, limit_bytes: Option<u64>) -> Result<bool> {
    let mut founds: Vec<&mut Found> = Vec::new();
    for source in sources.iter_mut() {
        match source {
            Source::Tree { top, below, .. } => {
                founds.push(top);
                founds.extend(below.iter_mut().map(|below| &mut below.found));
            }
            Source::Http { .. } | Source::Git(_) => {}
        }
    }
    let mut waiting = Vec::new();
    for found in founds {
        match &found.content {
            _ if found.entry.content_digest.is_some() => {}
            Content::Context { context, item } => {
                waiting.push((Arc::clone(context), Arc::clone(item), found));
            }
            Content::Layer { .. } => found.entry.content_digest = Some(hash(&found.content)?),
            Content::None | Content::Bytes(_) | Content::Spool { .. } | Content::Part { .. } => {}
        }
    }
    let Some((context, ..)) = waiting.first() else {
        return Ok(true);
    };
    let context = Arc::clone(context);
    let items: Vec<&Item> = waiting.iter().map(|(_, item, _)| item.as_ref()).collect();
    let Some(digests) = context.digests(&items, jobs, limit_bytes)? else {
        return Ok(false);
    };
    for ((_, _, found), digest) in waiting.into_iter().zip(digests) {
        found.entry.content_digest = Some(digest);
    }
    Ok(true)
}

fn hash(content: &Content) -> Result<Digest> {
    use std::io::Read;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; 128 << 10];
    if let Some(mut file) = content.open()? {
        loop {
            let count = file
                .read(&mut buffer)
                .map_err(Error::io("read", "a file of a layer"))?;
            match buffer.get(..count) {
                Some([]) | None => break,
                Some(bytes) => hasher.update(bytes),
            }
        }
    }
    Ok(hasher.finish())
}
