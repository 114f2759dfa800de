//! The client against registries: a misbehaving one of our own, and Debian's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests; clippy sees only the tests themselves as tests"
)]

mod archives;
mod hostile;
mod images;
mod peer;
mod pulling;
mod pushing;
mod server;
mod tls;
