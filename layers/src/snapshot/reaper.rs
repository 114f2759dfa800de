//! Removing finished snapshots beside the work: unmounting waits for the kernel's grace periods,
//! and file systems that discard freed blocks at once take milliseconds for every directory.
//!
//! A reaper that is dropped waits until all is removed; a process that is killed before leaves
//! what the next one sweeps.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use crate::layer::scratch::Scratch;

/// What a snapshot leaves behind. Dropped, it is removed; the mount before its directories.
#[derive(Debug)]
pub(super) struct Rubbish {
    pub(super) mount: Option<OwnedFd>,
    pub(super) scratch: Scratch,
}

/// A thread that removes rubbish, started with the first.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    sender: Sender<Rubbish>,
    thread: JoinHandle<()>,
}

impl Reaper {
    /// Removes `rubbish` soon; at once where no thread can be had.
    pub(super) fn take(&self, rubbish: Rubbish) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            let (sender, receiver) = channel::<Rubbish>();
            let thread = Builder::new()
                .name("snapshot-reaper".into())
                .spawn(move || {
                    for Rubbish { mount, scratch } in receiver {
                        drop(mount);
                        drop(scratch);
                    }
                });
            *running = thread.ok().map(|thread| Running { sender, thread });
        }
        if let Some(running) = running.as_ref() {
            // Sending fails when the thread is gone; the error holds the rubbish, and drops it.
            drop(running.sender.send(rubbish));
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { sender, thread }) = running.take() {
            drop(sender);
            // A panic there was reported already, and left rubbish for the next sweep.
            let _ = thread.join();
        }
    }
}
