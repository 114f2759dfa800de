//! `--output` of `wythe build`: what it says, before anything is built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use wythe_layers::stream::Compression;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// What is written.
    pub(crate) kind: Kind,
    /// Compression of layers that have none yet; `None` is gzip.
    pub(crate) compression: Option<Compression>,
    /// Whether times in new layers are clamped; all outputs have the same layers.
    pub(crate) rewrite_timestamp: Option<bool>,
}

/// What an output writes, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An OCI layout in a tar.
    OciArchive(Target),
    /// An OCI layout as a directory.
    OciDirectory(PathBuf),
    /// What `docker load` reads.
    DockerArchive(Target),
    /// The root file system as one tar.
    Tar(Target),
    /// The root file system as files in a directory.
    Local(PathBuf),
    /// To the registries that the tags name.
    Registry,
    /// Only to the store, which has it anyway.
    Store,
}

/// A file, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `dest=FILE`
    File(PathBuf),
    /// `dest=-`
    Stdout,
}

impl Kind {
    /// Whether standard output is this output's, so that nothing else may be written there.
    pub(crate) fn takes_stdout(&self) -> bool {
        match self {
            Self::OciArchive(target) | Self::DockerArchive(target) | Self::Tar(target) => {
                *target == Target::Stdout
            }
            Self::OciDirectory(_) | Self::Local(_) | Self::Registry | Self::Store => false,
        }
    }
}

impl Target {
    /// The path as it was given: `-` is standard output.
    pub(crate) fn of(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Stdout
        } else {
            Self::File(path.to_owned())
        }
    }
}

impl FromStr for Output {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        // Docker's short form: a directory, or `-` for a tar.
        if !text.contains('=') {
            let kind = if text == "-" {
                Kind::Tar(Target::Stdout)
            } else {
                Kind::Local(text.into())
            };
            return Ok(Self {
                kind,
                compression: None,
                rewrite_timestamp: None,
            });
        }
        let mut keys = BTreeMap::new();
        for part in text.split(',') {
            let (key, value) = part
                .split_once('=')
                .with_context(|| format!("--output {text:?}: {part:?} is not KEY=VALUE"))?;
            keys.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
        let mut take = |key: &str| keys.remove(key);
        let name = take("type").with_context(|| format!("--output {text:?} has no type="))?;
        let dest = take("dest").or_else(|| take("destination"));
        let in_tar = take("tar").is_none_or(|value| value != "false");
        let push = take("push").is_some_and(|value| value != "false");
        let compression = take("compression")
            .map(|name| compression(&name))
            .transpose()?;
        let rewrite_timestamp = match take("rewrite-timestamp").as_deref() {
            None => None,
            Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            Some(other) => {
                bail!("--output {text:?}: rewrite-timestamp is true or false, not {other:?}")
            }
        };
        for ignored in ["name", "oci-mediatypes", "force-compression"] {
            take(ignored);
        }
        let file = || match dest.as_deref() {
            Some(path) => Ok(Target::of(path.as_ref())),
            None => bail!("--output {text:?} has no dest="),
        };
        let directory = || match dest.as_deref() {
            Some("-") | None => bail!("--output {text:?} needs dest=DIRECTORY"),
            Some(path) => Ok(PathBuf::from(path)),
        };
        let kind = match name.as_str() {
            "oci" if in_tar => Kind::OciArchive(file()?),
            "oci" => Kind::OciDirectory(directory()?),
            "docker" if dest.is_none() => Kind::Store,
            "docker" => Kind::DockerArchive(file()?),
            "tar" => Kind::Tar(file()?),
            "local" => Kind::Local(directory()?),
            "registry" => Kind::Registry,
            "image" if push => Kind::Registry,
            "image" | "cacheonly" => Kind::Store,
            other => bail!(
                "--output {text:?}: there is no type {other:?}; there are oci, docker, tar, local, registry and image"
            ),
        };
        if let Some(unknown) = keys.keys().next() {
            bail!(
                "--output {text:?}: there is no key {unknown:?}; there are type, dest, tar, push, compression and rewrite-timestamp"
            );
        }
        Ok(Self {
            kind,
            compression,
            rewrite_timestamp,
        })
    }
}

fn compression(name: &str) -> anyhow::Result<Compression> {
    match name {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "uncompressed" => Ok(Compression::None),
        other => bail!("there is no compression {other:?}; there are gzip, zstd and uncompressed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_as_docker_reads_them() {
        let file = |name: &str| Target::File(name.into());
        for (text, kind) in [
            ("type=oci,dest=a.tar", Kind::OciArchive(file("a.tar"))),
            ("type=oci,dest=-", Kind::OciArchive(Target::Stdout)),
            ("type=oci,tar=false,dest=a", Kind::OciDirectory("a".into())),
            ("type=docker,dest=a.tar", Kind::DockerArchive(file("a.tar"))),
            ("type=docker", Kind::Store),
            ("type=tar,dest=a.tar", Kind::Tar(file("a.tar"))),
            ("type=local,dest=a", Kind::Local("a".into())),
            ("out", Kind::Local("out".into())),
            ("-", Kind::Tar(Target::Stdout)),
            ("type=registry", Kind::Registry),
            ("type=image,push=true", Kind::Registry),
            ("type=image,name=x", Kind::Store),
        ] {
            assert_eq!(text.parse::<Output>().unwrap().kind, kind, "{text}");
        }
        for (text, takes) in [
            ("-", true),
            ("type=oci,destination=-", true),
            ("type=docker,dest=-", true),
            ("type=tar,dest=-x", false),
            ("type=local,dest=a", false),
        ] {
            let output: Output = text.parse().unwrap();
            assert_eq!(output.kind.takes_stdout(), takes, "{text}");
        }
        let zstd: Output = "type=oci,dest=a,compression=zstd".parse().unwrap();
        assert_eq!(zstd.compression, Some(Compression::Zstd));
        for (value, expected) in [("true", true), ("false", false)] {
            let text = format!("type=oci,dest=a,rewrite-timestamp={value}");
            let output: Output = text.parse().unwrap();
            assert_eq!(output.rewrite_timestamp, Some(expected));
        }
        for bad in [
            "type=oci,dest=a,rewrite-timestamp=2001",
            "type=oci",
            "type=local",
            "dest=a",
            "type=zip,dest=a",
            "type=oci,dest=a,speed=9",
            "type=oci,dest=a,x",
        ] {
            assert!(bad.parse::<Output>().is_err(), "{bad}");
        }
    }
}
