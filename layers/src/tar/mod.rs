//! Tar: bytes → entries with hard limits, entries → canonical bytes. image-spec `layer.md`.
//!
//! Headers are laid out and encoded by the `tar` crate; the loop over the archive, the PAX
//! records, sparse files and all limits are ours: the crate reads PAX sparse files wrongly without
//! an error, cuts PAX values at line feeds, and has no limits.
//!
//! Reading treats every byte as hostile. Where readers of the world differ on an archive, we go
//! with Go's `archive/tar`, which every other OCI tool reads layers with, or refuse.

mod header;
pub mod limits;
mod names;
mod number;
mod pax;
mod problem;
mod reader;
mod source;
mod sparse;
#[cfg(test)]
mod tests;
mod writer;

pub use problem::TarProblem;
pub use reader::{Chunk, Content, TarReader};
pub use writer::TarWriter;
