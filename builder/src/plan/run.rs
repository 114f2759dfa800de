//! `RUN`: the process, its environment and its mounts.

use std::collections::BTreeMap;

use super::stage::{Place, StageState, Words};
use super::stages::Planner;
use super::{CacheMount, CacheRoot, FileSource, RunStep, SecretMount, SshMount, StepMount};
use crate::parse::{Diagnostic, Instruction, Mount, MountType, PROXY_ARGS, Run, RunScript, Span};
use crate::path::absolute_from;
use crate::{Error, Network, Result, Security};

/// Where a here-document with `#!` is run from.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";

impl StageState {
    /// Plans the process; `None` when an image that a mount names could not be resolved.
    pub(super) fn run(
        &mut self,
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
            mounts.push(self.mount(mount, from, words, written.text.span)?);
        }
        // What lies below another mount goes on top of it, in whichever order they are written.
        mounts.sort_by(|one, other| place(one).cmp(&place(other)));
        let (mut env, is_new) = self.environment.list();
        if is_new {
            planner.hold(env.len(), words.place, instruction.keyword.span)?;
        }
        if let Some(named) = name_sockets(&mut mounts, &env) {
            env = named.into();
        }
        let request = planner.request;
        let not_allowed = |flag: &str, what: &str| {
            let flag = instruction.flags.iter().find(|one| *one.name == *flag);
            let span = flag.map_or(instruction.span, |flag| flag.span);
            let diagnostic = Diagnostic::error(span, format!("{what} is not allowed"))
                .hint(format!("allow it with --allow {what}"));
            Err(words.place.refuse(diagnostic))
        };
        let network = match run.network {
            crate::parse::Network::Default => request.network,
            crate::parse::Network::None => Network::None,
            crate::parse::Network::Host
                if request.allow_host_network || request.network == Network::Host =>
            {
                Network::Host
            }
            crate::parse::Network::Host => return not_allowed("network", "network.host"),
        };
        let security = match run.security {
            crate::parse::Security::Sandbox => Security::Sandbox,
            crate::parse::Security::Insecure if request.allow_insecure => Security::Insecure,
            crate::parse::Security::Insecure => {
                return not_allowed("security", "security.insecure");
            }
        };
        let cwd = &self.config.config.working_dir;
        let hostname = request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME");
        Ok(Some(RunStep {
            args: command.args,
            env,
            proxy_env: Self::proxy_environment(&request.build_args),
            cwd: if cwd.is_empty() { "/" } else { cwd }.to_owned(),
            user: self.config.config.user.clone(),
            network,
            security,
            mounts,
            script: command.script,
            hostname: hostname.cloned(),
        }))
    }

    /// Proxy arguments that were given, in both spellings; they win over what the stage says.
    fn proxy_environment(given: &BTreeMap<String, String>) -> Vec<String> {
        let mut values = BTreeMap::new();
        for (name, value) in given {
            let lower = name.to_ascii_lowercase();
            if PROXY_ARGS.contains(&lower.as_str()) {
                values.insert(lower, value);
            }
        }
        values.retain(|_, value| !value.is_empty());
        let spellings = |(lower, value): (&String, &&String)| {
            let upper = lower.to_ascii_uppercase();
            [format!("{upper}={value}"), format!("{lower}={value}")]
        };
        values.iter().flat_map(spellings).collect()
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
                    args: self.shell_form(path.clone()),
                    script: Some((path, content)),
                }
            }
        })
    }

    fn mount(
        &self,
        mount: Mount,
        from: Option<FileSource>,
        words: &Words<'_>,
        span: Span,
    ) -> Result<StepMount> {
        let workdir = &self.config.config.working_dir;
        let target = |given: &Option<String>| -> Result<String> {
            // Without a target it is the working directory.
            root_is_no_target(
                absolute_from(workdir, given.as_deref().unwrap_or_default()),
                words,
                span,
            )
        };
        let source = absolute_from("/", mount.source.as_deref().unwrap_or("/"));
        let writable = !mount.read_only;
        let (mode, uid, gid) = (mount.mode, mount.uid, mount.gid);
        Ok(match mount.kind {
            MountType::Bind => StepMount::Bind {
                from: from.unwrap_or(FileSource::Context),
                source,
                target: target(&mount.target)?,
                writable,
            },
            MountType::Cache => {
                let id = mount.id.filter(|id| !id.is_empty());
                // As it is written: a relative one is the same cache in every working directory.
                let written = mount.target.as_deref().unwrap_or_default();
                let given = mode.is_some() || uid.is_some() || gid.is_some();
                StepMount::Cache(CacheMount {
                    id: id.unwrap_or_else(|| clean(written)),
                    sharing: mount.sharing,
                    target: target(&mount.target)?,
                    writable,
                    from,
                    source,
                    made: given.then(|| CacheRoot {
                        mode: mode.unwrap_or(0o755),
                        uid: uid.unwrap_or(0),
                        gid: gid.unwrap_or(0),
                    }),
                })
            }
            MountType::Tmpfs => StepMount::Tmpfs {
                target: target(&mount.target)?,
                writable,
                size_bytes: mount.size_bytes,
            },
            MountType::Secret => return secret(mount, workdir, words, span),
            MountType::Ssh => StepMount::Ssh(SshMount {
                id: mount.id.unwrap_or_else(|| "default".to_owned()),
                // One without a target gets it once all sockets are known.
                target: match &mount.target {
                    Some(path) => root_is_no_target(absolute_from(workdir, path), words, span)?,
                    None => String::new(),
                },
                required: mount.required,
                mode: mode.unwrap_or(0o600),
                uid: uid.unwrap_or(0),
                gid: gid.unwrap_or(0),
            }),
        })
    }
}

/// The order in which mounts are made: files by their targets, then secrets, then sockets.
fn place(mount: &StepMount) -> (u8, &str) {
    match mount {
        StepMount::Bind { target, .. }
        | StepMount::Cache(CacheMount { target, .. })
        | StepMount::Tmpfs { target, .. } => (0, target),
        StepMount::Secret(_) => (1, ""),
        StepMount::Ssh(_) => (2, ""),
    }
}

/// Sockets of agents are numbered, and the first is the one that programs look for, whether or not
/// there is an agent.
fn name_sockets(mounts: &mut [StepMount], env: &[String]) -> Option<Vec<String>> {
    let targets = mounts.iter_mut().filter_map(|mount| match mount {
        StepMount::Ssh(mount) => Some(&mut mount.target),
        _ => None,
    });
    let mut first = None;
    for (number, target) in targets.enumerate() {
        if target.is_empty() {
            *target = format!("/run/buildkit/ssh_agent.{number}");
        }
        first.get_or_insert_with(|| target.clone());
    }
    let target = first?;
    if env.iter().any(|pair| pair.starts_with("SSH_AUTH_SOCK=")) {
        return None;
    }
    let mut env = env.to_vec();
    env.push(format!("SSH_AUTH_SOCK={target}"));
    Some(env)
}

/// Go's `path.Clean`.
fn clean(text: &str) -> String {
    let path = absolute_from("/", text);
    if text.starts_with('/') {
        return path;
    }
    match path.trim_start_matches('/') {
        "" => ".".to_owned(),
        relative => relative.to_owned(),
    }
}

struct Command {
    args: Vec<String>,
    script: Option<(String, String)>,
}

fn root_is_no_target(path: String, words: &Words<'_>, span: Span) -> Result<String> {
    if path != "/" {
        return Ok(path);
    }
    let diagnostic = Diagnostic::error(span, "invalid mount target \"/\"")
        .expected("target= says where, and / is not possible");
    Err(words.place.refuse(diagnostic))
}

/// A secret is a file below `/run/secrets`, unless it says otherwise or is only a variable.
fn secret(mount: Mount, workdir: &str, words: &Words<'_>, span: Span) -> Result<StepMount> {
    let named = mount.id.or(mount.source).filter(|id| !id.is_empty());
    let given = mount.target.as_ref();
    let given = given.map(|path| root_is_no_target(absolute_from(workdir, path), words, span));
    let given = given.transpose()?;
    let id = match (named, &given) {
        (Some(id), _) => id,
        (None, Some(target)) => base_name(target).to_owned(),
        (None, None) => String::new(),
    };
    if id.is_empty() {
        return Err(words.place.error(span, "one of source, target required"));
    }
    let own_name = |name: String| if name.is_empty() { id.clone() } else { name };
    let env = mount.env.map(own_name);
    let target = match (given, &env) {
        (Some(path), _) => Some(path),
        (None, Some(_)) => None,
        (None, None) => {
            let path = absolute_from("/run/secrets", base_name(&id));
            Some(root_is_no_target(path, words, span)?)
        }
    };
    Ok(StepMount::Secret(SecretMount {
        id,
        target,
        env,
        required: mount.required,
        mode: mount.mode.unwrap_or(0o400),
        uid: mount.uid.unwrap_or(0),
        gid: mount.gid.unwrap_or(0),
    }))
}

/// The last part of a path.
fn base_name(path: &str) -> &str {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default()
}
