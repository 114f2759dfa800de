//! Layers, from the noun to the mount: the OCI vocabulary, a content-addressed blob store, tar
//! streams, file trees and snapshots of stacked trees.
//!
//! No network and no process launching here. Floors, each built on the ones before it:
//! [`spec`] → [`stream`], [`tree`] → [`tar`], [`store`] → [`layer`], [`image`] → [`snapshot`].

pub mod error;
pub mod image;
pub mod layer;
pub mod progress;
pub mod snapshot;
pub mod spec;
pub mod store;
pub mod stream;
pub mod tar;
pub mod tree;

pub use error::{Error, Result};

#[cfg(test)]
mod testing;
