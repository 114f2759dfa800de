//! Runs a program over a directory: `launch [-i] [-t] [--init] [--host] [-u USER] ROOTFS PROGRAM…`.
//! For measuring beside other launchers.

use wythe_runtime::{Bundle, Input, Network, Relay, Rootfs, Stream, init_hook, launch, userns};

fn run() -> Result<u8, wythe_runtime::Error> {
    let rung = userns::enter()?;
    let mut args = std::env::args_os().skip(1).peekable();
    let mut flags = Vec::new();
    while let Some(flag) = args.next_if(|arg| arg.to_string_lossy().starts_with('-')) {
        flags.push(flag);
    }
    let has = |name: &str| flags.iter().any(|flag| flag == name);
    let root = args.next().unwrap_or_default();
    let mut bundle = Bundle::new(Rootfs::Directory(root.into()), args);
    bundle.init = has("--init");
    if has("--host") {
        bundle.network = Network::Host;
    }
    if has("-v") {
        #[expect(clippy::print_stderr, reason = "an example's own output")]
        {
            eprintln!("{rung}");
        }
    }
    if has("-i") {
        bundle.stdio.stdin = Stream::Inherit;
    }
    bundle.stdio.stdout = Stream::Inherit;
    bundle.stdio.stderr = Stream::Inherit;
    if has("-t") {
        bundle.process.terminal = Some(Relay::terminal_size().unwrap_or_default());
    }
    let relay = Relay::install()?;
    let container = launch(bundle.validate()?)?;
    let input = if has("-i") {
        Input::Attached
    } else {
        Input::Detached
    };
    Ok(relay.wait(container, input)?.code())
}

fn main() {
    init_hook();
    let code = run().unwrap_or_else(|error| {
        #[expect(clippy::print_stderr, reason = "an example's own output")]
        {
            let mut source: Option<&dyn std::error::Error> = Some(&error);
            while let Some(error) = source {
                eprintln!("launch: {error}");
                source = error.source();
            }
        }
        error.exit_code()
    });
    std::process::exit(code.into());
}
