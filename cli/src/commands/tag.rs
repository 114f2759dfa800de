//! `wythe tag`

use std::process::ExitCode;

use crate::args::TagArgs;
use crate::settings::{NoSuchImage, Settings};

pub(crate) fn run(settings: &Settings, args: &TagArgs) -> anyhow::Result<ExitCode> {
    let store = settings.store()?;
    let target = store.tag(&args.source)?.ok_or_else(|| NoSuchImage {
        reference: args.source.clone(),
    })?;
    store.set_tag(&args.target, &target)?;
    Ok(ExitCode::SUCCESS)
}
