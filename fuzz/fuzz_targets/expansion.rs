//! Any text expands or is refused, within its limits, in every mode.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use wythe_builder::parse::{Expander, MAX_EXPANDED_BYTES};

fuzz_target!(|text: &str| {
    let environment: BTreeMap<String, String> =
        [("A", "apple"), ("E", ""), ("L", "a\nb\n\nc"), ("S", "two words")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
    for escape in ['\\', '`'] {
        let expander = Expander::new(escape);
        if let Ok(expanded) = expander.word(text, &environment) {
            // Escapes and the like are counted once, nested results once a level.
            assert!(expanded.text.len() <= 2 * MAX_EXPANDED_BYTES);
        }
        let _ = expander.words(text, &environment);
        let _ = expander.display(text, &environment);
        let _ = expander.heredoc(text, &environment);
    }
});
