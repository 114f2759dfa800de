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
        for (at, instruction) in self.instructions.iter().enumerate() {
            if at == 0 && !instruction.comments.is_empty() {
                // Ends the directives: the comment that follows might look like one.
                text.push_str("#\n");
            }
            if at > 0 && matches!(instruction.kind, InstructionKind::From(_)) {
                text.push('\n');
            }
            print(&mut text, instruction, escape);
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

fn print(text: &mut String, instruction: &Instruction, escape: char) {
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
    // An escape character can be left over at the end: of a file that ends in the middle of a continued
    // line, or before a blank that no continuation may end in. It needs such a blank to stay what it is.
    let continued = rest.ends_with(escape)
        && !rest
            .strip_suffix(escape)
            .is_some_and(|rest| rest.ends_with(escape));
    if continued {
        text.push('\u{c}');
    }
    text.push('\n');
    for body in &instruction.heredocs {
        text.push_str(&body.content);
        text.push_str(&body.name);
        text.push('\n');
    }
}
