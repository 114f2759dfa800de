//! The command line, driven as a user would: the real binary, real stores, real processes.
//!
//! Three tiers. Tests without a prefix need nothing but the kernel; `priv_*` need root; `peer_*`
//! need root and other programs. A tier that cannot run says why, and fails where
//! `WYTHE_REQUIRE` names it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

mod bad_input;
mod build;
mod checks;
mod contexts;
mod corpus;
mod crash;
mod debian;
mod hostile;
mod images;
mod insecure;
mod interrupt;
mod login;
mod mistakes;
mod mounts;
mod named_contexts;
mod network;
mod peers;
mod platforms;
mod repositories;
mod run;
mod serve;
mod surroundings;
mod times;
mod together;
mod users;
