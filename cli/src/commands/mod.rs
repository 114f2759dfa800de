//! One verb a file. Each takes the settings and its arguments and says how the process exits.

mod build;
mod check;
mod context;
mod export;
mod generate;
mod history;
mod images;
mod info;
mod inspect;
mod lint;
mod load;
mod login;
mod logout;
mod mount;
mod named_context;
mod output;
mod pull;
mod push;
mod request;
mod rmi;
mod run;
mod sandbox;
mod save;
mod serve;
mod tag;
mod umount;
mod version;
mod whole_file;

use std::process::ExitCode;

use crate::args::Command;
use crate::settings::Settings;

/// Does what the command line says.
pub(crate) fn dispatch(settings: &Settings, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Build(args) => build::run(settings, &args),
        Command::Pull(args) => pull::run(settings, &args),
        Command::Push(args) => push::run(settings, &args),
        Command::Run(args) => run::run(settings, &args),
        Command::Images(args) => images::run(settings, &args),
        Command::Inspect(args) => inspect::run(settings, &args),
        Command::History(args) => history::run(settings, &args),
        Command::Tag(args) => tag::run(settings, &args),
        Command::Rmi(args) => rmi::run(settings, &args),
        Command::Save(args) => save::run(settings, &args),
        Command::Load(args) => load::run(settings, &args),
        Command::Login(args) => login::run(settings, &args),
        Command::Logout(args) => logout::run(settings, &args),
        Command::Serve(args) => serve::run(settings, &args),
        Command::Mount(args) => mount::run(settings, &args),
        Command::Umount(args) => umount::run(&args),
        Command::Info(args) => info::run(settings, &args),
        Command::Version(args) => version::run(&args),
        Command::Completion { shell } => generate::completion(shell),
        Command::Man { dir } => generate::man(&dir),
    }
}
