//! Any bytes are read as a Dockerfile or refused with a message that can be rendered; what was read
//! prints to text that reads and prints to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wythe_builder::parse::{Style, parse};

fuzz_target!(|bytes: &[u8]| {
    match parse(bytes, "Dockerfile") {
        Err(error) => {
            let _ = error.render(Style::Plain);
        }
        Ok(file) => {
            let printed = file.print();
            let again = parse(printed.as_bytes(), "Dockerfile").expect("canonical text is readable");
            assert_eq!(again.print(), printed);
        }
    }
});
