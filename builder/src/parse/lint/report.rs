//! `--call=check|outline|targets`: the answers as data, in the shape of BuildKit's subrequests.
//!
//! Lines count from 1. Fields that are empty are left out, as Go's `omitempty` does.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::super::ast::{Dockerfile, InstructionKind};
use super::super::diagnostic::{Diagnostic, ParseError};
use super::super::expand::Expander;
use super::super::mount::MountType;
use super::super::scope::GlobalScope;
use super::super::span::{SourceText, Span};
use super::super::stages::{Stage, StageRef, Stages, reachable, resolve_base};
use super::super::variables::Variables;
use super::run::{LintResult, LintWarning};

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

fn is_false(value: &bool) -> bool {
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

/// One build argument of `--call=outline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineArg {
    /// Name.
    pub name: String,
    /// From the comment above.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Value it would have.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Its declaration.
    pub location: Location,
}

/// A secret or ssh socket of `--call=outline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutlineMount {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    #[serde(skip_serializing_if = "is_false")]
    pub required: bool,
    /// The first instruction that uses it.
    pub location: Location,
}

/// The answer to `--call=outline`: what one target takes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outline {
    /// Name of the target.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// From the comment above.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Build arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<OutlineArg>,
    /// Secrets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<OutlineMount>,
    /// Agent sockets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh: Vec<OutlineMount>,
    /// The text in base64.
    pub sources: Vec<String>,
}

/// Describes stage `target` with everything it is built from.
///
/// # Errors
/// What cannot be expanded.
pub fn outline(
    dockerfile: &Dockerfile,
    target: usize,
    defaults: &BTreeMap<String, String>,
    build_args: &BTreeMap<String, String>,
) -> Result<Outline, Diagnostic> {
    let expander = Expander::new(dockerfile.directives.escape);
    let scope = GlobalScope::evaluate(dockerfile, defaults, build_args, &expander)?;
    let stages = dockerfile.stages();
    let mut collector = Collector {
        dockerfile,
        build_args,
        expander: expander.clone(),
        used: BTreeSet::new(),
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
        envs: BTreeMap::new(),
        scope,
    };
    for index in reachable(&stages, target, &collector.scope, &expander)? {
        if let Some(stage) = stages.get(index) {
            collector.stage(&stages, stage)?;
        }
    }
    collector.globals();
    let stage = stages.get(target);
    let by_line = |location: &Location| location.ranges.first().map_or(0, |range| range.start.line);
    let mut args: Vec<_> = collector.args.into_values().collect();
    args.sort_by_key(|arg| by_line(&arg.location));
    let sorted = |mounts: BTreeMap<String, OutlineMount>| {
        let mut mounts: Vec<_> = mounts.into_values().collect();
        mounts.sort_by_key(|mount| by_line(&mount.location));
        mounts
    };
    Ok(Outline {
        name: stage.and_then(Stage::name).unwrap_or_default().to_owned(),
        description: stage
            .and_then(|stage| stage.from.description.clone())
            .unwrap_or_default(),
        args,
        secrets: sorted(collector.secrets),
        ssh: sorted(collector.ssh),
        sources: vec![base64(dockerfile.source.text().as_bytes())],
    })
}

struct Collector<'a> {
    dockerfile: &'a Dockerfile,
    build_args: &'a BTreeMap<String, String>,
    expander: Expander,
    /// Global arguments that something uses.
    used: BTreeSet<String>,
    args: BTreeMap<String, OutlineArg>,
    secrets: BTreeMap<String, OutlineMount>,
    ssh: BTreeMap<String, OutlineMount>,
    /// Environment at the end of each stage.
    envs: BTreeMap<usize, Variables>,
    scope: GlobalScope,
}

impl Collector<'_> {
    fn stage(&mut self, stages: &Stages<'_>, stage: &Stage<'_>) -> Result<(), Diagnostic> {
        let error = |span: Span| {
            move |error: super::super::ExpandError| Diagnostic::error(span, error.to_string())
        };
        let image = &stage.from.image;
        let base = self
            .expander
            .word(&image.value, &self.scope.values)
            .map_err(error(image.span))?;
        self.used.extend(base.used);
        if let Some(platform) = &stage.from.platform {
            let found = self
                .expander
                .word(&platform.value, &self.scope.values)
                .map_err(error(platform.span))?;
            self.used.extend(found.used);
        }
        let mut env = match resolve_base(stages, stage.index, &base.text) {
            StageRef::Stage(parent) => self.envs.get(&parent).cloned().unwrap_or_default(),
            StageRef::Image => Variables::default(),
        };
        for instruction in stage.body {
            let location = Location::of(&self.dockerfile.source, instruction.code_span());
            match &instruction.kind {
                InstructionKind::Env(pairs) => {
                    let mut set = Vec::new();
                    for pair in pairs {
                        let key = self
                            .expander
                            .word(&pair.key.value, &env)
                            .map_err(error(pair.key.span))?;
                        let value = self
                            .expander
                            .word(&pair.value.value, &env)
                            .map_err(error(pair.value.span))?;
                        set.push((key.text, value.text));
                    }
                    env.extend(set);
                }
                InstructionKind::Arg(declarations) => {
                    for declaration in declarations {
                        let name = declaration.name.value.clone();
                        let value = match (self.build_args.get(&name), &declaration.default) {
                            (Some(given), _) => Some(given.clone()),
                            (None, Some(default)) => Some(
                                self.expander
                                    .word(&default.value, &env)
                                    .map_err(error(default.span))?
                                    .text,
                            ),
                            (None, None) => self.scope.values.get(&name).cloned(),
                        };
                        if let Some(value) = &value {
                            env.insert(name.clone(), value.clone());
                        }
                        let inherits = declaration.default.is_none()
                            && !self.build_args.contains_key(&name)
                            && self.scope.values.contains_key(&name);
                        self.used.insert(name.clone());
                        if !inherits {
                            let description = declaration.description.clone().unwrap_or_default();
                            let value = value.unwrap_or_default();
                            let arg = OutlineArg {
                                name: name.clone(),
                                description,
                                value,
                                location: location.clone(),
                            };
                            self.args.insert(name, arg);
                        }
                    }
                }
                InstructionKind::Run(run) => {
                    for mount in &run.mounts {
                        let mount = mount.resolve(|value| {
                            self.expander
                                .word(value, &env)
                                .map(|expanded| expanded.text)
                        })?;
                        let base_name =
                            |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
                        let (list, fallback) = match mount.kind {
                            MountType::Secret => {
                                (&mut self.secrets, mount.target.as_deref().map(base_name))
                            }
                            MountType::Ssh => (&mut self.ssh, Some("default".to_owned())),
                            _ => continue,
                        };
                        let name = mount.source.or(mount.id).or(fallback).unwrap_or_default();
                        list.entry(name.clone()).or_insert(OutlineMount {
                            name,
                            required: mount.required,
                            location: location.clone(),
                        });
                    }
                }
                _ => {}
            }
        }
        self.envs.insert(stage.index, env);
        Ok(())
    }

    /// Adds the global arguments in use and those their defaults use.
    fn globals(&mut self) {
        let mut open: Vec<String> = self.used.iter().cloned().collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some(global) = self.scope.declared.get(&name) else {
                continue;
            };
            if !seen.insert(name.clone()) {
                continue;
            }
            open.extend(global.depends_on.iter().cloned());
            self.args.entry(name.clone()).or_insert_with(|| OutlineArg {
                name,
                description: global.description.clone().unwrap_or_default(),
                value: global.value.clone().unwrap_or_default(),
                location: Location::of(&self.dockerfile.source, global.span),
            });
        }
    }
}

/// Standard base64, as Go encodes bytes in JSON.
fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
