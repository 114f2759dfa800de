//! A bounded number of threads that work through a list and stop together.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::{Error, Result};

/// Tells the others that the work is in vain because one of them failed.
#[derive(Debug, Default)]
pub(super) struct Cancel(AtomicBool);

impl Cancel {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Does `work` on every item with `jobs` threads at most, beginning them in the items' order.
/// The first error is the result, and whoever still works is told by the flag.
pub(super) fn for_each<T: Sync>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T, &Cancel) -> Result<()> + Sync,
) -> Result<()> {
    let cancel = Cancel::default();
    let next = AtomicUsize::new(0);
    let first_error: Mutex<Option<Error>> = Mutex::new(None);
    let run = || {
        while !cancel.is_set() {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(error) = work(item, &cancel) {
                let mut first = first_error
                    .lock()
                    .unwrap_or_else(|poison| poison.into_inner());
                // Errors of those who were told to stop come later and are not the cause.
                first.get_or_insert(error);
                cancel.0.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(run);
        }
        run();
    });
    let first = first_error
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    first.map_or(Ok(()), Err)
}
