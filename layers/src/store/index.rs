//! `index.json`: what has a name in a layout (image-spec `image-layout.md` §index.json).
//!
//! It is edited as plain JSON, so entries and fields of other tools survive as they are, also
//! those that this version could not parse. Writers take turns under a lock; readers need none,
//! because the file is only ever replaced.

use std::time::Duration;

use serde_json::{Map, Value};

use super::blobs::BlobStore;
use super::layout::{self, MAX_INDEX_BYTES};
use super::lock::{FileLock, Mode};
use super::temp::{self, Durability};
use crate::spec::{Descriptor, Digest, MediaType};
use crate::{Error, Result};

/// The annotation that names an entry (image-spec `annotations.md`).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How long a writer waits for the one before it, which needs some milliseconds.
const INDEX_LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// The parsed file.
struct IndexFile {
    document: Map<String, Value>,
    entries: Vec<Value>,
}

impl BlobStore {
    /// The entries of `index.json` that are descriptors, in its order.
    ///
    /// # Errors
    /// [`Error::CorruptIndex`].
    pub fn entries(&self) -> Result<Vec<Descriptor>> {
        let file = self.read_index()?;
        Ok(file.entries.into_iter().filter_map(parse_entry).collect())
    }

    /// The entry of this `org.opencontainers.image.ref.name`, without that annotation; the first
    /// where a layout has several, as skopeo reads it.
    pub fn entry(&self, name: &str) -> Result<Option<Descriptor>> {
        let file = self.read_index()?;
        let found = file.entries.into_iter().find(|entry| is_named(entry, name));
        Ok(found.and_then(parse_entry).map(without_name))
    }

    /// Points a name at a descriptor, atomically; writes nothing when it points there already.
    pub fn set_entry(&self, name: &str, target: &Descriptor) -> Result<()> {
        let same = |entry: Descriptor| is_same(&entry, target);
        if self.entry(name)?.is_some_and(same) {
            return Ok(());
        }
        let mut named = target.clone();
        named.annotations.insert(REF_NAME.into(), name.into());
        let value = entry_value(&named)?;
        self.edit_index(|entries| {
            let place = entries.iter().position(|entry| is_named(entry, name));
            entries.retain(|entry| !is_named(entry, name));
            entries.insert(place.unwrap_or(entries.len()).min(entries.len()), value);
            true
        })
    }

    /// Removes a name; `false` when there was none.
    pub(crate) fn remove_entry(&self, name: &str) -> Result<bool> {
        self.remove_entries(|entry| entry.annotations.get(REF_NAME).is_some_and(|n| n == name))
    }

    /// Removes the entries that `matches` accepts; `false` when there were none.
    pub fn remove_entries(&self, matches: impl Fn(&Descriptor) -> bool) -> Result<bool> {
        let hit = |entry: &Value| parse_entry(entry.clone()).is_some_and(|entry| matches(&entry));
        // Looked up without the lock first: most removals of what is not there write nothing.
        if !self.read_index()?.entries.iter().any(hit) {
            return Ok(false);
        }
        let mut removed = false;
        self.edit_index(|entries| {
            let before = entries.len();
            entries.retain(|entry| !hit(entry));
            removed = entries.len() != before;
            removed
        })?;
        Ok(removed)
    }

    /// Adds an entry as it is, with its annotations, unless an equal one is there.
    pub fn add_entry(&self, entry: &Descriptor) -> Result<()> {
        let value = entry_value(entry)?;
        self.edit_index(|entries| {
            let is_new = !entries.contains(&value);
            if is_new {
                entries.push(value);
            }
            is_new
        })
    }

    /// Lets every entry that names `from` name `to` instead, and keeps its annotations.
    pub(crate) fn repoint_entries(&self, from: &Digest, to: &Descriptor) -> Result<()> {
        let names_from =
            |entry: &Value| entry.get("digest").and_then(Value::as_str) == Some(&from.to_string());
        if *from == to.digest || !self.read_index()?.entries.iter().any(names_from) {
            return Ok(());
        }
        let target = entry_value(to)?;
        self.edit_index(|entries| {
            for entry in entries.iter_mut().filter(|entry| names_from(entry)) {
                let annotations = entry.get("annotations").cloned();
                *entry = target.clone();
                if let (Some(annotations), Some(fields)) = (annotations, entry.as_object_mut()) {
                    fields.insert("annotations".to_owned(), annotations);
                }
            }
            true
        })
    }

    fn read_index(&self) -> Result<IndexFile> {
        let path = self.root().join("index.json");
        let corrupt = |source| Error::CorruptIndex {
            path: path.clone(),
            source,
        };
        let reason = |text| corrupt(<serde_json::Error as serde::de::Error>::custom(text));
        let Some(bytes) = layout::read_small(&path, MAX_INDEX_BYTES)? else {
            return Ok(IndexFile {
                document: new_document(),
                entries: Vec::new(),
            });
        };
        let mut document: Map<String, Value> = serde_json::from_slice(&bytes).map_err(corrupt)?;
        let entries = match document.remove("manifests") {
            // Go encoders write `null` for an empty list.
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err(reason("`manifests` is not a list")),
        };
        if document.get("schemaVersion").and_then(Value::as_u64) != Some(2) {
            return Err(reason("`schemaVersion` is not 2"));
        }
        Ok(IndexFile { document, entries })
    }

    /// Reads, changes and replaces the file under the lock; `change` tells whether it changed anything.
    fn edit_index(&self, change: impl FnOnce(&mut Vec<Value>) -> bool) -> Result<()> {
        let _lock = match &self.index_lock {
            Some(path) => FileLock::acquire(path, Mode::Exclusive, INDEX_LOCK_PATIENCE)?,
            None => FileLock::acquire_existing(self.root(), Mode::Exclusive, INDEX_LOCK_PATIENCE)?,
        };
        let mut file = self.read_index()?;
        if !change(&mut file.entries) {
            return Ok(());
        }
        file.document
            .insert("manifests".to_owned(), Value::Array(file.entries));
        let path = self.root().join("index.json");
        let bytes = serde_json::to_vec(&file.document).map_err(|source| Error::CorruptIndex {
            path: path.clone(),
            source,
        })?;
        temp::write_file(&self.ingest, &path, &bytes, Durability::Durable)
    }
}

fn new_document() -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("schemaVersion".to_owned(), Value::from(2));
    let media_type = MediaType::INDEX.as_str().to_owned();
    document.insert("mediaType".to_owned(), Value::String(media_type));
    document
}

fn parse_entry(entry: Value) -> Option<Descriptor> {
    serde_json::from_value(entry).ok()
}

fn entry_value(entry: &Descriptor) -> Result<Value> {
    serde_json::to_value(entry).map_err(|source| {
        let what = "descriptor";
        crate::spec::SpecError::Json { what, source }.into()
    })
}

fn is_named(entry: &Value, name: &str) -> bool {
    let found = entry.get("annotations").and_then(|a| a.get(REF_NAME));
    found.and_then(Value::as_str) == Some(name)
}

/// The three fields that make a descriptor; another tool's annotations do not make it another one.
fn is_same(a: &Descriptor, b: &Descriptor) -> bool {
    a.digest == b.digest && a.size == b.size && a.media_type == b.media_type
}

fn without_name(mut entry: Descriptor) -> Descriptor {
    entry.annotations.remove(REF_NAME);
    entry
}
