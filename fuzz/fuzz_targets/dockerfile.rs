//! Any bytes are read as a Dockerfile or refused with a few messages that can be rendered. What was
//! read prints to text that reads and prints to itself, and the checks say the same of both; checks and
//! descriptions end, whatever the file says.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use wythe_builder::parse::{Dockerfile, Style, lint, parse};

/// What the checks say, without places; and whether they think that the file cannot be built.
fn checked(file: &Dockerfile) -> (Vec<(&'static str, String)>, bool) {
    let none = BTreeMap::new();
    let directive = file.directives.check.as_ref();
    let options = directive.and_then(|text| lint::LintOptions::parse(&text.value).ok());
    let result = lint::lint(&lint::LintInput {
        dockerfile: file,
        options: options.unwrap_or_default(),
        defaults: &none,
        build_args: &none,
        ignore: None,
        stages: None,
        base: &|_, _| Some(lint::BaseImage::default()),
    });
    for warning in result.warnings.iter().take(10) {
        let _ = warning.diagnostic().render(&file.source, Style::Plain);
    }
    let report = lint::LintReport::new(&file.source, &result);
    assert_eq!(
        report.status() == 0,
        result.warnings.is_empty() && result.error.is_none()
    );
    let mut said: Vec<_> = result
        .warnings
        .into_iter()
        // What printing makes right, and what it writes in another way.
        .filter(|warning| !CHANGED.contains(&warning.rule.name))
        .map(|warning| (warning.rule.name, String::new()))
        .collect();
    said.sort_unstable();
    (said, result.error.is_some())
}

const CHANGED: [&str; 4] = [
    "ConsistentInstructionCasing",
    "FromAsCasing",
    "NoEmptyContinuation",
    "InvalidDefinitionDescription",
];

fuzz_target!(|bytes: &[u8]| {
    let file = match parse(bytes, "Dockerfile") {
        Err(error) => {
            assert!(
                error.diagnostics.len() <= 20,
                "a report fits a screen or two"
            );
            let _ = error.render(Style::Plain);
            return;
        }
        Ok(file) => file,
    };
    let printed = file.print();
    let again = parse(printed.as_bytes(), "Dockerfile").expect("canonical text is readable");
    assert_eq!(again.print(), printed);
    assert_eq!(checked(&file), checked(&again), "{printed}");
    let none = BTreeMap::new();
    let _ = lint::targets(&file);
    for target in 0..file.stages().len().min(4) {
        let _ = lint::outline(&lint::OutlineInput {
            dockerfile: &file,
            target: target,
            defaults: &none,
            build_args: &none,
            base: &|_, _| None,
        });
    }
});
