//! How repositories of the server and references of the store belong together.
//!
//! What is pushed to `NAME` is kept as `localhost/NAME`, whatever address the client used: a push
//! can never change what `docker.io/library/debian` means to the next build on this machine.
//! What is read as `NAME` is `localhost/NAME` where that exists, else the reference that `NAME`
//! is: `library/app` and `docker.io/library/app` are the image built here as `app`.

use wythe_layers::spec::{Descriptor, Digest, Reference};
use wythe_layers::store::{REF_NAME, Store};

use super::answer::{ApiError, Code};

/// The registry under which pushed images are named in the store.
const OWN_REGISTRY: &str = "localhost";

/// Annotation of entries in `index.json` that keep what was pushed by digest only: its repository.
const REPOSITORY: &str = "vnd.wythe.serve.repository";

/// A repository as a client names it.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    name: String,
    /// `localhost/NAME`.
    own: Reference,
    /// `NAME` itself as a reference, where that is another one.
    other: Option<Reference>,
}

/// What the store has of a repository.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// `None`: pushed or pulled by digest.
    pub(super) tag: Option<String>,
    pub(super) target: Descriptor,
    is_own: bool,
}

impl Repository {
    /// Parses a repository name by distribution-spec's grammar. `..`, empty parts and whatever
    /// else is not a name are refused here, once.
    pub(super) fn parse(name: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::new(Code::NameInvalid, "the repository name is not valid");
        let is_plain = |b: u8| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'/')
        };
        if !name.bytes().all(is_plain) {
            return Err(invalid());
        }
        let own: Reference = format!("{OWN_REGISTRY}/{name}")
            .parse()
            .map_err(|_| invalid())?;
        let other: Option<Reference> = name.parse().ok();
        Ok(Self {
            name: name.to_owned(),
            other: other.filter(|other| other.name() != own.name()),
            own,
        })
    }

    /// As the client named it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The reference that a pushed tag gets.
    pub(super) fn own_tag(&self, tag: &str) -> Option<Reference> {
        self.own.with_tag(tag).ok()
    }

    /// What a tag names: what was pushed here first, then the rest of the store.
    pub(super) fn find_tag(
        &self,
        store: &Store,
        tag: &str,
    ) -> Result<Option<Descriptor>, ApiError> {
        for repository in std::iter::once(&self.own).chain(&self.other) {
            let Ok(reference) = repository.with_tag(tag) else {
                return Ok(None);
            };
            if let Some(target) = store.tag(&reference)? {
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    /// Everything the store has of this repository; of one tag only what counts.
    pub(super) fn entries(&self, store: &Store) -> Result<Vec<Entry>, ApiError> {
        let mut entries = Vec::new();
        for mut target in store.blobs().entries()? {
            let named = target.annotations.remove(REF_NAME);
            let pushed_to = target.annotations.remove(REPOSITORY);
            match named {
                Some(named) => {
                    let Some(reference) = normal(&named) else {
                        continue;
                    };
                    let is_own = reference.name() == self.own.name();
                    let other = self.other.as_ref();
                    if is_own || other.is_some_and(|other| reference.name() == other.name()) {
                        entries.push(Entry {
                            tag: reference.tag().map(str::to_owned),
                            target,
                            is_own,
                        });
                    }
                }
                None if pushed_to.as_deref() == Some(&self.name) => entries.push(Entry {
                    tag: None,
                    target,
                    is_own: true,
                }),
                None => {}
            }
        }
        entries.sort_by(|a, b| (&a.tag, b.is_own).cmp(&(&b.tag, a.is_own)));
        entries.dedup_by(|later, first| later.tag.is_some() && later.tag == first.tag);
        Ok(entries)
    }

    /// Keeps a manifest that was pushed by digest and has no tag.
    pub(super) fn keep_untagged(&self, store: &Store, target: &Descriptor) -> Result<(), ApiError> {
        let mut entry = target.clone();
        let name = self.name.clone();
        entry.annotations.insert(REPOSITORY.to_owned(), name);
        Ok(store.blobs().add_entry(&entry)?)
    }

    /// Removes what was pushed to this repository with this digest, tagged or not.
    pub(super) fn remove_digest(&self, store: &Store, digest: &Digest) -> Result<bool, ApiError> {
        let removed = store.blobs().remove_entries(|entry| {
            let named = entry.annotations.get(REF_NAME);
            let is_own_tag = named
                .and_then(|named| normal(named))
                .is_some_and(|reference| reference.name() == self.own.name());
            let is_own_digest =
                named.is_none() && entry.annotations.get(REPOSITORY) == Some(&self.name);
            entry.digest == *digest && (is_own_tag || is_own_digest)
        })?;
        Ok(removed)
    }
}

/// All repositories by the names under which they are served, sorted.
pub(super) fn catalog(store: &Store) -> Result<Vec<String>, ApiError> {
    let mut names = std::collections::BTreeSet::new();
    for entry in store.blobs().entries()? {
        let reference = entry
            .annotations
            .get(REF_NAME)
            .and_then(|name| normal(name));
        let name = match reference {
            Some(reference) if reference.registry() == OWN_REGISTRY => {
                Some(reference.repository().to_owned())
            }
            Some(reference) => Some(reference.name()),
            None => entry.annotations.get(REPOSITORY).cloned(),
        };
        // A registry with a port cannot be part of a repository's name.
        names.extend(name.filter(|name| Repository::parse(name).is_ok()));
    }
    Ok(names.into_iter().collect())
}

/// A reference in the store's own form; other tools' names are not served.
fn normal(name: &str) -> Option<Reference> {
    let reference: Reference = name.parse().ok()?;
    (reference.to_string() == name).then_some(reference)
}
