//! Platforms: `os/architecture[/variant]`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// A platform (image-spec `image-index.md` §platform), in normal form: `x86_64` is `amd64`,
/// `aarch64` is `arm64` without variant, `armhf` is `arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …: Go's GOARCH names.
    pub architecture: String,
    /// `linux`, …: Go's GOOS names.
    pub os: String,
    /// Version of the operating system; used by Windows images.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Required features of the operating system; used by Windows images.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Fields this version does not know (Docker's `features`), kept as they came.
    #[serde(flatten)]
    pub extra: BTreeMap<String, UnknownField>,
}

/// The JSON text of a field that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnknownField(String);

impl Serialize for UnknownField {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: serde_json::Value =
            serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for UnknownField {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(
            serde_json::Value::deserialize(deserializer)?.to_string(),
        ))
    }
}

impl Platform {
    /// A platform in normal form.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let lower = architecture.to_ascii_lowercase();
        let variant = variant
            .filter(|v| !v.is_empty())
            .map(str::to_ascii_lowercase);
        let (architecture, variant) = match (lower.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", None | Some("v1")) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", _) => ("amd64", variant),
            ("i386" | "i486" | "i586" | "i686" | "386", _) => ("386", None),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64" | "arm64", _) => ("arm64", variant),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7".to_owned())),
            ("armel", _) => ("arm", Some("v6".to_owned())),
            ("arm", Some("5" | "6" | "8")) => ("arm", variant.map(|v| format!("v{v}"))),
            (other, _) => (other, variant),
        };
        Self {
            architecture: architecture.to_owned(),
            os,
            os_version: None,
            os_features: Vec::new(),
            variant,
            extra: BTreeMap::new(),
        }
    }

    /// The platform of this machine.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self::new("linux", architecture, None)
    }

    /// Whether an image for `offered` runs where `self` is asked for, and how well: lower is better.
    ///
    /// Exact first; an older ARM variant serves a newer machine; `amd64` without variant serves
    /// any `amd64` variant.
    pub fn match_rank(&self, offered: &Self) -> Option<u32> {
        let offered = Self::new(
            &offered.os,
            &offered.architecture,
            offered.variant.as_deref(),
        );
        if self.os != offered.os {
            return None;
        }
        if self.architecture == "arm64" && offered.architecture == "arm" {
            // A 64-bit ARM machine usually runs 32-bit programs, but never by preference.
            return Some(100 + 8 - variant_number(offered.variant.as_deref(), 7)?.min(8));
        }
        if self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        let default = match self.architecture.as_str() {
            "arm" => 7,
            "arm64" => 8,
            "amd64" => 1,
            _ => return None,
        };
        let wanted = variant_number(self.variant.as_deref(), default)?;
        let have = variant_number(offered.variant.as_deref(), default)?;
        wanted.checked_sub(have)
    }
}

fn variant_number(variant: Option<&str>, default: u32) -> Option<u32> {
    variant.map_or(Some(default), |v| v.strip_prefix('v')?.parse().ok())
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let invalid = |reason| SpecError::Platform {
            text: text.chars().take(80).collect(),
            reason,
        };
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(|part| valid(part)) {
            return Err(invalid(
                "expected os/architecture or os/architecture/variant",
            ));
        }
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            // `--platform arm64` and `--platform linux` both mean something in Docker.
            [one] => {
                let known_os = ["linux", "windows", "darwin", "macos", "freebsd", "wasi"];
                if known_os.contains(&one.to_ascii_lowercase().as_str()) {
                    let host = Self::host();
                    Ok(Self::new(one, &host.architecture, host.variant.as_deref()))
                } else {
                    Ok(Self::new("linux", one, None))
                }
            }
            _ => Err(invalid(
                "expected os/architecture or os/architecture/variant",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_one_normal_form() {
        for (text, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/i686", "linux/386"),
            ("arm64", "linux/arm64"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(
                text.parse::<Platform>().unwrap().to_string(),
                normal,
                "{text}"
            );
        }
        for bad in ["", "/", "linux/", "linux/amd64/v1/x", "lin ux/amd64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_of_any_kind_that_are_not_known_are_kept() {
        let text = r#"{"architecture":"amd64","os":"linux","features":["sse4"],"odd":{"a":1}}"#;
        let platform: Platform = serde_json::from_str(text).unwrap();
        let again: serde_json::Value = serde_json::to_value(&platform).unwrap();
        assert_eq!(
            again,
            serde_json::from_str::<serde_json::Value>(text).unwrap()
        );
    }

    #[test]
    fn the_nearest_older_variant_is_chosen() {
        let rank = |want: &str, have: &str| {
            want.parse::<Platform>()
                .unwrap()
                .match_rank(&have.parse().unwrap())
        };
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/amd64", "linux/arm64"), None);
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), None);
        assert!(rank("linux/arm64", "linux/arm/v7") > rank("linux/arm64", "linux/arm64"));
        assert_eq!(rank("windows/amd64", "linux/amd64"), None);
    }
}
