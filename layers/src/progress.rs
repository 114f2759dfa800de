//! Progress, told to whoever renders it. Libraries never print.

use std::sync::Arc;

/// What happens during a long operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A unit of work began. `id` is unique within the operation (a digest's short form, a step number).
    Started {
        /// Unique within the operation.
        id: String,
        /// For people: `layer 1a2b3c`, `[build 2/5] RUN make`.
        label: String,
        /// Total in bytes, where it is known.
        total_bytes: Option<u64>,
    },
    /// More bytes went by since the last event of this id.
    Advanced {
        /// As in `Started`.
        id: String,
        /// Bytes since the last event.
        bytes: u64,
    },
    /// A line of output of a process that the unit runs, without its newline.
    Output {
        /// As in `Started`.
        id: String,
        /// The raw line.
        line: Vec<u8>,
    },
    /// The unit is done.
    Finished {
        /// As in `Started`.
        id: String,
        /// How.
        outcome: Outcome,
    },
    /// Something a person should know; said once per cause.
    Warning {
        /// The whole text.
        message: String,
    },
}

/// How a unit of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not needed: the result existed.
    Cached,
    /// It failed; the error says why.
    Failed,
}

/// Receives events; called from several threads.
pub trait Observer: Send + Sync {
    /// Must return quickly and must not fail.
    fn event(&self, event: Event);
}

/// Shared form of an observer.
pub type SharedObserver = Arc<dyn Observer>;

/// Ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: Event) {}
}
