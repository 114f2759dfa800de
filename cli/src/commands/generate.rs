//! `wythe completion`, and the manual pages.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::args::Cli;
use crate::render;

pub(crate) fn completion(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wythe", &mut script);
    render::stdout_bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(dir: &Path) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    // The date would change the pages each day.
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("cannot write the pages to {}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
