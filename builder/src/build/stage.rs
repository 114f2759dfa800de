//! One stage: its steps in order, from the cache as long as that lasts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wythe_layers::layer::{LayerRecord, LayerWriter, Purpose};
use wythe_layers::progress::{Event, Outcome};
use wythe_layers::spec::{DiffId, Digest};

use super::keys::By;
use super::remote_file::{Got, Known};
use super::session::{Mode, Session, reads_disk};
use super::{keys, materials, remote_file, run};
use crate::cache::{CacheKey, CachedResult};
use crate::copy::{self, Place, Settings, Source, owner};
use crate::parse::Diagnostic;
use crate::path::clean_in_root;
use crate::plan::{
    Action, Base, Chown, CopySource, CopyStep, FileSource, PlannedStage, RunStep, Step, StepMount,
    WorkdirStep,
};
use crate::view::{Content, New, NewDirectory, Owner, View};
use crate::{Error, Network, Result, StepOutcome};

/// What a stage came to.
#[derive(Debug, Clone)]
pub(super) struct StageResult {
    /// All layers, the base's too, bottom first.
    pub(super) layers: Vec<DiffId>,
    /// One for each step.
    pub(super) steps: Vec<StepDone>,
}

/// What a step came to.
#[derive(Debug, Clone)]
pub(super) struct StepDone {
    pub(super) outcome: StepOutcome,
    pub(super) duration: Duration,
    pub(super) key: Option<Digest>,
    pub(super) layer: Option<DiffId>,
}

/// Runs a stage whose needs are all in `stages`; `None` when a probe misses.
pub(super) fn run_stage(
    session: &Session<'_>,
    position: usize,
    stages: &[Option<StageResult>],
) -> Result<Option<StageResult>> {
    let Some(stage) = session.plan.stages.get(position) else {
        return Ok(None);
    };
    let mut layers = match &stage.base {
        Base::Scratch => Vec::new(),
        Base::Image(image) => image.config.rootfs.diff_ids.clone(),
        Base::Stage(base) => match stages.get(*base).and_then(Option::as_ref) {
            Some(base) => base.layers.clone(),
            None => return Ok(None),
        },
    };
    let mut steps = Vec::with_capacity(stage.steps.len());
    for (number, step) in stage.steps.iter().enumerate() {
        session.check_cancelled()?;
        let mut worker = Worker {
            session,
            position,
            stage,
            number,
            step,
            layers: &layers,
            stages,
        };
        let Some(done) = worker.step()? else {
            return Ok(None);
        };
        layers.extend(done.layer.clone());
        steps.push(done);
    }
    Ok(Some(StageResult { layers, steps }))
}

/// One step in its stage.
pub(super) struct Worker<'w> {
    pub(super) session: &'w Session<'w>,
    pub(super) position: usize,
    stage: &'w PlannedStage,
    number: usize,
    pub(super) step: &'w Step,
    /// Below it.
    pub(super) layers: &'w [DiffId],
    pub(super) stages: &'w [Option<StageResult>],
}

/// `1.4`: unique in a build.
pub(super) fn step_id(position: usize, number: usize) -> String {
    format!("{position}.{number}")
}

/// `[builder 2/5] RUN make`.
pub(super) fn step_label(stage: &PlannedStage, number: usize, step: &Step) -> String {
    let (name, of) = (&stage.name, stage.steps.len());
    format!("[{name} {}/{of}] {}", number + 1, step.text)
}

impl Worker<'_> {
    pub(super) fn id(&self) -> String {
        step_id(self.position, self.number)
    }

    fn step(&mut self) -> Result<Option<StepDone>> {
        let began = Instant::now();
        let done = self.decide(began).map_err(|error| match error {
            Error::Cancelled | Error::Dockerfile(_) => error,
            Error::SourceMissing { .. } => self.source_missing(error),
            error => Error::step(&self.step.source, self.step.span, &self.step.text, error),
        });
        if self.session.mode == Mode::Build {
            match &done {
                Ok(Some(done)) if done.outcome == StepOutcome::Cached => {
                    self.started();
                    self.finished(Outcome::Cached);
                }
                Ok(Some(done)) if done.outcome == StepOutcome::Done => {
                    self.finished(Outcome::Done);
                }
                Err(_) => self.finished(Outcome::Failed),
                _ => {}
            }
        }
        done
    }

    /// Points at the very source.
    fn source_missing(&self, error: Error) -> Error {
        let (Error::SourceMissing { path, hint, .. }, Action::Copy(copy)) =
            (&error, &self.step.action)
        else {
            return Error::step(&self.step.source, self.step.span, &self.step.text, error);
        };
        let span = copy.sources.iter().find_map(|source| match source {
            CopySource::Path { text, span } if text == path => Some(*span),
            _ => None,
        });
        let span = span.unwrap_or(self.step.span);
        let mut diagnostic = Diagnostic::error(span, error.to_string());
        diagnostic.hint.clone_from(hint);
        Error::at(&self.step.source, diagnostic)
    }

    fn started(&self) {
        self.session.builder.observer.event(Event::Started {
            id: self.id(),
            label: step_label(self.stage, self.number, self.step),
            total_bytes: None,
        });
    }

    fn finished(&self, outcome: Outcome) {
        let id = self.id();
        let observer = &self.session.builder.observer;
        observer.event(Event::Finished { id, outcome });
    }

    fn decide(&mut self, began: Instant) -> Result<Option<StepDone>> {
        match &self.step.action {
            Action::Config => Ok(Some(StepDone {
                outcome: StepOutcome::Config,
                duration: began.elapsed(),
                key: None,
                layer: None,
            })),
            Action::Workdir(step) => {
                let key = keys::workdir(self.session, step, self.layers);
                self.cached_or(began, key, |worker| worker.workdir(step))
            }
            Action::Run(step) => self.run(began, step),
            Action::Copy(step) => self.copy(began, step),
        }
    }

    /// The result of a key from the cache, if the layer is still there.
    fn cached(&self, key: &CacheKey) -> Result<Option<CachedResult>> {
        if self.stage.no_cache {
            return Ok(None);
        }
        let Some(result) = self.session.index.get(key) else {
            return Ok(None);
        };
        if let CachedResult::Layer(diff_id) = &result
            && !materials::is_present(self.session, diff_id)?
        {
            return Ok(None);
        }
        Ok(Some(result))
    }

    /// From the cache, else by `work` (once, even if two stages want it), which is then recorded.
    fn cached_or(
        &mut self,
        began: Instant,
        key: CacheKey,
        work: impl FnOnce(&mut Self) -> Result<CachedResult>,
    ) -> Result<Option<StepDone>> {
        if let Some(result) = self.cached(&key)? {
            return Ok(Some(done(began, &key, result, StepOutcome::Cached)));
        }
        if self.session.mode == Mode::Probe {
            return Ok(None);
        }
        let _held = self.session.in_flight.hold(key.digest());
        // Someone else may just have done it.
        if let Some(result) = self.cached(&key)? {
            return Ok(Some(done(began, &key, result, StepOutcome::Cached)));
        }
        self.expect_processes();
        self.started();
        let result = work(self)?;
        self.session.index.put(&key, &result)?;
        Ok(Some(done(began, &key, result, StepOutcome::Done)))
    }

    fn run(&mut self, began: Instant, step: &RunStep) -> Result<Option<StepDone>> {
        let key = |by| keys::run(self.session, step, self.layers, self.stages, by);
        let Some(by_name) = key(By::Name)? else {
            return Ok(None);
        };
        if !step.mounts.iter().any(StepMount::shows_part_of_stage) {
            return self.cached_or(began, by_name, |worker| run::run(worker, step));
        }
        if let Some(result) = self.cached(&by_name)? {
            return Ok(Some(done(began, &by_name, result, StepOutcome::Cached)));
        }
        if self.session.mode == Mode::Probe {
            return Ok(None);
        }
        // The stage was built anew; what is mounted of it may be what it was.
        let Some(by_content) = key(By::Content)? else {
            return Ok(None);
        };
        let done = self.cached_or(began, by_content, |worker| run::run(worker, step))?;
        self.remember_as(&by_name, done.as_ref())?;
        Ok(done)
    }

    /// Records a result under another key too.
    fn remember_as(&self, key: &CacheKey, done: Option<&StepDone>) -> Result<()> {
        let Some(done) = done else {
            return Ok(());
        };
        let result = match &done.layer {
            Some(layer) => CachedResult::Layer(layer.clone()),
            None => CachedResult::Empty,
        };
        self.session.index.put(key, &result)
    }

    /// After a miss nothing that follows in the stage is likely to be cached, so its processes
    /// are told of while the files below it are still being fetched.
    fn expect_processes(&self) {
        let Some(executor) = &self.session.builder.executor else {
            return;
        };
        let mut ahead = self.stage.steps.iter().skip(self.number);
        let default = Network::Default;
        if ahead.any(|step| matches!(&step.action, Action::Run(run) if run.network == default)) {
            executor.expect(default);
        }
    }

    fn copy(&mut self, began: Instant, step: &CopyStep) -> Result<Option<StepDone>> {
        let session = self.session;
        // First by names that are known already, then by content.
        let by_name = match (&step.from, &step.checksum) {
            (FileSource::Stage(from), _) => {
                let from = self.stages.get(*from).and_then(Option::as_ref);
                let layers = from.map_or(&[][..], |from| &from.layers);
                Some(keys::copy_by_name(session, step, self.layers, layers))
            }
            (_, Some(checksum)) => {
                let layers = self.layers;
                Some(keys::copy_by_checksum(session, step, layers, checksum))
            }
            _ => None,
        };
        if let Some(key) = &by_name {
            if let Some(result) = self.cached(key)? {
                return Ok(Some(done(began, key, result, StepOutcome::Cached)));
            }
            if session.mode == Mode::Probe {
                return Ok(None);
            }
        }
        let place = self.place(step)?;
        let mut sources = copy::gather(step, &place)?;
        if let Some(done) = self.copy_of_likely_commit(began, step, &mut sources)? {
            return Ok(Some(done));
        }
        let got = remote_file::get_all(self, step, &mut sources, Known::Enough)?;
        if got == Got::Nothing {
            return Ok(None);
        }
        let key = keys::copy_content(session, step, self.layers, &mut sources)?;
        let Some(mut key) = key else {
            return Ok(None);
        };
        if got == Got::DigestsOnly && self.cached(&key)?.is_none() {
            // The file is what it was, but this step has not been done with it.
            sources = copy::gather(step, &place)?;
            remote_file::get_all(self, step, &mut sources, Known::TooLittle)?;
            match keys::copy_content(session, step, self.layers, &mut sources)? {
                Some(with_content) => key = with_content,
                None => return Ok(None),
            }
        }
        let done = self.cached_or(began, key, |worker| worker.write_copy(step, sources))?;
        if let Some(by_name) = by_name {
            self.remember_as(&by_name, done.as_ref())?;
        }
        Ok(done)
    }

    /// Where a checksum says which commit it must be, and that was added before, nobody is asked.
    fn copy_of_likely_commit(
        &self,
        began: Instant,
        step: &CopyStep,
        sources: &mut [Source],
    ) -> Result<Option<StepDone>> {
        let [Source::Git(git)] = sources else {
            return Ok(None);
        };
        // The ref's name stands in `.git`, so there it has to be known.
        if git.place.keeps_git_dir() {
            return Ok(None);
        }
        let known = git.place.known_commit();
        let known = known.map_err(|error| git.place.error(error))?;
        git.commit = known.or_else(|| git.place.likely_commit());
        if git.commit.is_none() {
            return Ok(None);
        }
        let key = keys::copy_content(self.session, step, self.layers, sources)?;
        let Some(key) = key else {
            return Ok(None);
        };
        let result = self.cached(&key)?;
        Ok(result.map(|result| done(began, &key, result, StepOutcome::Cached)))
    }

    fn place(&self, step: &CopyStep) -> Result<Place> {
        Ok(match &step.from {
            FileSource::Stage(from) => {
                let layers = self.stages.get(*from).and_then(Option::as_ref);
                let layers = layers.map_or(&[][..], |from| &from.layers);
                let stack = materials::stack(self.session, *from, layers)?;
                let name = self.session.plan.stages.get(*from).map(|s| s.name.clone());
                Place::Layers(stack, name.unwrap_or_default())
            }
            source => Place::Context(self.session.context(source)?),
        })
    }

    fn write_copy(&mut self, step: &CopyStep, mut sources: Vec<Source>) -> Result<CachedResult> {
        let session = self.session;
        for source in &mut sources {
            if let Source::Git(git) = source {
                let (index, cancel) = (&session.index, &session.cancel);
                *source = session
                    .repositories
                    .open(git, index, session.made_at(), cancel)?;
            }
        }
        let mut view = if step.link {
            View::new(Arc::default(), Vec::new())
        } else {
            materials::view(self.session, self.position, self.layers)?
        };
        let settings = Settings {
            destination: step.destination.clone(),
            owner: self.owner(step.chown.as_ref())?,
            chmod: step.chmod.clone(),
            new_mtime: self.session.made_at(),
            scratch: self.session.scratch()?,
        };
        copy::apply(&mut view, sources, &settings)?;
        self.write(view)
    }

    fn owner(&self, chown: Option<&Chown>) -> Result<Option<Owner>> {
        let Some(chown) = chown else {
            return Ok(None);
        };
        let stack = if chown.has_names() {
            materials::stack(self.session, self.position, self.layers)?
        } else {
            Arc::default()
        };
        owner::resolve(chown, &stack).map(Some)
    }

    fn workdir(&mut self, step: &WorkdirStep) -> Result<CachedResult> {
        let mut view = materials::view(self.session, self.position, self.layers)?;
        let owner = self.owner(step.owner.as_ref())?.unwrap_or_default();
        let path = clean_in_root(step.path.as_bytes()).ok_or_else(|| Error::BadPath {
            path: step.path.clone(),
        })?;
        let new = NewDirectory {
            mode: 0o755,
            owner,
            mtime: self.session.made_at(),
        };
        view.make_directory(&path, new)?;
        self.write(view)
    }

    /// Writes what was made in a view as a layer.
    fn write(&self, view: View) -> Result<CachedResult> {
        if view.is_unchanged() {
            return Ok(CachedResult::Empty);
        }
        let record = write_layer(self.session, view.into_layer()?, self.purpose())?;
        Ok(CachedResult::Layer(record.diff_id))
    }

    /// A tree where something later reads this from disk, else a blob right away (decision 2).
    fn purpose(&self) -> Purpose {
        let later = self.stage.steps.iter().skip(self.number + 1);
        let session = self.session;
        let read = session.read_later.get(self.position).copied();
        if read.unwrap_or(true) || later.into_iter().any(|step| reads_disk(&step.action)) {
            Purpose::Tree
        } else {
            Purpose::Blob(session.request.compression)
        }
    }
}

/// Writes entries, in canonical order, as a layer.
pub(super) fn write_layer(
    session: &Session<'_>,
    layer: Vec<New>,
    purpose: Purpose,
) -> Result<LayerRecord> {
    let jobs = session.jobs();
    let mut writer = LayerWriter::new(session.store, purpose, session.clamp, jobs)?;
    for new in layer {
        session.check_cancelled()?;
        if let Content::Context { context, item } = &new.content {
            let file = context.open_file(item)?;
            writer.add_from(new.entry, &mut &file)?;
            // Its key says what was read before; a layer must not hold anything else.
            context.check_unchanged(item, &file)?;
            continue;
        }
        let mut content = new.content.reader()?;
        writer.add_from(new.entry, &mut content)?;
    }
    Ok(writer.finish()?)
}

fn done(began: Instant, key: &CacheKey, result: CachedResult, outcome: StepOutcome) -> StepDone {
    StepDone {
        outcome,
        duration: began.elapsed(),
        key: Some(key.digest().clone()),
        layer: match result {
            CachedResult::Layer(diff_id) => Some(diff_id),
            CachedResult::Empty => None,
        },
    }
}
