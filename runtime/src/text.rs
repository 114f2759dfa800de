//! Text of the operating system inside the plan.
//!
//! Arguments, variables and paths are bytes on Linux, JSON strings are not. [`OsText`] writes a
//! string where the bytes are UTF-8 (nearly always) and a list of bytes where they are not, so a
//! plan stays readable and still carries every name a file can have.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An argument, a variable or a path: any bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OsText(OsString);

impl OsText {
    /// As the operating system's string.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// As a path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// As bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Turned into a path.
    pub fn into_path(self) -> PathBuf {
        PathBuf::from(self.0)
    }
}

impl fmt::Debug for OsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<T: Into<OsString>> From<T> for OsText {
    fn from(value: T) -> Self {
        Self(value.into())
    }
}

impl Serialize for OsText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => self.as_bytes().serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for OsText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Bytes(Vec<u8>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::Text(text) => OsString::from(text),
            Form::Bytes(bytes) => OsString::from_vec(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_survive_the_way_through_json() {
        for bytes in [
            &b""[..],
            b"plain",
            "ümlaut".as_bytes(),
            b"\xff\xfe",
            b"a\nb\"c",
        ] {
            let text = OsText::from(OsString::from_vec(bytes.to_vec()));
            let json = serde_json::to_string(&text).unwrap();
            assert_eq!(
                serde_json::from_str::<OsText>(&json).unwrap(),
                text,
                "{json}"
            );
        }
    }
}
