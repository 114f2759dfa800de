//! Parser directives: `# name=value` on the very first lines.

use super::Diagnostic;
use super::ast::Directives;
use super::lint::LintOptions;
use super::span::{Span, Spanned};

/// Watches the lines of a file from the top until the first one that is no directive.
#[derive(Debug, Default)]
pub(super) struct DirectiveReader {
    found: Directives,
    seen_escape: bool,
    done: bool,
}

impl DirectiveReader {
    pub(super) fn found(&self) -> &Directives {
        &self.found
    }

    /// Looks at one line, leading blanks already gone. True: it was a directive.
    pub(super) fn read(&mut self, line: &str, place: Span) -> Result<bool, Diagnostic> {
        if self.done {
            return Ok(false);
        }
        let Some((name, value, value_offset)) = split(line) else {
            self.done = true;
            return Ok(false);
        };
        let start = place.start + value_offset;
        let value = Spanned::new(value.to_owned(), Span::new(start, start + value.len()));
        match name.to_ascii_lowercase().as_str() {
            "syntax" if self.found.syntax.is_some() => Err(repeated("syntax", place)),
            "syntax" => {
                self.found.syntax = Some(value);
                Ok(true)
            }
            "check" if self.found.check.is_some() => Err(repeated("check", place)),
            "check" => {
                if let Err(error) = LintOptions::parse(&value.value) {
                    return Err(Diagnostic::error(value.span, error.to_string())
                        .expected("such as skip=RuleName,OtherRule;error=true")
                        .did_you_mean(error.near()));
                }
                self.found.check = Some(value);
                Ok(true)
            }
            "escape" if self.seen_escape => Err(repeated("escape", place)),
            "escape" => {
                self.seen_escape = true;
                self.found.escape = match value.value.as_str() {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let message =
                            format!("invalid escape token '{other}' does not match ` or \\");
                        return Err(
                            Diagnostic::error(value.span, message).expected("must be ` or \\")
                        );
                    }
                };
                Ok(true)
            }
            _ => {
                self.done = true;
                Ok(false)
            }
        }
    }
}

fn repeated(name: &str, place: Span) -> Diagnostic {
    Diagnostic::error(
        place,
        format!("only one {name} parser directive can be used"),
    )
}

/// Name, value and the value's offset of `# name = value`.
fn split(line: &str) -> Option<(&str, &str, usize)> {
    let body = line.strip_prefix('#')?.trim_start();
    let (name, rest) = body.split_once('=')?;
    let name = name.trim_end();
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    if !starts_well
        || !name
            .chars()
            .all(|character| character.is_ascii_alphanumeric())
    {
        return None;
    }
    let value = rest.trim();
    let offset = line.len() - rest.trim_start().len();
    (!value.is_empty()).then_some((name, value, offset))
}

/// The value of `name = value` in a comment's text, if that is what the comment is.
pub(super) fn comment_directive<'c>(comment: &'c str, name: &str) -> Option<&'c str> {
    let (key, value) = comment.split_once('=')?;
    let value = value.trim();
    (key.trim_end().eq_ignore_ascii_case(name) && !value.is_empty()).then_some(value)
}
