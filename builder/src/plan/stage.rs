//! One stage, instruction by instruction: variables expanded, config changed, steps written down.

use std::collections::HashMap;

use rpds::{RedBlackTreeMapSync, VectorSync};
use wythe_layers::image::MAX_CONFIG_BYTES;
use wythe_layers::spec::ImageConfig;

use super::environment::StageEnvironment;
use super::stages::Planner;
use super::{Action, Chown, FileSource, NameOrId, Step, WorkdirStep, config, history};
use crate::parse::{
    Diagnostic, Environment as _, ExpandError, Expander, Instruction, InstructionKind, SourceText,
    Span, Word,
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
    /// Without its environment, which is in `env`.
    pub(super) config: ImageConfig,
    /// `NAME=value` of the config; shared with the stages below as long as nothing changes.
    pub(super) env: VectorSync<String>,
    /// Where in `env` a variable stands first.
    places: RedBlackTreeMapSync<String, usize>,
    /// Only new `ENV` were set since the stage began, so the order of all variables is that of `env`.
    is_plain: bool,
    /// Declared arguments in order, each once; `None`: last declared without value.
    args: Vec<(String, Option<String>)>,
    /// Where in `args` a name stands.
    declared: HashMap<String, usize>,
    pub(super) environment: StageEnvironment,
    /// Length of the history texts, those of the stages below included.
    history_bytes: u64,
    /// `CMD` was seen in this stage, so `ENTRYPOINT` does not reset it.
    pub(super) cmd_is_own: bool,
    /// No layer is there yet, so no `/etc/passwd` either.
    is_empty: bool,
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
    pub(super) fn new(mut config: ImageConfig) -> Self {
        let env = std::mem::take(&mut config.config.env);
        Self {
            is_empty: config.rootfs.diff_ids.is_empty(),
            config,
            env: env.into_iter().collect(),
            places: RedBlackTreeMapSync::new_sync(),
            is_plain: false,
            args: Vec::new(),
            declared: HashMap::new(),
            environment: StageEnvironment::default(),
            history_bytes: 0,
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
        if !config.working_dir.is_empty() {
            config.working_dir = working_directory("/", &config.working_dir);
        }
        if !std::mem::replace(&mut self.is_plain, true) {
            self.places = RedBlackTreeMapSync::new_sync();
            for (at, pair) in self.env.iter().enumerate() {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                self.environment.set(name, value);
                if !self.places.contains_key(name) {
                    self.places.insert_mut(name.to_owned(), at);
                }
            }
        }
        if self.config.os != "windows" && !self.places.contains_key("PATH") {
            self.set_env("PATH", DEFAULT_PATH);
        }
    }

    /// Sets a variable of the config, in place or behind the others, and for what follows.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        let pair = format!("{name}={value}");
        self.is_plain &= self.environment.get(name).is_none();
        match self.places.get(name) {
            Some(at) => {
                self.env.set_mut(*at, pair);
            }
            None => {
                self.places.insert_mut(name.to_owned(), self.env.len());
                self.env.push_back_mut(pair);
            }
        }
        self.environment.set(name, value);
    }

    /// How many things a plan holds because of this stage's config.
    pub(super) fn parts(&self) -> usize {
        let config = &self.config.config;
        let lists = [config.on_build.len(), self.args.len()];
        let maps = [
            config.labels.len(),
            config.volumes.len(),
            config.exposed_ports.len(),
        ];
        lists.into_iter().chain(maps).sum()
    }

    /// Counts a history text. All of them end up in the config of an image, whose size is limited.
    fn count_history(&mut self, text: &str, place: &Place<'_>, span: Span) -> Result<()> {
        self.history_bytes = self.history_bytes.saturating_add(text.len() as u64);
        if self.history_bytes > MAX_CONFIG_BYTES {
            let message = format!(
                "the history of this stage is larger than {MAX_CONFIG_BYTES} bytes, and so would be the image's config"
            );
            return Err(place.error(span, message));
        }
        Ok(())
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
        let environment = self.environment.clone();
        let words = Words {
            // A trigger is cut into words with a backslash, and expanded as this file has it.
            expander: planner.expander.clone(),
            environment: &environment,
            place: &place,
        };
        let Some((action, text)) = self.action(planner, index, instruction, &words)? else {
            return Ok(false);
        };
        if let Some(text) = &text {
            self.count_history(text, &place, instruction.keyword.span)?;
        }
        self.check_names(&action, instruction, &place)?;
        self.is_empty &= matches!(action, Action::Config);
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

    /// Names of owners can be looked up only in an image that has something in it.
    fn check_names(
        &self,
        action: &Action,
        instruction: &Instruction,
        place: &Place<'_>,
    ) -> Result<()> {
        let owner = match action {
            Action::Copy(step) => step.chown.as_ref(),
            Action::Workdir(step) => step.owner.as_ref(),
            Action::Run(_) | Action::Config => None,
        };
        let Some(owner) = owner.filter(|owner| self.is_empty && owner.has_names()) else {
            return Ok(());
        };
        let flag = instruction.flags.iter().find(|flag| *flag.name == "chown");
        let span = flag.map_or(instruction.span, |flag| flag.span);
        let name = [Some(&owner.user), owner.group.as_ref()];
        let name = name.into_iter().flatten().find_map(|who| match who {
            NameOrId::Name(name) => Some(name.as_str()),
            NameOrId::Id(_) => None,
        });
        let message = format!(
            "invalid user {:?}: there is nothing in the image yet to look it up in",
            name.unwrap_or_default()
        );
        let hint = "give a number, or first copy an /etc/passwd and /etc/group";
        Err(place.refuse(Diagnostic::error(span, message).hint(hint)))
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
                environment.set(&name, value);
                if !SCAN_ARGS.contains(&name.as_str()) {
                    self.environment.set(&name, value);
                    self.is_plain = false;
                }
            }
            let at = *self.declared.entry(name.clone()).or_insert(self.args.len());
            match self.args.get_mut(at) {
                Some((_, known)) => *known = value,
                None => self.args.push((name, value)),
            }
        }
        Ok(text)
    }

    /// Declared arguments with their values, for the history of `RUN`: first declaration's place,
    /// last value.
    fn build_args(&self, environment: &StageEnvironment) -> Vec<(String, String)> {
        let value = |(name, value): &(String, Option<String>)| {
            let now = environment.get(name).or(value.as_deref());
            (name.clone(), now.unwrap_or_default().to_owned())
        };
        self.args.iter().map(value).collect()
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
    pub(super) environment: &'a StageEnvironment,
    pub(super) place: &'a Place<'a>,
}

impl Words<'_> {
    pub(super) fn expand(&self, word: &Word) -> Result<String> {
        self.expand_in(word, self.environment)
    }

    fn expand_in(&self, word: &Word, environment: &StageEnvironment) -> Result<String> {
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
