//! The builder: from a request to an image in the store.
//!
//! A build walks each stage's cache keys forward. As long as they hit, nothing is opened, mounted
//! or fetched: a key needs digests of files and of layers, which are remembered, and a result is
//! a layer's name. The first miss brings in the base's layers and does the work.

mod bases;
mod cache_mount;
pub(crate) mod epoch;
mod finish;
mod keys;
mod mask;
mod materials;
mod mounts;
mod output;
mod remote_file;
mod repositories;
mod run;
mod schedule;
mod session;
mod stage;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use wythe_layers::image::ImageSource;
use wythe_layers::progress::{SharedObserver, Silent};
use wythe_layers::snapshot::Snapshotter;
use wythe_layers::store::Store;

use self::session::{Mode, Session};
use crate::parse::{self, Dockerfile};
use crate::{BuildRequest, BuildResult, Cancel, Executor, RemoteSource, Result};

/// Builds images into a store.
///
/// What is not given is not needed: a Dockerfile without `RUN` builds without an executor, one
/// whose bases are all in the store without an image source.
pub struct Builder {
    store: Store,
    images: Option<Arc<dyn ImageSource>>,
    executor: Option<Arc<dyn Executor>>,
    remote: Option<Arc<dyn RemoteSource>>,
    snapshotter: Option<Arc<dyn Snapshotter>>,
    observer: SharedObserver,
    cancel: Cancel,
}

impl Builder {
    /// Builds into `store`.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            images: None,
            executor: None,
            remote: None,
            snapshotter: None,
            observer: Arc::new(Silent),
            cancel: Cancel::default(),
        }
    }

    /// Where images come from that are not in the store (which is looked at here, as the pull
    /// policy says).
    #[must_use]
    pub fn with_images(mut self, images: Arc<dyn ImageSource>) -> Self {
        self.images = Some(images);
        self
    }

    /// What runs processes.
    #[must_use]
    pub fn with_executor(mut self, executor: Arc<dyn Executor>) -> Self {
        self.executor = Some(executor);
        self
    }

    /// Where remote files come from.
    #[must_use]
    pub fn with_remote(mut self, remote: Arc<dyn RemoteSource>) -> Self {
        self.remote = Some(remote);
        self
    }

    /// What makes root file systems; otherwise the best one that works is found out at the first `RUN`.
    #[must_use]
    pub fn with_snapshotter(mut self, snapshotter: Arc<dyn Snapshotter>) -> Self {
        self.snapshotter = Some(snapshotter);
        self
    }

    /// Who is told of progress.
    #[must_use]
    pub fn with_observer(mut self, observer: SharedObserver) -> Self {
        self.observer = observer;
        self
    }

    /// The flag that stops a build.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// The whole result, if every step is cached; else `None`, and nothing was done.
    ///
    /// Single-threaded, mounts nothing, starts nothing, asks no network: to be called before a
    /// user namespace is entered. Tags are set when there is a result.
    ///
    /// # Errors
    /// When the request is wrong in itself: a syntax error, an unknown stage, a missing file.
    pub fn probe(&self, request: &BuildRequest) -> Result<Option<BuildResult>> {
        let file = read(request)?;
        let Some(request) = epoch::resolve(self, request, &file, Mode::Probe)? else {
            return Ok(None);
        };
        let Some(session) = Session::new(self, &request, &file, Mode::Probe)? else {
            return Ok(None);
        };
        let Some(stages) = schedule::one_by_one(&session)? else {
            return Ok(None);
        };
        let result = finish::image(&session, &stages)?;
        session.save()?;
        schedule::tell(&session, &stages);
        Ok(Some(result))
    }

    /// Whether building this may have to start processes: whether a stage that is needed has a
    /// `RUN`, or a base image that is not in the store (it may bring one as a trigger). What says
    /// no needs no user namespace.
    ///
    /// # Errors
    /// As [`Builder::probe`].
    pub fn may_run_processes(&self, request: &BuildRequest) -> Result<bool> {
        let file = read(request)?;
        let Some(request) = epoch::resolve(self, request, &file, Mode::Probe)? else {
            return Ok(true);
        };
        let session = Session::new(self, &request, &file, Mode::Probe)?;
        Ok(session.is_none_or(|session| session.plan.stages.iter().any(|s| s.runs_processes())))
    }

    /// Builds.
    ///
    /// # Errors
    /// As [`crate::Error`] says; nothing is tagged then.
    pub fn build(&self, request: &BuildRequest) -> Result<BuildResult> {
        let file = read(request)?;
        let request = epoch::resolve(self, request, &file, Mode::Build)?;
        let request = request.ok_or(crate::Error::Cancelled)?;
        let Some(session) = Session::new(self, &request, &file, Mode::Build)? else {
            // Only a probe gives up on an image.
            return Err(crate::Error::Cancelled);
        };
        let built = schedule::at_once(&session);
        // What was learned of the context is worth keeping even if a step failed.
        let saved = session.save();
        let result = finish::image(&session, &built?)?;
        saved?;
        Ok(result)
    }
}

fn read(request: &BuildRequest) -> Result<Dockerfile> {
    let input = &request.dockerfile;
    Ok(parse::parse(&input.bytes, &input.name)?)
}
