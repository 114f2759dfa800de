//! One stage, instruction by instruction: variables expanded, config changed, steps written down.

use std::collections::{BTreeMap, BTreeSet};

use wythe_layers::spec::ImageConfig;

use super::stages::Planner;
use super::{
    Action, Chown, FileSource, NameOrId, RunStep, Step, StepMount, WorkdirStep, config, history,
};
use crate::parse::{
    Diagnostic, ExpandError, Expander, Instruction, InstructionKind, Mount, MountType, PROXY_ARGS,
    Run, RunScript, SourceText, Span, Word,
};
use crate::path::absolute_from;
use crate::{Error, Network, Result, Security};

/// What the kernel's and Docker's default is.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where a here-document with `#!` is run from.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";
/// What an instruction changes for those after it.
#[derive(Debug, Clone)]
pub(super) struct StageState {
    pub(super) config: ImageConfig,
    /// Declared arguments in order; `None`: declared without value.
    args: Vec<(String, Option<String>)>,
    /// `CMD` was seen in this stage, so `ENTRYPOINT` does not reset it.
    pub(super) cmd_is_own: bool,
}

/// The text that spans point into.
pub(super) struct Place<'a> {
    pub(super) source: &'a SourceText,
}

impl Place<'_> {
    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> Error {
        Error::at(self.source, Diagnostic::error(span, message))
    }
}

impl StageState {
    pub(super) fn new(config: ImageConfig) -> Self {
        Self {
            config,
            args: Vec::new(),
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

    /// Every image gets a `PATH`.
    pub(super) fn ensure_path(&mut self) {
        let config = &mut self.config;
        if config.os != "windows" && config.config.env_var("PATH").is_none() {
            config.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
    }

    /// What variables are: the config's environment, and declared arguments that it does not hide.
    fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for (name, value) in &self.args {
            if let Some(value) = value {
                environment.insert(name.clone(), value.clone());
            }
        }
        for pair in &self.config.config.env {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            environment.insert(name.to_owned(), value.to_owned());
        }
        environment
    }

    /// Does one instruction; `false` when an image that it names could not be resolved.
    pub(super) fn instruction(
        &mut self,
        planner: &mut Planner<'_>,
        index: usize,
        instruction: &Instruction,
        trigger: Option<(&SourceText, Span)>,
        steps: &mut Vec<Step>,
    ) -> Result<bool> {
        let file_source = planner.file.source.clone();
        let source = trigger.map_or(&file_source, |(source, _)| source);
        let place = Place { source };
        // Frozen: `ENV a=1 b=$a` sees the old `a`.
        let environment = self.environment();
        let expander = match trigger {
            Some(_) => Expander::new('\\'),
            None => planner.expander,
        };
        let words = Words {
            expander,
            environment: &environment,
            place: &place,
        };
        let (action, text) = match &instruction.kind {
            InstructionKind::Run(run) => {
                let Some(step) = self.run(planner, index, instruction, run, &words)? else {
                    return Ok(false);
                };
                let text = history::run(&step.history_args, &self.build_args(&environment));
                (Action::Run(step.step), Some(text))
            }
            InstructionKind::Copy(copy) => {
                let from = match &copy.from {
                    None => FileSource::Context,
                    Some(name) => match planner.copy_source(name, index, source)? {
                        Some(from) => from,
                        None => return Ok(false),
                    },
                };
                let workdir = &self.config.config.working_dir;
                let (step, text) = super::transfer::copy(copy, from, workdir, &words)?;
                (Action::Copy(step), Some(text))
            }
            InstructionKind::Add(add) => {
                let workdir = &self.config.config.working_dir;
                let (step, text) = super::transfer::add(add, workdir, &words)?;
                (Action::Copy(step), Some(text))
            }
            InstructionKind::Workdir(word) => self.workdir(word, &words)?,
            InstructionKind::Arg(arguments) => {
                let text = self.arg(planner, arguments, &words)?;
                (Action::Config, Some(text))
            }
            _ => (Action::Config, config::apply(self, instruction, &words)?),
        };
        steps.push(Step {
            text: instruction.code.clone(),
            line: trigger.is_none().then_some(instruction.line),
            source: source.clone(),
            span: instruction.span,
            history: text,
            action,
        });
        Ok(true)
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
            let name = words.expand_in(&argument.name, &environment)?;
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
                if self.config.config.env_var(&name).is_none() {
                    environment.insert(name.clone(), value.clone());
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
        let text = words.expand(word)?;
        if text.is_empty() {
            return Err(words.place.error(word.span, "WORKDIR requires a path"));
        }
        let path = absolute_from(&self.config.config.working_dir, &text);
        self.config.config.working_dir.clone_from(&path);
        let history = Some(format!("WORKDIR {path}"));
        if path == "/" {
            return Ok((Action::Config, history));
        }
        let user = &self.config.config.user;
        let owner = (!user.is_empty()).then(|| parse_chown(user));
        Ok((Action::Workdir(WorkdirStep { path, owner }), history))
    }

    fn run(
        &self,
        planner: &mut Planner<'_>,
        index: usize,
        instruction: &Instruction,
        run: &Run,
        words: &Words<'_>,
    ) -> Result<Option<PlannedRun>> {
        let command = self.command(instruction, run, words.place)?;
        let mut mounts = Vec::new();
        for written in &run.mounts {
            let mount = written
                .resolve(|value| words.expand_text(value))
                .map_err(|diagnostic| Error::at(words.place.source, diagnostic))?;
            let from = match &written.from {
                None => None,
                Some(name) => match planner.mount_source(name, index, words.place.source)? {
                    Some(from) => Some(from),
                    None => return Ok(None),
                },
            };
            mounts.push(self.mount(mount, from, mounts.len(), words, written.text.span)?);
        }
        let request = planner.request;
        let network = match run.network {
            crate::parse::Network::Default => request.network,
            crate::parse::Network::None => Network::None,
            crate::parse::Network::Host => Network::Host,
        };
        let security = match run.security {
            crate::parse::Security::Sandbox => Security::Sandbox,
            crate::parse::Security::Insecure if request.allow_insecure => Security::Insecure,
            crate::parse::Security::Insecure => {
                return Err(words.place.error(
                    instruction.span,
                    "security.insecure is not allowed; allow it with --allow security.insecure",
                ));
            }
        };
        let cwd = &self.config.config.working_dir;
        let hostname = request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        let step = RunStep {
            args: command.args,
            env: self.process_environment(words.environment),
            proxy_env: self.proxy_environment(&request.build_args),
            cwd: if cwd.is_empty() { "/" } else { cwd }.to_owned(),
            user: self.config.config.user.clone(),
            network,
            security,
            mounts,
            script: command.script,
            hostname: hostname.cloned(),
        };
        Ok(Some(PlannedRun {
            history_args: step.args.clone(),
            step,
        }))
    }

    /// The process's environment: the config's in its order, then arguments by name.
    fn process_environment(&self, environment: &BTreeMap<String, String>) -> Vec<String> {
        let mut list = self.config.config.env.clone();
        let declared: BTreeSet<&String> = self.args.iter().map(|(name, _)| name).collect();
        for name in declared {
            if self.config.config.env_var(name).is_none()
                && let Some(value) = environment.get(name)
            {
                list.push(format!("{name}={value}"));
            }
        }
        list
    }

    /// Proxy arguments that were given and not declared: in both spellings.
    fn proxy_environment(&self, given: &BTreeMap<String, String>) -> Vec<String> {
        let mut list = Vec::new();
        for (name, value) in given {
            let lower = name.to_ascii_lowercase();
            if !PROXY_ARGS.contains(&lower.as_str()) {
                continue;
            }
            for spelling in [lower.to_ascii_uppercase(), lower] {
                let declared = self.args.iter().any(|(known, _)| *known == spelling);
                if !declared && self.config.config.env_var(&spelling).is_none() {
                    list.push(format!("{spelling}={value}"));
                }
            }
        }
        list.sort();
        list.dedup();
        list
    }

    fn command(&self, instruction: &Instruction, run: &Run, place: &Place<'_>) -> Result<Command> {
        let exec = |args: Vec<String>| Command { args, script: None };
        Ok(match run.script(instruction) {
            RunScript::Exec(args) if args.is_empty() => {
                return Err(place.error(instruction.span, "RUN requires a command"));
            }
            RunScript::Exec(args) => exec(args.into_iter().map(str::to_owned).collect()),
            RunScript::Shell(text) => exec(self.shell_form(text)),
            RunScript::File { name, content } => {
                let path = format!("{SCRIPT_DIRECTORY}/{name}");
                Command {
                    args: vec![path.clone()],
                    script: Some((path, content)),
                }
            }
        })
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

    fn mount(
        &self,
        mount: Mount,
        from: Option<FileSource>,
        number: usize,
        words: &Words<'_>,
        span: Span,
    ) -> Result<StepMount> {
        let workdir = &self.config.config.working_dir;
        let target = |given: &Option<String>| -> Result<String> {
            let text = given.as_deref().filter(|text| !text.is_empty());
            let text = text.ok_or_else(|| words.place.error(span, "invalid mount: no target"))?;
            let path = absolute_from(workdir, text);
            if path == "/" {
                return Err(words.place.error(span, "invalid mount target \"/\""));
            }
            Ok(path)
        };
        let source = absolute_from("/", mount.source.as_deref().unwrap_or("/"));
        let writable = !mount.read_only;
        let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
        Ok(match mount.kind {
            MountType::Bind => StepMount::Bind {
                from: from.unwrap_or(FileSource::Context),
                source,
                target: target(&mount.target)?,
                writable,
            },
            MountType::Cache => {
                let target = target(&mount.target)?;
                let id = mount.id.filter(|id| !id.is_empty());
                StepMount::Cache {
                    id: id.unwrap_or_else(|| target.clone()),
                    sharing: mount.sharing,
                    target,
                    writable,
                    from,
                    source,
                    mode: mount.mode.unwrap_or(0o755),
                    uid,
                    gid,
                }
            }
            MountType::Tmpfs => StepMount::Tmpfs {
                target: target(&mount.target)?,
                size_bytes: mount.size_bytes,
            },
            MountType::Secret => {
                let named = mount.id.or(mount.source).filter(|id| !id.is_empty());
                let id = match (named, &mount.target) {
                    (Some(id), _) => id,
                    (None, Some(target)) => {
                        target.rsplit('/').next().unwrap_or_default().to_owned()
                    }
                    (None, None) => String::new(),
                };
                if id.is_empty() {
                    return Err(words.place.error(span, "one of source, target required"));
                }
                let env = mount
                    .env
                    .map(|name| if name.is_empty() { id.clone() } else { name });
                let target = match (&mount.target, &env) {
                    (Some(path), _) => Some(absolute_from(workdir, path)),
                    (None, Some(_)) => None,
                    (None, None) => Some(format!("/run/secrets/{id}")),
                };
                StepMount::Secret {
                    id,
                    target,
                    env,
                    required: mount.required,
                    mode: mount.mode.unwrap_or(0o400),
                    uid,
                    gid,
                }
            }
            MountType::Ssh => StepMount::Ssh {
                id: mount.id.unwrap_or_else(|| "default".to_owned()),
                target: match &mount.target {
                    Some(path) => absolute_from(workdir, path),
                    None => format!("/run/buildkit/ssh_agent.{number}"),
                },
                required: mount.required,
                mode: mount.mode.unwrap_or(0o600),
                uid,
                gid,
            },
        })
    }
}

struct PlannedRun {
    step: RunStep,
    history_args: Vec<String>,
}

struct Command {
    args: Vec<String>,
    script: Option<(String, String)>,
}

/// `user[:group]`, each a name or a number.
pub(super) fn parse_chown(text: &str) -> Chown {
    let one = |text: &str| match text.parse::<u32>() {
        Ok(id) => NameOrId::Id(id),
        Err(_) => NameOrId::Name(text.to_owned()),
    };
    match text.split_once(':') {
        None => Chown {
            user: one(text),
            group: None,
        },
        Some((user, group)) => Chown {
            // `:group` leaves the user alone, which is root.
            user: if user.is_empty() {
                NameOrId::Id(0)
            } else {
                one(user)
            },
            group: (!group.is_empty()).then(|| one(group)),
        },
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

    fn expand_text(&self, text: &str) -> Result<String, ExpandError> {
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
