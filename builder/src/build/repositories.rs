//! Repositories that a build reads: each ref is asked for once, each commit checked out once.
//!
//! A step is known by its commit (`copy::inputs`), so a checkout is made only when a step has to be
//! done. It lies in a scratch directory of the store until the build is over.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use wythe_layers::layer::Scratch;
use wythe_layers::spec::Digest;
use wythe_layers::tree::Timestamp;

use super::Builder;
use super::session::InFlight;
use crate::cache::Index;
use crate::context::Context;
use crate::copy::{self, GitSource, Place, Source};
use crate::ignore::IgnoreRules;
use crate::{
    BoxError, BuildRequest, Cancel, Error, GitCheckout, GitCommit, GitPlace, GitRemote, GitTimes,
    RemoteSource, Result,
};

/// The agent that opens repositories: the only one that `ADD` can name (BuildKit's default).
const AGENT: &str = "default";

/// The repositories of a build.
pub(super) struct Repositories<'a> {
    builder: &'a Builder,
    request: &'a BuildRequest,
    commits: Mutex<BTreeMap<String, GitCommit>>,
    checkouts: Mutex<BTreeMap<Digest, Arc<Checkout>>>,
    busy: InFlight,
}

/// A commit's files; gone when dropped.
#[derive(Debug)]
pub(super) struct Checkout {
    scratch: Scratch,
    committed: Timestamp,
}

impl Checkout {
    /// When it was committed.
    pub(super) fn committed(&self) -> Timestamp {
        self.committed
    }

    fn files(scratch: &Scratch) -> PathBuf {
        scratch.path().join("files")
    }
}

impl<'a> Repositories<'a> {
    pub(super) fn new(builder: &'a Builder, request: &'a BuildRequest) -> Self {
        Self {
            builder,
            request,
            commits: Mutex::default(),
            checkouts: Mutex::default(),
            busy: InFlight::default(),
        }
    }

    /// The commit of a place; asked for only where the place does not say.
    pub(super) fn find_commit(&self, place: &GitPlace, cancel: &Cancel) -> Result<GitCommit> {
        let wrong = |error| place.error(error);
        if let Some(known) = place.known_commit().map_err(wrong)? {
            return Ok(known);
        }
        let name = place.name.as_deref().unwrap_or_default();
        let key = format!("{name} {}", place.repository);
        let _held = self.busy.hold(&Digest::of(key.as_bytes()));
        let known = lock(&self.commits).get(&key).cloned();
        let commit = match known {
            Some(commit) => commit,
            None => {
                let found = self
                    .remote(place)?
                    .find_commit(&self.ask(place)?, cancel)
                    .map_err(failed(place, cancel))?;
                lock(&self.commits).insert(key, found.clone());
                found
            }
        };
        place.check(&commit).map_err(wrong)?;
        Ok(commit)
    }

    /// A commit with its files.
    pub(super) fn checkout(
        &self,
        place: &GitPlace,
        commit: &GitCommit,
        cancel: &Cancel,
    ) -> Result<Arc<Checkout>> {
        let keep_git_dir = place.keeps_git_dir();
        let key = format!(
            "{} {commit:?} {keep_git_dir} {} {:?}",
            place.repository, place.submodules, place.times
        );
        let key = Digest::of(key.as_bytes());
        let _held = self.busy.hold(&key);
        let known = lock(&self.checkouts).get(&key).cloned();
        if let Some(checkout) = known {
            return Ok(checkout);
        }
        let scratch = Scratch::in_store(&self.builder.store)?;
        let into = Checkout::files(&scratch);
        std::fs::create_dir(&into).map_err(Error::io("create", &into))?;
        let wanted = GitCheckout {
            remote: self.ask(place)?,
            commit,
            keep_git_dir,
            submodules: place.submodules,
            times: place.times,
        };
        let done = self
            .remote(place)?
            .checkout(&wanted, &into, cancel)
            .map_err(failed(place, cancel))?;
        let checkout = Arc::new(Checkout {
            scratch,
            committed: done.committed,
        });
        lock(&self.checkouts).insert(key, Arc::clone(&checkout));
        Ok(checkout)
    }

    /// The files of a source, for a step that has to be done; `made_at` is the time of those that
    /// have none of their own. They stay until the build is over.
    pub(super) fn open(
        &self,
        source: &GitSource,
        index: &Index,
        made_at: Timestamp,
        cancel: &Cancel,
    ) -> Result<Source> {
        let place = &source.place;
        let commit = match &source.commit {
            Some(commit) => commit.clone(),
            None => self.find_commit(place, cancel)?,
        };
        let checkout = self.checkout(place, &commit, cancel)?;
        let directory = place
            .find_directory(&Checkout::files(&checkout.scratch))
            .map_err(|error| place.error(error))?;
        let context = Context::open(&directory, IgnoreRules::default(), index)?;
        let files = Place::Context(Arc::new(context));
        let mut found = copy::whole(&files, &source.exclude)?;
        if let (GitTimes::Checkout, Source::Tree { top, below, .. }) = (place.times, &mut found) {
            // Two machines check out at two times, and are to give the same bytes.
            top.entry.mtime = made_at;
            for below in below {
                below.found.entry.mtime = made_at;
            }
        }
        Ok(found)
    }

    fn remote(&self, place: &GitPlace) -> Result<&'a dyn RemoteSource> {
        let remote = self.builder.remote.as_deref();
        remote.ok_or_else(|| Error::NoRemote {
            url: place.repository.to_string(),
        })
    }

    fn ask<'p>(&'p self, place: &'p GitPlace) -> Result<GitRemote<'p>> {
        let agent = self.request.ssh.get(AGENT);
        if place.repository.is_ssh() && agent.is_none() {
            return Err(Error::MissingGrant {
                kind: "ssh agent",
                id: AGENT.to_owned(),
            });
        }
        let secrets = &self.request.secrets;
        Ok(GitRemote {
            repository: &place.repository,
            name: place.name.as_deref(),
            authorization: place.repository.authorization(|name| secrets.get(name)),
            ssh_agent: agent.filter(|_| place.repository.is_ssh()),
        })
    }
}

fn failed<'e>(place: &'e GitPlace, cancel: &'e Cancel) -> impl Fn(BoxError) -> Error + 'e {
    move |source| {
        if cancel.is_cancelled() {
            return Error::Cancelled;
        }
        Error::Remote {
            url: place.repository.to_string(),
            source,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
