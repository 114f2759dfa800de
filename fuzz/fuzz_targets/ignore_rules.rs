//! Any bytes are read as ignore rules or refused; nothing that is wanted lies below a directory that is
//! pruned. The path stands before the first NUL, the rules behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wythe_builder::glob::Glob;
use wythe_builder::ignore::IgnoreRules;

fuzz_target!(|bytes: &[u8]| {
    let mut halves = bytes.splitn(2, |byte| *byte == 0);
    let (path, text) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let Ok(path) = std::str::from_utf8(path) else { return };
    if let Ok(pattern) = std::str::from_utf8(text)
        && let Ok(glob) = Glob::parse(pattern)
    {
        let _ = glob.matches(path);
    }
    let Ok(rules) = IgnoreRules::parse(text) else { return };
    let ignored = rules.is_ignored(path);
    let mut matches = rules.root();
    for (at, _) in path.match_indices('/') {
        let directory = &path[..at];
        matches = rules.descend(directory, &matches).1;
        if rules.can_prune(directory, &matches) {
            assert!(ignored, "{directory:?} was pruned, {path:?} is wanted");
        }
    }
});
