//! Everything that can go wrong in a build.

/// An error of the outside: of an executor, of a remote source.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// This crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong in a build. Each message is of its own level only; the cause is in
/// `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store, a layer or an image is not as it should be, or cannot be reached.
    #[error(transparent)]
    Layers(#[from] wythe_layers::Error),
    /// Someone asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}
