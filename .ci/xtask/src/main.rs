//! The repository's own chores, the same for people and for CI.

#![expect(clippy::print_stdout, reason = "a program that talks to people")]

mod check;
mod pages;
mod security;
mod tour;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};

/// The repository's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

/// One chore each.
#[derive(Debug, Subcommand)]
enum Chore {
    /// The one check: formatting, lints, documentation, arrows between crates, file lengths, generated pages
    Check,
    /// The whole way once: build, build again, serve, push, pull into an empty store, run
    Tour,
    /// Write the generated pages (manual, completions) anew
    Pages,
}

fn main() -> anyhow::Result<()> {
    let chore = Cli::parse().chore;
    let repository = repository()?;
    match chore {
        Chore::Check => check::run(&repository),
        Chore::Tour => tour::run(&repository),
        Chore::Pages => pages::write(&repository),
    }
}

/// The repository's top folder, wherever in it this was called.
fn repository() -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec()?;
    Ok(metadata.workspace_root.into_std_path_buf())
}

/// Runs a program and fails unless it succeeds.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

/// `cargo`, the one that called us.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds the binary and says where it is.
fn wythe_binary(repository: &std::path::Path, release: bool) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build
        .current_dir(repository)
        .args(["build", "--quiet", "--package", "wythe"]);
    if release {
        build.arg("--release");
    }
    run(&mut build)?;
    let metadata = cargo_metadata::MetadataCommand::new().no_deps().exec()?;
    let folder = if release { "release" } else { "debug" };
    Ok(metadata
        .target_directory
        .into_std_path_buf()
        .join(folder)
        .join("wythe"))
}
