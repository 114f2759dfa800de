//! What this machine and user allow, and the signals of this process.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use wythe_builder::Cancel;
use wythe_layers::tree::Flavour;
use wythe_runtime::userns::{self, Rung};

/// A process started to become a container's never returns from here.
pub(crate) fn child_hooks() {
    wythe_runtime::init_hook();
}

/// Whether this is root outside of any user namespace.
pub(crate) fn is_real_root() -> bool {
    nix::unistd::geteuid().is_root() && userns::detect() == Rung::RootWithNamespaces
}

/// Whether this process may mount where it stands, without a namespace of its own.
pub(crate) fn can_mount() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// How this process keeps trees, or will once it has entered its user namespace.
pub(crate) fn flavour() -> Flavour {
    match userns::detect() {
        Rung::RootWithNamespaces => Flavour::Root,
        Rung::SubIds { .. } => Flavour::SubIds,
        _ => Flavour::SingleId,
    }
}

/// Makes this process root of a user namespace of its own, where it is not root already. Must be
/// called before any thread exists.
///
/// Where the machine allows no user namespace this is no error: files, downloads and archives need
/// none. Who starts a process calls [`require_user_namespace`] instead.
pub(crate) fn enter_user_namespace() -> anyhow::Result<Rung> {
    match userns::enter() {
        Ok(rung) => Ok(rung),
        Err(wythe_runtime::Error::NoUserNamespaces(reason)) => {
            tracing::debug!(%reason, "no user namespace");
            Ok(Rung::NoNamespaces { reason })
        }
        Err(error) => Err(error).context("cannot enter a user namespace"),
    }
}

/// As [`enter_user_namespace`], but none at all is an error that says why.
pub(crate) fn require_user_namespace() -> anyhow::Result<Rung> {
    Ok(userns::enter()?)
}

/// What Ctrl-C, SIGTERM and SIGHUP did to this process.
pub(crate) struct Interruption {
    /// Set by the first of them.
    pub(crate) cancel: Cancel,
    signal: Arc<AtomicI32>,
}

impl Interruption {
    /// What the process should end with, if there was one: 128 + n, as a shell has it.
    pub(crate) fn exit_code(&self) -> Option<ExitCode> {
        match self.signal.load(Ordering::Acquire) {
            0 => None,
            number => Some(ExitCode::from(u8::try_from(128 + number).unwrap_or(128))),
        }
    }
}

/// From now on the first signal asks for the end. The second one ends the process at once, and so
/// does `patience` after the first: what is half done then is no loss, as after a crash.
pub(crate) fn cancel_on_signals(patience: Duration) -> anyhow::Result<Interruption> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Blocked in this thread and in those that come after it; only the watcher takes them.
    signals.thread_block().context("cannot block signals")?;
    let cancel = Cancel::default();
    let signal = Arc::new(AtomicI32::new(0));
    let (asked, first) = (cancel.clone(), Arc::clone(&signal));
    let watch = move || {
        while let Ok(signal) = signals.wait() {
            let code = 128 + signal as i32;
            if asked.is_cancelled() {
                std::process::exit(code);
            }
            first.store(signal as i32, Ordering::Release);
            asked.cancel();
            // Where there is no thread for it, a second signal still helps.
            let end = move || {
                std::thread::sleep(patience);
                std::process::exit(code)
            };
            let _ = std::thread::Builder::new()
                .name("patience".into())
                .spawn(end);
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .context("cannot start a thread")?;
    Ok(Interruption { cancel, signal })
}
