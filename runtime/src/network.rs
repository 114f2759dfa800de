//! The container's network.
//!
//! A network namespace starts with a loopback device that is down and nothing else. Where a
//! container gets one of its own, [`set_up_own`] brings the device up. Where it is to reach the
//! outside as well, it joins a namespace of [`Outside`], which keeps several of them:
//!
//! ```text
//! caller ─ Outside ─ spawn ─► keeper (our binary afresh) ─ fork ─► holder: pid 1 of its own
//!    │  one Entry each   │ ends with the caller                      │ makes the namespaces,
//!    │                   └──────────── socket ◄── descriptor ────────┤ waits for an end
//!    └─ Lease: one step at a time                    fork, execve ─► pasta ─► its daemon, twice
//!
//! the host's network ◄── pasta ──◄ an empty namespace ◄── pasta ──◄ the container's namespace
//! ```
//! `pasta` (of passt) is a user-mode network stack: it turns what comes out of a device in one
//! namespace into ordinary sockets of another. Nothing needs a privilege for that.
//!
//! # What a container cannot reach
//! No port is forwarded in any direction and the gateway's address is not mapped to the host. Yet a
//! packet for a loopback address can be made to come out of the device: by a socket that is bound
//! to it (any user may, since Linux 5.7, and no route prevents it), or by hand with `CAP_NET_RAW`,
//! which containers have. A pasta of 2023 delivers such packets to the loopback of its own side; one
//! of 2025 still those for `::ffff:127.0.0.1`. So there are two of them: what the first takes for
//! its host is a namespace in which nothing listens, and what comes out of that one was made by the
//! kernel for sockets of the first, which are not bound to devices.
//!
//! # Who ends when
//! The kernel ends the keeper's children with it: both pastas live in the process ID namespace of
//! the holder, who gets SIGKILL when the keeper ends, and the keeper ends when the socket to the
//! caller closes, however the caller came to its end. A pasta that dies takes the others along, so
//! an entry whose socket is closed is one not to be used.

mod keeper;
mod outside;
mod resolv;
mod routes;

pub(crate) use keeper::{NAME as KEEPER_NAME, run as keep};
pub use outside::{Lease, NoOutside, Outside};
pub use routes::is_offline;

use crate::error::{At, Failure, Stage};
use crate::sys;

/// Makes the network of a fresh namespace usable.
pub(crate) fn set_up_own() -> Result<(), Failure> {
    sys::bring_loopback_up().at(Stage::Network, "lo")
}
