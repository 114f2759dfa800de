//! The container's network.
//!
//! A namespace of its own starts with a loopback device that is down; nothing else is in it. A
//! user-mode network stack (`pasta`) would be started here, against the first process's
//! namespace, before the program runs.

use crate::error::{At, Failure, Stage};
use crate::sys;

/// Makes the network of a fresh namespace usable.
pub(crate) fn set_up_own() -> Result<(), Failure> {
    sys::bring_loopback_up().at(Stage::Network, "lo")
}
