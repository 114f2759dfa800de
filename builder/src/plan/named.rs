//! Named contexts in a plan: in place of an image, of a stage, or beside them.
//!
//! A context that is called like a stage takes its place: nothing of that stage is done (BuildKit).
//! One of files that a stage starts from becomes the stage's first step.

use std::sync::Arc;

use wythe_layers::spec::Platform;

use super::stages::Planner;
use super::{Action, Base, BaseImage, CopyStep, FileSource, PlannedStage, Step};
use crate::Result;
use crate::parse::Stage;
use crate::request::NamedContext;

/// What a stage begins with.
pub(super) struct Beginning {
    pub(super) base: Base,
    pub(super) steps: Vec<Step>,
}

impl Planner<'_> {
    /// The name of the context that takes a stage's place.
    pub(super) fn replacement(&self, stage: &Stage<'_>) -> Option<String> {
        let name = stage.name()?;
        let (name, _) = self.request.named_context(name)?;
        Some(name.to_owned())
    }

    /// What a context gives to a stage; `None` when its image could not be resolved.
    pub(super) fn begin_with_context(
        &self,
        name: &str,
        stage: &Stage<'_>,
        platform: &Platform,
    ) -> Result<Option<Beginning>> {
        let only = |base| Beginning {
            base,
            steps: Vec::new(),
        };
        let source = &self.file.source;
        let span = stage.instruction.span;
        match self.request.named_context(name) {
            Some((_, NamedContext::Empty)) => Ok(Some(only(Base::Scratch))),
            Some((name, NamedContext::Directory(_))) => {
                let step = Step {
                    text: stage.instruction.code.clone(),
                    line: Some(stage.instruction.line),
                    source: source.clone(),
                    span,
                    history: Some(format!("FROM {name}")),
                    action: Action::Copy(CopyStep::as_it_is(
                        FileSource::Named(name.to_owned()),
                        "/",
                    )),
                };
                Ok(Some(Beginning {
                    base: Base::Scratch,
                    steps: vec![step],
                }))
            }
            _ => {
                let span = stage.from.image.span;
                let image = self.resolve_image(name, platform, span, source, stage.index)?;
                Ok(image.map(|image: Arc<BaseImage>| only(Base::Image(image))))
            }
        }
    }

    /// Plans a context in place of a stage; `false` when its image could not be resolved.
    pub(super) fn plan_replacement(&mut self, name: &str, stage: &Stage<'_>) -> Result<bool> {
        let platform = self.check(self.stage_platform(stage))?;
        let Some(Beginning { base, steps }) = self.begin_with_context(name, stage, &platform)?
        else {
            return Ok(false);
        };
        let (state, _) = self.initial_state(&base);
        let planned = PlannedStage {
            name: name.to_owned(),
            config: state.config.clone(),
            env: state.env.clone(),
            base,
            steps,
            no_cache: false,
        };
        self.add(stage.index, planned, state);
        Ok(true)
    }
}
