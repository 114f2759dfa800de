//! Rules that need to know what variables hold: the stages are walked as a build would.

use std::collections::{BTreeMap, BTreeSet};

use wythe_layers::spec::{Platform, Reference};

use super::super::ast::{
    ArgDeclaration, CommandLine, Instruction, InstructionKind, Pair, Transfer,
};
use super::super::diagnostic::Diagnostic;
use super::super::expand::{Environment, ExpandError, Expanded, Expander};
use super::super::ports::PortSpec;
use super::super::scope::GlobalScope;
use super::super::signal;
use super::super::span::{Span, Word};
use super::super::stages::{Stage, StageRef, Stages, resolve_base};
use super::super::suggest::near;
use super::super::variables::Variables;
use super::input::LintInput;
use super::names;
use super::reporter::Reporter;
use super::triggers::Triggers;
use super::warning::LintResult;
use crate::GitPlace;
use crate::ignore::clean;

/// Most names that are compared with misspelt ones in one file; after that there is no "did you mean".
const MAX_COMPARISONS: usize = 1 << 20;

/// Arguments that steer the builder and are no variables of the build.
const NOT_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Runs all rules.
#[must_use]
pub fn lint(input: &LintInput<'_>) -> LintResult {
    let mut reporter = Reporter::new(&input.options);
    names::check(input.dockerfile, &mut reporter);
    let error = walk(input, &mut reporter).err();
    let mut warnings = reporter.warnings;
    warnings.sort_by_key(|warning| warning.span.start);
    LintResult { warnings, error }
}

/// What a stage has set when it ends; its children begin with it.
#[derive(Clone, Debug, Default)]
struct State {
    env: Variables,
    /// Declared arguments, with and without value.
    args: Variables,
    has_shell: bool,
    workdir_set: bool,
    on_build: Vec<String>,
    /// The base image is not known, so neither are its variables.
    env_unknown: bool,
}

struct Walker<'a, 'r, 'o> {
    input: &'a LintInput<'a>,
    reporter: &'r mut Reporter<'o>,
    scope: GlobalScope,
    expander: Expander,
    /// What is left of [`MAX_COMPARISONS`].
    comparisons: usize,
    triggers: Triggers,
}

fn walk(input: &LintInput<'_>, reporter: &mut Reporter<'_>) -> Result<(), Diagnostic> {
    let dockerfile = input.dockerfile;
    let stages = dockerfile.stages();
    let expander = Expander::new(dockerfile.directives.escape);
    check_defaults(input, &stages, &expander, reporter);
    let scope = GlobalScope::evaluate(dockerfile, input.defaults, input.build_args, &expander)?;
    let mut walker = Walker {
        input,
        reporter,
        scope,
        expander,
        comparisons: MAX_COMPARISONS,
        triggers: Triggers::new(),
    };
    let mut states: Vec<State> = Vec::new();
    for stage in &stages {
        let (base, platform) = walker.from(stage)?;
        let mut state = match resolve_base(&stages, stage.index, &base) {
            StageRef::Stage(parent) => states.get(parent).cloned().unwrap_or_default(),
            StageRef::Image => walker.base_image(stage, &base, platform.as_ref()),
        };
        if input
            .stages
            .is_none_or(|wanted| wanted.contains(&stage.index))
        {
            walker.stage(stage, &mut state)?;
        }
        states.push(state);
    }
    Ok(())
}

/// `FROM` has to work with the defaults alone.
fn check_defaults(
    input: &LintInput<'_>,
    stages: &Stages<'_>,
    expander: &Expander,
    reporter: &mut Reporter<'_>,
) {
    let none = BTreeMap::new();
    let scope = GlobalScope::evaluate(input.dockerfile, input.defaults, &none, expander);
    let Ok(scope) = scope else {
        return;
    };
    for stage in stages {
        let Ok(base) = expander.word(&stage.from.image.value, &scope.values) else {
            return;
        };
        if base.text.parse::<Reference>().is_err() {
            let detail = format!(
                "Default value for ARG {} results in empty or invalid base image name",
                stage.from.image.value
            );
            reporter.report_unlocal("InvalidDefaultArgInFrom", stage.instruction, detail);
        }
    }
}

impl Walker<'_, '_, '_> {
    /// Checks a `FROM` and returns its base and platform.
    fn from(&mut self, stage: &Stage<'_>) -> Result<(String, Option<Platform>), Diagnostic> {
        let mut parsed = None;
        let image = &stage.from.image;
        let expanded = self.global(image)?;
        self.undefined_in_from(stage, &expanded);
        if expanded.text.is_empty() {
            return Err(Diagnostic::error(
                image.span,
                format!("base name ({}) should not be blank", image.value),
            ));
        }
        if let Some(platform) = &stage.from.platform {
            let found = self.global(platform)?;
            self.undefined_in_from(stage, &found);
            self.platform(stage, platform, &found);
            if found.text.is_empty() {
                let message = format!("empty platform value from expression {}", platform.value);
                return Err(Diagnostic::error(platform.span, message)
                    .did_you_mean(self.near_global(&found)));
            }
            let Ok(platform) = found.text.parse::<Platform>() else {
                let message = format!("failed to parse platform {}", platform.value);
                return Err(Diagnostic::error(platform.span, message)
                    .did_you_mean(self.near_global(&found)));
            };
            parsed = Some(platform);
        }
        Ok((expanded.text, parsed))
    }

    fn global(&self, word: &Word) -> Result<Expanded, Diagnostic> {
        self.expander
            .word(&word.value, &self.scope.values)
            .map_err(|error| failed(word.span, &error))
    }

    fn near_global(&self, expanded: &Expanded) -> Option<String> {
        expanded
            .unset
            .iter()
            .find_map(|name| near(name, self.scope.values.keys().map(String::as_str)))
    }

    fn undefined_in_from(&mut self, stage: &Stage<'_>, expanded: &Expanded) {
        for name in &expanded.unset {
            if self.scope.declared.contains_key(name) {
                continue;
            }
            let known = self
                .scope
                .declared
                .keys()
                .chain(self.scope.values.keys())
                .map(String::as_str);
            let hint = near_within(&mut self.comparisons, name, known)
                .map(|near| format!(" (did you mean {near}?)"))
                .unwrap_or_default();
            let detail = format!("FROM argument '{name}' is not declared{hint}");
            self.reporter
                .report("UndefinedArgInFrom", stage.instruction, detail);
        }
    }

    fn platform(&mut self, stage: &Stage<'_>, written: &Word, expanded: &Expanded) {
        let is_target = expanded.used.len() == 1
            && expanded.unset.is_empty()
            && expanded.used.contains("TARGETPLATFORM");
        if is_target && self.scope.values.get("TARGETPLATFORM") == Some(&expanded.text) {
            let detail = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                written.value
            );
            self.reporter
                .report("RedundantTargetPlatform", stage.instruction, detail);
        }
        if !expanded.used.is_empty() || !expanded.unset.is_empty() {
            return;
        }
        let Ok(platform) = expanded.text.parse::<Platform>() else {
            return;
        };
        // A stage that is about one platform may well name it.
        let name = stage.name().unwrap_or_default();
        if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
            let detail = format!(
                "FROM --platform flag should not use constant value {:?}",
                expanded.text
            );
            self.reporter
                .report("FromPlatformFlagConstDisallowed", stage.instruction, detail);
        }
    }

    fn base_image(&mut self, stage: &Stage<'_>, base: &str, platform: Option<&Platform>) -> State {
        // Every image gets a `PATH`, also one from nothing.
        let path = || ("PATH".to_owned(), String::new());
        if base == "scratch" {
            return State {
                env: std::iter::once(path()).collect(),
                ..State::default()
            };
        }
        let Some(image) = (self.input.base)(base, platform) else {
            return State {
                env_unknown: true,
                ..State::default()
            };
        };
        if let Some((found, wanted)) = &image.platforms
            && (found.os != wanted.os || found.architecture != wanted.architecture)
        {
            let detail = format!(
                "Base image {base} was pulled with platform \"{found}\", expected \"{wanted}\" for current build"
            );
            self.reporter
                .report("InvalidBaseImagePlatform", stage.instruction, detail);
        }
        State {
            env: std::iter::once(path()).chain(image.variables()).collect(),
            has_shell: image.has_shell,
            on_build: image.on_build,
            ..State::default()
        }
    }

    fn stage(&mut self, stage: &Stage<'_>, state: &mut State) -> Result<(), Diagnostic> {
        self.reporter.silent = true;
        for trigger in self.triggers.read(&std::mem::take(&mut state.on_build)) {
            // What is wrong with it the build will say.
            let _ = self.instruction(&trigger, state);
        }
        self.reporter.silent = false;
        let mut last: BTreeMap<&str, &Instruction> = BTreeMap::new();
        for instruction in stage.body {
            if let InstructionKind::Cmd(_)
            | InstructionKind::Entrypoint(_)
            | InstructionKind::Healthcheck(_) = instruction.kind
                && let Some(earlier) = last.insert(instruction.name(), instruction)
            {
                let keyword = &instruction.keyword.value;
                let detail = format!(
                    "Multiple {keyword} instructions should not be used in the same stage because only the last one \
                     will be used"
                );
                // The options are those of the later one, the place that of the one which is lost.
                self.reporter.report_at(
                    "MultipleInstructionsDisallowed",
                    Some(instruction),
                    earlier.code_span(),
                    detail,
                );
            }
            self.instruction(instruction, state)?;
        }
        Ok(())
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        state: &mut State,
    ) -> Result<(), Diagnostic> {
        match &instruction.kind {
            InstructionKind::Env(pairs) => self.env(instruction, pairs, state)?,
            InstructionKind::Label(pairs) => {
                for pair in pairs {
                    self.legacy(instruction, pair);
                    self.word(instruction, &pair.key, state)?;
                    self.word(instruction, &pair.value, state)?;
                }
            }
            InstructionKind::Arg(declarations) => self.args(instruction, declarations, state)?,
            InstructionKind::Cmd(command) | InstructionKind::Entrypoint(command) => {
                if matches!(command, CommandLine::Shell(_)) && !state.has_shell {
                    let detail = format!(
                        "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                        instruction.keyword
                    );
                    self.reporter
                        .report("JSONArgsRecommended", instruction, detail);
                }
            }
            InstructionKind::Shell(_) => state.has_shell = true,
            InstructionKind::Workdir(path) => {
                let path = self.word(instruction, path, state)?;
                if !state.workdir_set && !path.starts_with('/') {
                    let detail = format!(
                        "Relative workdir {path:?} can have unexpected results if the base image changes"
                    );
                    self.reporter
                        .report("WorkdirRelativePath", instruction, detail);
                }
                state.workdir_set = true;
            }
            InstructionKind::User(word) => {
                self.word(instruction, word, state)?;
            }
            InstructionKind::Stopsignal(word) => {
                let signal = self.word(instruction, word, state)?;
                if !(state.env_unknown && word.value.contains('$')) {
                    signal::check(&signal, word.span)?;
                }
            }
            InstructionKind::Volume(words) => {
                for word in words {
                    self.word(instruction, word, state)?;
                }
            }
            InstructionKind::Expose(words) => self.expose(instruction, words, state)?,
            InstructionKind::Copy(copy) => {
                self.transfer(instruction, &copy.files, state, "Copy", copy.from.is_none())?;
            }
            InstructionKind::Add(add) => {
                if let Some(checksum) = &add.checksum {
                    self.word(instruction, checksum, state)?;
                }
                self.transfer(instruction, &add.files, state, "Add", true)?;
            }
            InstructionKind::Run(run) => {
                for mount in &run.mounts {
                    let mut unset = BTreeSet::new();
                    mount.resolve(|value| {
                        let expanded = self.expander.word(value, &state.env)?;
                        unset.extend(expanded.unset);
                        Ok(expanded.text)
                    })?;
                    self.undefined(instruction, &unset, state);
                }
            }
            InstructionKind::Onbuild(trigger) => state.on_build.push(trigger.expression.clone()),
            InstructionKind::From(_)
            | InstructionKind::Maintainer(_)
            | InstructionKind::Healthcheck(_) => {}
        }
        Ok(())
    }

    fn word(
        &mut self,
        instruction: &Instruction,
        word: &Word,
        state: &State,
    ) -> Result<String, Diagnostic> {
        let expanded = self
            .expander
            .word(&word.value, &state.env)
            .map_err(|error| failed(word.span, &error))?;
        self.undefined(instruction, &expanded.unset, state);
        Ok(expanded.text)
    }

    fn undefined(&mut self, instruction: &Instruction, unset: &BTreeSet<String>, state: &State) {
        if state.env_unknown {
            return;
        }
        for name in unset {
            if state.args.contains(name) || NOT_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let hint = near_within(&mut self.comparisons, name, state.env.names());
            let hint = hint
                .map(|near| format!(" (did you mean ${near}?)"))
                .unwrap_or_default();
            let detail = format!("Usage of undefined variable '${name}'{hint}");
            self.reporter.report("UndefinedVar", instruction, detail);
        }
    }

    fn legacy(&mut self, instruction: &Instruction, pair: &Pair) {
        if pair.legacy {
            let name = &instruction.keyword.value;
            let detail = format!(
                "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
            );
            self.reporter
                .report("LegacyKeyValueFormat", instruction, detail);
        }
    }

    fn secret(&mut self, instruction: &Instruction, name: &str) {
        if names::looks_secret(name) {
            let detail = format!(
                "Do not use ARG or ENV instructions for sensitive data ({} {name:?})",
                instruction.name()
            );
            self.reporter
                .report("SecretsUsedInArgOrEnv", instruction, detail);
        }
    }

    fn env(
        &mut self,
        instruction: &Instruction,
        pairs: &[Pair],
        state: &mut State,
    ) -> Result<(), Diagnostic> {
        // All values see the environment as it was before the instruction.
        let mut set = Vec::new();
        for pair in pairs {
            let key = self.word(instruction, &pair.key, state)?;
            let value = self.word(instruction, &pair.value, state)?;
            self.legacy(instruction, pair);
            self.secret(instruction, &key);
            set.push((key, value));
        }
        state.env.extend(set);
        Ok(())
    }

    fn args(
        &mut self,
        instruction: &Instruction,
        declarations: &[ArgDeclaration],
        state: &mut State,
    ) -> Result<(), Diagnostic> {
        for declaration in declarations {
            let name = &declaration.name.value;
            self.secret(instruction, name);
            let value = match (self.input.build_args.get(name), &declaration.default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => Some(self.word(instruction, default, state)?),
                (None, None) => Environment::get(&self.scope.values, name).map(str::to_owned),
            };
            if let Some(value) = value {
                state.env.insert(name.clone(), value);
            }
            state.args.insert(name.clone(), String::new());
        }
        Ok(())
    }

    fn expose(
        &mut self,
        instruction: &Instruction,
        words: &[Word],
        state: &State,
    ) -> Result<(), Diagnostic> {
        for word in words {
            let (ports, _) = self
                .expander
                .words(&word.value, &state.env)
                .map_err(|error| failed(word.span, &error))?;
            for port in ports {
                // Without the base image's variables a port may come out empty or wrong.
                let spec = match PortSpec::parse(&port) {
                    Ok(spec) => spec,
                    Err(_) if state.env_unknown && word.value.contains('$') => continue,
                    Err(error) => return Err(Diagnostic::error(word.span, error.to_string())),
                };
                if spec.protocol != spec.protocol.to_lowercase() {
                    let detail = format!(
                        "Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                    );
                    self.reporter
                        .report("ExposeProtoCasing", instruction, detail);
                }
                if spec.has_host_part {
                    let detail = format!(
                        "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                    );
                    self.reporter
                        .report("ExposeInvalidFormat", instruction, detail);
                }
            }
        }
        Ok(())
    }

    fn transfer(
        &mut self,
        instruction: &Instruction,
        files: &Transfer,
        state: &State,
        verb: &str,
        of_context: bool,
    ) -> Result<(), Diagnostic> {
        for word in files.chown.iter().chain(&files.chmod) {
            self.word(instruction, word, state)?;
        }
        for source in files.paths() {
            let path = self.word(instruction, source, state)?;
            if of_context {
                self.ignored(instruction, &path, verb);
            }
        }
        self.word(instruction, &files.destination, state)?;
        for file in files.inline_files().filter(|file| file.expand) {
            let expanded = self
                .expander
                .heredoc(&file.content, &state.env)
                .map_err(|error| failed(file.span, &error))?;
            self.undefined(instruction, &expanded.unset, state);
        }
        Ok(())
    }

    fn ignored(&mut self, instruction: &Instruction, path: &str, verb: &str) {
        // With exceptions it cannot be told without looking: a directory may be left out and a file in
        // it brought back.
        let Some(rules) = self.input.ignore.filter(|rules| !rules.has_exceptions()) else {
            return;
        };
        let is_repository = || GitPlace::parse(path).is_ok_and(|place| place.is_some());
        if path.contains("://") || is_repository() {
            return;
        }
        let path = clean(path);
        let is_root = matches!(path.as_str(), "." | "/");
        let takes_all = || {
            rules
                .rules()
                .iter()
                .any(|rule| matches!(rule.text.as_str(), "*" | "**" | "**/*"))
        };
        if is_root && !takes_all() {
            return;
        }
        if is_root || rules.is_ignored(&path) {
            let detail =
                format!("Attempting to {verb} file {path:?} that is excluded by .dockerignore");
            self.reporter.report("CopyIgnoredFile", instruction, detail);
        }
    }
}

/// The name nearest to one that is not known, as long as comparisons are `left`.
fn near_within<'n>(
    left: &mut usize,
    name: &str,
    known: impl Iterator<Item = &'n str>,
) -> Option<String> {
    let counted = known.take_while(|_| match left.checked_sub(1) {
        Some(less) => {
            *left = less;
            true
        }
        None => false,
    });
    near(name, counted)
}

fn failed(span: Span, error: &ExpandError) -> Diagnostic {
    Diagnostic::error(span, error.to_string())
}
