//! `COPY` and `ADD`: what is read, where it goes, and the layer that comes of it.
//!
//! Three parts, in this order: [`sources`] finds the files, [`mod@inputs`] gives them
//! to the cache key;
//! [`mod@apply`] puts them into a [`View`](crate::view::View) of the target, by Docker's rules; the
//! caller writes the view's new entries as a layer. Nothing is ever mounted.

mod apply;
mod archive;
mod glob_walk;
mod inputs;
pub(crate) mod owner;
mod place;
mod sources;
#[cfg(test)]
mod tests;

pub(crate) use apply::{Settings, apply};
pub use archive::decompress;
pub(crate) use inputs::inputs;
pub(crate) use place::Place;
pub(crate) use sources::{Found, GitSource, Source, gather, whole};
