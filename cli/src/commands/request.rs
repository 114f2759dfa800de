//! What the flags of `wythe build` say of a build: arguments, labels, secrets, agents, policies.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use wythe_builder::{Agent, BuildRequest, CachePolicy, InputFile, Network, PullPolicy, Secret};

use super::output::Output;
use crate::args::{BuildArgs, BuildNetworkArg};
use crate::settings::{Settings, default_jobs};
use crate::wire::agent;

/// Largest Dockerfile or secret read from a file or a pipe, in bytes: both are typed by people.
const MAX_INPUT_BYTES: u64 = 16 << 20;

/// Largest secret, in bytes, as with BuildKit.
const MAX_SECRET_BYTES: usize = 500 << 10;

/// Proxy variables are given to `RUN` without being asked for (Dockerfile reference §Predefined ARGs).
const PROXY_VARIABLES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Fills in what the flags say, but for what must be fetched or read first.
pub(super) fn fill(
    args: &BuildArgs,
    outputs: &[Output],
    mut request: BuildRequest,
) -> anyhow::Result<BuildRequest> {
    request.target.clone_from(&args.target);
    request.tags.clone_from(&args.tags);
    request.labels = pairs("--label", &args.labels)?;
    request.annotations = pairs("--annotation", &args.annotations)?;
    if let Some(platform) = &args.platform {
        request.platform = platform.clone();
        request.platform_is_given = true;
    }
    request.cache = match (args.no_cache, args.no_cache_filter.is_empty()) {
        (true, _) => CachePolicy::Ignore,
        (false, true) => CachePolicy::Use,
        (false, false) => CachePolicy::IgnoreStages(args.no_cache_filter.iter().cloned().collect()),
    };
    request.pull = if args.pull {
        PullPolicy::Always
    } else {
        PullPolicy::Missing
    };
    request.network = match args.network {
        // Which of the two decides nothing about a step's result.
        BuildNetworkArg::Default | BuildNetworkArg::Private => Network::Default,
        BuildNetworkArg::None => Network::None,
        BuildNetworkArg::Host => Network::Host,
    };
    super::sandbox::fill(&mut request, args)?;
    request.jobs = args.jobs.unwrap_or_else(default_jobs).max(1);
    if let Some(compression) = outputs.iter().find_map(|output| output.compression) {
        request.compression = compression;
    }
    let asked = outputs.iter().filter_map(|output| output.rewrite_timestamp);
    let asked: BTreeSet<bool> = asked.chain(args.rewrite_timestamp).collect();
    ensure!(
        asked.len() < 2,
        "times are to be rewritten and to be kept (rewrite-timestamp): a build makes its layers once"
    );
    request.rewrite_timestamp = asked.first().copied().unwrap_or(true);
    Ok(request)
}

/// `--secret`.
pub(super) fn secrets(
    settings: &Settings,
    args: &BuildArgs,
) -> anyhow::Result<BTreeMap<String, Secret>> {
    let specs = args.secrets.iter();
    specs.map(|spec| secret(settings, spec)).collect()
}

/// `--ssh`.
pub(super) fn agents(
    settings: &Settings,
    args: &BuildArgs,
) -> anyhow::Result<BTreeMap<String, Agent>> {
    let mut agents = BTreeMap::new();
    for spec in &args.ssh {
        let (id, agent) = ssh(settings, spec).with_context(|| format!("--ssh {spec}"))?;
        ensure!(
            agents.insert(id, agent).is_none(),
            "--ssh {spec}: the ID was given before"
        );
    }
    Ok(agents)
}

/// `BUILDKIT_CONTEXT_KEEP_GIT_DIR` (Dockerfile reference §BuildKit built-in build args).
pub(super) fn keeps_git_dir(build_args: &BTreeMap<String, String>) -> bool {
    let value = build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    value.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// `KEY=VALUE` of a flag that may be given several times. A label may be a key alone.
pub(super) fn pairs(flag: &str, specs: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let pair = |spec: &String| match spec.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ if flag == "--label" && !spec.is_empty() && !spec.starts_with('=') => {
            Ok((spec.clone(), String::new()))
        }
        _ => bail!("{flag} {spec:?} is not KEY=VALUE"),
    };
    specs.iter().map(pair).collect()
}

/// `--build-arg` in order; one without a value is the environment's, or nothing at all.
pub(super) fn build_args(
    settings: &Settings,
    args: &BuildArgs,
) -> anyhow::Result<BTreeMap<String, String>> {
    let mut values = BTreeMap::new();
    for name in PROXY_VARIABLES {
        let lower = name.to_ascii_lowercase();
        for name in [name, lower.as_str()] {
            if let Some(value) = settings.env.user_text(name) {
                values.insert(name.to_owned(), value);
            }
        }
    }
    // As Docker's and BuildKit's clients do.
    if let Some(epoch) = settings.env.text("SOURCE_DATE_EPOCH") {
        values.insert("SOURCE_DATE_EPOCH".to_owned(), epoch);
    }
    for spec in &args.build_args {
        ensure!(
            !spec.is_empty() && !spec.starts_with('='),
            "--build-arg {spec:?} has no name: write NAME=VALUE"
        );
        match spec.split_once('=') {
            Some((name, value)) => {
                values.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = settings.env.user_text(spec) {
                    values.insert(spec.clone(), value);
                }
            }
        }
    }
    Ok(values)
}

/// `ID`, `ID=SOCKET[,raw=true]` or `ID=KEY[,KEY…]`.
fn ssh(settings: &Settings, spec: &str) -> anyhow::Result<(String, Agent)> {
    let (id, rest) = spec.split_once('=').unwrap_or((spec, ""));
    let mut paths = Vec::new();
    let mut raw = false;
    for part in rest.split(',').filter(|part| !part.is_empty()) {
        match part.strip_prefix("raw=") {
            Some("true" | "1") => raw = true,
            Some("false" | "0") => raw = false,
            Some(other) => bail!("raw={other} is neither true nor false"),
            None => paths.push(Path::new(part)),
        }
    }
    let socket = settings.env.path("SSH_AUTH_SOCK");
    if paths.is_empty() {
        paths.push(socket.as_deref().context("SSH_AUTH_SOCK is not set")?);
    }
    let id = if id.is_empty() { "default" } else { id };
    Ok((id.to_owned(), agent(&paths, raw)?))
}

/// `id=ID[,src=FILE|,env=NAME][,type=file|env]` (docker-build(1) §--secret). With `type=env` the
/// source is a variable; with neither source it is the variable called like the id, else the file.
fn secret(settings: &Settings, spec: &str) -> anyhow::Result<(String, Secret)> {
    let mut id = None;
    let mut source = None;
    let mut variable = None;
    let mut is_variable = false;
    for part in spec.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => source = Some(value.to_owned()),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", kind @ ("file" | "env"))) => is_variable = kind == "env",
            _ => bail!("--secret: {part:?} is none of id=, src=, env=, type="),
        }
    }
    let id = id
        .or_else(|| source.clone())
        .or_else(|| variable.clone())
        .context("--secret has no id=")?;
    if is_variable && variable.is_none() {
        variable = source.take();
    }
    let file = |path: &str| {
        let bytes = read_file(Path::new(path));
        bytes.with_context(|| format!("--secret id={id}"))
    };
    let bytes = match (&source, &variable) {
        (Some(path), None) => file(path)?,
        (None, Some(name)) => settings
            .env
            .user_text(name)
            .with_context(|| format!("--secret id={id}: {name} is not set"))?
            .into_bytes(),
        (None, None) => match settings.env.user_text(&id) {
            Some(value) => value.into_bytes(),
            None if is_variable => bail!("--secret id={id}: {id} is not set"),
            None => file(&id)?,
        },
        (Some(_), Some(_)) => bail!("--secret id={id}: src= and env= exclude each other"),
    };
    ensure!(
        bytes.len() <= MAX_SECRET_BYTES,
        "--secret id={id}: it is larger than 500 KiB"
    );
    Ok((id, Secret::new(bytes)))
}

/// A Dockerfile that is typed or piped.
pub(super) fn stdin_dockerfile() -> anyhow::Result<InputFile> {
    Ok(InputFile {
        name: "Dockerfile (standard input)".into(),
        bytes: read_bounded(
            std::io::stdin().lock(),
            "the Dockerfile from standard input",
        )?,
    })
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display().to_string();
    let file = std::fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    read_bounded(file, &shown)
}

fn read_bounded(reader: impl std::io::Read, shown: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_INPUT_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {shown}"))?;
    ensure!(
        bytes.len() as u64 <= MAX_INPUT_BYTES,
        "{shown} is larger than 16 MiB"
    );
    Ok(bytes)
}
