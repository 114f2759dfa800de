//! Finished layers: their records, their trees, and the merged view of a stack of trees.
//!
//! A layer comes to be in one of three ways, and each reads its content once:
//!
//! | from | by | leaves |
//! | --- | --- | --- |
//! | a body (pull, load) | [`unpack()`], [`unpack_onto`] | blob, tree, record |
//! | entries (COPY, ADD) | [`LayerWriter`] | tree **or** blob, entry list, record |
//! | a snapshot (RUN) | [`crate::snapshot::Snapshot::commit`] | tree, record |
//!
//! [`compress()`] makes the blob that a push or an export wants, when it is wanted.

mod compress;
mod disk;
mod merged;
mod recent;
pub(crate) mod record;
mod resolve;
pub(crate) mod scratch;
mod stack;
pub(crate) mod tree;
mod unpack;
pub(crate) mod writer;

pub use compress::compress;
pub use merged::Found;
pub use record::{LayerRecord, entries, record};
pub use scratch::Scratch;
pub use stack::{LayerStack, Times};
pub use tree::{LayerTree, TreeKey};
pub use unpack::{Unpacked, unpack, unpack_onto};
pub use writer::{LayerWriter, Purpose};

#[cfg(test)]
mod tests;
