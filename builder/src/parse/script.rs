//! What a `RUN` with here-documents runs.

use super::ast::{CommandLine, Heredoc, Instruction, Run};
use super::heredoc;

/// What to hand to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunScript<'a> {
    /// No here-document: the arguments as they are.
    Exec(Vec<&'a str>),
    /// Text for the shell.
    Shell(String),
    /// A here-document that begins with `#!` and is the whole command: the shell is to run a file with
    /// this name and content, executable, outside of the image.
    File {
        /// The delimiter.
        name: &'a str,
        /// The body.
        content: String,
    },
}

impl Run {
    /// Joins the command with the here-documents of its instruction.
    ///
    /// A command that is nothing but `<<EOF` is the body itself, so that it works in shells without
    /// here-documents. In every other case the shell gets the text as it stood and reads the bodies
    /// itself, expansion and tabs included.
    #[must_use]
    pub fn script<'a>(&'a self, instruction: &'a Instruction) -> RunScript<'a> {
        let text = match &self.command {
            CommandLine::Exec(items) => {
                return RunScript::Exec(items.iter().map(|item| item.value.as_str()).collect());
            }
            CommandLine::Shell(text) => &text.value,
        };
        let Some(first) = instruction.heredocs.first() else {
            return RunScript::Shell(text.clone());
        };
        if heredoc::opening(text).is_none() {
            let mut whole = text.clone();
            for Heredoc { content, name, .. } in &instruction.heredocs {
                whole.push('\n');
                whole.push_str(content);
                whole.push_str(name);
            }
            return RunScript::Shell(whole);
        }
        let content = first.text();
        if content.starts_with("#!") {
            return RunScript::File {
                name: &first.name,
                content,
            };
        }
        RunScript::Shell(content)
    }
}
