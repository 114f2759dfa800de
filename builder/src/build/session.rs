//! One build: the plan and everything that its steps share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use wythe_layers::layer::LayerStack;
use wythe_layers::snapshot::{Snapshotter, choose};
use wythe_layers::spec::Digest;
use wythe_layers::store::Store;
use wythe_layers::tree::Timestamp;

use super::repositories::Repositories;
use super::{Builder, bases};
use crate::cache::Index;
use crate::context::Context;
use crate::ignore::IgnoreRules;
use crate::parse::Dockerfile;
use crate::plan::{self, Action, BuildPlan, FileSource, StepMount};
use crate::request::InputFile;
use crate::{BuildRequest, Cancel, ContextSource, Error, NamedContext, Result};

/// Whether work may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Only what is cached; the first miss ends it.
    Probe,
    /// Everything.
    Build,
}

/// What a probe may read to learn digests that are not remembered: a changed file is a miss
/// anyway, a touched one should not cost the fast path.
const PROBE_HASH_BYTES: u64 = 32 << 20;

/// One build.
pub(super) struct Session<'a> {
    pub(super) builder: &'a Builder,
    pub(super) request: &'a BuildRequest,
    pub(super) store: &'a Store,
    pub(super) mode: Mode,
    pub(super) plan: BuildPlan,
    pub(super) index: Index,
    /// The time of the image.
    pub(super) epoch: Timestamp,
    /// Times after this are this in layers; `None`: they stay.
    pub(super) clamp: Option<Timestamp>,
    /// The caller's flag, and this build's own.
    pub(super) cancel: Cancel,
    /// Per stage: its files are read from disk by something later.
    pub(super) read_later: Vec<bool>,
    pub(super) in_flight: InFlight,
    pub(super) repositories: Repositories<'a>,
    pub(super) base_stacks: Mutex<BTreeMap<usize, Arc<LayerStack>>>,
    contexts: BTreeMap<Option<String>, Arc<Context>>,
    snapshotter: OnceLock<Arc<dyn Snapshotter>>,
}

impl<'a> Session<'a> {
    /// Plans the build; `None` when a probe cannot know a base image.
    pub(super) fn new(
        builder: &'a Builder,
        request: &'a BuildRequest,
        file: &Dockerfile,
        mode: Mode,
    ) -> Result<Option<Self>> {
        let resolve = |reference: &_, layout: Option<&_>, platform: &_| match layout {
            Some(layout) => bases::resolve_layout(builder, mode, layout, platform),
            None => bases::resolve(builder, request, mode, reference, platform),
        };
        let Some(plan) = plan::plan(file, request, &resolve)? else {
            return Ok(None);
        };
        let epoch = Timestamp::from_seconds(request.source_date_epoch.unwrap_or(0));
        let index = Index::new(&builder.store);
        let contexts = open_contexts(request, &plan, &index)?;
        Ok(Some(Self {
            store: &builder.store,
            mode,
            epoch,
            clamp: request.rewrite_timestamp.then_some(epoch),
            cancel: builder.cancel.child(),
            read_later: read_later(&plan),
            in_flight: InFlight::default(),
            repositories: Repositories::new(builder, request),
            base_stacks: Mutex::new(BTreeMap::new()),
            contexts,
            snapshotter: OnceLock::new(),
            builder,
            request,
            plan,
            index,
        }))
    }

    /// The time of what a step makes out of nothing. Later steps see it; in the layer it is
    /// `clamp`, also where that is in the future.
    pub(super) fn made_at(&self) -> Timestamp {
        Timestamp::now().max(self.clamp.unwrap_or_default())
    }

    /// How many threads a single step may use.
    pub(super) fn jobs(&self) -> usize {
        match self.mode {
            Mode::Probe => 1,
            Mode::Build => self.request.jobs.max(1),
        }
    }

    /// How many bytes may be read for a key.
    pub(super) fn hash_limit(&self) -> Option<u64> {
        (self.mode == Mode::Probe).then_some(PROBE_HASH_BYTES)
    }

    pub(super) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// A context that the plan reads.
    pub(super) fn context(&self, source: &FileSource) -> Result<Arc<Context>> {
        let name = context_name(source);
        let context = name.and_then(|name| self.contexts.get(&name));
        context.cloned().ok_or_else(|| Error::Unsupported {
            what: "this file source".to_owned(),
        })
    }

    /// Makes root file systems: found out once, when first needed.
    pub(super) fn snapshotter(&self) -> Result<Arc<dyn Snapshotter>> {
        if let Some(given) = &self.builder.snapshotter {
            return Ok(Arc::clone(given));
        }
        if let Some(chosen) = self.snapshotter.get() {
            return Ok(Arc::clone(chosen));
        }
        // Two threads may both try; either's answer is right.
        let chosen: Arc<dyn Snapshotter> = Arc::from(choose(self.store)?);
        Ok(Arc::clone(self.snapshotter.get_or_init(|| chosen)))
    }

    /// A directory of the store for work in progress, made if it is not there.
    pub(super) fn scratch(&self) -> Result<PathBuf> {
        let directory = self.store.root().join("cache").join("v1").join("scratch");
        std::fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
        Ok(directory)
    }

    /// Keeps what was learned of the contexts.
    pub(super) fn save(&self) -> Result<()> {
        for context in self.contexts.values() {
            context.save()?;
        }
        Ok(())
    }
}

fn context_name(source: &FileSource) -> Option<Option<String>> {
    match source {
        FileSource::Context => Some(None),
        FileSource::Named(name) => Some(Some(name.clone())),
        FileSource::Stage(_) => None,
    }
}

/// The file sources of a step.
pub(super) fn file_sources(action: &Action) -> Vec<&FileSource> {
    match action {
        Action::Config | Action::Workdir(_) => Vec::new(),
        Action::Copy(copy) => vec![&copy.from],
        Action::Run(run) => {
            let sources = run.mounts.iter().filter_map(|mount| match mount {
                StepMount::Bind { from, .. } => Some(from),
                StepMount::Cache(mount) => mount.from.as_ref(),
                _ => None,
            });
            sources.collect()
        }
    }
}

fn open_contexts(
    request: &BuildRequest,
    plan: &BuildPlan,
    index: &Index,
) -> Result<BTreeMap<Option<String>, Arc<Context>>> {
    let mut wanted = BTreeSet::new();
    for step in plan.stages.iter().flat_map(|stage| &stage.steps) {
        wanted.extend(
            file_sources(&step.action)
                .into_iter()
                .filter_map(context_name),
        );
    }
    let mut contexts = BTreeMap::new();
    for name in wanted {
        let (directory, rules) = match &name {
            None => {
                let rules = ignore_rules(request.ignore_file.as_ref())?;
                match &request.context {
                    ContextSource::Directory(directory) => (Some(directory), rules),
                    ContextSource::Empty => (None, rules),
                }
            }
            Some(named) => match request.named_contexts.get(named) {
                // It has an ignore file of its own, if any.
                Some(NamedContext::Directory(directory)) => {
                    let file = InputFile::in_context(directory, Path::new(".dockerignore"))?;
                    (Some(directory), ignore_rules(file.as_ref())?)
                }
                _ => (None, IgnoreRules::default()),
            },
        };
        let context = match directory {
            Some(directory) => Context::open(directory, rules, index)?,
            None => Context::empty(),
        };
        contexts.insert(name, Arc::new(context));
    }
    Ok(contexts)
}

fn ignore_rules(file: Option<&InputFile>) -> Result<IgnoreRules> {
    let Some(file) = file else {
        return Ok(IgnoreRules::default());
    };
    IgnoreRules::parse(&file.bytes).map_err(|source| Error::IgnoreRules {
        name: file.name.clone(),
        source,
    })
}

/// Per stage: whether something reads its files from disk: a `RUN`, a `COPY --from`, a name to be
/// looked up, in it or in a stage built on it.
fn read_later(plan: &BuildPlan) -> Vec<bool> {
    let mut read = vec![false; plan.stages.len()];
    let mark = |position: usize, read: &mut Vec<bool>| {
        if let Some(flag) = read.get_mut(position) {
            *flag = true;
        }
    };
    // Whatever a stage needs stands before it.
    for (position, stage) in plan.stages.iter().enumerate().rev() {
        for source in stage
            .steps
            .iter()
            .flat_map(|step| file_sources(&step.action))
        {
            if let FileSource::Stage(from) = source {
                mark(*from, &mut read);
            }
        }
        let reads = stage.steps.iter().any(|step| reads_disk(&step.action));
        if let plan::Base::Stage(base) = stage.base
            && (reads || read.get(position).copied().unwrap_or(false))
        {
            mark(base, &mut read);
        }
    }
    read
}

/// Whether a step reads the files below it from disk.
pub(super) fn reads_disk(action: &Action) -> bool {
    match action {
        Action::Config => false,
        Action::Run(_) => true,
        Action::Copy(copy) => copy.chown.as_ref().is_some_and(plan::Chown::has_names),
        Action::Workdir(workdir) => workdir.owner.as_ref().is_some_and(plan::Chown::has_names),
    }
}

/// Keys whose steps are being done right now, so that the same step of two stages runs once.
#[derive(Default)]
pub(super) struct InFlight {
    keys: Mutex<BTreeSet<Digest>>,
    done: Condvar,
}

/// A key held; dropping it lets others try, whether the step succeeded or not.
pub(super) struct Held<'a> {
    owner: &'a InFlight,
    key: Digest,
}

impl InFlight {
    /// Waits until nobody else does this step.
    pub(super) fn hold(&self, key: &Digest) -> Held<'_> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        while keys.contains(key) {
            keys = self.done.wait(keys).unwrap_or_else(PoisonError::into_inner);
        }
        keys.insert(key.clone());
        Held {
            owner: self,
            key: key.clone(),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut keys = self
            .owner
            .keys
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        keys.remove(&self.key);
        self.owner.done.notify_all();
    }
}
