//! Names of users and groups, looked up in the target image.

use std::io::Read;

use wythe_layers::layer::LayerStack;
use wythe_layers::tree::EntryPath;

use crate::path::clean_in_root;
use crate::plan::{Chown, NameOrId};
use crate::view::Owner;
use crate::{Error, Result};

/// No machine has that many users; an endless file must not be read to its end.
const MAX_BYTES: u64 = 10 << 20;

/// Who `--chown` means. Without a group, a name's own group counts, and a number is its own group.
/// A name that the image does not know is root's, as in BuildKit.
pub(crate) fn resolve(chown: &Chown, stack: &LayerStack) -> Result<Owner> {
    let mut owner = match &chown.user {
        NameOrId::Id(id) => Owner { uid: *id, gid: *id },
        NameOrId::Name(name) => user(stack, name)?,
    };
    // `:group` alone leaves root as the user.
    if let Some(group) = &chown.group {
        owner.gid = match group {
            NameOrId::Id(id) => *id,
            NameOrId::Name(name) => group_id(stack, name)?.unwrap_or(owner.gid),
        };
    }
    Ok(owner)
}

fn user(stack: &LayerStack, name: &str) -> Result<Owner> {
    let text = read(stack, "/etc/passwd")?;
    let found = lines(&text).find_map(|fields| match fields.as_slice() {
        [known, _, uid, gid, ..] if *known == name => Some(Owner {
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
        }),
        _ => None,
    });
    Ok(found.unwrap_or_else(|| {
        unknown("user", name);
        Owner::default()
    }))
}

fn group_id(stack: &LayerStack, name: &str) -> Result<Option<u32>> {
    let text = read(stack, "/etc/group")?;
    let found = lines(&text).find_map(|fields| match fields.as_slice() {
        [known, _, gid, ..] if *known == name => gid.parse().ok(),
        _ => None,
    });
    if found.is_none() {
        unknown("group", name);
    }
    Ok(found)
}

/// BuildKit goes on without a word; a Dockerfile that it builds is to build here.
fn unknown(kind: &str, name: &str) {
    tracing::warn!(kind, name, "not known in the image; root's is taken");
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn read(stack: &LayerStack, path: &'static str) -> Result<String> {
    let wanted = clean_in_root(path.as_bytes()).unwrap_or_default();
    let resolved: EntryPath = stack.resolve(&wanted, true)?;
    let Some(found) = stack.lookup(&resolved)? else {
        return Ok(String::new());
    };
    if !matches!(
        found.entry.kind,
        wythe_layers::tree::EntryKind::File { .. } | wythe_layers::tree::EntryKind::HardLink { .. }
    ) {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    let file = stack.open_file(&found)?;
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::ImageFileTooLarge {
            path,
            max_bytes: MAX_BYTES,
        });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
