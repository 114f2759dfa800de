//! The nouns of the OCI specifications, as types that cannot be mixed up.
//!
//! Nothing here touches a disk or a network. Documents that are named by digest are held as
//! [`Raw`]: the exact bytes beside the parsed form.

mod config;
mod descriptor;
mod digest;
mod manifest;
mod platform;
mod raw;
mod reference;

pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use descriptor::{Descriptor, MediaType};
pub use digest::{Algorithm, ChainId, DiffId, Digest, Hasher, ImageId};
pub use manifest::{Document, Index, MAX_MANIFEST_BYTES, Manifest};
pub use platform::{Platform, UnknownField};
pub use raw::Raw;
pub use reference::{DEFAULT_REGISTRY, DEFAULT_TAG, Reference};

/// What is wrong with a text or a document of the specifications.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Not a digest.
    #[error("invalid digest {text:?}: {reason}")]
    Digest {
        /// What was given, cut to a printable length.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Not an image reference.
    #[error("invalid image reference {text:?}: {reason}")]
    Reference {
        /// What was given, cut to a printable length.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// Not a platform.
    #[error("invalid platform {text:?}: {reason}")]
    Platform {
        /// What was given.
        text: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A JSON document that is not what it should be.
    #[error("invalid {what}")]
    Json {
        /// The kind of document.
        what: &'static str,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A document that is valid JSON but breaks a rule of its specification.
    #[error("invalid {what}: {reason}")]
    Document {
        /// The kind of document.
        what: &'static str,
        /// Which rule it breaks.
        reason: String,
    },
}
