//! The `wythe` binary: arguments, wiring, rendering. What it does lives in the libraries.

mod args;
mod commands;
mod env;
mod render;
mod settings;
mod wire;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::args::{Cli, Command};
use crate::env::Environment;
use crate::settings::Settings;

/// The command line was not understood.
const EXIT_USAGE: u8 = 2;
/// `run` failed before the container's own program did (docker-run(1) §Exit status).
const EXIT_RUN_FAILED: u8 = 125;

fn main() -> ExitCode {
    // A process started to become a container's must not go any further than this.
    wire::child_hooks();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let environment = Environment::capture();
    start_logging(cli.global.debug, environment.text("WYTHE_LOG").as_deref());
    let settings = Settings::new(&cli.global, environment);
    let is_run = matches!(cli.command, Command::Run(_));
    match commands::dispatch(&settings, cli.command) {
        Ok(code) => code,
        Err(error) if closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            render::errors::report(&error);
            match error.downcast_ref::<wythe_runtime::Error>() {
                Some(launch) if is_run => ExitCode::from(launch.exit_code()),
                _ if is_run => ExitCode::from(EXIT_RUN_FAILED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Help and version go to standard output with success; mistakes to standard error.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ if names_run(std::env::args().skip(1)) => ExitCode::from(EXIT_RUN_FAILED),
        _ => ExitCode::from(EXIT_USAGE),
    }
}

/// Whether the verb of a command line that was not understood is `run`.
fn names_run(mut args: impl Iterator<Item = String>) -> bool {
    while let Some(argument) = args.next() {
        match argument.as_str() {
            "--root" => drop(args.next()),
            flag if flag.starts_with('-') => {}
            verb => return verb == "run",
        }
    }
    false
}

/// `wythe images | head -1` is not an error.
fn closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
        && error.to_string() == "cannot write to standard output"
}

fn start_logging(debug: u8, directives: Option<&str>) {
    let default = match debug {
        0 => "warn",
        1 => {
            "wythe=debug,wythe_builder=debug,wythe_layers=debug,wythe_registry=debug,wythe_runtime=debug"
        }
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_new(directives.unwrap_or(default))
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}
