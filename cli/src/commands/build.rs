//! `wythe build`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tempfile::TempDir;
use wythe_builder::{
    Agent, BuildRequest, BuildResult, Builder, Cancel, ContextSource, InputFile, StepOutcome,
};
use wythe_layers::progress::SharedObserver;
use wythe_layers::store::Store;
use wythe_runtime::userns::Rung;

use super::context::{Access, Found, Place};
use super::named_context::{self, NamedSource};
use super::output::{Kind, Output};
use super::{check, export, lint, request, whole_file};
use crate::args::{BuildArgs, BuildNetworkArg, Progress};
use crate::render;
use crate::settings::Settings;
use crate::wire::{self, Interruption};

/// How long a build that is interrupted may take to clean up; the next one does the rest.
const PATIENCE: Duration = Duration::from_secs(1);

pub(crate) fn run(settings: &Settings, args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let outputs = outputs(args)?;
    let build_args = request::build_args(settings, args)?;
    let mut place = Place::parse(&args.context)?;
    if let Place::Git(git) = &mut place
        && request::keeps_git_dir(&build_args)
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
            let mut request = request::fill(args, &outputs, base)?;
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
    let ssh = request::agents(settings, args)?;
    let mut access = Access {
        secrets: request::secrets(settings, args)?,
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
    let mut request = request::fill(args, &outputs, base)?;
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
    let progress = args.progress.unless(args.quiet);
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
    finish(args, &outputs, &result)?;
    Ok(ExitCode::SUCCESS)
}

/// `--output` and `--push`.
fn outputs(args: &BuildArgs) -> anyhow::Result<Vec<Output>> {
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
    Ok(outputs)
}

/// Builds for real: what is not cached, or leaves the store. `Break` where a signal ended it.
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
            networks(settings, args),
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

/// What a step's default network is.
fn networks(settings: &Settings, args: &BuildArgs) -> wire::Networks {
    let fallback = match args.network {
        BuildNetworkArg::Private => wire::Fallback::Never,
        _ => wire::Fallback::Host,
    };
    wire::Networks::new(settings.env.path("PATH"), fallback)
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
        let mut request = BuildRequest::new(request::stdin_dockerfile()?);
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

/// What is said and written of an image that is there.
fn finish(args: &BuildArgs, outputs: &[Output], result: &BuildResult) -> anyhow::Result<()> {
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
    let stdout_taken = outputs.iter().any(|output| output.kind.takes_stdout());
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
