//! `wythe push`

use std::process::ExitCode;

use anyhow::Context as _;
use wythe_layers::progress::SharedObserver;
use wythe_layers::spec::{Descriptor, Reference};
use wythe_layers::store::Store;
use wythe_layers::stream::Compression;

use super::save;
use crate::args::{CompressionArg, PushArgs};
use crate::render;
use crate::settings::{Settings, default_jobs};
use crate::wire;

pub(crate) fn run(settings: &Settings, args: &PushArgs) -> anyhow::Result<ExitCode> {
    // Compressing reads layer trees, whose owners may be this user's sub-ids.
    wire::enter_user_namespace()?;
    let store = settings.store()?;
    let observer = render::progress::observer(args.progress.unless(args.quiet));
    let jobs = args.jobs.unwrap_or_else(default_jobs).max(1);
    let compression = args.compression.map(compression);
    let whole = save::whole(&store, &args.image, compression, &observer)?;
    let destination = args.destination.as_deref();
    if let Some(archive) = destination.map(wire::archive).transpose()?.flatten() {
        save::to_location(
            &store,
            &archive,
            &[(Some(args.image.clone()), whole.clone())],
        )?;
        render::stdout(&format!("{}@{}\n", args.image.name(), whole.digest))?;
        return Ok(ExitCode::SUCCESS);
    }
    let target = match destination {
        Some(name) => name.parse()?,
        None => args.image.clone(),
    };
    registry(settings, &store, &whole, &target, jobs, &observer)?;
    render::stdout(&format!("{}@{}\n", target.name(), whole.digest))?;
    Ok(ExitCode::SUCCESS)
}

/// Pushes a whole image.
pub(crate) fn registry(
    settings: &Settings,
    store: &Store,
    image: &Descriptor,
    target: &Reference,
    jobs: usize,
    observer: &SharedObserver,
) -> anyhow::Result<()> {
    let report = wire::client(settings, store)?
        .push(store, image, target, jobs, &**observer)
        .with_context(|| format!("cannot push {}", target.familiar()))?;
    tracing::debug!(?report, "pushed");
    Ok(())
}

pub(crate) fn compression(argument: CompressionArg) -> Compression {
    match argument {
        CompressionArg::Gzip => Compression::Gzip,
        CompressionArg::Zstd => Compression::Zstd,
        CompressionArg::Uncompressed => Compression::None,
    }
}
