//! Local archives of `ADD`: recognised by content, unpacked entry by entry into the view.
//!
//! Docker's rules: owners are the archive's own (unless `--chown`), an entry replaces whatever is
//! in its place unless both are directories, links on the way to an entry are followed as if the
//! destination was the root. The content is spooled to one nameless file, as a layer is written in another order than
//! the archive has.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Write};
use std::sync::Arc;

use wythe_layers::spec::{Algorithm, Hasher};
use wythe_layers::tar::TarReader;
use wythe_layers::tree::{Entry, EntryKind, EntryPath};

use super::{Found, Settings};
use crate::error::with_causes;
use crate::path::{clean_in_root, display};
use crate::view::{Content, New, NewDirectory, Owner, View};
use crate::{Error, Result};

/// Enough for every magic number and a tar header.
const HEAD_BYTES: u64 = 512;
/// A dictionary larger than this is not for archives; xz -9 uses 64 MiB.
const MAX_XZ_MEMORY_KIB: u32 = 256 << 10;
const BUFFER_BYTES: usize = 128 << 10;

const BZIP2_MAGIC: &[u8] = b"BZh";
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";

/// Unpacks `source` if it is an archive; `false` when it is not, and nothing was done.
pub(super) fn unpack(
    view: &mut View,
    name: &[u8],
    source: &Found,
    settings: &Settings,
) -> Result<bool> {
    if !matches!(source.entry.kind, EntryKind::File { size } if size >= HEAD_BYTES)
        && !is_compressed(source)?
    {
        return Ok(false);
    }
    let name = String::from_utf8_lossy(name).into_owned();
    {
        // An archive is what has a first entry; a plain .gz file is copied like any other.
        let Ok(decoded) = decompress(source.content.reader()?) else {
            return Ok(false);
        };
        if !matches!(
            TarReader::new(decoded).with_parents().next_entry(),
            Ok(Some(_))
        ) {
            return Ok(false);
        }
    }
    let failed = |error: &dyn std::fmt::Display| Error::Archive {
        name: name.clone(),
        reason: error.to_string(),
    };
    let mut unpacker = Unpacker::new(view, settings, &name)?;
    let decoded = decompress(source.content.reader()?).map_err(|error| failed(&error))?;
    let mut reader = TarReader::new(decoded).with_parents();
    loop {
        let next = reader
            .next_entry()
            .map_err(|error| failed(&with_causes(&error)))?;
        let Some((entry, mut content)) = next else {
            break;
        };
        unpacker.entry(entry, &mut content)?;
    }
    unpacker.finish()?;
    if let Content::Context { context, item } = &source.content {
        context.check_unchanged(item, &context.open_file(item)?)?;
    }
    Ok(true)
}

fn is_compressed(source: &Found) -> Result<bool> {
    // Small archives of small files are below a tar's size once compressed.
    Ok(match source.entry.kind {
        EntryKind::File { size } => size > 16,
        _ => false,
    })
}

/// Decompresses by the first bytes: bzip2 and xz here, gzip, zstd and plain in `layers`.
///
/// # Errors
/// When it cannot be read, or its compression is damaged at the very start.
pub fn decompress<'a>(mut reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut head = Vec::new();
    Read::by_ref(&mut reader)
        .take(HEAD_BYTES)
        .read_to_end(&mut head)?;
    let is = |magic: &[u8]| head.starts_with(magic);
    let (bzip2, xz) = (is(BZIP2_MAGIC), is(XZ_MAGIC));
    let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(head).chain(reader));
    if bzip2 {
        return Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(whole)));
    }
    if xz {
        let reader = lzma_rust2::XzReader::new_mem_limit(whole, true, MAX_XZ_MEMORY_KIB);
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)));
    }
    wythe_layers::stream::decode(whole)
}

/// Gives a file what the entry of another name of it says.
fn inherit(file: &mut Entry, link: &Entry) {
    file.mode = link.mode;
    file.uid = link.uid;
    file.gid = link.gid;
    file.mtime = link.mtime;
}

struct Unpacker<'a> {
    view: &'a mut View,
    settings: &'a Settings,
    name: &'a str,
    /// Where the archive's root goes.
    target: EntryPath,
    spool: BufWriter<File>,
    written: u64,
    /// The names of files that have several, by group.
    names: BTreeMap<u64, Vec<EntryPath>>,
}

impl<'a> Unpacker<'a> {
    fn new(view: &'a mut View, settings: &'a Settings, name: &'a str) -> Result<Self> {
        let path = clean_in_root(settings.destination.as_bytes()).unwrap_or_default();
        let mut new = settings.new_directory();
        new.mode = 0o755;
        let target = view.make_directory(&path, new)?;
        let spool = tempfile::tempfile_in(&settings.scratch)
            .map_err(Error::io("create a file in", &settings.scratch))?;
        Ok(Self {
            view,
            settings,
            name,
            target,
            spool: BufWriter::with_capacity(BUFFER_BYTES, spool),
            written: 0,
            names: BTreeMap::new(),
        })
    }

    fn refuse(&self, path: &EntryPath, reason: &str) -> Error {
        Error::Archive {
            name: self.name.to_owned(),
            reason: format!("{}: {reason}", display(path)),
        }
    }

    /// Where a path of the archive is in the image. Links of its parents are followed as if the
    /// destination was the root.
    fn locate(&self, path: &EntryPath) -> Result<(EntryPath, EntryPath)> {
        let bad = |_| Error::BadPath {
            path: display(path),
        };
        let parent = path.parent().unwrap_or_default();
        let parent = self.view.resolve_in(&self.target, &parent, true)?;
        let name = path.file_name().unwrap_or_default();
        let whole = parent.join(name).map_err(bad)?;
        Ok((parent, whole))
    }

    /// Makes the directories above a path that the archive does not have.
    fn make_parents(&mut self, path: &EntryPath, parent: &EntryPath) -> Result<()> {
        let there = self.view.lookup(parent)?;
        if there.is_some_and(|entry| entry.kind.is_directory()) {
            return Ok(());
        }
        let mut above = self.target.clone();
        for up in path.ancestors().filter(|up| !up.is_root()) {
            let resolved = self.view.resolve_in(&self.target, &up, true)?;
            if self.view.lookup(&resolved)?.is_none() {
                let plain = above.join(up.file_name().unwrap_or_default());
                if plain.ok().as_ref() != Some(&resolved) {
                    return Err(self.refuse(path, "a link on its way leads nowhere"));
                }
                break;
            }
            above = resolved;
        }
        let new = NewDirectory {
            mode: 0o755,
            owner: Owner::default(),
            mtime: self.settings.new_mtime,
        };
        self.view.make_directory(parent, new).map(drop)
    }

    fn entry(&mut self, mut entry: Entry, content: &mut dyn Read) -> Result<()> {
        if entry.path.is_root() {
            return Ok(());
        }
        if entry.kind.is_mark() {
            return Err(self.refuse(&entry.path, "whiteouts are for layers, not for ADD"));
        }
        let (parent, path) = self.locate(&entry.path)?;
        self.make_parents(&entry.path, &parent)?;
        if let Some(owner) = self.settings.owner {
            entry.uid = owner.uid;
            entry.gid = owner.gid;
        }
        let there = self.view.lookup(&path)?;
        let both_directories =
            entry.kind.is_directory() && there.as_ref().is_some_and(|old| old.kind.is_directory());
        if !both_directories && there.is_some() && path == self.target {
            return Err(self.refuse(&entry.path, "it would replace the destination"));
        }
        let new = match entry.kind.clone() {
            EntryKind::HardLink { target } => self.hard_link(&entry, path, &target)?,
            EntryKind::File { .. } => {
                let content = self.spool(&mut entry, content)?;
                entry.path = path;
                New {
                    entry,
                    content,
                    group: None,
                }
            }
            _ => {
                entry.path = path;
                New::plain(entry)
            }
        };
        self.view.put(new);
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, path: EntryPath, target: &EntryPath) -> Result<New> {
        let (_, target) = self.locate(target)?;
        let Some(first) = self.view.new_entry(&target).cloned() else {
            return Err(self.refuse(&entry.path, "its hard link's target is not in the archive"));
        };
        if first.entry.kind.is_directory() {
            return Err(self.refuse(&entry.path, "its hard link's target is a directory"));
        }
        let mut new = first;
        new.entry.path = path.clone();
        if !matches!(new.entry.kind, EntryKind::File { .. }) {
            return Ok(new);
        }
        let group = match new.group {
            Some(group) => group,
            None => self.view.new_group(),
        };
        new.group = Some(group);
        let names = self.names.entry(group).or_insert_with(|| vec![target]);
        // What the archive says of one name holds for the file.
        for name in names.iter() {
            if let Some(other) = self.view.new_entry_mut(name)
                && (other.group.is_none() || other.group == Some(group))
            {
                other.group = Some(group);
                inherit(&mut other.entry, entry);
            }
        }
        inherit(&mut new.entry, entry);
        names.push(path);
        Ok(new)
    }

    fn spool(&mut self, entry: &mut Entry, content: &mut dyn Read) -> Result<Content> {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut buffer = vec![0; BUFFER_BYTES];
        let offset = self.written;
        loop {
            let count = content.read(&mut buffer).map_err(|error| Error::Archive {
                name: self.name.to_owned(),
                reason: with_causes(&error),
            })?;
            let bytes = buffer.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            self.spool
                .write_all(bytes)
                .map_err(Error::io("write to", &self.settings.scratch))?;
            self.written += bytes.len() as u64;
        }
        let length = self.written - offset;
        entry.kind = EntryKind::File { size: length };
        entry.content_digest = Some(hasher.finish());
        Ok(Content::Spool { offset, length })
    }

    /// Hands the spooled content to the view.
    fn finish(self) -> Result<()> {
        let file = self
            .spool
            .into_inner()
            .map_err(|error| error.into_error())
            .map_err(Error::io("write to", &self.settings.scratch))?;
        self.view.attach_spool(Arc::new(file));
        Ok(())
    }
}
