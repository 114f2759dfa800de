//! The frame of an image layout: `oci-layout` and the directories (image-spec `image-layout.md`).

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Deserialize;

use super::temp::{self, Durability};
use crate::spec::SpecError;
use crate::{Error, Result};

/// Longest `oci-layout` file read, in bytes; a real one has about thirty.
const MAX_LAYOUT_FILE_BYTES: u64 = 64 << 10;
/// Largest `index.json` read, in bytes: room for some 200,000 tags.
pub(super) const MAX_INDEX_BYTES: u64 = 64 << 20;

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

/// Directories in which files have the owners and modes that images give them, set-user-ID
/// programs of root among them: nobody else may enter, whatever the mode of the store's own
/// directory is (it may be shared as an image layout).
const PRIVATE: [&str; 3] = ["trees", "snapshots", "cache"];

/// Checks that `root` is a layout of a version that is understood; `false` when it has no
/// `oci-layout` file (or is not there).
pub(super) fn check(root: &Path) -> Result<bool> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct LayoutFile {
        image_layout_version: String,
    }
    let path = root.join(LAYOUT_FILE);
    let Some(bytes) = read_small(&path, MAX_LAYOUT_FILE_BYTES)? else {
        return Ok(false);
    };
    let parsed: LayoutFile = serde_json::from_slice(&bytes).map_err(|source| SpecError::Json {
        what: "oci-layout file",
        source,
    })?;
    if parsed.image_layout_version.starts_with("1.0.") {
        return Ok(true);
    }
    Err(Error::NotALayout {
        path: root.to_owned(),
        reason: format!(
            "its version is {:.20?}, and only 1.0.x is understood",
            parsed.image_layout_version
        ),
    })
}

/// Makes `root` a store where it is missing or empty, and a layout a store; refuses the rest.
pub(super) fn create_store(root: &Path, ingest: &Path) -> Result<()> {
    if !check(root)? {
        temp::make_dir(root, 0o700)?;
        refuse_foreign(root)?;
        make_private(root)?;
    }
    create(root, ingest)?;
    for name in PRIVATE {
        let path = root.join(name);
        temp::make_dir(&path, 0o700)?;
        make_private(&path)?;
    }
    Ok(())
}

/// Makes `root` a layout where it is missing or empty; leaves a layout as it is; refuses the rest.
///
/// `ingest` is where later openings clean up. Several processes may do so at once: `oci-layout`
/// comes first and atomically, so a directory that is half made is never taken for a foreign one.
pub(super) fn create(root: &Path, ingest: &Path) -> Result<()> {
    if !check(root)? {
        temp::make_dir(root, 0o755)?;
        refuse_foreign(root)?;
        temp::write_file(
            root,
            &root.join(LAYOUT_FILE),
            LAYOUT_TEXT,
            Durability::Durable,
        )?;
        temp::remove_stale(root);
    }
    let blobs = root.join("blobs");
    let dirs = blobs.join("sha256");
    let index = root.join("index.json");
    let missing = |path: &Path| !path.try_exists().unwrap_or(true);
    if missing(&dirs) {
        temp::make_dir(&dirs, 0o755)?;
    }
    if missing(&index) {
        // Linked, not renamed: a racing process may have tagged something meanwhile.
        let mut file = temp::TempFile::create(ingest)?;
        io::Write::write_all(&mut file, EMPTY_INDEX).map_err(Error::write("write", file.path()))?;
        match std::fs::hard_link(file.path(), &index) {
            Ok(()) => temp::sync_dir(root)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::write("create", &index)(error)),
        }
    }
    Ok(())
}

/// Takes a directory's access from everybody but its owner.
fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(dir).map_err(Error::io("stat", dir))?;
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .map_err(Error::write("set the mode of", dir))
}

/// An empty directory, a fresh mount's `lost+found` and a racing process's temporary file are fine.
fn refuse_foreign(root: &Path) -> Result<()> {
    for entry in std::fs::read_dir(root).map_err(Error::io("read directory", root))? {
        let name = entry
            .map_err(Error::io("read directory", root))?
            .file_name();
        let ours = name.as_encoded_bytes().starts_with(temp::PREFIX.as_bytes());
        // A racing process may have got this far since `check`.
        if ours || name == "lost+found" || name == LAYOUT_FILE {
            continue;
        }
        if check(root)? {
            return Ok(());
        }
        return Err(Error::NotALayout {
            path: root.to_owned(),
            reason: format!("it is not empty (it has {name:?}) and has no oci-layout file"),
        });
    }
    Ok(())
}

/// A whole small file; `None` when it is not there.
pub(super) fn read_small(path: &Path, max_bytes: u64) -> Result<Option<Vec<u8>>> {
    let Some(file) = open_regular(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.take(max_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io("read", path))?;
    if bytes.len() as u64 > max_bytes {
        let too_large = io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {max_bytes} bytes"),
        );
        return Err(Error::io("read", path)(too_large));
    }
    Ok(Some(bytes))
}

/// Opens a regular file; `None` when there is none of that name. What is something else is
/// refused, and without O_NONBLOCK a fifo planted in a foreign layout would hang us.
pub(super) fn open_regular(path: &Path) -> Result<Option<File>> {
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(nonblock)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    let metadata = file.metadata().map_err(Error::io("stat", path))?;
    if metadata.is_file() {
        return Ok(Some(file));
    }
    let wrong = io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file");
    Err(Error::io("open", path)(wrong))
}
