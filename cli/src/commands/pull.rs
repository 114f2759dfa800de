//! `wythe pull`

use std::process::ExitCode;

use anyhow::Context as _;
use wythe_layers::image::{self, ImageSource};
use wythe_layers::progress::SharedObserver;
use wythe_layers::spec::{Descriptor, Platform, Reference};
use wythe_layers::store::Store;

use crate::args::PullArgs;
use crate::render;
use crate::settings::{Settings, default_jobs};
use crate::wire;

pub(crate) fn run(settings: &Settings, args: &PullArgs) -> anyhow::Result<ExitCode> {
    wire::enter_user_namespace()?;
    let store = settings.store()?;
    let host = Platform::host();
    let platform = args.platform.as_ref().unwrap_or(&host);
    let observer = render::progress::observer(args.progress.unless(args.quiet));
    // Layers are many and small as a rule: twice as many downloads as processors keeps them busy.
    let jobs = args.jobs.unwrap_or_else(|| default_jobs() * 2).max(1);
    for name in &args.images {
        let pulled = match wire::archive(name)? {
            Some(archive) => super::load::all(settings, &store, &archive, platform, &observer)?,
            None => {
                let reference: Reference = name.parse()?;
                let descriptor = registry(settings, &store, &reference, platform, jobs, &observer)?;
                vec![(reference, descriptor)]
            }
        };
        for (reference, descriptor) in pulled {
            render::stdout(&format!("{}@{}\n", reference.name(), descriptor.digest))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Pulls one image from its registry and tags it; returns what the tag names.
pub(crate) fn registry(
    settings: &Settings,
    store: &Store,
    reference: &Reference,
    platform: &Platform,
    jobs: usize,
    observer: &SharedObserver,
) -> anyhow::Result<Descriptor> {
    let client = wire::client(settings, store)?;
    let source: &dyn ImageSource = &client;
    let fetch = || {
        let image = source.resolve(reference, platform)?;
        let descriptor = image::fetch(store, source, &image, true, jobs, &**observer)?;
        store.set_tag(reference, &descriptor)?;
        Ok::<_, wythe_layers::Error>(descriptor)
    };
    fetch().with_context(|| format!("cannot pull {}", reference.familiar()))
}
