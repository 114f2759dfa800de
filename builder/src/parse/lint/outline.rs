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
use super::super::stages::{Stage, StageRef, Stages, reachable, resolve_base};
use super::super::variables::Variables;
use super::report::{Location, base64, is_false};
use super::run::BaseLookup;
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
        used: BTreeSet::new(),
        args: BTreeMap::new(),
        secrets: BTreeMap::new(),
        ssh: BTreeMap::new(),
        states: BTreeMap::new(),
        triggers: Triggers::new(),
        scope,
    };
    for index in reachable(&stages, input.target, &collector.scope, &expander)? {
        if let Some(stage) = stages.get(index) {
            collector.stage(&stages, stage)?;
        }
    }
    collector.globals();
    let stage = stages.get(input.target);
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

/// A stage at its end.
#[derive(Clone, Default)]
struct State {
    env: Variables,
    on_build: Vec<String>,
}

struct Collector<'a> {
    input: &'a OutlineInput<'a>,
    expander: Expander,
    /// Global arguments that something uses.
    used: BTreeSet<String>,
    args: BTreeMap<String, OutlineArg>,
    secrets: BTreeMap<String, OutlineMount>,
    ssh: BTreeMap<String, OutlineMount>,
    states: BTreeMap<usize, State>,
    triggers: Triggers,
    scope: GlobalScope,
}

impl Collector<'_> {
    fn stage(&mut self, stages: &Stages<'_>, stage: &Stage<'_>) -> Result<(), Diagnostic> {
        let image = &stage.from.image;
        let base = self.word(image, None)?;
        let mut platform = None;
        if let Some(written) = &stage.from.platform {
            platform = self.word(written, None)?.parse().ok();
        }
        let mut state = match resolve_base(stages, stage.index, &base) {
            StageRef::Stage(parent) => self.states.get(&parent).cloned().unwrap_or_default(),
            StageRef::Image => match (self.input.base)(&base, platform.as_ref()) {
                None => State::default(),
                Some(image) => State {
                    env: image.variables().collect(),
                    on_build: image.on_build,
                },
            },
        };
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
        self.states.insert(stage.index, state);
        Ok(())
    }

    fn instruction(
        &mut self,
        instruction: &Instruction,
        place: &Location,
        state: &mut State,
    ) -> Result<(), Diagnostic> {
        match &instruction.kind {
            InstructionKind::Env(pairs) => {
                let mut set = Vec::new();
                for pair in pairs {
                    let key = self.word(&pair.key, Some(state))?;
                    set.push((key, self.word(&pair.value, Some(state))?));
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

    /// Expands a word of a stage, or of a `FROM`, whose arguments count as used.
    fn word(&mut self, word: &Word, state: Option<&State>) -> Result<String, Diagnostic> {
        let failed = |error: ExpandError| Diagnostic::error(word.span, error.to_string());
        if let Some(state) = state {
            let expanded = self.expander.word(&word.value, &state.env);
            return Ok(expanded.map_err(failed)?.text);
        }
        let expanded = self.expander.word(&word.value, &self.scope.values);
        let expanded = expanded.map_err(failed)?;
        self.used.extend(expanded.used);
        Ok(expanded.text)
    }

    fn arg(
        &mut self,
        declaration: &ArgDeclaration,
        place: &Location,
        state: &mut State,
    ) -> Result<(), Diagnostic> {
        let name = declaration.name.value.clone();
        let given = self.input.build_args.get(&name);
        let value = match (given, &declaration.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.word(default, Some(state))?),
            (None, None) => self.scope.values.get(&name).cloned(),
        };
        if let Some(value) = &value {
            state.env.insert(name.clone(), value.clone());
        }
        self.used.insert(name.clone());
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
            self.args.insert(name, arg);
        }
        Ok(())
    }

    fn mounts(&mut self, run: &Run, place: &Location, state: &State) -> Result<(), Diagnostic> {
        for mount in &run.mounts {
            let mount = mount.resolve(|value| {
                let expanded = self.expander.word(value, &state.env)?;
                Ok(expanded.text)
            })?;
            let base_name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            let (list, fallback) = match mount.kind {
                MountType::Secret => (&mut self.secrets, mount.target.as_deref().map(base_name)),
                MountType::Ssh => (&mut self.ssh, Some("default".to_owned())),
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
                location: Location::of(&self.input.dockerfile.source, global.span),
            });
        }
    }
}
