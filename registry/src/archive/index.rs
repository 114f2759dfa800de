//! Where things lie in a tar file that is kept open: nothing is ever extracted.
//!
//! The file is untrusted. Entries are found by exact name only, so no name in it can reach
//! anything outside; sizes are held against the file's length before they are believed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::{EntryType, Header, PaxExtensions};

use crate::error::{Error, Result};

/// Block of a tar, in bytes (POSIX ustar).
const BLOCK: u64 = 512;
/// Most entries looked at; an image has some hundred.
const MAX_ENTRIES: u64 = 100_000;
/// Longest name or PAX header read, in bytes.
const MAX_EXTENSION_BYTES: u64 = 64 * 1024;
/// Links followed from name to name; `docker save` needed one.
const MAX_LINKS: u32 = 8;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Bytes of the file.
    Bytes { offset: u64, size: u64 },
    /// Another name.
    Link(String),
    /// Several entries, or one that cannot be read: refused when it is asked for.
    Unusable(&'static str),
}

/// The index of a tar file.
#[derive(Debug, Clone)]
pub(super) struct TarIndex {
    path: PathBuf,
    file: Arc<File>,
    places: BTreeMap<String, Place>,
}

/// A part of a file, as a reader.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Slice {
    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.left
    }
}

impl Read for Slice {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let Some(part) = buffer.get_mut(..want) else {
            return Ok(0);
        };
        if part.is_empty() {
            return Ok(0);
        }
        let read = self.file.read_at(part, self.offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// What the headers before an entry say about it.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl TarIndex {
    /// Reads all headers of `file`; `path` is for messages.
    pub(super) fn read(path: &Path, file: File) -> Result<Self> {
        let length = file.metadata().map_err(Error::io("stat", path))?.len();
        let mut index = Self {
            path: path.to_owned(),
            file: Arc::new(file),
            places: BTreeMap::new(),
        };
        let mut offset = 0;
        let mut extensions = Extensions::default();
        for _ in 0..MAX_ENTRIES {
            let Some(header) = index.header(offset, length)? else {
                return Ok(index);
            };
            offset += BLOCK;
            let kind = header.entry_type();
            let size = match (extensions.size, is_extension(kind)) {
                (Some(size), false) => size,
                _ => header
                    .entry_size()
                    .map_err(|_| index.refuse("an entry has no valid size"))?,
            };
            let end = offset.checked_add(size).filter(|end| *end <= length);
            let Some(end) = end else {
                return Err(index.refuse("it is cut off"));
            };
            if is_extension(kind) {
                index.read_extension(kind, offset, size, &mut extensions)?;
            } else {
                index.add(&header, std::mem::take(&mut extensions), offset, size);
            }
            offset = end.div_ceil(BLOCK) * BLOCK;
        }
        Err(index.refuse("it has too many entries"))
    }

    pub(super) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Archive {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The header at `offset`; `None` at the end.
    fn header(&self, offset: u64, length: u64) -> Result<Option<Header>> {
        if offset >= length {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        self.file
            .read_exact_at(block, offset)
            .map_err(|_| self.refuse("it is cut off"))?;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let sum: u32 = header
            .as_bytes()
            .iter()
            .enumerate()
            // The checksum's own field counts as spaces (POSIX ustar).
            .map(|(at, &byte)| if (148..156).contains(&at) { 32 } else { byte })
            .map(u32::from)
            .sum();
        if header.cksum().ok() != Some(sum) {
            return Err(self.refuse("it is not a tar, or damaged"));
        }
        Ok(Some(header))
    }

    fn read_extension(
        &self,
        kind: EntryType,
        offset: u64,
        size: u64,
        extensions: &mut Extensions,
    ) -> Result<()> {
        if size > MAX_EXTENSION_BYTES {
            return Err(self.refuse("a name or an extended header is too long"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|_| self.refuse("it is cut off"))?;
        let until_nul = |bytes: &[u8]| {
            let end = bytes.iter().position(|&byte| byte == 0);
            bytes.get(..end.unwrap_or(bytes.len())).map(<[u8]>::to_vec)
        };
        match kind {
            EntryType::GNULongName => extensions.name = until_nul(&bytes),
            EntryType::GNULongLink => extensions.link = until_nul(&bytes),
            _ => {
                let global = kind == EntryType::XGlobalHeader;
                for record in PaxExtensions::new(&bytes) {
                    let record = record.map_err(|_| self.refuse("a PAX header is damaged"))?;
                    self.apply(record.key_bytes(), record.value_bytes(), global, extensions)?;
                }
            }
        }
        Ok(())
    }

    fn apply(
        &self,
        key: &[u8],
        value: &[u8],
        global: bool,
        extensions: &mut Extensions,
    ) -> Result<()> {
        let matters =
            matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse");
        if !matters {
            return Ok(());
        }
        if global {
            return Err(self.refuse("a global PAX header changes names or sizes"));
        }
        match key {
            b"path" => extensions.name = Some(value.to_vec()),
            b"linkpath" => extensions.link = Some(value.to_vec()),
            b"size" => {
                let size = std::str::from_utf8(value).ok().and_then(|s| s.parse().ok());
                extensions.size =
                    Some(size.ok_or_else(|| self.refuse("an entry has no valid size"))?);
            }
            _ => extensions.sparse = true,
        }
        Ok(())
    }

    fn add(&mut self, header: &Header, extensions: Extensions, offset: u64, size: u64) {
        let kind = header.entry_type();
        let name = extensions
            .name
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let Some(name) = plain_name(&name) else {
            return;
        };
        let place = match kind {
            _ if extensions.sparse || kind.is_gnu_sparse() => {
                Place::Unusable("it is stored as a sparse file")
            }
            EntryType::Regular | EntryType::Continuous => Place::Bytes { offset, size },
            EntryType::Symlink | EntryType::Link => {
                let link = extensions
                    .link
                    .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
                let from = match kind {
                    EntryType::Symlink => name.rsplit_once('/').map_or("", |(parent, _)| parent),
                    _ => "",
                };
                match link.and_then(|link| resolve(from, &link)) {
                    Some(target) => Place::Link(target),
                    None => Place::Unusable("it links to nowhere in the archive"),
                }
            }
            _ => return,
        };
        self.places
            .entry(name)
            .and_modify(|place| *place = Place::Unusable("there are several entries of this name"))
            .or_insert(place);
    }

    /// The bytes of an entry, links followed; `None` when there is none of this name.
    pub(super) fn find(&self, name: &str) -> Result<Option<Slice>> {
        let mut current = name.to_owned();
        for _ in 0..MAX_LINKS {
            match self.places.get(&current) {
                None => return Ok(None),
                Some(Place::Link(target)) => current.clone_from(target),
                Some(Place::Unusable(reason)) => {
                    return Err(self.refuse(format!("{name} cannot be read: {reason}")));
                }
                Some(Place::Bytes { offset, size }) => {
                    return Ok(Some(Slice {
                        file: Arc::clone(&self.file),
                        offset: *offset,
                        left: *size,
                    }));
                }
            }
        }
        Err(self.refuse(format!("{name} leads through too many links")))
    }

    /// A whole small entry.
    pub(super) fn document(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(mut slice) = self.find(name)? else {
            return Ok(None);
        };
        if slice.size() > limit {
            return Err(Error::TooLarge {
                what: format!("{name} in {}", self.path.display()),
                limit,
            });
        }
        let mut bytes = Vec::new();
        slice
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &self.path))?;
        Ok(Some(bytes))
    }
}

fn is_extension(kind: EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_local_extensions()
        || kind.is_pax_global_extensions()
}

/// A name without `./` and doubled slashes; `None` for what could not be asked for anyway.
fn plain_name(name: &[u8]) -> Option<String> {
    if name.starts_with(b"/") {
        return None;
    }
    resolve("", name)
}

/// A link's target as a name in the archive; `None` when it leads out.
fn resolve(from: &str, link: &[u8]) -> Option<String> {
    let link = std::str::from_utf8(link).ok()?;
    if link.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_of(bytes: &[u8]) -> Result<TarIndex> {
        use std::io::Write;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        TarIndex::read(Path::new("x.tar"), file)
    }

    fn build(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.set_size(0);
                builder.append_link(&mut header, name, content).unwrap();
            } else {
                header.set_size(content.len() as u64);
                builder
                    .append_data(&mut header, name, content.as_bytes())
                    .unwrap();
            }
        }
        builder.into_inner().unwrap()
    }

    fn content(index: &TarIndex, name: &str) -> String {
        match index.document(name, 1000) {
            Ok(Some(bytes)) => String::from_utf8(bytes).unwrap(),
            Ok(None) => "-".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn entries_are_found_by_exact_name() {
        use EntryType::{Link, Regular, Symlink};
        let long = "d/".repeat(100) + "file";
        let bytes = build(&[
            ("./a/b", Regular, "one"),
            ("c/layer.tar", Symlink, "../a/b"),
            ("hard", Link, "a/b"),
            ("out", Symlink, "../../etc/passwd"),
            ("abs", Symlink, "/etc/passwd"),
            ("loop", Symlink, "loop"),
            ("twice", Regular, "1"),
            ("twice", Regular, "2"),
            (&long, Regular, "deep"),
        ]);
        let index = index_of(&bytes).unwrap();
        assert_eq!(content(&index, "a/b"), "one");
        assert_eq!(content(&index, "c/layer.tar"), "one");
        assert_eq!(content(&index, "hard"), "one");
        assert_eq!(content(&index, &long), "deep");
        assert_eq!(content(&index, "a"), "-");
        assert_eq!(content(&index, "../a/b"), "-");
        for (name, said) in [
            ("out", "nowhere"),
            ("abs", "nowhere"),
            ("loop", "too many links"),
            ("twice", "several"),
        ] {
            assert!(content(&index, name).contains(said), "{name}");
        }
    }

    #[test]
    fn damaged_tars_are_refused() {
        let good = build(&[("a", EntryType::Regular, "content")]);
        assert!(index_of(&good).is_ok());
        assert!(index_of(&[]).is_ok(), "an empty file holds nothing");
        for (what, bytes) in [
            ("cut in the header", good[..100].to_vec()),
            ("cut in the content", good[..515].to_vec()),
            ("no tar", vec![b'x'; 1024]),
            ("flipped", {
                let mut bytes = good.clone();
                bytes[0] ^= 1;
                bytes
            }),
        ] {
            assert!(index_of(&bytes).is_err(), "{what}");
        }
        let mut header = Header::new_gnu();
        header.set_path("big").unwrap();
        header.set_size(u64::MAX / 2);
        header.set_cksum();
        assert!(
            index_of(header.as_bytes()).is_err(),
            "a size beyond the end"
        );
    }
}
