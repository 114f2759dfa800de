//! A Dockerfile in canonical form: directives first, one line an instruction, keywords in upper case.
//!
//! Invariant: printing what was parsed from printed text gives the same text.

use super::ast::{Directives, Dockerfile, Instruction, InstructionKind};

impl Dockerfile {
    /// The canonical text.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = directives(&self.directives);
        let escape = self.directives.escape;
        let last = self.instructions.len().saturating_sub(1);
        for (at, instruction) in self.instructions.iter().enumerate() {
            if at == 0 && !instruction.comments.is_empty() {
                // Ends the directives: the comment that follows might look like one.
                text.push_str("#\n");
            }
            if at > 0 && matches!(instruction.kind, InstructionKind::From(_)) {
                text.push('\n');
            }
            print(&mut text, instruction, escape, at == last);
        }
        text
    }
}

fn directives(directives: &Directives) -> String {
    let mut text = String::new();
    if let Some(syntax) = &directives.syntax {
        text.push_str(&format!("# syntax={syntax}\n"));
    }
    if directives.escape != '\\' {
        text.push_str(&format!("# escape={}\n", directives.escape));
    }
    if let Some(check) = &directives.check {
        text.push_str(&format!("# check={check}\n"));
    }
    text
}

fn print(text: &mut String, instruction: &Instruction, escape: char, is_last: bool) {
    for comment in &instruction.comments {
        text.push_str(&format!("# {comment}\n"));
    }
    let rest = instruction
        .code
        .get(instruction.keyword.value.len()..)
        .unwrap_or_default()
        .trim();
    text.push_str(instruction.name());
    if !rest.is_empty() {
        text.push(' ');
        text.push_str(rest);
    }
    // A file may end in the middle of a continued line, and then an escape character that stood before
    // the last one is left over at the end. It needs another one behind it to stay what it is.
    let continued = rest.ends_with(escape)
        && !rest
            .strip_suffix(escape)
            .is_some_and(|rest| rest.ends_with(escape));
    if is_last && continued {
        text.push(' ');
        text.push(escape);
    }
    text.push('\n');
    for body in &instruction.heredocs {
        text.push_str(&body.content);
        text.push_str(&body.name);
        text.push('\n');
    }
}
