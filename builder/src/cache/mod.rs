//! The build cache: keys of content, and an index from key to result.

mod index;
mod key;

pub use index::cached_stacks;
pub(crate) use index::{CachedResult, Index, RemoteRecord, read_bounded, write_atomically};
pub(crate) use key::{CacheKey, KeyBuilder};
