//! Rules that look at the text alone: casing, stage names, descriptions, names of secrets.

use std::collections::BTreeSet;

use super::super::ast::{Dockerfile, From, Instruction, InstructionKind};
use super::reporter::Reporter;

/// Names that mean something else already.
const RESERVED: [&str; 2] = ["context", "scratch"];

/// Words that make a variable look like a secret, and words that make it harmless after all.
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Whether one of the words between underscores is that of a secret and none is harmless.
pub(super) fn looks_secret(name: &str) -> bool {
    let has = |words: &[&str]| {
        name.split('_')
            .any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)))
    };
    // `auth` and `key` alone count, as do `API_KEY` and `key_for_x`; `monkey` does not.
    has(&SECRET) && !has(&HARMLESS)
}

pub(super) fn check(dockerfile: &Dockerfile, reporter: &mut Reporter<'_>) {
    for warning in &dockerfile.warnings {
        if let Some(rule) = warning.rule {
            reporter.report_at(rule, None, warning.span(), warning.message.clone());
        }
    }
    for instruction in &dockerfile.instructions {
        match &instruction.kind {
            InstructionKind::From(from) => check_from(instruction, from, reporter),
            InstructionKind::Maintainer(_) => {
                let detail = "Maintainer instruction is deprecated in favor of using label";
                reporter.report("MaintainerDeprecated", instruction, detail.to_owned());
            }
            InstructionKind::Arg(declarations) => {
                let names: Vec<&str> = declarations
                    .iter()
                    .map(|one| one.name.value.as_str())
                    .collect();
                check_description("ARG", &names, instruction, reporter);
            }
            _ => {}
        }
    }
    check_stage_names(dockerfile, reporter);
    check_casing(dockerfile, reporter);
}

fn check_from(instruction: &Instruction, from: &From, reporter: &mut Reporter<'_>) {
    let Some((keyword, written)) = &from.written_as else {
        return;
    };
    if *written != written.to_lowercase() {
        let detail = format!("Stage name '{written}' should be lowercase");
        reporter.report("StageNameCasing", instruction, detail);
    }
    let own = instruction.keyword.value.as_str();
    let matches = if own == own.to_lowercase() {
        *keyword == keyword.to_lowercase()
    } else {
        own != own.to_uppercase() || *keyword == keyword.to_uppercase()
    };
    if !matches {
        let detail = format!("'{keyword}' and '{own}' keywords' casing do not match");
        reporter.report("FromAsCasing", instruction, detail);
    }
    if let Some(name) = &from.name {
        check_description("FROM", &[name.value.as_str()], instruction, reporter);
    }
}

/// The last comment above has to begin with one of the names.
fn check_description(
    keyword: &str,
    names: &[&str],
    instruction: &Instruction,
    reporter: &mut Reporter<'_>,
) {
    let (Some(comment), Some(first)) = (instruction.comments.last(), names.first()) else {
        return;
    };
    let word = comment.split(' ').next().unwrap_or_default();
    if names.contains(&word) {
        return;
    }
    let example = if names.len() > 1 { "<arg_key>" } else { first };
    let detail =
        format!("Comment for {keyword} should follow the format: `# {example} <description>`");
    reporter.report("InvalidDefinitionDescription", instruction, detail);
}

fn check_stage_names(dockerfile: &Dockerfile, reporter: &mut Reporter<'_>) {
    let mut seen = BTreeSet::new();
    for stage in dockerfile.stages() {
        let Some(name) = stage.name() else { continue };
        if RESERVED.contains(&name) {
            let detail =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            reporter.report_unlocal("ReservedStageName", stage.instruction, detail);
        }
        if !seen.insert(name.to_owned()) {
            let detail = format!("Duplicate stage name {name:?}, stage names should be unique");
            reporter.report_unlocal("DuplicateStageName", stage.instruction, detail);
        }
    }
}

/// All keywords from the first `FROM` on, against the majority of them.
fn check_casing(dockerfile: &Dockerfile, reporter: &mut Reporter<'_>) {
    let in_stages = || {
        dockerfile
            .stages()
            .into_iter()
            .flat_map(|stage| std::iter::once(stage.instruction).chain(stage.body))
    };
    let count = |is: fn(&str) -> bool| in_stages().filter(|one| is(&one.keyword.value)).count();
    let lower = count(|keyword| keyword == keyword.to_lowercase());
    let upper = count(|keyword| keyword == keyword.to_uppercase());
    let (wanted, name) = if lower > upper {
        (str::to_lowercase as fn(&str) -> String, "lowercase")
    } else {
        (str::to_uppercase as fn(&str) -> String, "uppercase")
    };
    for instruction in in_stages() {
        let written = &instruction.keyword.value;
        if *written != wanted(written) {
            let detail = format!(
                "Command '{written}' should match the case of the command majority ({name})"
            );
            reporter.report_unlocal("ConsistentInstructionCasing", instruction, detail);
        }
    }
}
