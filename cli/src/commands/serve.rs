//! `wythe serve`

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use wythe_registry::serve::{ServeOptions, Server, Shutdown};

use super::whole_file;
use crate::args::ServeArgs;
use crate::render;
use crate::settings::Settings;
use crate::wire;

/// How often the server's end is asked for.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// How long requests that are under way when the end is asked for may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(settings: &Settings, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    // A built image is made whole when it is first pulled, and that reads layer trees.
    wire::enter_user_namespace()?;
    let store = settings.store()?;
    let server = Server::bind(args.listen, store, ServeOptions::default())?;
    let address = server.addr();
    let cancel = wire::cancel_on_signals(PATIENCE)?.cancel;
    let shutdown = Shutdown::new();
    let trigger = shutdown.clone();
    std::thread::Builder::new()
        .name("shutdown".into())
        .spawn(move || {
            while !cancel.is_cancelled() {
                std::thread::sleep(SIGNAL_INTERVAL);
            }
            trigger.trigger();
        })
        .context("cannot start a thread")?;
    if let Some(path) = &args.port_file {
        whole_file::write(path, &format!("{address}\n"))?;
    }
    render::stderr_line(&format!("serving on http://{address}; Ctrl-C ends it"));
    server.run(&shutdown)?;
    Ok(ExitCode::SUCCESS)
}
