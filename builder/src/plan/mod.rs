//! The plan: what a build has to do, as pure data.
//!
//! Only stages that the target needs are in it, each after the ones it needs. Everything is
//! expanded: no variable, relative path or inherited default is left. What is not known before a
//! step runs (digests of files, layers) is not in it.

mod checksum;
mod config;
mod environment;
mod history;
mod named;
#[cfg(test)]
mod refusals;
mod run;
mod stage;
mod stages;
#[cfg(test)]
mod tests;
mod transfer;
mod whole;

use std::sync::Arc;

use rpds::VectorSync;
use wythe_layers::spec::{ImageConfig, Raw, Reference};

use crate::parse::{CacheSharing, SourceText, Span};
use crate::{GitPlace, ImageAt, Network, Security};

pub(crate) use stages::plan;
pub use stages::{check_plan, platform_args};

/// What to build.
#[derive(Debug)]
pub(crate) struct BuildPlan {
    /// In an order in which they can be built.
    pub(crate) stages: Vec<PlannedStage>,
    /// Position of the stage that becomes the image.
    pub(crate) target: usize,
}

/// A stage, or an image that a step reads files from.
#[derive(Debug)]
pub(crate) struct PlannedStage {
    /// As shown: the name, else the number.
    pub(crate) name: String,
    pub(crate) base: Base,
    pub(crate) steps: Vec<Step>,
    /// The config after the last step, without layers, history, times and environment.
    pub(crate) config: ImageConfig,
    /// `NAME=value` of the config.
    pub(crate) env: VectorSync<String>,
    /// The cache may not be used.
    pub(crate) no_cache: bool,
}

/// What a stage starts from.
#[derive(Debug, Clone)]
pub(crate) enum Base {
    /// Nothing.
    Scratch,
    /// Another stage, by its position in the plan.
    Stage(usize),
    /// An image.
    Image(Arc<BaseImage>),
}

/// A resolved base image: its layers need not be here.
#[derive(Debug)]
pub(crate) struct BaseImage {
    pub(crate) reference: Reference,
    pub(crate) config: Raw<ImageConfig>,
    pub(crate) origin: Origin,
    /// Where its blobs are, if not where all images are.
    pub(crate) layout: Option<ImageAt>,
}

/// Where a base image is.
#[derive(Debug)]
pub(crate) enum Origin {
    /// In the store.
    Store(Box<wythe_layers::image::StoredImage>),
    /// At its source; only manifest and config were fetched.
    Source(Box<wythe_layers::image::ResolvedImage>),
}

/// One instruction, ready to be done.
#[derive(Debug)]
pub(crate) struct Step {
    /// As shown to people.
    pub(crate) text: String,
    /// Line of the Dockerfile; `None` for a trigger of the base.
    pub(crate) line: Option<usize>,
    pub(crate) source: SourceText,
    pub(crate) span: Span,
    /// `created_by` of the history; `None`: no history entry.
    pub(crate) history: Option<String>,
    pub(crate) action: Action,
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Changes the config, which the plan did already.
    Config,
    Run(RunStep),
    Copy(CopyStep),
    Workdir(WorkdirStep),
}

/// `RUN`.
#[derive(Debug)]
pub(crate) struct RunStep {
    pub(crate) args: Vec<String>,
    /// `NAME=value`, part of the cache key.
    pub(crate) env: Arc<[String]>,
    /// Proxy settings: given to the process, not part of the key.
    pub(crate) proxy_env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
    pub(crate) network: Network,
    pub(crate) security: Security,
    pub(crate) mounts: Vec<StepMount>,
    /// A script given as a here-document with `#!`: path and content.
    pub(crate) script: Option<(String, String)>,
    pub(crate) hostname: Option<String>,
}

/// Where files are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileSource {
    /// The main context.
    Context,
    /// A stage or image, by its position in the plan.
    Stage(usize),
    /// A named context that is a directory.
    Named(String),
}

/// `RUN --mount`.
#[derive(Debug, Clone)]
pub(crate) enum StepMount {
    Bind {
        from: FileSource,
        /// Inside the source, normalised.
        source: String,
        target: String,
        writable: bool,
    },
    Cache(CacheMount),
    Tmpfs {
        target: String,
        writable: bool,
        size_bytes: Option<u64>,
    },
    Secret(SecretMount),
    Ssh(SshMount),
}

impl StepMount {
    /// Whether this shows a part of another stage's files, and not all of them.
    pub(crate) fn shows_part_of_stage(&self) -> bool {
        let Self::Bind { from, source, .. } = self else {
            return false;
        };
        matches!(from, FileSource::Stage(_)) && !source.trim_matches('/').is_empty()
    }
}

/// `--mount=type=cache`.
#[derive(Debug, Clone)]
pub(crate) struct CacheMount {
    pub(crate) id: String,
    pub(crate) sharing: CacheSharing,
    pub(crate) target: String,
    pub(crate) writable: bool,
    pub(crate) from: Option<FileSource>,
    /// Inside what it begins as, normalised.
    pub(crate) source: String,
    /// Of a new cache, where any of it was given.
    pub(crate) made: Option<CacheRoot>,
}

/// `--mount=type=secret`.
#[derive(Debug, Clone)]
pub(crate) struct SecretMount {
    pub(crate) id: String,
    /// `None`: only as a variable.
    pub(crate) target: Option<String>,
    pub(crate) env: Option<String>,
    pub(crate) required: bool,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `--mount=type=ssh`.
#[derive(Debug, Clone)]
pub(crate) struct SshMount {
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) required: bool,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The directory of a new cache mount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheRoot {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// `COPY` and `ADD`.
#[derive(Debug)]
pub(crate) struct CopyStep {
    pub(crate) from: FileSource,
    pub(crate) sources: Vec<CopySource>,
    /// Absolute; ends with `/` where it must be a directory.
    pub(crate) destination: String,
    pub(crate) chown: Option<Chown>,
    pub(crate) chmod: Option<Chmod>,
    pub(crate) exclude: Vec<String>,
    pub(crate) parents: bool,
    pub(crate) link: bool,
    /// Unpack local archives.
    pub(crate) unpack: bool,
    pub(crate) checksum: Option<String>,
}

impl CopyStep {
    /// What is at a path, as it is, into the root directory.
    pub(crate) fn as_it_is(from: FileSource, path: &str) -> Self {
        Self {
            from,
            sources: vec![CopySource::Path {
                text: path.to_owned(),
                span: Span::default(),
            }],
            destination: "/".to_owned(),
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            unpack: false,
            checksum: None,
        }
    }
}

/// A source of `COPY` or `ADD`.
#[derive(Debug)]
pub(crate) enum CopySource {
    /// A path or pattern, and where it is written.
    Path { text: String, span: Span },
    /// A here-document.
    Inline { name: String, content: String },
    /// `http://…`, `https://…`.
    Http { url: String, unpack: bool },
    /// A repository.
    Git(GitPlace),
}

/// `--chown`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chown {
    pub(crate) user: NameOrId,
    pub(crate) group: Option<NameOrId>,
}

impl Chown {
    /// Whether names must be looked up in the image.
    pub(crate) fn has_names(&self) -> bool {
        let is_name = |who: &NameOrId| matches!(who, NameOrId::Name(_));
        is_name(&self.user) || self.group.as_ref().is_some_and(is_name)
    }
}

/// A user or group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NameOrId {
    Name(String),
    Id(u32),
}

/// `--chmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    Octal(u32),
    Symbolic(crate::chmod::Symbolic),
}

/// `WORKDIR`.
#[derive(Debug)]
pub(crate) struct WorkdirStep {
    pub(crate) path: String,
    /// Owner of directories that have to be made.
    pub(crate) owner: Option<Chown>,
}

impl PlannedStage {
    /// Whether a step of it starts processes.
    pub(crate) fn runs_processes(&self) -> bool {
        self.steps
            .iter()
            .any(|step| matches!(step.action, Action::Run(_)))
    }
}
