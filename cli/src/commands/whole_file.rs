//! Files that the user names, written so that nobody ever reads half of one.
//!
//! The folder may be shared (`/tmp`): a temporary file has a name that nobody can foresee and is
//! made new, and a link that lies in the way of the result is replaced, never written through.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// Written at a time, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a file by way of a temporary one beside it.
pub(crate) fn write_with(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    // What is no regular file (a pipe, /dev/null) is written as it is.
    if path.exists() && !path.is_file() {
        ensure!(!path.is_dir(), "{} is a directory", path.display());
        let mut sink =
            File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
        return write(&mut sink);
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".wythe-")
        // Less what the user's umask takes.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(failed)?;
    let mut sink = BufWriter::with_capacity(BUFFER_BYTES, temporary.as_file_mut());
    write(&mut sink)?;
    sink.flush().with_context(failed)?;
    drop(sink);
    temporary.persist(path).with_context(failed)?;
    Ok(())
}

/// [`write_with`] for a text.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    write_with(path, |sink| {
        sink.write_all(text.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    })
}
