//! `--call=check|targets`: the answers as data, in the shape of BuildKit's subrequests.
//!
//! Lines count from 1. Fields that are empty are left out, as Go's `omitempty` does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::super::ast::Dockerfile;
use super::super::diagnostic::ParseError;
use super::super::span::{SourceText, Span};
use super::warning::{LintResult, LintWarning};

/// Of an instruction with more lines a place is one range: there may be a warning for each of them.
const MAX_RANGES: usize = 64;

/// A place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Line, from 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub line: usize,
    /// Always 0: BuildKit knows lines only.
    #[serde(skip_serializing_if = "is_zero")]
    pub character: usize,
}

/// From one place to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Range {
    /// First line.
    pub start: Point,
    /// Last line.
    pub end: Point,
}

/// Ranges in one of the sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Location {
    /// Index into the list of sources.
    #[serde(rename = "sourceIndex", skip_serializing_if = "is_zero")]
    pub source_index: usize,
    /// The lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<Range>,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

pub(super) fn is_false(value: &bool) -> bool {
    !*value
}

impl Location {
    /// The lines of a span, one range a line as BuildKit gives them; of many lines one range.
    #[must_use]
    pub fn of(source: &SourceText, span: Span) -> Self {
        let (first, last) = source.lines(span);
        let range = |first, last| Range {
            start: Point {
                line: first,
                character: 0,
            },
            end: Point {
                line: last,
                character: 0,
            },
        };
        let ranges = if last - first < MAX_RANGES {
            (first..=last).map(|line| range(line, line)).collect()
        } else {
            vec![range(first, last)]
        };
        Self {
            source_index: 0,
            ranges,
        }
    }
}

/// One warning of `--call=check`.
#[derive(Clone, Debug, Serialize)]
pub struct ReportWarning {
    /// Name of the rule.
    #[serde(rename = "ruleName")]
    pub rule_name: String,
    /// What the rule asks for.
    pub description: String,
    /// Its page.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// What it says here.
    pub detail: String,
    /// Where.
    pub location: Location,
}

/// Why the file could not be built.
#[derive(Clone, Debug, Serialize)]
pub struct ReportError {
    /// The message.
    pub message: String,
    /// Where.
    pub location: Location,
}

/// A file that locations refer to.
#[derive(Clone, Debug, Serialize)]
pub struct LintSource {
    /// Its name.
    pub filename: String,
    /// `Dockerfile`.
    pub language: String,
    /// Its text in base64.
    pub data: String,
}

/// The answer to `--call=check`.
#[derive(Clone, Debug, Serialize)]
pub struct LintReport {
    /// In file order; `null` when there is none, as BuildKit has it.
    pub warnings: Option<Vec<ReportWarning>>,
    /// The files.
    pub sources: Vec<LintSource>,
    /// Set when the file cannot be built.
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    pub build_error: Option<ReportError>,
}

impl LintReport {
    /// The report on one file.
    #[must_use]
    pub fn new(source: &SourceText, result: &LintResult) -> Self {
        let warnings: Vec<_> = result
            .warnings
            .iter()
            .map(|warning| report_warning(source, warning))
            .collect();
        Self {
            warnings: (!warnings.is_empty()).then_some(warnings),
            sources: vec![LintSource {
                filename: source.name().to_owned(),
                language: "Dockerfile".to_owned(),
                data: base64(source.text().as_bytes()),
            }],
            build_error: result.error.as_ref().map(|error| ReportError {
                message: error.message.clone(),
                location: Location::of(source, error.span()),
            }),
        }
    }

    /// The report on a file that cannot be read at all.
    #[must_use]
    pub fn unreadable(error: &ParseError) -> Self {
        let nothing = LintResult::default();
        let mut report = Self::new(&error.source, &nothing);
        report.build_error = error.diagnostics.first().map(|first| ReportError {
            message: first.message.clone(),
            location: Location::of(&error.source, first.span()),
        });
        report
    }

    /// 0 when there is nothing to say, else 1.
    #[must_use]
    pub fn status(&self) -> u8 {
        u8::from(self.warnings.is_some() || self.build_error.is_some())
    }
}

fn report_warning(source: &SourceText, warning: &LintWarning) -> ReportWarning {
    ReportWarning {
        rule_name: warning.rule.name.to_owned(),
        description: warning.rule.description.to_owned(),
        url: warning.rule.url(),
        detail: warning.detail.clone(),
        location: Location::of(source, warning.whole),
    }
}

/// One stage of `--call=targets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Name of the stage.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether it is built when none is named.
    #[serde(skip_serializing_if = "is_false")]
    pub default: bool,
    /// From the comment above.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it is based on, as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base: String,
    /// `--platform`, as written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// The `FROM`.
    pub location: Location,
}

/// The answer to `--call=targets`.
#[derive(Clone, Debug, Serialize)]
pub struct TargetList {
    /// In file order.
    pub targets: Vec<Target>,
    /// The text in base64.
    pub sources: Vec<String>,
}

/// Lists the stages.
#[must_use]
pub fn targets(dockerfile: &Dockerfile) -> TargetList {
    let stages = dockerfile.stages();
    let last = stages.len().saturating_sub(1);
    let targets = stages
        .iter()
        .map(|stage| Target {
            name: stage.name().unwrap_or_default().to_owned(),
            default: stage.index == last,
            description: stage.from.description.clone().unwrap_or_default(),
            base: stage.from.image.value.clone(),
            platform: stage
                .from
                .platform
                .as_ref()
                .map(|word| word.value.clone())
                .unwrap_or_default(),
            location: Location::of(&dockerfile.source, stage.instruction.code_span()),
        })
        .collect();
    TargetList {
        targets,
        sources: vec![base64(dockerfile.source.text().as_bytes())],
    }
}

/// Standard base64, as Go encodes bytes in JSON.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
