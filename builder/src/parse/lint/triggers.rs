//! The triggers of a base: what the checks have to know of them.
//!
//! They set variables, the shell and the working directory of the stage that runs them. Nobody can
//! mend them here, so there are no warnings about them.

use super::super::ast::Instruction;
use super::super::reader::parse_trigger;

/// Triggers of a file's bases that are looked at, in bytes: a short file may have many stages on a
/// base with a long list. The limit is the most that an image's config may have.
const MAX_TRIGGERS_BYTES: usize = 8 << 20;

/// Reads triggers, as long as there are not too many.
pub(super) struct Triggers {
    left: usize,
}

impl Triggers {
    pub(super) fn new() -> Self {
        Self {
            left: MAX_TRIGGERS_BYTES,
        }
    }

    /// The triggers as instructions; ends at the first that is none, for the build ends there.
    pub(super) fn read(&mut self, expressions: &[String]) -> Vec<Instruction> {
        let mut instructions = Vec::new();
        for expression in expressions {
            let Some(left) = self.left.checked_sub(expression.len() + 1) else {
                break;
            };
            self.left = left;
            match parse_trigger(expression, "ONBUILD") {
                Ok((_, instruction)) => instructions.push(instruction),
                Err(_) => break,
            }
        }
        instructions
    }
}
