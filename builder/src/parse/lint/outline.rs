//! `--call=outline`: what a target takes, as data in the shape of BuildKit's subrequest.
//!
//! Arguments of one line are in the order of their names (BuildKit: in any).

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::super::ast::{ArgDeclaration, Dockerfile, Instruction, InstructionKind, Run};
use super::super::diagnostic::Diagnostic;
use super::super::expand::{ExpandError, Expander};
use super::super::mount::MountType;
use super::super::scope::GlobalScope;
use super::super::span::Word;
use super::super::stages::{Needs, Stage, Stages, needs, reachable};
use super::super::variables::Variables;
use super::input::BaseLookup;
use super::report::{Location, base64, is_false};
use super::triggers::Triggers;

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

/// What one target of which file is asked about, and in which light.
pub struct OutlineInput<'a> {
    /// The file.
    pub dockerfile: &'a Dockerfile,
    /// Index of the stage.
    pub target: usize,
    /// The platform arguments.
    pub defaults: &'a BTreeMap<String, String>,
    /// `--build-arg`.
    pub build_args: &'a BTreeMap<String, String>,
    /// What is known about base images.
    pub base: &'a BaseLookup<'a>,
}

/// Describes a stage with everything it is built from.
///
/// # Errors
/// What cannot be expanded.
pub fn outline(input: &OutlineInput<'_>) -> Result<Outline, Diagnostic> {
    let dockerfile = input.dockerfile;
    let expander = Expander::new(dockerfile.directives.escape);
    let scope = GlobalScope::evaluate(dockerfile, input.defaults, input.build_args, &expander)?;
    let stages = dockerfile.stages();
    let mut collector = Collector {
        input,
        expander: expander.clone(),
        stages: BTreeMap::new(),
        triggers: Triggers::new(),
        scope,
    };
    for index in reachable(&stages, input.target, &collector.scope, &expander)? {
        if let Some(stage) = stages.get(index) {
            let found = collector.stage(&stages, stage)?;
            collector.stages.insert(index, found);
        }
    }
    let collected = collector.merged();
    let stage = stages.get(input.target);
    let by_line = |location: &Location| location.ranges.first().map_or(0, |range| range.start.line);
    let mut args: Vec<_> = collected.args.into_values().collect();
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
        secrets: sorted(collected.secrets),
        ssh: sorted(collected.ssh),
        sources: vec![base64(dockerfile.source.text().as_bytes())],
    })
}

/// A stage at its end.
#[derive(Default)]
struct State {
    env: Variables,
    on_build: Vec<String>,
    /// Global arguments that something uses.
    used: BTreeSet<String>,
    takes: Takes,
    needs: Needs,
}

/// What is asked for, by name.
#[derive(Default)]
struct Takes {
    args: BTreeMap<String, OutlineArg>,
    secrets: BTreeMap<String, OutlineMount>,
    ssh: BTreeMap<String, OutlineMount>,
}

struct Collector<'a> {
    input: &'a OutlineInput<'a>,
    expander: Expander,
    stages: BTreeMap<usize, State>,
    triggers: Triggers,
    scope: GlobalScope,
}

impl Collector<'_> {
    fn stage(&mut self, stages: &Stages<'_>, stage: &Stage<'_>) -> Result<State, Diagnostic> {
        let mut state = State::default();
        let mut from = |word: &Word| {
            let expanded = self.expander.word(&word.value, &self.scope.values);
            let expanded = expanded.map_err(|error| failed(word, &error))?;
            state.used.extend(expanded.used);
            Ok(expanded.text)
        };
        let base = from(&stage.from.image)?;
        let platform = stage.from.platform.as_ref().map(from).transpose()?;
        state.needs = needs(stages, stage.index, &self.scope, &self.expander)?;
        if let Some(parent) = state.needs.base {
            if let Some(parent) = self.stages.get(&parent) {
                state.env = parent.env.clone();
                state.on_build = parent.on_build.clone();
            }
        } else {
            let platform = platform.and_then(|platform| platform.parse().ok());
            if let Some(image) = (self.input.base)(&base, platform.as_ref()) {
                state.env = image.variables().collect();
                state.on_build = image.on_build;
            }
        }
        let of = |instruction: &Instruction| {
            Location::of(&self.input.dockerfile.source, instruction.code_span())
        };
        // What a base asks for is asked for by the line that names it.
        let place = of(stage.instruction);
        for trigger in self.triggers.read(&std::mem::take(&mut state.on_build)) {
            // What is wrong with it the build will say.
            let _ = self.instruction(&trigger, &place, &mut state);
        }
        for instruction in stage.body {
            let place = of(instruction);
            self.instruction(instruction, &place, &mut state)?;
        }
        Ok(state)
    }

    fn instruction(
        &self,
        instruction: &Instruction,
        place: &Location,
        state: &mut State,
    ) -> Result<(), Diagnostic> {
        match &instruction.kind {
            InstructionKind::Env(pairs) => {
                let mut set = Vec::new();
                for pair in pairs {
                    let key = self.word(&pair.key, state)?;
                    set.push((key, self.word(&pair.value, state)?));
                }
                state.env.extend(set);
            }
            InstructionKind::Arg(declarations) => {
                for declaration in declarations {
                    self.arg(declaration, place, state)?;
                }
            }
            InstructionKind::Run(run) => self.mounts(run, place, state)?,
            InstructionKind::Onbuild(trigger) => state.on_build.push(trigger.expression.clone()),
            _ => {}
        }
        Ok(())
    }

    fn word(&self, word: &Word, state: &State) -> Result<String, Diagnostic> {
        let expanded = self.expander.word(&word.value, &state.env);
        Ok(expanded.map_err(|error| failed(word, &error))?.text)
    }

    fn arg(
        &self,
        declaration: &ArgDeclaration,
        place: &Location,
        state: &mut State,
    ) -> Result<(), Diagnostic> {
        let name = declaration.name.value.clone();
        let given = self.input.build_args.get(&name);
        let value = match (given, &declaration.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.word(default, state)?),
            (None, None) => self.scope.values.get(&name).cloned(),
        };
        if let Some(value) = &value {
            state.env.insert(name.clone(), value.clone());
        }
        state.used.insert(name.clone());
        let inherits = declaration.default.is_none()
            && given.is_none()
            && self.scope.values.contains_key(&name);
        if !inherits {
            let arg = OutlineArg {
                name: name.clone(),
                description: declaration.description.clone().unwrap_or_default(),
                value: value.unwrap_or_default(),
                location: place.clone(),
            };
            state.takes.args.insert(name, arg);
        }
        Ok(())
    }

    fn mounts(&self, run: &Run, place: &Location, state: &mut State) -> Result<(), Diagnostic> {
        for mount in &run.mounts {
            let mount = mount.resolve(|value| {
                let expanded = self.expander.word(value, &state.env)?;
                Ok(expanded.text)
            })?;
            let base_name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            let (list, fallback) = match mount.kind {
                MountType::Secret => (
                    &mut state.takes.secrets,
                    mount.target.as_deref().map(base_name),
                ),
                MountType::Ssh => (&mut state.takes.ssh, Some("default".to_owned())),
                _ => continue,
            };
            let name = mount.source.or(mount.id).or(fallback).unwrap_or_default();
            list.entry(name.clone()).or_insert(OutlineMount {
                name,
                required: mount.required,
                location: place.clone(),
            });
        }
        Ok(())
    }

    /// What all stages take. Of one name counts what the target itself says, then what it is
    /// built on, then what it reads from, in file order.
    fn merged(&mut self) -> Takes {
        let mut all = Takes::default();
        let mut seen = BTreeSet::new();
        let mut open = vec![self.input.target];
        while let Some(index) = open.pop() {
            let Some(mut state) = self.stages.remove(&index) else {
                continue;
            };
            first(&mut all.args, state.takes.args);
            first(&mut all.secrets, state.takes.secrets);
            first(&mut all.ssh, state.takes.ssh);
            self.globals(state.used, &mut seen, &mut all.args);
            state.needs.read.sort_unstable();
            open.extend(state.needs.read.into_iter().rev());
            open.extend(state.needs.base);
        }
        all
    }

    /// Adds global arguments and those that their defaults use.
    fn globals(
        &self,
        used: BTreeSet<String>,
        seen: &mut BTreeSet<String>,
        args: &mut BTreeMap<String, OutlineArg>,
    ) {
        let mut open: Vec<String> = used.into_iter().collect();
        while let Some(name) = open.pop() {
            let Some(global) = self.scope.declared.get(&name) else {
                continue;
            };
            if !seen.insert(name.clone()) {
                continue;
            }
            open.extend(global.depends_on.iter().cloned());
            args.entry(name.clone()).or_insert_with(|| OutlineArg {
                name,
                description: global.description.clone().unwrap_or_default(),
                value: global.value.clone().unwrap_or_default(),
                location: Location::of(&self.input.dockerfile.source, global.span),
            });
        }
    }
}

/// Adds what is not there yet.
fn first<T>(all: &mut BTreeMap<String, T>, more: BTreeMap<String, T>) {
    for (name, value) in more {
        all.entry(name).or_insert(value);
    }
}

fn failed(word: &Word, error: &ExpandError) -> Diagnostic {
    Diagnostic::error(word.span, error.to_string())
}
