//! As much of the standard test runner as this needs: names, filters, a summary.

use std::panic::catch_unwind;

pub(crate) type Test = (&'static str, fn());

/// `tests![a, b]`: functions with their names.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) const TESTS: &[$crate::runner::Test] = &[$((stringify!($name), $name as fn())),*];
    };
}
pub(crate) use tests;

/// Runs what the arguments select, one after the other; returns the exit code.
pub(crate) fn run(tests: &[Test]) -> i32 {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let selected = tests.iter().filter(|(name, _)| {
        let matches = |filter: &&String| {
            if has("--exact") {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        filters.is_empty() || filters.iter().any(matches)
    });
    if has("--list") {
        selected.for_each(|(name, _)| println!("{name}: test"));
        return 0;
    }
    if has("--ignored") {
        return 0;
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in selected {
        match catch_unwind(test) {
            Ok(()) => {
                println!("test {name} ... ok");
                passed += 1;
            }
            Err(_) => {
                println!("test {name} ... FAILED");
                failed.push(*name);
            }
        }
    }
    println!("\n{passed} passed; {} failed {failed:?}", failed.len());
    if failed.is_empty() { 0 } else { 101 }
}

/// Says that a test could not be done, or fails where it must be possible.
pub(crate) fn skip(name: &str, needs: &str) {
    let required = std::env::var("WYTHE_REQUIRE").unwrap_or_default();
    assert!(
        !required.contains("priv"),
        "{name} needs {needs}, and WYTHE_REQUIRE has priv"
    );
    eprintln!("SKIPPED {name}: needs {needs}");
}
