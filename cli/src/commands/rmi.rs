//! `wythe rmi`

use std::process::ExitCode;

use crate::args::RmiArgs;
use crate::render;
use crate::settings::{NoSuchImage, Settings};
use crate::wire;

pub(crate) fn run(settings: &Settings, args: &RmiArgs) -> anyhow::Result<ExitCode> {
    // Layer trees of a user with sub-ids hold files of those ids: only inside may they be removed.
    wire::enter_user_namespace()?;
    let store = settings.store()?;
    for reference in &args.images {
        if store.tag(reference)?.is_none() && !args.force {
            return Err(NoSuchImage {
                reference: reference.clone(),
            }
            .into());
        }
    }
    for reference in &args.images {
        if store.remove_tag(reference)? {
            render::stderr_line(&format!("removed {}", reference.familiar()));
        }
    }
    if !args.no_prune {
        wire::collect_garbage(store)?;
    }
    Ok(ExitCode::SUCCESS)
}
