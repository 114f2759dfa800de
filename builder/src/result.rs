//! What came of a build.

use std::time::Duration;

use wythe_layers::spec::{Descriptor, DiffId, Digest, ImageConfig, ImageId, Raw};

/// A finished build.
#[derive(Debug, Clone)]
pub struct BuildResult {
    /// The image.
    pub image_id: ImageId,
    /// What its tags name: a manifest, or a pending manifest while layers are not compressed yet.
    pub descriptor: Descriptor,
    /// Its config.
    pub config: Raw<ImageConfig>,
    /// Every step of the stages that were needed, by stage and position.
    pub steps: Vec<StepReport>,
}

impl BuildResult {
    /// How many steps came from the cache, of those that change files.
    pub fn cached(&self) -> usize {
        let cached = |step: &&StepReport| step.outcome == StepOutcome::Cached;
        self.steps.iter().filter(cached).count()
    }
}

/// What became of a step.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Its stage: the name, else the index.
    pub stage: String,
    /// Its position in the stage, from 1.
    pub position: usize,
    /// How many steps the stage has.
    pub of: usize,
    /// The instruction as it is written.
    pub text: String,
    /// Line of the Dockerfile, from 1; `None` for a trigger of the base image.
    pub line: Option<usize>,
    /// How its result came about.
    pub outcome: StepOutcome,
    /// How long that took.
    pub duration: Duration,
    /// Its cache key; `None` where there is nothing to cache.
    pub key: Option<Digest>,
    /// Its layer; `None` where it made none.
    pub diff_id: Option<DiffId>,
}

/// How a step's result came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// From the cache.
    Cached,
    /// It was done.
    Done,
    /// It changes the config only.
    Config,
}
