//! One stage, instruction by instruction: variables expanded, config changed, steps written down.

use std::collections::BTreeMap;

use wythe_layers::spec::ImageConfig;

use super::stages::Planner;
use super::{Action, Chown, FileSource, NameOrId, Step, WorkdirStep, config, history};
use crate::parse::{
    Diagnostic, ExpandError, Expander, Instruction, InstructionKind, SourceText, Span, Word,
};
use crate::path::absolute_from;
use crate::{Error, Result};

/// What the kernel's and Docker's default is.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Arguments for whoever lists an image's parts: declared, but no variables of the stage.
const SCAN_ARGS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What an instruction changes for those after it.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    pub(super) config: ImageConfig,
    /// Declared arguments in order; `None`: declared without value.
    pub(super) args: Vec<(String, Option<String>)>,
    /// What variables are and what processes see: `ENV` and `ARG` alike, in the order in which they
    /// were last set. The reference says that `ENV` always wins; BuildKit lets the later one win, and
    /// images are to be the same.
    pub(super) environment: Vec<(String, String)>,
    /// `CMD` was seen in this stage, so `ENTRYPOINT` does not reset it.
    pub(super) cmd_is_own: bool,
}

/// The text that spans point into.
pub(super) struct Place<'a> {
    pub(super) source: &'a SourceText,
}

impl Place<'_> {
    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> Error {
        self.refuse(Diagnostic::error(span, message))
    }

    pub(super) fn refuse(&self, diagnostic: Diagnostic) -> Error {
        Error::at(self.source, diagnostic)
    }
}

impl StageState {
    pub(super) fn new(config: ImageConfig) -> Self {
        Self {
            config,
            args: Vec::new(),
            environment: Vec::new(),
            cmd_is_own: false,
        }
    }

    /// What a stage built on this one starts with.
    pub(super) fn derived(&self) -> Self {
        Self {
            cmd_is_own: false,
            ..self.clone()
        }
    }

    /// Takes over what the config says: every image gets a `PATH`, the working directory is
    /// absolute, and the config's variables count again, also over an `ARG` of the stage below.
    pub(super) fn begin(&mut self) {
        let config = &mut self.config.config;
        if self.config.os != "windows" && config.env_var("PATH").is_none() {
            config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        if !config.working_dir.is_empty() {
            config.working_dir = working_directory("/", &config.working_dir);
        }
        for pair in config.env.clone() {
            let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
            self.set_variable(name, value);
        }
    }

    /// Sets a variable for what follows.
    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Does one instruction; `false` when an image that it names could not be resolved.
    pub(super) fn instruction(
        &mut self,
        planner: &mut Planner<'_>,
        index: usize,
        instruction: &Instruction,
        trigger: Option<&SourceText>,
        steps: &mut Vec<Step>,
    ) -> Result<bool> {
        let source = trigger.unwrap_or(&planner.file.source).clone();
        let place = Place { source: &source };
        // Frozen: `ENV a=1 b=$a` sees the old `a`.
        let environment = self.environment.iter().cloned().collect();
        let words = Words {
            // A trigger is cut into words with a backslash, and expanded as this file has it.
            expander: planner.expander.clone(),
            environment: &environment,
            place: &place,
        };
        let Some((action, text)) = self.action(planner, index, instruction, &words)? else {
            return Ok(false);
        };
        steps.push(Step {
            text: instruction.code.clone(),
            line: trigger.is_none().then_some(instruction.line),
            source,
            span: instruction.span,
            history: text,
            action,
        });
        Ok(true)
    }

    /// What an instruction does, and its history text.
    fn action(
        &mut self,
        planner: &mut Planner<'_>,
        index: usize,
        instruction: &Instruction,
        words: &Words<'_>,
    ) -> Result<Option<(Action, Option<String>)>> {
        Ok(Some(match &instruction.kind {
            InstructionKind::Run(run) => {
                let Some(step) = self.run(planner, index, instruction, run, words)? else {
                    return Ok(None);
                };
                let text = history::run(&step.args, &self.build_args(words.environment));
                (Action::Run(step), Some(text))
            }
            InstructionKind::Copy(copy) => {
                let from = match &copy.from {
                    None => FileSource::Context,
                    Some(name) => match planner.copy_source(name, index, words.place.source)? {
                        Some(from) => from,
                        None => return Ok(None),
                    },
                };
                let workdir = &self.config.config.working_dir;
                let (step, text) = super::transfer::copy(copy, from, workdir, words)?;
                (Action::Copy(step), Some(text))
            }
            InstructionKind::Add(add) => {
                let workdir = &self.config.config.working_dir;
                let (step, text) = super::transfer::add(add, workdir, words)?;
                (Action::Copy(step), Some(text))
            }
            InstructionKind::Workdir(word) => self.workdir(word, words)?,
            InstructionKind::Arg(arguments) => {
                let text = self.arg(planner, arguments, words)?;
                (Action::Config, Some(text))
            }
            _ => (Action::Config, config::apply(self, instruction, words)?),
        }))
    }

    fn arg(
        &mut self,
        planner: &Planner<'_>,
        arguments: &[crate::parse::ArgDeclaration],
        words: &Words<'_>,
    ) -> Result<String> {
        let mut text = String::from("ARG");
        let mut environment = words.environment.clone();
        for argument in arguments {
            // Not expanded, quotes and all: BuildKit takes the name as it is written.
            let name = argument.name.value.clone();
            let given = planner.request.build_args.get(&name);
            let value = match (given, &argument.default) {
                (Some(given), _) => Some(given.clone()),
                // Unlike ENV, a later name of the same line sees the earlier ones.
                (None, Some(default)) => Some(words.expand_in(default, &environment)?),
                (None, None) => planner.global.values.get(&name).cloned(),
            };
            text.push(' ');
            text.push_str(&name);
            if let Some(value) = &value {
                text.push('=');
                text.push_str(value);
                environment.insert(name.clone(), value.clone());
                if !SCAN_ARGS.contains(&name.as_str()) {
                    self.set_variable(&name, value);
                }
            }
            self.args.push((name, value));
        }
        Ok(text)
    }

    /// Declared arguments with their values, for the history of `RUN`: first declaration's place,
    /// last value.
    fn build_args(&self, environment: &BTreeMap<String, String>) -> Vec<(String, String)> {
        let mut list: Vec<(String, String)> = Vec::new();
        for (name, value) in &self.args {
            let now = environment.get(name).or(value.as_ref());
            let now = now.cloned().unwrap_or_default();
            match list.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => *known = now,
                None => list.push((name.clone(), now)),
            }
        }
        list
    }

    fn workdir(&mut self, word: &Word, words: &Words<'_>) -> Result<(Action, Option<String>)> {
        // Empty: the directory stays what it is, and is made if it is not there.
        let text = words.expand(word)?;
        let written = working_directory(&self.config.config.working_dir, &text);
        self.config.config.working_dir.clone_from(&written);
        let history = Some(format!("WORKDIR {written}"));
        if written == "/" {
            return Ok((Action::Config, history));
        }
        let path = absolute_from("/", &written);
        let user = &self.config.config.user;
        let owner = (!user.is_empty()).then(|| parse_chown(user));
        Ok((Action::Workdir(WorkdirStep { path, owner }), history))
    }

    /// The shell with `line` as its last argument.
    pub(super) fn shell_form(&self, line: String) -> Vec<String> {
        let mut args = match &self.config.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        };
        args.push(line);
        args
    }
}

/// What `WORKDIR` sets: an absolute path as it is written, another one below `current` and
/// normalised, nothing for `current` itself.
fn working_directory(current: &str, text: &str) -> String {
    let current = if current.is_empty() { "/" } else { current };
    if text.is_empty() {
        current.to_owned()
    } else if text.starts_with('/') {
        text.to_owned()
    } else {
        absolute_from(current, text)
    }
}

/// `user[:group]`, each a name or a number. As in BuildKit, nothing is root, and so is a number that
/// no signed 32 bits hold (a name, that is, which nobody has).
pub(super) fn parse_chown(text: &str) -> Chown {
    let one = |text: &str| match text.parse::<i32>().map(u32::try_from) {
        Ok(Ok(id)) => NameOrId::Id(id),
        _ if text.is_empty() || text == "root" => NameOrId::Id(0),
        _ => NameOrId::Name(text.to_owned()),
    };
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    Chown {
        user: one(user),
        group: group.map(one),
    }
}

/// Expands the words of one instruction in its frozen environment.
pub(super) struct Words<'a> {
    pub(super) expander: Expander,
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) place: &'a Place<'a>,
}

impl Words<'_> {
    pub(super) fn expand(&self, word: &Word) -> Result<String> {
        self.expand_in(word, self.environment)
    }

    fn expand_in(&self, word: &Word, environment: &BTreeMap<String, String>) -> Result<String> {
        self.expander
            .word(word, environment)
            .map(|expanded| expanded.text)
            .map_err(|error| self.place.error(word.span, error.to_string()))
    }

    pub(super) fn expand_text(&self, text: &str) -> Result<String, ExpandError> {
        let expanded = self.expander.word(text, self.environment)?;
        Ok(expanded.text)
    }

    /// `EXPOSE`'s words: expanded, then split.
    pub(super) fn expand_many(&self, word: &Word) -> Result<Vec<String>> {
        self.expander
            .words(word, self.environment)
            .map(|(words, _)| words)
            .map_err(|error| self.place.error(word.span, error.to_string()))
    }
}
