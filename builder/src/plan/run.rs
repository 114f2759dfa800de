//! `RUN`: the process, its environment and its mounts.

use std::collections::{BTreeMap, BTreeSet};

use super::stage::{Place, StageState, Words};
use super::stages::Planner;
use super::{FileSource, RunStep, StepMount};
use crate::parse::{Instruction, Mount, MountType, PROXY_ARGS, Run, RunScript, Span};
use crate::path::absolute_from;
use crate::{Error, Network, Result, Security};

/// Where a here-document with `#!` is run from.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";

impl StageState {
    /// Plans the process; `None` when an image that a mount names could not be resolved.
    pub(super) fn run(
        &self,
        planner: &mut Planner<'_>,
        index: usize,
        instruction: &Instruction,
        run: &Run,
        words: &Words<'_>,
    ) -> Result<Option<RunStep>> {
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
        Ok(Some(RunStep {
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
        }))
    }

    /// The process's environment: the config's in its order, then arguments by name.
    fn process_environment(&self, environment: &BTreeMap<String, String>) -> Vec<String> {
        let is_hidden = |pair: &String| {
            let name = pair.split_once('=').map_or(pair.as_str(), |(name, _)| name);
            self.later_args.contains(name)
        };
        let mut list = self.config.config.env.clone();
        list.retain(|pair| !is_hidden(pair));
        let declared: BTreeSet<&String> = self.args.iter().map(|(name, _)| name).collect();
        for name in declared {
            let hides = self.later_args.contains(name);
            if (hides || self.config.config.env_var(name).is_none())
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
            match absolute_from(workdir, text) {
                root if root == "/" => Err(words.place.error(span, "invalid mount target \"/\"")),
                path => Ok(path),
            }
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
            MountType::Secret => return secret(mount, workdir, words, span),
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

struct Command {
    args: Vec<String>,
    script: Option<(String, String)>,
}

/// A secret is a file below `/run/secrets`, unless it says otherwise or is only a variable.
fn secret(mount: Mount, workdir: &str, words: &Words<'_>, span: Span) -> Result<StepMount> {
    let named = mount.id.or(mount.source).filter(|id| !id.is_empty());
    let id = match (named, &mount.target) {
        (Some(id), _) => id,
        (None, Some(target)) => target.rsplit('/').next().unwrap_or_default().to_owned(),
        (None, None) => String::new(),
    };
    if id.is_empty() {
        return Err(words.place.error(span, "one of source, target required"));
    }
    let own_name = |name: String| if name.is_empty() { id.clone() } else { name };
    let env = mount.env.map(own_name);
    let target = match (&mount.target, &env) {
        (Some(path), _) => Some(absolute_from(workdir, path)),
        (None, Some(_)) => None,
        (None, None) => Some(format!("/run/secrets/{id}")),
    };
    Ok(StepMount::Secret {
        id,
        target,
        env,
        required: mount.required,
        mode: mount.mode.unwrap_or(0o400),
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
    })
}
