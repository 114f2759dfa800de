//! The new process's side: from our own binary started afresh to the program.
//!
//! `monitor` receives the plan, makes the namespaces, forks the first process and waits for it.
//! The first process attaches the file systems (`root`), then becomes the program (`process`), or,
//! where an init is wanted, its parent (`reaper`). Everything here runs in a process with one
//! thread that nobody else's code runs in.

mod devices;
mod machine_devices;
mod monitor;
mod process;
mod reaper;
mod root;

use std::os::unix::ffi::OsStrExt;

use crate::launch::MONITOR_NAME;
use crate::network;

pub(crate) use process::die_with_parent;

/// Must be the first thing that `main` does. In a process that the launcher started it does not
/// return; in any other it does nothing.
///
/// Nobody gains anything by starting the binary under the launcher's name: such a process has no
/// more rights than who starts it, and without a plan on its standard input it ends.
pub fn init_hook() {
    let name = std::env::args_os().next().unwrap_or_default();
    if name.as_bytes() == MONITOR_NAME.as_bytes() {
        std::process::exit(monitor::run());
    }
    if name.as_bytes() == network::KEEPER_NAME.as_bytes() {
        std::process::exit(network::keep());
    }
}
