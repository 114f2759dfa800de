//! Wildcards of `COPY` and `ADD` sources: Go's `filepath.Match`, part by part; `**` is no more than `*`.

use wythe_layers::tree::EntryPath;

use super::Place;
use crate::glob::{Glob, has_wildcard};
use crate::{Error, Result};

/// Paths that match, sorted. A match that is a directory stands for all that is in it, so nothing
/// below it is listed again.
pub(super) fn matches(place: &Place, pattern: &EntryPath) -> Result<Vec<EntryPath>> {
    let parts: Vec<&[u8]> = pattern.parts().collect();
    let mut found = Vec::new();
    // Parts before the first wildcard are a path, and its links are followed.
    let plain = parts
        .iter()
        .take_while(|part| !has_wildcard(&String::from_utf8_lossy(part)))
        .count();
    let (head, tail) = parts.split_at_checked(plain).unwrap_or((&[], &parts));
    let head = EntryPath::parse(&head.join(&b'/')).unwrap_or_default();
    let Some(top) = place.lookup(&head)? else {
        return Ok(found);
    };
    if top.entry.kind.is_directory() {
        descend(place, &top.entry.path, tail, &mut found)?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn descend(
    place: &Place,
    directory: &EntryPath,
    parts: &[&[u8]],
    found: &mut Vec<EntryPath>,
) -> Result<()> {
    let Some((part, rest)) = parts.split_first() else {
        return Ok(());
    };
    for (path, is_directory) in place.children(directory)? {
        if !glob_match(part, path.file_name().unwrap_or_default())? {
            continue;
        }
        if rest.is_empty() {
            found.push(path);
        } else if is_directory {
            descend(place, &path, rest, found)?;
        }
    }
    Ok(())
}

fn glob_match(pattern: &[u8], name: &[u8]) -> Result<bool> {
    let text = String::from_utf8_lossy(pattern);
    let glob = Glob::parse(&text).map_err(|_| Error::BadPath {
        path: text.clone().into_owned(),
    })?;
    Ok(glob.matches(&String::from_utf8_lossy(name)))
}
