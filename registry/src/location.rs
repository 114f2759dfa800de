//! Names of places where images are, as skopeo spells them (containers-transports(5)).
//!
//! ```text
//! [docker://]REFERENCE            a registry
//! oci:DIRECTORY[:NAME]            an OCI image layout
//! oci-archive:FILE[:NAME]         the same in a tar
//! docker-archive:FILE[:REFERENCE|:@INDEX]   what `docker save` writes
//! ```
//! The path ends at its first colon, as it does for skopeo.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use wythe_layers::spec::Reference;

use crate::error::Error;

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Location {
    /// In a registry.
    Registry(Reference),
    /// In a directory.
    Oci {
        /// The directory.
        path: PathBuf,
        /// Which of its images: the value of `org.opencontainers.image.ref.name`.
        name: Option<String>,
    },
    /// In a tar of such a directory.
    OciArchive {
        /// The file; `-` is standard input or output.
        path: PathBuf,
        /// Which of its images.
        name: Option<String>,
    },
    /// In a tar as `docker save` writes it.
    DockerArchive {
        /// The file; `-` is standard input or output.
        path: PathBuf,
        /// Which of its images: a reference, or `@` and a number.
        name: Option<String>,
    },
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Location {
            text: text.chars().take(300).collect(),
            reason,
        };
        let registry = |reference: &str| {
            reference
                .parse()
                .map(Self::Registry)
                .map_err(|error| invalid(reason_of(&error)))
        };
        let Some((transport, rest)) = text.split_once(':') else {
            return registry(text);
        };
        let place = || {
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name)),
                None => (rest, None),
            };
            if path.is_empty() {
                return Err(invalid("it names no file".into()));
            }
            match name {
                Some("") => Err(invalid("nothing follows the last colon".into())),
                name => Ok((PathBuf::from(path), name.map(str::to_owned))),
            }
        };
        match transport {
            "docker" if rest.starts_with("//") => registry(rest.trim_start_matches("//")),
            "oci" => place().map(|(path, name)| Self::Oci { path, name }),
            "oci-archive" => place().map(|(path, name)| Self::OciArchive { path, name }),
            "docker-archive" => {
                let (path, name) = place()?;
                if let Some(name) = &name {
                    check_selector(name).map_err(invalid)?;
                }
                Ok(Self::DockerArchive { path, name })
            }
            "dir" | "docker-daemon" | "containers-storage" | "sif" | "ostree" => Err(invalid(
                format!("the transport {transport} is not supported"),
            )),
            _ => registry(text),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, name) = match self {
            Self::Registry(reference) => return write!(f, "docker://{reference}"),
            Self::Oci { path, name } => ("oci", path, name),
            Self::OciArchive { path, name } => ("oci-archive", path, name),
            Self::DockerArchive { path, name } => ("docker-archive", path, name),
        };
        write!(f, "{transport}:{}", path.display())?;
        match name {
            Some(name) => write!(f, ":{name}"),
            None => Ok(()),
        }
    }
}

fn reason_of(error: &wythe_layers::spec::SpecError) -> String {
    match error {
        wythe_layers::spec::SpecError::Reference { reason, .. } => (*reason).to_owned(),
        other => other.to_string(),
    }
}

fn check_selector(name: &str) -> Result<(), String> {
    match name.strip_prefix('@') {
        Some(number) => number
            .parse::<usize>()
            .map(|_| ())
            .map_err(|_| "what follows the @ is not a number".into()),
        None => name
            .parse::<Reference>()
            .map(|_| ())
            .map_err(|error| reason_of(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_as_skopeo_spells_them() {
        for (text, shown) in [
            ("ubuntu", "docker://docker.io/library/ubuntu:latest"),
            ("docker://ubuntu:1", "docker://docker.io/library/ubuntu:1"),
            ("localhost:5000/a:b", "docker://localhost:5000/a:b"),
            ("app:tag", "docker://docker.io/library/app:tag"),
            ("oci:dir", "oci:dir"),
            ("oci:/a/b:name:with:colons", "oci:/a/b:name:with:colons"),
            ("oci-archive:x.tar:v1", "oci-archive:x.tar:v1"),
            ("docker-archive:-", "docker-archive:-"),
            ("docker-archive:x.tar:app:1", "docker-archive:x.tar:app:1"),
            ("docker-archive:x.tar:@2", "docker-archive:x.tar:@2"),
        ] {
            let location: Location = text.parse().unwrap();
            assert_eq!(location.to_string(), shown);
            assert_eq!(shown.parse::<Location>().unwrap(), location);
        }
        for bad in [
            "",
            "oci:",
            "oci::x",
            "oci-archive:x:",
            "docker-archive:x:UPPER",
            "docker-archive:x:@y",
            "docker-daemon:x:1",
            "docker://",
            "dir:/x",
        ] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }
}
