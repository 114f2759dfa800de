//! What this machine and user allow, and the signals of this process.

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

/// A flag that the first Ctrl-C or SIGTERM sets; the second one ends the process at once.
pub(crate) fn cancel_on_signals() -> anyhow::Result<Cancel> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Blocked in this thread and in those that come after it; only the watcher takes them.
    signals.thread_block().context("cannot block signals")?;
    let cancel = Cancel::default();
    let seen = cancel.clone();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            while let Ok(signal) = signals.wait() {
                if seen.is_cancelled() {
                    std::process::exit(128 + signal as i32);
                }
                seen.cancel();
            }
        })
        .context("cannot start a thread")?;
    Ok(cancel)
}
