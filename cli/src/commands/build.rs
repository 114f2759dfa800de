//! `wythe build`

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;
use wythe_builder::{
    Agent, BuildRequest, BuildResult, Builder, CachePolicy, Cancel, ContextSource, InputFile,
    Network, PullPolicy, Secret, StepOutcome,
};
use wythe_layers::progress::SharedObserver;
use wythe_layers::store::Store;
use wythe_runtime::userns::Rung;

use super::context::{Access, Found, Place};
use super::named_context::{self, NamedSource};
use super::output::{Kind, Output};
use super::{check, export, lint, whole_file};
use crate::args::{BuildArgs, NetworkArg, Progress};
use crate::render;
use crate::settings::{Settings, default_jobs};
use crate::wire::{self, Interruption, agent};

/// Largest Dockerfile or secret read from a file or a pipe, in bytes: both are typed by people.
const MAX_INPUT_BYTES: u64 = 16 << 20;

/// How long a build that is interrupted may take to clean up; the next one does the rest.
const PATIENCE: Duration = Duration::from_secs(1);

/// Proxy variables are given to `RUN` without being asked for (Dockerfile reference §Predefined ARGs).
const PROXY_VARIABLES: [&str; 5] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

pub(crate) fn run(settings: &Settings, args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let mut outputs = args
        .outputs
        .iter()
        .map(|text| text.parse())
        .collect::<anyhow::Result<Vec<Output>>>()?;
    if args.push {
        outputs.push(Output {
            kind: Kind::Registry,
            compression: None,
            rewrite_timestamp: None,
        });
    }
    let pushes = outputs.iter().any(|output| output.kind == Kind::Registry);
    ensure!(
        !pushes || !args.tags.is_empty(),
        "pushing needs a name: give --tag"
    );
    let build_args = build_args(settings, args)?;
    let mut place = Place::parse(&args.context)?;
    if let Place::Git(git) = &mut place
        && keeps_git_dir(&build_args)
    {
        git.keep_git_dir = Some(true);
    }
    let from_stdin = args.file.as_deref() == Some(Path::new("-"));
    ensure!(
        !from_stdin || place != Place::Stdin,
        "standard input cannot be both the Dockerfile and the context"
    );
    let call = check::Call::of(args)?;
    if let (Some(call), Place::Directory(directory), None) = (call, &place, &args.file)
        && call.takes_many()
        && !lint::has_default_file(directory)
    {
        return check::directory(settings, directory, call, |file| {
            let folder = file.parent().unwrap_or(directory);
            let base = BuildRequest::for_directory(folder, Some(file))?;
            let mut request = request(args, &outputs, base)?;
            request.build_args.clone_from(&build_args);
            Ok(request)
        });
    }
    let named = named_context::all(args)?;
    let fetches = named
        .iter()
        .any(|(_, source)| matches!(source, NamedSource::Files(place) if !place.is_directory()));
    // What is read from a pipe is gone when entering a user namespace starts this program again,
    // and what is fetched needs threads: enter first.
    let entered = if from_stdin || fetches || !place.is_directory() {
        let rung = wire::enter_user_namespace()?;
        Some((rung, wire::cancel_on_signals(PATIENCE)?))
    } else {
        None
    };
    let cancel = entered.as_ref().map(|(_, signals)| signals.cancel.clone());
    let cancel = cancel.unwrap_or_default();
    // Temporary directories live until the end of this function, whichever end that is.
    let mut kept = Vec::new();
    let ssh = agents(settings, args)?;
    let mut access = Access {
        secrets: secrets(settings, args)?,
        // People who name a repository mean their own agent, as for Docker; a Dockerfile does not.
        ssh_agent: ssh.get("default").cloned().or_else(|| {
            let socket = settings.env.path("SSH_AUTH_SOCK");
            socket.map(Agent::Socket)
        }),
        commit_times: build_args
            .get("SOURCE_DATE_EPOCH")
            .is_some_and(|text| !text.is_empty()),
    };
    let base = base_request(settings, args, &place, &access, &cancel, &mut kept)?;
    let mut request = request(args, &outputs, base)?;
    request.build_args = build_args;
    access.commit_times = false;
    for (name, source) in named {
        let (context, time) = source.get(settings, &name, &access, &cancel, &mut kept)?;
        request
            .named_context_times
            .extend(time.map(|time| (name.clone(), time)));
        request.named_contexts.insert(name, context);
    }
    request.secrets = access.secrets;
    request.ssh = ssh;
    if let Some(call) = call {
        return check::run(settings, &request, call);
    }
    let progress = if args.quiet {
        Progress::Quiet
    } else {
        args.progress
    };
    let observer = render::progress::observer(progress);

    let store = settings.store()?;
    check::in_passing(&request, &store, progress == Progress::Quiet)?;
    // Whatever is cached needs no privilege, no thread and no network: answer it first.
    let probed = Builder::new(store.clone()).probe(&request)?;
    let (store, result) = match probed {
        Some(result) if outputs.iter().all(|output| output.kind == Kind::Store) => {
            report_cached(&result, progress);
            (store, result)
        }
        _ => {
            drop(store);
            match build(settings, args, &request, &observer, entered)? {
                ControlFlow::Continue(built) => built,
                ControlFlow::Break(interrupted) => return Ok(interrupted),
            }
        }
    };
    for output in &outputs {
        export::write(settings, &store, &result, args, output, &observer)?;
    }
    finish(args, &result)?;
    Ok(ExitCode::SUCCESS)
}

fn build(
    settings: &Settings,
    args: &BuildArgs,
    request: &BuildRequest,
    observer: &SharedObserver,
    entered: Option<(Rung, Interruption)>,
) -> anyhow::Result<ControlFlow<ExitCode, (Store, BuildResult)>> {
    let (rung, signals) = match entered {
        Some(entered) => entered,
        None => {
            let rung = wire::enter_user_namespace()?;
            (rung, wire::cancel_on_signals(PATIENCE)?)
        }
    };
    let store = settings.store()?;
    let result = Builder::new(store.clone())
        .with_images(Arc::new(wire::client(settings, &store)?))
        .with_executor(Arc::new(wire::Processes::new(
            args.network == NetworkArg::Host,
            &rung,
            wire::scratch(settings),
        )))
        .with_remote(Arc::new(wire::remote(settings)?))
        .with_observer(Arc::clone(observer))
        .with_cancel(signals.cancel.clone())
        .build(request);
    match (result, signals.exit_code()) {
        (Err(wythe_builder::Error::Cancelled), Some(code)) => {
            render::stderr_line("the build was interrupted");
            Ok(ControlFlow::Break(code))
        }
        (result, _) => Ok(ControlFlow::Continue((store, result?))),
    }
}

fn request(
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
        NetworkArg::Default => Network::Default,
        NetworkArg::None => Network::None,
        NetworkArg::Host => Network::Host,
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
fn secrets(settings: &Settings, args: &BuildArgs) -> anyhow::Result<BTreeMap<String, Secret>> {
    let specs = args.secrets.iter();
    specs.map(|spec| secret(settings, spec)).collect()
}

/// `--ssh`.
fn agents(settings: &Settings, args: &BuildArgs) -> anyhow::Result<BTreeMap<String, Agent>> {
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
fn keeps_git_dir(build_args: &BTreeMap<String, String>) -> bool {
    let value = build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    value.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// The Dockerfile and the context.
fn base_request(
    settings: &Settings,
    args: &BuildArgs,
    place: &Place,
    access: &Access,
    cancel: &Cancel,
    kept: &mut Vec<TempDir>,
) -> anyhow::Result<BuildRequest> {
    let (directory, time) = match place.get(settings, access, cancel)? {
        Found::Directory(files) => {
            kept.extend(files.keeper);
            (files.directory, files.time)
        }
        Found::Dockerfile(bytes, time) => {
            ensure!(
                args.file.is_none(),
                "--file and a context that is a Dockerfile alone exclude each other"
            );
            let name = match place {
                Place::Stdin => "Dockerfile (standard input)",
                _ => "Dockerfile",
            };
            let name = name.to_owned();
            let mut request = BuildRequest::new(InputFile { name, bytes });
            request.context_time = time;
            return Ok(request);
        }
    };
    let mut request = directory_request(args, place, directory)?;
    request.context_time = time;
    Ok(request)
}

fn directory_request(
    args: &BuildArgs,
    place: &Place,
    directory: PathBuf,
) -> anyhow::Result<BuildRequest> {
    if args.file.as_deref() == Some(Path::new("-")) {
        let mut request = BuildRequest::new(stdin_dockerfile()?);
        request.ignore_file = InputFile::in_context(&directory, ".dockerignore".as_ref())?;
        request.context = ContextSource::Directory(directory);
        return Ok(request);
    }
    let file = match &args.file {
        // In an archive or a repository there is no other directory that it could be relative to.
        Some(file) if !place.is_directory() => Some(directory.join(file)),
        other => other.clone(),
    };
    Ok(BuildRequest::for_directory(&directory, file.as_deref())?)
}

fn stdin_dockerfile() -> anyhow::Result<InputFile> {
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(MAX_INPUT_BYTES);
    input
        .read_to_end(&mut bytes)
        .context("cannot read the Dockerfile from standard input")?;
    Ok(InputFile {
        name: "Dockerfile (standard input)".into(),
        bytes,
    })
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let context = || format!("cannot read {}", path.display());
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .with_context(context)?
        .take(MAX_INPUT_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(context)?;
    ensure!(
        bytes.len() as u64 <= MAX_INPUT_BYTES,
        "{} is larger than 16 MiB",
        path.display()
    );
    Ok(bytes)
}

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
fn build_args(settings: &Settings, args: &BuildArgs) -> anyhow::Result<BTreeMap<String, String>> {
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

/// `id=ID[,src=FILE|,env=NAME][,type=file|env]` (docker-build(1) §--secret).
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

fn secret(settings: &Settings, spec: &str) -> anyhow::Result<(String, Secret)> {
    let mut id = None;
    let mut source = None;
    let mut variable = None;
    for part in spec.split(',') {
        match part.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => source = Some(value.to_owned()),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file" | "env")) => {}
            _ => bail!("--secret: {part:?} is none of id=, src=, env=, type="),
        }
    }
    let id = id
        .or_else(|| source.clone())
        .or_else(|| variable.clone())
        .context("--secret has no id=")?;
    let bytes = match (&source, &variable) {
        (Some(path), None) => {
            read_file(Path::new(path)).with_context(|| format!("--secret id={id}"))?
        }
        (None, variable) => {
            let name = variable.as_ref().unwrap_or(&id);
            let value = settings.env.user_text(name);
            value
                .with_context(|| format!("--secret id={id}: {name} is not set"))?
                .into_bytes()
        }
        (Some(_), Some(_)) => bail!("--secret id={id}: src= and env= exclude each other"),
    };
    Ok((id, Secret::new(bytes)))
}

/// A build that did nothing says so in one line.
fn report_cached(result: &BuildResult, progress: Progress) {
    if progress != Progress::Quiet {
        let steps = result
            .steps
            .iter()
            .filter(|step| step.outcome != StepOutcome::Config)
            .count();
        render::stderr_line(&format!("{steps} steps cached, nothing to do"));
    }
}

fn finish(args: &BuildArgs, result: &BuildResult) -> anyhow::Result<()> {
    if let Some(path) = &args.iidfile {
        whole_file::write(path, &result.image_id.to_string())?;
    }
    if let Some(path) = &args.metadata_file {
        let names: Vec<String> = args.tags.iter().map(ToString::to_string).collect();
        let metadata = serde_json::json!({
            "containerimage.config.digest": result.image_id,
            "containerimage.digest": result.descriptor.digest,
            "containerimage.descriptor": result.descriptor,
            "image.name": names.join(","),
        });
        whole_file::write(path, &format!("{metadata:#}\n"))?;
    }
    // Where an output took standard output, an ID there would damage it.
    let stdout_taken = args
        .outputs
        .iter()
        .any(|text| text == "-" || text.contains("dest=-"));
    if args.quiet && !stdout_taken {
        return render::stdout(&format!("{}\n", result.image_id));
    }
    if !args.quiet {
        let names: Vec<String> = args.tags.iter().map(|tag| tag.familiar()).collect();
        let short = result.image_id.digest().short();
        render::stderr_line(&match names.as_slice() {
            [] => format!("built {short}"),
            names => format!("built {short} as {}", names.join(", ")),
        });
    }
    Ok(())
}
