//! Which instructions form which stage, and which stage a name means.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use super::Diagnostic;
use super::ast::{From, Instruction, InstructionKind};
use super::expand::Expander;
use super::scope::GlobalScope;
use super::span::Word;
use super::suggest::near;

/// A stage: its `FROM` and the instructions up to the next one.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    /// Number, from 0.
    pub index: usize,
    /// The `FROM` instruction.
    pub instruction: &'a Instruction,
    /// Its parsed form.
    pub from: &'a From,
    /// The instructions after it.
    pub body: &'a [Instruction],
}

impl Stage<'_> {
    /// The name given with `AS`, in lower case.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.from.name.as_ref().map(|name| name.value.as_str())
    }
}

/// What a `--from` or a base name turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageRef {
    /// A stage of this file, by number.
    Stage(usize),
    /// An image or a named context.
    Image,
}

/// The stages of a file in order, and which of them bear a name: there may be many.
#[derive(Clone, Debug, Default)]
pub struct Stages<'a> {
    list: Vec<Stage<'a>>,
    /// Numbers by name, ascending; usually one.
    by_name: BTreeMap<&'a str, Vec<usize>>,
}

impl<'a> Stages<'a> {
    /// The last stage before number `end` whose name is exactly `name`.
    fn last_before(&self, end: usize, name: &str) -> Option<usize> {
        let numbers = self.by_name.get(name)?;
        let before = numbers.partition_point(|number| *number < end);
        numbers.get(before.checked_sub(1)?).copied()
    }
}

impl<'a> Deref for Stages<'a> {
    type Target = [Stage<'a>];

    fn deref(&self) -> &Self::Target {
        &self.list
    }
}

impl<'a> IntoIterator for Stages<'a> {
    type Item = Stage<'a>;
    type IntoIter = std::vec::IntoIter<Stage<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'s, 'a> IntoIterator for &'s Stages<'a> {
    type Item = &'s Stage<'a>;
    type IntoIter = std::slice::Iter<'s, Stage<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

pub(super) fn split(instructions: &[Instruction]) -> Stages<'_> {
    let mut stages: Vec<Stage<'_>> = Vec::new();
    for (at, instruction) in instructions.iter().enumerate() {
        let InstructionKind::From(from) = &instruction.kind else {
            continue;
        };
        let rest = instructions.get(at + 1..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|next| matches!(next.kind, InstructionKind::From(_)))
            .unwrap_or(rest.len());
        let body = rest.get(..length).unwrap_or_default();
        stages.push(Stage {
            index: stages.len(),
            instruction,
            from,
            body,
        });
    }
    let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for stage in &stages {
        if let Some(name) = &stage.from.name {
            by_name.entry(name.as_str()).or_default().push(stage.index);
        }
    }
    Stages {
        list: stages,
        by_name,
    }
}

/// The last of `stages` that bears `name`; case does not matter.
#[must_use]
pub(crate) fn find_stage<'a, 'b>(stages: &'b Stages<'a>, name: &str) -> Option<&'b Stage<'a>> {
    let found = stages.last_before(stages.len(), &name.to_ascii_lowercase())?;
    stages.get(found)
}

/// A stage number or name that cannot be used where it stands.
fn not_before(verb: &str, from: &Word, stage: &Stage<'_>) -> Diagnostic {
    let own = stage
        .name()
        .map_or_else(|| format!("stage-{}", stage.index), str::to_owned);
    Diagnostic::error(
        from.span,
        format!(
            "cannot {verb} from stage {:?}, it needs to be defined before current stage {own:?}",
            from.value
        ),
    )
}

/// What the base of stage `index` is, its name being `base` after expansion: the nearest earlier stage
/// of exactly that name (which is in lower case), else an image. Numbers are no stages here.
#[must_use]
pub(crate) fn resolve_base(stages: &Stages<'_>, index: usize, base: &str) -> StageRef {
    let found = stages.last_before(index, base);
    found.map_or(StageRef::Image, StageRef::Stage)
}

/// What `COPY --from` in stage `index` means: a number, a name in any case, else an image.
///
/// # Errors
/// A stage that comes later, is the same, or does not exist.
pub(crate) fn resolve_copy_from(
    stages: &Stages<'_>,
    index: usize,
    from: &Word,
) -> Result<StageRef, Diagnostic> {
    let Ok(number) = from.value.parse::<i64>() else {
        return resolve_name(stages, index, from, "copy");
    };
    let found = usize::try_from(number)
        .ok()
        .filter(|number| *number < stages.len());
    let found = found
        .ok_or_else(|| Diagnostic::error(from.span, format!("invalid stage index {number}")))?;
    earlier(stages, index, found, from, "copy")
}

/// What `from=` of a mount in stage `index` means: a name in any case, else an image.
///
/// # Errors
/// A stage that comes later or is the same.
pub(crate) fn resolve_mount_from(
    stages: &Stages<'_>,
    index: usize,
    from: &Word,
) -> Result<StageRef, Diagnostic> {
    resolve_name(stages, index, from, "mount")
}

fn resolve_name(
    stages: &Stages<'_>,
    index: usize,
    from: &Word,
    verb: &str,
) -> Result<StageRef, Diagnostic> {
    match find_stage(stages, &from.value) {
        None => Ok(StageRef::Image),
        Some(stage) => earlier(stages, index, stage.index, from, verb),
    }
}

fn earlier(
    stages: &Stages<'_>,
    index: usize,
    found: usize,
    from: &Word,
    verb: &str,
) -> Result<StageRef, Diagnostic> {
    if found < index {
        return Ok(StageRef::Stage(found));
    }
    let Some(current) = stages.get(index) else {
        return Ok(StageRef::Stage(found));
    };
    let mut diagnostic = not_before(verb, from, current);
    if let Some(target) = stages.get(found).filter(|_| found != index) {
        diagnostic = diagnostic.label(target.instruction.keyword.span, "defined here");
    }
    Err(diagnostic)
}

/// A target that is no stage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("target stage {name:?} could not be found{}", near.as_ref().map(|near| format!(" (did you mean {near}?)")).unwrap_or_default())]
pub struct UnknownTarget {
    /// What was asked for.
    pub name: String,
    /// The near word.
    pub near: Option<String>,
}

/// The number of the stage to build: by name in any case, by number, or the last one.
///
/// # Errors
/// There is no such stage.
pub fn find_target(stages: &Stages<'_>, target: Option<&str>) -> Result<usize, UnknownTarget> {
    let Some(name) = target.filter(|name| !name.is_empty()) else {
        return Ok(stages.len().saturating_sub(1));
    };
    if let Some(stage) = find_stage(stages, name) {
        return Ok(stage.index);
    }
    if let Some(number) = name
        .parse::<usize>()
        .ok()
        .filter(|number| *number < stages.len())
    {
        return Ok(number);
    }
    Err(UnknownTarget {
        name: name.to_owned(),
        near: near_stage(stages, name),
    })
}

/// The stage name nearest to a word that turned out to be no image either.
#[must_use]
pub(crate) fn near_stage(stages: &[Stage<'_>], word: &str) -> Option<String> {
    near(word, stages.iter().filter_map(Stage::name))
}

/// The stages that building `target` needs, itself included, in file order: its base and every stage
/// that it or those copy or mount from.
///
/// # Errors
/// A base that cannot be expanded, or a stage used before it is defined.
pub fn reachable(
    stages: &Stages<'_>,
    target: usize,
    scope: &GlobalScope,
    expander: &Expander,
) -> Result<BTreeSet<usize>, Diagnostic> {
    let mut needed = BTreeSet::new();
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if needed.insert(index) {
            let needs = needs(stages, index, scope, expander)?;
            open.extend(needs.base.into_iter().chain(needs.read));
        }
    }
    needed.retain(|index| *index < stages.len());
    Ok(needed)
}

/// What a stage needs itself.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// The stage it is built on.
    pub(super) base: Option<usize>,
    /// The stages it copies from or mounts, as they are named.
    pub(super) read: Vec<usize>,
}

pub(super) fn needs(
    stages: &Stages<'_>,
    index: usize,
    scope: &GlobalScope,
    expander: &Expander,
) -> Result<Needs, Diagnostic> {
    let Some(stage) = stages.get(index) else {
        return Ok(Needs::default());
    };
    let image = &stage.from.image;
    let base = expander
        .word(&image.value, &scope.values)
        .map_err(|error| Diagnostic::error(image.span, error.to_string()))?;
    let number = |found| match found {
        StageRef::Stage(number) => Some(number),
        StageRef::Image => None,
    };
    let mut read = Vec::new();
    for instruction in stage.body {
        match &instruction.kind {
            InstructionKind::Copy(copy) => {
                if let Some(from) = &copy.from {
                    read.extend(number(resolve_copy_from(stages, index, from)?));
                }
            }
            InstructionKind::Run(run) => {
                for from in run.mounts.iter().filter_map(|mount| mount.from.as_ref()) {
                    read.extend(number(resolve_mount_from(stages, index, from)?));
                }
            }
            _ => {}
        }
    }
    Ok(Needs {
        base: number(resolve_base(stages, index, &base.text)),
        read,
    })
}
