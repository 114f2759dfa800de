//! Instructions that change the image config and nothing else.

use std::time::Duration;

use wythe_layers::spec::Healthcheck as HealthcheckConfig;

use super::history;
use super::stage::{StageState, Words};
use crate::Result;
use crate::parse::signal;
use crate::parse::suggest::near;
use crate::parse::{
    CommandLine, Diagnostic, Healthcheck, HealthcheckCommand, Instruction, InstructionKind, Pair,
    PortError, PortSpec, Word,
};

/// Most ports of one `EXPOSE`: all there are, for four protocols.
const MAX_PORTS: usize = 4 << 16;

/// Applies an instruction; gives its history text (`None`: it leaves none).
pub(super) fn apply(
    state: &mut StageState,
    instruction: &Instruction,
    words: &Words<'_>,
) -> Result<Option<String>> {
    let config = &mut state.config.config;
    Ok(Some(match &instruction.kind {
        InstructionKind::Env(pairs) => {
            let pairs = expand_pairs(pairs, words)?;
            for (name, value) in &pairs {
                state.set_env(name, value);
            }
            history::pairs("ENV", &pairs)
        }
        InstructionKind::Label(pairs) => {
            let pairs = expand_pairs(pairs, words)?;
            config.labels.extend(pairs.iter().cloned());
            history::pairs("LABEL", &pairs)
        }
        InstructionKind::User(word) => {
            config.user = words.expand(word)?;
            format!("USER {}", config.user)
        }
        InstructionKind::Volume(volumes) => volume(state, volumes, words)?,
        InstructionKind::Expose(ports) => expose(state, ports, words)?,
        InstructionKind::Stopsignal(word) => stop_signal(state, word, words)?,
        InstructionKind::Shell(shell) => {
            let shell: Vec<String> = shell.iter().map(|word| word.value.clone()).collect();
            let text = format!("SHELL {}", history::listed(&shell));
            config.shell = Some(shell);
            text
        }
        InstructionKind::Maintainer(name) => {
            state.config.author = Some(name.value.clone());
            format!("MAINTAINER {}", name.value)
        }
        InstructionKind::Cmd(command) => cmd(state, command),
        InstructionKind::Entrypoint(command) => entrypoint(state, command),
        InstructionKind::Healthcheck(check) => {
            let check = healthcheck(check);
            let text = history::healthcheck(&check);
            config.healthcheck = Some(check);
            text
        }
        InstructionKind::Onbuild(trigger) => {
            config.on_build.push(trigger.expression.clone());
            return Ok(None);
        }
        InstructionKind::From(_)
        | InstructionKind::Run(_)
        | InstructionKind::Copy(_)
        | InstructionKind::Add(_)
        | InstructionKind::Arg(_)
        | InstructionKind::Workdir(_) => return Ok(None),
    }))
}

fn volume(state: &mut StageState, volumes: &[Word], words: &Words<'_>) -> Result<String> {
    let mut paths = Vec::new();
    for word in volumes {
        let path = words.expand(word)?;
        if path.is_empty() {
            let message = "VOLUME specified can not be an empty string";
            return Err(words.place.error(word.span, message));
        }
        let volumes = &mut state.config.config.volumes;
        volumes.insert(path.clone(), empty_object());
        paths.push(path);
    }
    Ok(format!("VOLUME {}", history::listed(&paths)))
}

fn stop_signal(state: &mut StageState, word: &Word, words: &Words<'_>) -> Result<String> {
    let signal = words.expand(word)?;
    signal::check(&signal, word.span).map_err(|diagnostic| words.place.refuse(diagnostic))?;
    let text = format!("STOPSIGNAL {signal}");
    state.config.config.stop_signal = Some(signal);
    Ok(text)
}

fn bad_port(word: &Word, error: &PortError) -> Diagnostic {
    let diagnostic = Diagnostic::error(word.span, error.to_string());
    match error {
        PortError::Protocol { protocol, .. } => {
            diagnostic.did_you_mean(near(protocol, ["tcp", "udp", "sctp"]))
        }
        _ => diagnostic.expected("such as 80, 8000-8010 or 53/udp"),
    }
}

fn expose(state: &mut StageState, list: &[Word], words: &Words<'_>) -> Result<String> {
    // The history has them in the order of the words as they are written.
    let mut list: Vec<&Word> = list.iter().collect();
    list.sort_by(|one, other| one.value.cmp(&other.value));
    let mut ports = Vec::new();
    for word in list {
        for spec in words.expand_many(word)? {
            let spec = PortSpec::parse(&spec)
                .map_err(|error| words.place.refuse(bad_port(word, &error)))?;
            ports.extend(spec.exposed());
            if ports.len() > MAX_PORTS {
                let message = format!("EXPOSE with more than {MAX_PORTS} ports");
                return Err(words.place.error(word.span, message));
            }
        }
    }
    for port in &ports {
        let exposed = &mut state.config.config.exposed_ports;
        exposed.insert(port.clone(), empty_object());
    }
    Ok(format!("EXPOSE {}", history::listed(&ports)))
}

fn cmd(state: &mut StageState, command: &CommandLine) -> String {
    let args = command_args(state, command);
    let text = format!("CMD {}", history::quoted(&args));
    // An empty list is left out of the config, as BuildKit does.
    state.config.config.cmd = (!args.is_empty()).then_some(args);
    // Means nothing on Linux; BuildKit sets it, and images are to be the same.
    state.config.config.args_escaped = true;
    state.cmd_is_own = true;
    text
}

/// A command that was inherited belongs to the old entrypoint, one of this stage to the new one.
fn entrypoint(state: &mut StageState, command: &CommandLine) -> String {
    let args = command_args(state, command);
    let text = format!("ENTRYPOINT {}", history::quoted(&args));
    state.config.config.entrypoint = (!args.is_empty()).then_some(args);
    if !state.cmd_is_own {
        state.config.config.cmd = None;
    }
    text
}

fn expand_pairs(pairs: &[Pair], words: &Words<'_>) -> Result<Vec<(String, String)>> {
    pairs
        .iter()
        .map(|pair| Ok((words.expand(&pair.key)?, words.expand(&pair.value)?)))
        .collect()
}

fn command_args(state: &StageState, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(args) => args.iter().map(|arg| arg.value.clone()).collect(),
        CommandLine::Shell(line) => state.shell_form(line.value.clone()),
    }
}

/// Go's `struct{}` in JSON.
fn empty_object() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

fn healthcheck(check: &Healthcheck) -> HealthcheckConfig {
    let Healthcheck::Command(check) = check else {
        return HealthcheckConfig {
            test: vec!["NONE".to_owned()],
            ..HealthcheckConfig::default()
        };
    };
    let HealthcheckCommand {
        command,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
    } = &**check;
    let nanoseconds = |duration: &Option<Duration>| {
        duration.map_or(0, |duration| {
            i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
        })
    };
    let test = match command {
        CommandLine::Exec(args) => {
            let args = args.iter().map(|arg| arg.value.clone());
            std::iter::once("CMD".to_owned()).chain(args).collect()
        }
        CommandLine::Shell(line) => vec!["CMD-SHELL".to_owned(), line.value.clone()],
    };
    HealthcheckConfig {
        test,
        interval: nanoseconds(interval),
        timeout: nanoseconds(timeout),
        start_period: nanoseconds(start_period),
        start_interval: nanoseconds(start_interval),
        retries: retries.map_or(0, i64::from),
        ..HealthcheckConfig::default()
    }
}
