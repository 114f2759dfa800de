//! The private async engine: made at the first request, never before.
//!
//! No thread may exist before the user-namespace re-exec, so nothing here is static.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};

/// Threads that move bytes and decrypt; the work on layers happens in the callers' threads.
const WORKERS: usize = 2;

/// Starts the engine when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Engine(Mutex<Option<Arc<Running>>>);

/// A running engine.
#[derive(Debug)]
pub(super) struct Running(Option<tokio::runtime::Runtime>);

impl Engine {
    pub(super) fn get(&self) -> Result<Arc<Running>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = slot.as_ref() {
            return Ok(Arc::clone(running));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("wythe-registry")
            .enable_io()
            .enable_time()
            .build()
            .map_err(Error::Engine)?;
        let running = Arc::new(Running(Some(runtime)));
        *slot = Some(Arc::clone(&running));
        Ok(running)
    }
}

impl Running {
    pub(super) fn runtime(&self) -> &tokio::runtime::Runtime {
        self.0
            .as_ref()
            .expect("it is taken only when this is dropped")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Not waiting: a name look-up may hang for minutes.
            runtime.shutdown_background();
        }
    }
}
