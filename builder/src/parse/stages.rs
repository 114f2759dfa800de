//! Which instructions form which stage, and which stage a name means.

use super::ast::{From, Instruction, InstructionKind};

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

pub(super) fn split(instructions: &[Instruction]) -> Vec<Stage<'_>> {
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
    stages
}

/// The last of `stages` that bears `name`; case does not matter.
#[must_use]
pub fn find_stage<'a, 'b>(stages: &'b [Stage<'a>], name: &str) -> Option<&'b Stage<'a>> {
    stages.iter().rev().find(|stage| {
        stage
            .name()
            .is_some_and(|own| own.eq_ignore_ascii_case(name))
    })
}
