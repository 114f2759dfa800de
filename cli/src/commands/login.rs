//! `wythe login`

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use wythe_registry::{Credential, Secret};

use crate::args::LoginArgs;
use crate::render;
use crate::settings::Settings;
use crate::wire;

pub(crate) fn run(settings: &Settings, args: &LoginArgs) -> anyhow::Result<ExitCode> {
    if args.password.is_some() {
        render::stderr_line(
            "warning: others on this machine can see the password; use --password-stdin",
        );
    }
    let username = match &args.username {
        Some(name) => name.clone(),
        None => prompt("Username: ")?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => read_line()?,
        None => prompt_hidden("Password: ")?,
    };
    ensure!(
        !username.is_empty() && !password.is_empty(),
        "user name and password must not be empty"
    );
    let credential = Credential::Basic {
        username,
        password: Secret::new(password),
    };
    wire::client_as(settings, credential.clone())?
        .check_login(&args.registry)
        .with_context(|| format!("cannot log in to {}", args.registry))?;
    let place = wire::credentials(settings).store(&args.registry, &credential)?;
    let place = wire::place(&place);
    render::stderr_line(&format!(
        "logged in to {}; the credentials are in {place}",
        args.registry
    ));
    Ok(ExitCode::SUCCESS)
}

fn read_line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .context("cannot read from standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn prompt(text: &str) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("standard input is not a terminal: give --username and --password-stdin");
    }
    write!(std::io::stderr(), "{text}").context("cannot write to the terminal")?;
    read_line()
}

/// Reads a line without showing it.
fn prompt_hidden(text: &str) -> anyhow::Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("standard input is not a terminal: give --password-stdin");
    }
    let before = tcgetattr(&input).context("cannot ask the terminal for its settings")?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Now, &hidden).context("cannot hide the input")?;
    let line = prompt(text);
    let restored =
        tcsetattr(&input, OptionalActions::Now, &before).context("cannot restore the terminal");
    let _ = writeln!(std::io::stderr());
    restored.and(line)
}
