//! `wythe logout`

use std::process::ExitCode;

use crate::args::LogoutArgs;
use crate::render;
use crate::settings::Settings;
use crate::wire;

pub(crate) fn run(settings: &Settings, args: &LogoutArgs) -> anyhow::Result<ExitCode> {
    let erased = wire::credentials(settings).erase(&args.registry)?;
    if erased.is_empty() {
        render::stderr_line(&format!("not logged in to {}", args.registry));
    }
    for place in erased.iter().map(wire::place) {
        render::stderr_line(&format!(
            "removed the credentials of {} from {place}",
            args.registry
        ));
    }
    Ok(ExitCode::SUCCESS)
}
