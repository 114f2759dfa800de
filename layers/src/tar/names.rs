//! What a name in a layer's tar means: a path, or a mark of the whiteout convention
//! (image-spec `layer.md` §Whiteouts; aufs, where the convention comes from).

use super::TarProblem;
use super::limits::{MAX_LINK_BYTES, MAX_PATH_PARTS};
use crate::tree::EntryPath;

/// Prefix of a whiteout's name.
pub(super) const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// Name of the mark of an opaque directory.
pub(super) const OPAQUE_NAME: &[u8] = b".wh..wh..opq";
/// Prefix of names that aufs kept for itself (`.wh..wh.plnk`, `.wh..wh.orph`).
const AUFS_PREFIX: &[u8] = b".wh..wh.";

/// A name, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// An entry's own path.
    Path(EntryPath),
    /// This path is gone.
    Whiteout(EntryPath),
    /// What lower layers have below this path is gone.
    Opaque(EntryPath),
    /// Book-keeping of aufs, of no meaning in a layer.
    AufsMetadata,
}

/// Normalises and understands the name of an entry.
pub(super) fn parse_name(bytes: &[u8]) -> Result<Name, TarProblem> {
    const WHAT: &str = "path";
    let path = parse_path(bytes, WHAT)?;
    let bytes = path.as_bytes();
    let split = bytes.iter().rposition(|byte| *byte == b'/');
    let (parent, last) = match split {
        Some(at) => (
            bytes.get(..at).unwrap_or_default(),
            bytes.get(at + 1..).unwrap_or_default(),
        ),
        None => (&[][..], bytes),
    };
    let mut parts = bytes.split(|byte| *byte == b'/');
    let aufs = |part: &[u8]| part.starts_with(AUFS_PREFIX) && part != OPAQUE_NAME;
    if parts.clone().any(aufs) {
        return Ok(Name::AufsMetadata);
    }
    // The last part is looked at below.
    parts.next_back();
    if parts.any(|part| part.starts_with(WHITEOUT_PREFIX)) {
        return Err(TarProblem::WhiteoutName(WHAT));
    }
    if last == OPAQUE_NAME {
        return Ok(Name::Opaque(parse_path(parent, WHAT)?));
    }
    match last.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Name::Path(path)),
        Some(b"" | b"." | b"..") => Err(TarProblem::WhiteoutOfNothing),
        Some(name) => {
            let mut gone = parent.to_vec();
            gone.push(b'/');
            gone.extend_from_slice(name);
            Ok(Name::Whiteout(parse_path(&gone, WHAT)?))
        }
    }
}

/// Normalises the target of a hard link: a path of the same tree.
pub(super) fn parse_hard_link(bytes: &[u8]) -> Result<EntryPath, TarProblem> {
    const WHAT: &str = "hard link's target";
    let path = parse_path(bytes, WHAT)?;
    if path.as_bytes().is_empty() {
        return Err(TarProblem::NoTarget);
    }
    if has_whiteout_part(&path) {
        return Err(TarProblem::WhiteoutName(WHAT));
    }
    Ok(path)
}

/// Whether a part of `path` would be read as a whiteout.
pub(super) fn has_whiteout_part(path: &EntryPath) -> bool {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .any(|part| part.starts_with(WHITEOUT_PREFIX))
}

/// Checks the text of a symbolic link, which is kept as it is.
pub(super) fn check_symlink(target: &[u8]) -> Result<(), TarProblem> {
    if target.is_empty() {
        return Err(TarProblem::NoTarget);
    }
    if target.contains(&0) {
        return Err(TarProblem::Nul("link target"));
    }
    if target.len() > MAX_LINK_BYTES {
        return Err(TarProblem::TooLong {
            what: "link target",
            actual: target.len() as u64,
            limit: MAX_LINK_BYTES as u64,
        });
    }
    Ok(())
}

/// Normalises a path and holds it to the limits.
fn parse_path(bytes: &[u8], what: &'static str) -> Result<EntryPath, TarProblem> {
    let path = EntryPath::check(bytes).map_err(|source| TarProblem::Path { what, source })?;
    if path.depth() > MAX_PATH_PARTS {
        return Err(TarProblem::TooDeep);
    }
    Ok(path)
}
