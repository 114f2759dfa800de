//! `wythe save`, and every other way of writing images into files.

use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use wythe_layers::image::{self, ResolvedImage, StoredManifest};
use wythe_layers::layer;
use wythe_layers::progress::{SharedObserver, Silent};
use wythe_layers::spec::{Descriptor, DiffId, Platform, Reference};
use wythe_layers::store::Store;
use wythe_layers::stream::Compression;
use wythe_registry::Location;
use wythe_registry::{Export, write_docker_archive, write_layout, write_oci_archive};

use super::output::Target;
use super::whole_file;
use crate::args::{ArchiveFormat, SaveArgs};
use crate::render;
use crate::settings::{NoSuchImage, Settings, default_jobs};
use crate::wire;

/// An image to be written, and its name if it has one.
pub(crate) type Named = (Option<Reference>, Descriptor);

pub(crate) fn run(settings: &Settings, args: &SaveArgs) -> anyhow::Result<ExitCode> {
    // Compressing reads layer trees, whose owners may be this user's sub-ids.
    wire::enter_user_namespace()?;
    let store = settings.store()?;
    let observer = render::progress::observer(args.progress);
    let mut images: Vec<Named> = Vec::new();
    for reference in &args.images {
        let whole = whole(&store, reference, None, &observer)?;
        images.push((Some(reference.clone()), whole));
    }
    let output = args.output.as_deref();
    let target = output.map_or(Target::Stdout, Target::of);
    match args.format {
        ArchiveFormat::DockerArchive => docker_archive(&store, &images, &target)?,
        ArchiveFormat::OciArchive => oci_archive(&store, &images, &target)?,
        ArchiveFormat::OciDir => match target {
            Target::File(path) => oci_directory(&store, &images, &path)?,
            Target::Stdout => bail!("--format oci-dir needs --output DIRECTORY"),
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// The image's real manifest or index, made now if its layers were not compressed yet.
pub(crate) fn whole(
    store: &Store,
    reference: &Reference,
    compression: Option<Compression>,
    observer: &SharedObserver,
) -> anyhow::Result<Descriptor> {
    let tagged = store.tag(reference)?.ok_or_else(|| NoSuchImage {
        reference: reference.clone(),
    })?;
    image::finalise(store, &tagged, compression, default_jobs(), &**observer)
        .with_context(|| format!("cannot compress the layers of {}", reference.familiar()))
}

/// Writes to `oci:`, `oci-archive:` or `docker-archive:`.
pub(crate) fn to_location(
    store: &Store,
    location: &Location,
    images: &[Named],
) -> anyhow::Result<()> {
    let named = |name: &Option<String>| -> anyhow::Result<Vec<Written>> {
        let mut written = resolve(store, images)?;
        if let Some(name) = name {
            written
                .iter_mut()
                .for_each(|image| image.names = vec![name.clone()]);
        }
        Ok(written)
    };
    match location {
        Location::Oci { path, name } => write_directory(store, &named(name)?, path),
        Location::OciArchive { path, name } => {
            let images = named(name)?;
            to_target(&Target::of(path), |sink| {
                Ok(write_oci_archive(&exports(store, &images), sink, &Silent)?)
            })
        }
        Location::DockerArchive { path, name } => {
            let mut images = named(&None)?;
            if let Some(name) = name {
                let reference: Reference = name.parse()?;
                images
                    .iter_mut()
                    .for_each(|image| image.names = vec![reference.to_string()]);
            }
            write_docker(store, &images, &Target::of(path))
        }
        _ => bail!("{location} is not a file"),
    }
}

pub(crate) fn oci_archive(store: &Store, images: &[Named], target: &Target) -> anyhow::Result<()> {
    let images = resolve(store, images)?;
    to_target(target, |sink| {
        Ok(write_oci_archive(&exports(store, &images), sink, &Silent)?)
    })
}

pub(crate) fn oci_directory(store: &Store, images: &[Named], path: &Path) -> anyhow::Result<()> {
    write_directory(store, &resolve(store, images)?, path)
}

pub(crate) fn docker_archive(
    store: &Store,
    images: &[Named],
    target: &Target,
) -> anyhow::Result<()> {
    write_docker(store, &resolve(store, images)?, target)
}

/// An image with everything that an archive says of it.
struct Written {
    image: ResolvedImage,
    names: Vec<String>,
}

/// Same image, several names: written once, named often.
fn resolve(store: &Store, images: &[Named]) -> anyhow::Result<Vec<Written>> {
    let mut written: Vec<Written> = Vec::new();
    for (reference, descriptor) in images {
        let name = reference.as_ref().map(ToString::to_string);
        let known = written
            .iter_mut()
            .find(|known| known.image.descriptor.digest == descriptor.digest);
        if let Some(known) = known {
            known.names.extend(name);
            continue;
        }
        let image = resolved(store, descriptor, reference.as_ref())?;
        written.push(Written {
            image,
            names: name.into_iter().collect(),
        });
    }
    Ok(written)
}

/// A whole image of the store, as a source would have resolved it.
fn resolved(
    store: &Store,
    descriptor: &Descriptor,
    name: Option<&Reference>,
) -> anyhow::Result<ResolvedImage> {
    let stored = image::open_target(store, descriptor, &Platform::host())?
        .with_context(|| format!("image {} is not in the store", descriptor.digest))?;
    let StoredManifest::Whole(manifest) = stored.manifest else {
        bail!(
            "the layers of image {} are not compressed",
            descriptor.digest
        );
    };
    // Only for messages: the blobs come out of the store, whatever the image is called.
    let reference = match name {
        Some(name) => name.clone(),
        None => "localhost/image".parse()?,
    };
    Ok(ResolvedImage {
        reference,
        index: None,
        descriptor: stored.descriptor,
        manifest: *manifest,
        config: stored.config,
    })
}

fn exports<'a>(store: &'a Store, images: &'a [Written]) -> Vec<Export<'a>> {
    images
        .iter()
        .map(|written| Export {
            source: store,
            image: &written.image,
            names: &written.names,
        })
        .collect()
}

fn write_directory(store: &Store, images: &[Written], path: &Path) -> anyhow::Result<()> {
    Ok(write_layout(&exports(store, images), path, &Silent)?)
}

fn write_docker(store: &Store, images: &[Written], target: &Target) -> anyhow::Result<()> {
    let size_of = |diff_id: &DiffId| {
        layer::record(store, diff_id)
            .ok()
            .flatten()
            .map(|record| record.size_bytes)
    };
    to_target(target, |sink| {
        Ok(write_docker_archive(
            &exports(store, images),
            &size_of,
            sink,
            &Silent,
        )?)
    })
}

/// Writes a whole file, or to standard output.
pub(crate) fn to_target(
    target: &Target,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Target::File(path) = target else {
        let stdout = std::io::stdout();
        ensure!(
            !stdout.is_terminal(),
            "an archive is not written to a terminal: give --output, or a pipe"
        );
        let mut sink = BufWriter::with_capacity(1 << 20, stdout.lock());
        write(&mut sink)?;
        return sink.flush().context("cannot write to standard output");
    };
    whole_file::write_with(path, write)
}
