//! Platforms: `os/architecture[/variant]`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// The operating systems that may stand alone: those of Go's GOOS that containerd knows.
const SYSTEMS: [&str; 18] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "wasi",
    "windows",
    "zos",
];

/// The architectures that may stand alone: those of Go's GOARCH that containerd knows.
const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

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
    /// As BuildKit has it (containerd's `platforms.Only`): exact first, then older variants, then
    /// what the machine runs beside them: 32-bit x86 on `amd64`, 32-bit ARM on `arm64`.
    pub fn match_rank(&self, offered: &Self) -> Option<u32> {
        let offered = Self::new(
            &offered.os,
            &offered.architecture,
            offered.variant.as_deref(),
        );
        if self.os != offered.os {
            return None;
        }
        if self.architecture == offered.architecture && self.variant == offered.variant {
            return Some(0);
        }
        let candidates = self.older().into_iter().chain(self.beside()).zip(1..);
        candidates
            .map(|((architecture, variant), rank)| {
                let candidate = Self::new(&self.os, architecture, Some(&variant));
                (candidate, rank)
            })
            .find(|(candidate, _)| {
                candidate.architecture == offered.architecture
                    && candidate.variant == offered.variant
            })
            .map(|(_, rank)| rank)
    }

    /// Older variants of this architecture whose programs it runs, the newest first.
    fn older(&self) -> Vec<(&'static str, String)> {
        let variant = self.variant.as_deref();
        match self.architecture.as_str() {
            "amd64" => older_numbers("amd64", variant, 1),
            "arm" => older_numbers("arm", variant, 5),
            "arm64" => older_arm64(variant.unwrap_or("v8")),
            _ => Vec::new(),
        }
    }

    /// Other architectures that machines of this one run the programs of.
    fn beside(&self) -> Vec<(&'static str, String)> {
        match (self.architecture.as_str(), self.variant.as_deref()) {
            ("amd64", _) => vec![("386", String::new())],
            // There is no 32-bit ARM of version 9: those run what version 8 does.
            ("arm64", None) => older_numbers("arm", Some("v9"), 5),
            ("arm64", Some(variant)) if variant.starts_with("v8") || variant.starts_with("v9") => {
                older_numbers("arm", Some("v9"), 5)
            }
            _ => Vec::new(),
        }
    }
}

/// The variants below this one, down to `oldest`.
fn older_numbers(
    architecture: &'static str,
    variant: Option<&str>,
    oldest: u8,
) -> Vec<(&'static str, String)> {
    let number = variant.and_then(|variant| variant.strip_prefix('v')?.parse::<u8>().ok());
    let below = oldest..number.unwrap_or(0);
    below
        .rev()
        .map(|number| (architecture, format!("v{number}")))
        .collect()
}

/// The variants below this one of 64-bit ARM: 9.n has all of 8.(n + 5).
fn older_arm64(variant: &str) -> Vec<(&'static str, String)> {
    let (major, minor) = variant.split_once('.').unwrap_or((variant, "0"));
    let Ok(minor) = minor.parse::<u8>() else {
        return Vec::new();
    };
    let below = |major: u8, end: u8| (0..end).rev().map(move |minor| (major, minor));
    let all: Vec<(u8, u8)> = match major {
        "v8" if minor <= 9 => below(8, minor).collect(),
        "v9" if minor <= 7 => below(9, minor)
            .chain(below(8, (minor + 6).min(10)))
            .collect(),
        _ => Vec::new(),
    };
    all.into_iter()
        .map(|(major, minor)| match minor {
            0 => ("arm64", format!("v{major}")),
            _ => ("arm64", format!("v{major}.{minor}")),
        })
        .collect()
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
        let shape = || invalid("expected os/architecture or os/architecture/variant");
        let parts: Vec<&str> = text.split('/').collect();
        let (os, rest) = parts.split_first().ok_or_else(shape)?;
        let os = Os::parse(os).ok_or_else(shape)?;
        let word = |part: &&str| is_word(part, "_.-");
        if rest.len() > 2 || !rest.iter().all(word) {
            return Err(shape());
        }
        let mut platform = match rest {
            [] => one_word(os.name).ok_or_else(|| {
                invalid("this is neither an operating system nor an architecture")
            })?,
            [architecture, variant @ ..] => {
                Self::new(os.name, architecture, variant.first().copied())
            }
        };
        platform.os_version = os.version;
        platform.os_features = os.features;
        Ok(platform)
    }
}

/// The first part: `os` or `os(version+feature+feature)`, percent signs escaping bytes.
struct Os<'a> {
    name: &'a str,
    version: Option<String>,
    features: Vec<String>,
}

impl<'a> Os<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (name, options) = match text.split_once('(') {
            None => (text, None),
            Some((name, rest)) => (name, Some(rest.strip_suffix(')')?)),
        };
        if !is_word(name, "_-") {
            return None;
        }
        let mut options = options.unwrap_or_default().split('+');
        let version = options.next().unwrap_or_default();
        if !version.is_empty() && !is_word(version, "_.%-") {
            return None;
        }
        let features = options
            .map(|feature| is_word(feature, "_.%-").then(|| unescape(feature))?)
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            name,
            version: Some(unescape(version)?).filter(|version| !version.is_empty()),
            features,
        })
    }
}

/// `--platform arm64` and `--platform linux` both mean something in Docker, as far as the word is known.
fn one_word(word: &str) -> Option<Platform> {
    let host = Platform::host();
    let system = Platform::new(word, &host.architecture, host.variant.as_deref());
    if SYSTEMS.contains(&system.os.as_str()) {
        return Some(system);
    }
    let machine = Platform::new("linux", word, None);
    ARCHITECTURES
        .contains(&machine.architecture.as_str())
        .then_some(machine)
}

/// Letters, digits and these; at least one.
fn is_word(text: &str, more: &str) -> bool {
    let known = |next: char| next.is_ascii_alphanumeric() || more.contains(next);
    !text.is_empty() && text.chars().all(known)
}

/// `%2B` as `+`; `None` where two digits do not follow, or it is no text.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
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
            ("AARCH64", "linux/arm64"),
            ("s390x", "linux/s390x"),
            ("macos/arm64", "darwin/arm64"),
            ("x/y", "x/y"),
            ("linux/a.b-c_d", "linux/a.b-c_d"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(
                text.parse::<Platform>().unwrap().to_string(),
                normal,
                "{text}"
            );
        }
        for bad in [
            "",
            "/",
            "linux/",
            "/amd64",
            "linux/amd64/v1/x",
            "lin ux/amd64",
            "a*b",
            "foo",
            "arm64v8",
            "bad!",
            "a.b/c",
            "linux(1/amd64",
            "linux1)/amd64",
            "linux()x/amd64",
            "linux+x/amd64",
            "linux(1++x)/amd64",
            "linux(%2)/amd64",
            "linux(%zz)/amd64",
            "linux/amd64(1)",
        ] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_system_may_have_a_version_and_features() {
        let read = |text: &str| text.parse::<Platform>().unwrap();
        let windows = read("windows(10.0.1+win32k+a%2Bb)/amd64");
        assert_eq!(windows.os_version.as_deref(), Some("10.0.1"));
        assert_eq!(windows.os_features, ["win32k", "a+b"]);
        assert_eq!(read("linux()/arm64"), read("linux/arm64"));
        assert_eq!(read("windows(1)").os_version.as_deref(), Some("1"));
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
        // What is asked for, then what serves, the best first.
        for (wanted, served) in [
            (
                "linux/amd64/v3",
                "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386",
            ),
            ("linux/amd64", "linux/amd64 linux/386"),
            ("linux/386", "linux/386"),
            ("linux/arm/v7", "linux/arm/v7 linux/arm/v6 linux/arm/v5"),
            ("linux/arm/v6", "linux/arm/v6 linux/arm/v5"),
            (
                "linux/arm64",
                "linux/arm64 linux/arm/v8 linux/arm/v7 linux/arm/v6 linux/arm/v5",
            ),
            (
                "linux/arm64/v8.2",
                "linux/arm64/v8.2 linux/arm64/v8.1 linux/arm64 linux/arm/v7",
            ),
            (
                "linux/arm64/v9.1",
                "linux/arm64/v9.1 linux/arm64/v9 linux/arm64/v8.6 linux/arm64 linux/arm/v8",
            ),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            let ranks: Vec<_> = served.split(' ').map(|have| rank(wanted, have)).collect();
            assert!(ranks.is_sorted(), "{wanted}: {ranks:?}");
            assert_eq!(ranks.first(), Some(&Some(0)), "{wanted}");
            assert!(ranks.iter().all(Option::is_some), "{wanted}: {ranks:?}");
        }
        for (wanted, offered) in [
            ("linux/amd64", "linux/arm64"),
            ("linux/amd64", "linux/amd64/v2"),
            ("linux/386", "linux/amd64"),
            ("linux/arm/v6", "linux/arm/v7"),
            ("linux/arm/v7", "linux/arm64"),
            ("linux/arm64", "linux/arm64/v8.1"),
            ("linux/arm64/v9", "linux/arm64/v8.6"),
            ("windows/amd64", "linux/amd64"),
        ] {
            assert_eq!(rank(wanted, offered), None, "{wanted} {offered}");
        }
    }
}
