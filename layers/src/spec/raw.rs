//! A parsed document with its exact bytes beside it.

use std::ops::Deref;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Descriptor, Digest, MediaType, SpecError};

/// A document and the exact bytes it was parsed from.
///
/// A digest is of the bytes, never of a re-encoding: an unknown field, a space or the order of
/// keys would change it. There is no way to change the value and keep the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw<T> {
    bytes: Vec<u8>,
    value: T,
}

impl<T: DeserializeOwned> Raw<T> {
    /// Parses `bytes`; `what` names the kind of document in the error.
    ///
    /// # Errors
    /// [`SpecError::Json`] when the bytes are not such a document.
    pub fn parse(bytes: Vec<u8>, what: &'static str) -> Result<Self, SpecError> {
        let value =
            serde_json::from_slice(&bytes).map_err(|source| SpecError::Json { what, source })?;
        Ok(Self { bytes, value })
    }
}

impl<T: Serialize> Raw<T> {
    /// Encodes a document made here: compact JSON, maps in key order, so the same value gives the
    /// same bytes.
    ///
    /// # Errors
    /// [`SpecError::Json`] when a map has keys that are not strings; none of our documents has.
    pub fn encode(value: T, what: &'static str) -> Result<Self, SpecError> {
        let bytes =
            serde_json::to_vec(&value).map_err(|source| SpecError::Json { what, source })?;
        Ok(Self { bytes, value })
    }
}

impl<T> Raw<T> {
    /// The exact bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The parsed form.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The parsed form, without its bytes.
    pub(crate) fn into_value(self) -> T {
        self.value
    }

    /// Digest of the exact bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Describes the exact bytes.
    pub fn descriptor(&self, media_type: MediaType) -> Descriptor {
        Descriptor::of(media_type, &self.bytes)
    }
}

impl<T> Deref for Raw<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
