//! The builder: from a request to an image in the store.

use std::sync::Arc;

use wythe_layers::image::ImageSource;
use wythe_layers::progress::{SharedObserver, Silent};
use wythe_layers::snapshot::Snapshotter;
use wythe_layers::store::Store;

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
        let _ = (request, &self.store, &self.images, &self.executor);
        let _ = (
            &self.remote,
            &self.snapshotter,
            &self.observer,
            &self.cancel,
        );
        todo!()
    }

    /// Whether building this may have to start processes: whether a stage that is needed has a
    /// `RUN`, or a base image that is not in the store (it may bring one as a trigger). What says
    /// no needs no user namespace.
    ///
    /// # Errors
    /// As [`Builder::probe`].
    pub fn may_run_processes(&self, request: &BuildRequest) -> Result<bool> {
        let _ = request;
        todo!()
    }

    /// Builds.
    ///
    /// # Errors
    /// As [`crate::Error`] says; nothing is tagged then.
    pub fn build(&self, request: &BuildRequest) -> Result<BuildResult> {
        let _ = request;
        todo!()
    }
}
