//! `wythe load`, and every other way of reading images from files.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use wythe_layers::image;
use wythe_layers::progress::SharedObserver;
use wythe_layers::spec::{Descriptor, Platform, Reference};
use wythe_layers::store::Store;
use wythe_registry::Location;
use wythe_registry::{Archive, ArchivedImage};

use crate::args::LoadArgs;
use crate::render;
use crate::settings::{Settings, default_jobs};
use crate::wire;

pub(crate) fn run(settings: &Settings, args: &LoadArgs) -> anyhow::Result<ExitCode> {
    wire::enter_user_namespace()?;
    let store = settings.store()?;
    let observer = render::progress::observer(args.progress.unless(args.quiet));
    let scratch = wire::scratch(settings);
    let archive = match &args.input {
        Some(path) => Archive::open_any(path, &scratch)?,
        None => Archive::open_stream(std::io::stdin(), &scratch)?,
    };
    ensure!(!archive.images().is_empty(), "the archive holds no image");
    let stem = args
        .input
        .as_ref()
        .and_then(|path| path.file_stem())
        .and_then(|stem| stem.to_str());
    for image in archive.images() {
        let names = names(image, stem.unwrap_or("image"), None);
        for (reference, _) in one(
            &store,
            &archive,
            image,
            &names,
            &Platform::host(),
            &observer,
        )? {
            render::stdout(&format!("{reference}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads what a location names into the store; under which names, and what each names.
pub(crate) fn all(
    settings: &Settings,
    store: &Store,
    location: &Location,
    platform: &Platform,
    observer: &SharedObserver,
) -> anyhow::Result<Vec<(Reference, Descriptor)>> {
    let archive = Archive::open(location, &wire::scratch(settings))?;
    let (Location::Oci { path, name }
    | Location::OciArchive { path, name }
    | Location::DockerArchive { path, name }) = location
    else {
        return Ok(Vec::new());
    };
    // Selecting says which image is meant, or why that is not clear.
    let selected = archive.select(name.as_deref())?;
    let wanted = archive
        .images()
        .iter()
        .find(|image| image.descriptor.digest == selected.descriptor().digest)
        .context("the archive holds no such image")?;
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("image");
    let names = names(wanted, stem, name.as_deref());
    one(store, &archive, wanted, &names, platform, observer)
}

/// What an image is called in the store: as in the archive; else `localhost/FILE:NAME`.
fn names(image: &ArchivedImage, stem: &str, name: Option<&str>) -> Vec<Reference> {
    let references = image.references();
    if !references.is_empty() {
        return references;
    }
    let plain = |text: &str| -> String {
        let text: String = text
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let text = text.trim_matches('-').to_owned();
        if text.is_empty() {
            "image".to_owned()
        } else {
            text
        }
    };
    let tag = name
        .or_else(|| image.names.first().map(String::as_str))
        .unwrap_or("latest");
    [
        format!("localhost/{}:{tag}", plain(stem)),
        format!("localhost/{}:{}", plain(stem), plain(tag)),
    ]
    .iter()
    .find_map(|text| text.parse().ok())
    .into_iter()
    .collect()
}

fn one(
    store: &Store,
    archive: &Archive,
    image: &ArchivedImage,
    names: &[Reference],
    platform: &Platform,
    observer: &SharedObserver,
) -> anyhow::Result<Vec<(Reference, Descriptor)>> {
    use wythe_layers::image::ImageSource as _;
    let first = names
        .first()
        .context("an image in the archive has no usable name")?;
    let source = archive.image(image);
    let load = || {
        let resolved = source.resolve(first, platform)?;
        let descriptor =
            image::fetch(store, &source, &resolved, true, default_jobs(), &**observer)?;
        for name in names {
            store.set_tag(name, &descriptor)?;
        }
        Ok::<_, wythe_layers::Error>(descriptor)
    };
    let descriptor = load().with_context(|| format!("cannot load {}", first.familiar()))?;
    Ok(names
        .iter()
        .map(|name| (name.clone(), descriptor.clone()))
        .collect())
}
