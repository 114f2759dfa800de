//! `wythe version`

use std::process::ExitCode;

use serde_json::json;
use wythe_layers::spec::Platform;

use crate::args::{Format, VersionArgs};
use crate::render;

pub(crate) fn run(args: &VersionArgs) -> anyhow::Result<ExitCode> {
    let version = env!("CARGO_PKG_VERSION");
    let platform = Platform::host();
    match args.format {
        Format::Json => {
            render::json(&json!({ "version": version, "platform": platform.to_string() }))?
        }
        Format::Table => render::stdout(&format!("wythe {version} ({platform})\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}
