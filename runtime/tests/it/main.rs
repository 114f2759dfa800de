//! Real containers, as whoever runs the tests: root, or an ordinary user where the machine lets
//! one have user namespaces. Run as root they run twice more: as a user with one ID and, if there
//! is one in /etc/subuid, as a user with many.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is test code, though cargo does not mark binaries without harness as such"
)]

mod basics;
mod fixture;
mod hostile;
mod lifecycle;
mod modes;
mod mounts;
mod privileges;
#[cfg(target_arch = "x86_64")]
mod programs_of_32_bits;
mod rungs;
mod runner;
mod terminal;

use wythe_runtime::{init_hook, userns};

fn main() {
    init_hook();
    let rung = match userns::enter() {
        Ok(rung) => rung,
        Err(error) => {
            eprintln!("SKIPPED everything: needs user namespaces: {error}");
            let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
            std::process::exit(i32::from(required.contains("priv")));
        }
    };
    if modes::run() {
        return;
    }
    println!("isolation: {rung}");
    let tests = [
        basics::TESTS,
        mounts::TESTS,
        privileges::TESTS,
        lifecycle::TESTS,
        terminal::TESTS,
        hostile::TESTS,
        rungs::TESTS,
        #[cfg(target_arch = "x86_64")]
        programs_of_32_bits::TESTS,
    ]
    .concat();
    std::process::exit(runner::run(&tests));
}
