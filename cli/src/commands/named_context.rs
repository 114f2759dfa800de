//! `--build-context NAME=…`: contexts beside the main one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use wythe_builder::{Cancel, ImageAt, NamedContext};
use wythe_layers::spec::{Digest, Reference};
use wythe_registry::{Archive, Location};

use super::context::{Access, Files, Found, Place};
use crate::args::BuildArgs;
use crate::settings::Settings;
use crate::wire;

/// Where a named context is.
pub(super) enum NamedSource {
    Image(Reference),
    Layout(Layout),
    Empty,
    Files(Place),
}

/// `oci-layout://DIRECTORY[:TAG][@DIGEST]`.
pub(super) struct Layout {
    directory: PathBuf,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// `--build-context` in order; the last one of a name counts.
pub(super) fn all(args: &BuildArgs) -> anyhow::Result<Vec<(String, NamedSource)>> {
    let parse = |(name, source): (String, String)| {
        let parsed = named_source(&source).with_context(|| format!("--build-context {name}"))?;
        Ok((wythe_builder::context_name(&name), parsed))
    };
    super::request::pairs("--build-context", &args.build_contexts)?
        .into_iter()
        .map(parse)
        .collect()
}

fn named_source(source: &str) -> anyhow::Result<NamedSource> {
    for scheme in ["docker-image://", "container-image://", "docker://"] {
        if let Some(name) = source.strip_prefix(scheme) {
            if name == "scratch" {
                return Ok(NamedSource::Empty);
            }
            return Ok(NamedSource::Image(name.parse()?));
        }
    }
    if let Some(rest) = source.strip_prefix("oci-layout://") {
        return Layout::parse(rest).map(NamedSource::Layout);
    }
    let place = Place::parse(Path::new(source))?;
    ensure!(
        place != Place::Stdin,
        "standard input cannot be a named context"
    );
    Ok(NamedSource::Files(place))
}

impl Layout {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (directory, tag) = match rest.split_once(':') {
            Some((directory, tag)) => (directory, Some(tag.to_owned())),
            None => (rest, None),
        };
        ensure!(
            !directory.is_empty(),
            "oci-layout://{text} names no directory"
        );
        ensure!(
            tag.as_deref() != Some(""),
            "oci-layout://{text} has an empty tag"
        );
        Ok(Self {
            directory: directory.into(),
            tag,
            digest,
        })
    }

    /// Of a digest that image; else what is called like the tag; else `latest`, or the only one.
    fn open(self, settings: &Settings, name: &str) -> anyhow::Result<ImageAt> {
        let location = Location::Oci {
            path: self.directory,
            name: None,
        };
        let archive = Archive::open(&location, &wire::scratch(settings))?;
        let image = match (&self.digest, &self.tag) {
            (Some(digest), _) => archive.find(digest)?,
            (None, Some(tag)) => archive.select(Some(tag))?,
            (None, None) => match archive.select(Some("latest")) {
                Ok(image) => image,
                Err(_) => archive.select(None)?,
            },
        };
        // BuildKit calls it so too.
        let digest = &image.descriptor().digest;
        let called = format!("{name}@{digest}").parse();
        let reference = called.or_else(|_| format!("layout@{digest}").parse())?;
        Ok(ImageAt {
            reference,
            source: Arc::new(image),
        })
    }
}

impl NamedSource {
    pub(super) fn get(
        self,
        settings: &Settings,
        name: &str,
        access: &Access,
        cancel: &Cancel,
        kept: &mut Vec<TempDir>,
    ) -> anyhow::Result<(NamedContext, Option<i64>)> {
        let place = match self {
            Self::Image(reference) => return Ok((NamedContext::Image(reference), None)),
            Self::Empty => return Ok((NamedContext::Empty, None)),
            Self::Layout(layout) => {
                let image = layout.open(settings, name);
                let image = image.with_context(|| format!("--build-context {name}"))?;
                return Ok((NamedContext::Layout(image), None));
            }
            Self::Files(place) => place,
        };
        match place.get(settings, access, cancel)? {
            Found::Directory(Files {
                directory,
                keeper,
                time,
            }) => {
                kept.extend(keeper);
                Ok((NamedContext::Directory(directory), time))
            }
            Found::Dockerfile(..) => bail!("the named context {name} is not an archive"),
        }
    }
}
