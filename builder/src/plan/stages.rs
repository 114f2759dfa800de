//! Which stages are needed, in which order, and what each starts from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rpds::VectorSync;
use wythe_layers::spec::{ImageConfig, Platform, Reference};

use super::named::Beginning;
use super::stage::{Place, StageState};
use super::whole::check_build_args;
use super::{Base, BaseImage, BuildPlan, FileSource, PlannedStage};
use crate::build::epoch;
use crate::parse::{
    Diagnostic, Dockerfile, Expander, GlobalScope, InstructionKind, SourceText, Span, Stage,
    StageRef, Stages, Word, find_stage, find_target, near_stage, parse_trigger, resolve_base,
    resolve_copy_from, resolve_mount_from,
};
use crate::request::{BuildRequest, CachePolicy, NamedContext};
use crate::{Error, ImageAt, Result};

/// Most variables, labels, ports and volumes that a plan holds, counted again for each stage that has
/// them and for each command that sees them: some hundred megabytes.
const MAX_PARTS: usize = 4 << 20;

/// Finds images: in the store, at their source. `None`: not without doing what is not allowed now.
/// An image that has a source of its own is asked for there.
pub(crate) type Resolve<'a> =
    dyn Fn(&Reference, Option<&ImageAt>, &Platform) -> Result<Option<Arc<BaseImage>>> + 'a;

/// Plans a build. `None` when `resolve` gave up on an image.
///
/// # Errors
/// [`Error::Dockerfile`] for what is wrong in the file, and what `resolve` says.
pub(crate) fn plan(
    file: &Dockerfile,
    request: &BuildRequest,
    resolve: &Resolve<'_>,
) -> Result<Option<BuildPlan>> {
    let (mut planner, target) = Planner::begin(file, request, resolve)?;
    if !planner.plan_with_dependencies(target)? {
        return Ok(None);
    }
    let target = planner.planned.get(&target).copied().unwrap_or_default();
    Ok(Some(BuildPlan {
        stages: planner.out,
        target,
    }))
}

/// The state of planning.
pub(super) struct Planner<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) request: &'a BuildRequest,
    resolve: &'a Resolve<'a>,
    pub(super) expander: Expander,
    /// What `FROM` sees: predefined platform arguments and those before the first `FROM`.
    pub(super) global: GlobalScope,
    pub(super) stages: Stages<'a>,
    /// Stage number → position in `out`.
    planned: BTreeMap<usize, usize>,
    /// Image name and platform → position in `out`.
    images: BTreeMap<(String, String), usize>,
    out: Vec<PlannedStage>,
    /// What stages built on a stage inherit, by position.
    states: BTreeMap<usize, StageState>,
    /// What counts towards [`MAX_PARTS`].
    parts: usize,
}

/// Says what would be refused when a build is planned, whatever its bases are: in all stages, needed
/// or not.
///
/// # Errors
/// [`Error::Dockerfile`] for what is wrong in the file.
pub fn check_plan(file: &Dockerfile, request: &BuildRequest) -> Result<()> {
    Planner::begin(file, request, &|_, _, _| Ok(None)).map(|_| ())
}

impl<'a> Planner<'a> {
    /// Checks the whole and finds the target.
    fn begin(
        file: &'a Dockerfile,
        request: &'a BuildRequest,
        resolve: &'a Resolve<'a>,
    ) -> Result<(Self, usize)> {
        check_build_args(&request.build_args)?;
        let mut planner = Self {
            file,
            request,
            resolve,
            expander: Expander::new(file.directives.escape),
            global: GlobalScope::default(),
            stages: file.stages(),
            planned: BTreeMap::new(),
            images: BTreeMap::new(),
            out: Vec::new(),
            states: BTreeMap::new(),
            parts: 0,
        };
        let target = planner.target()?;
        planner.read_global_args(target)?;
        planner.check_whole()?;
        Ok((planner, target))
    }

    fn target(&self) -> Result<usize> {
        find_target(&self.stages, self.request.target.as_deref()).map_err(|error| {
            // Beside the stage that was meant, else the one that would be built without a target.
            let meant = error.near.as_deref();
            let meant = meant.and_then(|name| find_stage(&self.stages, name));
            let named = meant.and_then(|stage| stage.from.name.as_ref());
            let last = self.stages.last().map(|stage| stage.instruction.span);
            let span = named.map(|name| name.span).or(last);
            let message = format!("target stage {:?} could not be found", error.name);
            let diagnostic = Diagnostic::error(span.unwrap_or_default(), message);
            let names: Vec<&str> = self.stages.iter().filter_map(Stage::name).collect();
            let diagnostic = match (&error.near, names.as_slice()) {
                (None, []) => diagnostic.note("no stage of this file has a name"),
                (None, names) => diagnostic.note(format!("stages are {}", names.join(", "))),
                (Some(_), _) => diagnostic,
            };
            Error::at(&self.file.source, diagnostic.did_you_mean(error.near))
        })
    }

    fn read_global_args(&mut self, target: usize) -> Result<()> {
        let given = self.request.target.as_deref();
        let name = given.or_else(|| self.stages.get(target)?.name());
        let defaults = platform_args(self.request, name.unwrap_or("default"));
        self.global = GlobalScope::evaluate(
            self.file,
            &defaults,
            &self.request.build_args,
            &self.expander,
        )
        .map_err(|diagnostic| Error::at(&self.file.source, diagnostic))?;
        // By now it is a number, whatever the file says.
        let value = self.global.values.get_mut(epoch::NAME);
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            match self.request.source_date_epoch {
                Some(seconds) => *value = seconds.to_string(),
                None => {
                    self.global.values.remove(epoch::NAME);
                }
            }
        }
        Ok(())
    }

    /// Plans a stage and all that it needs; `false` when an image could not be resolved.
    fn plan_with_dependencies(&mut self, wanted: usize) -> Result<bool> {
        // Dependencies always stand earlier, so one pass backwards finds them all, and no
        // recursion depends on the length of the file.
        let mut needed = BTreeSet::from([wanted]);
        for index in (0..=wanted).rev() {
            if needed.contains(&index) && !self.planned.contains_key(&index) {
                needed.extend(self.dependencies(index)?);
            }
        }
        for index in needed {
            if !self.planned.contains_key(&index) && !self.plan_stage(index)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Earlier stages that a stage names.
    fn dependencies(&self, index: usize) -> Result<Vec<usize>> {
        let Some(stage) = self.stages.get(index).copied() else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        if self.replacement(&stage).is_some() {
            return Ok(Vec::new());
        }
        if let Some(base) = self.base_stage(&stage)? {
            found.push(StageRef::Stage(base));
        }
        for instruction in stage.body {
            match &instruction.kind {
                InstructionKind::Copy(copy) => {
                    if let Some(from) = &copy.from {
                        found.push(self.check(resolve_copy_from(&self.stages, index, from))?);
                    }
                }
                InstructionKind::Run(run) => {
                    for from in run.mounts.iter().filter_map(|mount| mount.from.as_ref()) {
                        found.push(self.check(resolve_mount_from(&self.stages, index, from))?);
                    }
                }
                _ => {}
            }
        }
        let stages = found.into_iter().filter_map(|found| match found {
            StageRef::Stage(stage) => Some(stage),
            StageRef::Image => None,
        });
        Ok(stages.collect())
    }

    pub(super) fn check<T>(&self, resolved: Result<T, Diagnostic>) -> Result<T> {
        resolved.map_err(|diagnostic| Error::at(&self.file.source, diagnostic))
    }

    /// The stage that `FROM` names, if it names one.
    fn base_stage(&self, stage: &Stage<'_>) -> Result<Option<usize>> {
        let name = self.check(self.base_name(stage))?;
        Ok(match resolve_base(&self.stages, stage.index, &name) {
            StageRef::Stage(index) => Some(index),
            StageRef::Image => None,
        })
    }

    /// Where `COPY --from` reads: plans the image if it is one. `None` when it could not be resolved.
    pub(super) fn copy_source(
        &mut self,
        name: &Word,
        index: usize,
        source: &SourceText,
    ) -> Result<Option<FileSource>> {
        if name.contains('$') {
            let message = "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround";
            return Err(Error::at(source, Diagnostic::error(name.span, message)));
        }
        let found = resolve_copy_from(&self.stages, index, name);
        self.file_source(found, name, index, source)
    }

    /// The same for `from=` of a mount.
    pub(super) fn mount_source(
        &mut self,
        name: &Word,
        index: usize,
        source: &SourceText,
    ) -> Result<Option<FileSource>> {
        let found = resolve_mount_from(&self.stages, index, name);
        self.file_source(found, name, index, source)
    }

    fn file_source(
        &mut self,
        found: Result<StageRef, Diagnostic>,
        name: &Word,
        index: usize,
        source: &SourceText,
    ) -> Result<Option<FileSource>> {
        match found.map_err(|diagnostic| Error::at(source, diagnostic))? {
            StageRef::Stage(stage) => {
                let replaced = self.stages.get(stage).copied();
                let replaced = replaced.and_then(|stage| self.replacement(&stage));
                if let Some(name) = replaced.and_then(|name| self.directory(&name)) {
                    return Ok(Some(FileSource::Named(name)));
                }
                // Only a trigger's can be missing: it was not seen before the base was resolved.
                if !self.planned.contains_key(&stage) && !self.plan_with_dependencies(stage)? {
                    return Ok(None);
                }
                Ok(self.planned.get(&stage).copied().map(FileSource::Stage))
            }
            StageRef::Image => {
                let image = name.value.as_str();
                if let Some(name) = self.directory(image) {
                    return Ok(Some(FileSource::Named(name)));
                }
                let platform = self.request.platform.clone();
                let position = self.plan_image(image, &platform, name.span, source, index)?;
                Ok(position.map(FileSource::Stage))
            }
        }
    }

    /// A context of files, by the name that it has in the request.
    fn directory(&self, name: &str) -> Option<String> {
        match self.request.named_context(name) {
            Some((name, NamedContext::Directory(_) | NamedContext::Empty)) => Some(name.to_owned()),
            _ => None,
        }
    }

    fn plan_image(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
        source: &SourceText,
        index: usize,
    ) -> Result<Option<usize>> {
        let key = (name.to_owned(), platform.to_string());
        if let Some(position) = self.images.get(&key) {
            return Ok(Some(*position));
        }
        let Some(image) = self.resolve_image(name, platform, span, source, index)? else {
            return Ok(None);
        };
        self.out.push(PlannedStage {
            name: name.to_owned(),
            config: image.config.value().clone(),
            env: VectorSync::new_sync(),
            base: Base::Image(image),
            steps: Vec::new(),
            no_cache: false,
        });
        let position = self.out.len() - 1;
        self.images.insert(key, position);
        Ok(Some(position))
    }

    pub(super) fn resolve_image(
        &self,
        name: &str,
        platform: &Platform,
        span: Span,
        source: &SourceText,
        index: usize,
    ) -> Result<Option<Arc<BaseImage>>> {
        let at = |message: String| {
            let near = near_stage(self.stages.get(..index).unwrap_or_default(), name);
            Error::at(source, Diagnostic::error(span, message).did_you_mean(near))
        };
        let (reference, layout) = match self.request.named_context(name) {
            Some((_, NamedContext::Image(reference))) => (reference.clone(), None),
            Some((_, NamedContext::Layout(image))) => (image.reference.clone(), Some(image)),
            Some((_, NamedContext::Directory(_) | NamedContext::Empty)) => {
                return Err(at(format!(
                    "the named context {name:?} is a directory, not an image"
                )));
            }
            None => {
                let reference = name.parse::<Reference>();
                (reference.map_err(|error| at(error.to_string()))?, None)
            }
        };
        (self.resolve)(&reference, layout, platform).map_err(|error| match error {
            Error::Dockerfile(_) => error,
            other => Error::step(source, span, &format!("FROM {name}"), other),
        })
    }

    fn plan_stage(&mut self, index: usize) -> Result<bool> {
        let Some(stage) = self.stages.get(index).copied() else {
            return Ok(true);
        };
        if let Some(name) = self.replacement(&stage) {
            return self.plan_replacement(&name, &stage);
        }
        let platform = self.check(self.stage_platform(&stage))?;
        let base_name = self.check(self.base_name(&stage))?;
        let beginning = match self.base_stage(&stage)? {
            Some(base) => Some(Beginning {
                base: Base::Stage(self.planned.get(&base).copied().unwrap_or_default()),
                steps: Vec::new(),
            }),
            None if base_name == "scratch" => Some(Beginning {
                base: Base::Scratch,
                steps: Vec::new(),
            }),
            None => self.begin_with_context(&base_name, &stage, &platform)?,
        };
        let Some(Beginning { base, mut steps }) = beginning else {
            return Ok(false);
        };
        let (mut state, triggers) = self.initial_state(&base);
        for trigger in &triggers {
            let name = format!("ONBUILD trigger of {base_name}");
            let (source, instruction) = parse_trigger(trigger, &name)?;
            if !state.instruction(self, index, &instruction, Some(&source), &mut steps)? {
                return Ok(false);
            }
        }
        for instruction in stage.body {
            if !state.instruction(self, index, instruction, None, &mut steps)? {
                return Ok(false);
            }
        }
        let source = self.file.source.clone();
        let place = Place { source: &source };
        self.hold(state.parts(), &place, stage.instruction.keyword.span)?;
        let name = stage
            .name()
            .map_or_else(|| index.to_string(), str::to_owned);
        let planned = PlannedStage {
            no_cache: is_uncached(&self.request.cache, &name, index),
            name,
            base,
            steps,
            config: state.config.clone(),
            env: state.env.clone(),
        };
        self.add(index, planned, state);
        Ok(true)
    }

    pub(super) fn add(&mut self, index: usize, planned: PlannedStage, state: StageState) {
        self.out.push(planned);
        let position = self.out.len() - 1;
        self.planned.insert(index, position);
        self.states.insert(position, state);
    }

    /// Counts what the plan holds for a step or a stage: a small file may multiply it.
    pub(super) fn hold(&mut self, parts: usize, place: &Place<'_>, span: Span) -> Result<()> {
        self.parts = self.parts.saturating_add(parts);
        if self.parts > MAX_PARTS {
            let message = format!(
                "the stages and commands of this file have more than {MAX_PARTS} variables, labels, ports and volumes together"
            );
            return Err(place.error(span, message));
        }
        Ok(())
    }

    /// What a stage begins with, and the triggers to run first.
    pub(super) fn initial_state(&self, base: &Base) -> (StageState, Vec<String>) {
        let mut state = match base {
            Base::Scratch => {
                // `FROM --platform` means nothing here: there is no image to choose.
                let mut config = ImageConfig::scratch(&self.request.platform);
                config.config.working_dir = "/".to_owned();
                StageState::new(config)
            }
            Base::Image(image) => StageState::new(image.config.value().clone()),
            Base::Stage(position) => match self.states.get(position) {
                Some(state) => state.derived(),
                None => StageState::new(ImageConfig::scratch(&self.request.platform)),
            },
        };
        let triggers = std::mem::take(&mut state.config.config.on_build);
        state.begin();
        (state, triggers)
    }
}

fn is_uncached(policy: &CachePolicy, name: &str, index: usize) -> bool {
    match policy {
        CachePolicy::Use => false,
        CachePolicy::Ignore => true,
        CachePolicy::IgnoreStages(stages) => stages
            .iter()
            .any(|stage| stage.eq_ignore_ascii_case(name) || *stage == index.to_string()),
    }
}

/// `BUILDPLATFORM`, `TARGETARCH`, …, by name (Dockerfile reference §Automatic platform ARGs): a build
/// argument of the name wins; visible to `FROM`, elsewhere once declared. `target_stage` is what
/// `TARGETSTAGE` says: the target's name, or `default`.
pub fn platform_args(request: &BuildRequest, target_stage: &str) -> BTreeMap<String, String> {
    let mut args = BTreeMap::new();
    for (prefix, platform) in [
        ("BUILD", &request.build_platform),
        ("TARGET", &request.platform),
    ] {
        let variant = platform.variant.clone().unwrap_or_default();
        let version = platform.os_version.clone().unwrap_or_default();
        for (name, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", version),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", variant),
        ] {
            args.insert(format!("{prefix}{name}"), value);
        }
    }
    args.insert("TARGETSTAGE".to_owned(), target_stage.to_owned());
    for (name, value) in &mut args {
        if let Some(given) = request.build_args.get(name) {
            value.clone_from(given);
        }
    }
    args
}
