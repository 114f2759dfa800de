//! `COPY` and `ADD`: what is read, where it goes, and the layer that comes of it.
//!
//! Three parts, in this order: [`sources`] finds the files and gives the cache key its inputs;
//! [`apply`] puts them into a [`View`](crate::view::View) of the target, by Docker's rules; the
//! caller writes the view's new entries as a layer. Nothing is ever mounted.

mod apply;
mod archive;
mod glob_walk;
pub(crate) mod owner;
mod sources;
#[cfg(test)]
mod tests;

pub(crate) use apply::{Settings, apply};
pub(crate) use sources::{Found, Place, Source, gather, inputs};
