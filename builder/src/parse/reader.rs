//! Whole files: logical lines, here-documents and the rules between instructions.

use super::Diagnostic;
use super::ast::{Dockerfile, Heredoc, Instruction, InstructionKind};
use super::diagnostic::ParseError;
use super::instruction::Source;
use super::lines::{LineReader, LogicalLine};
use super::parts::Parts;
use super::span::{SourceText, Span};

/// More messages than this help nobody.
const MAX_DIAGNOSTICS: usize = 20;

#[derive(Default)]
struct FileReader {
    instructions: Vec<Instruction>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// The instruction before was unknown too: one mistake (a lost backslash, an unquoted
    /// here-document) makes a run of such lines, and one message is enough.
    after_unknown: bool,
}

impl FileReader {
    fn line(&mut self, reader: &mut LineReader<'_>, line: &LogicalLine<'_>, escape: char) {
        if let Some(place) = line.empty_continuation {
            let mut warning = Diagnostic::warning(place, "Empty continuation line");
            warning.rule = Some("NoEmptyContinuation");
            self.warnings.push(warning);
        }
        let parts = Parts::split(line, &(0..line.text.len()), escape);
        let unknown = parts.name.is_none();
        if unknown && self.after_unknown {
            return;
        }
        let mut heredocs = Vec::new();
        for opening in parts.openings(line) {
            let Some((content, span)) = reader.heredoc_body(&opening.name, opening.strip_tabs)
            else {
                self.errors.push(
                    Diagnostic::error(line.span, "unterminated heredoc")
                        .expected(format!("no line `{}` follows", opening.name)),
                );
                return;
            };
            heredocs.push(Heredoc {
                name: opening.name,
                descriptor: opening.descriptor,
                expand: opening.expand,
                strip_tabs: opening.strip_tabs,
                content,
                span,
            });
        }
        let span = Span::new(line.span.start, reader.end());
        let source = Source {
            line,
            heredocs: &heredocs,
            span,
        };
        match source.instruction(&parts, &line.comments) {
            Ok(instruction) => self.accept(instruction),
            Err(error) if unknown && error.hint.is_none() && follows_open_line(reader, line) => {
                self.errors
                    .push(error.hint("is a `\\` missing at the end of the line above?"));
            }
            Err(error) => self.errors.push(error),
        }
        self.after_unknown = unknown;
    }

    fn accept(&mut self, instruction: Instruction) {
        if let InstructionKind::Onbuild(onbuild) = &instruction.kind
            && let Some(problem) = &onbuild.problem
        {
            let mut warning = (**problem).clone();
            warning.severity = super::Severity::Warning;
            self.warnings
                .push(warning.note("no image built on this one could run this trigger"));
        }
        self.instructions.push(instruction);
    }
}

/// Whether the line above ends as if the command went on.
fn follows_open_line(reader: &LineReader<'_>, line: &LogicalLine<'_>) -> bool {
    let above = reader.text_before(line.span.start).trim_end();
    ["&&", "||", "|", ";"]
        .iter()
        .any(|end| above.ends_with(end))
}

/// Bytes as text: what is no UTF-8 becomes U+FFFD; the offsets of those come along.
fn decode(bytes: &[u8]) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(bytes.len());
    let mut bad = Vec::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            bad.push(text.len());
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    (text, bad)
}

pub(super) fn parse(bytes: &[u8], name: &str) -> Result<Dockerfile, ParseError> {
    let (text, bad_bytes) = decode(bytes);
    let source = SourceText::new(name, text);
    let mut reader = LineReader::new(&source);
    let mut file = FileReader::default();
    while file.errors.len() < MAX_DIAGNOSTICS
        && let Some(line) = reader.logical()
    {
        match line {
            Ok(line) => {
                let escape = reader.directives().escape;
                let next_bad = bad_bytes.partition_point(|at| *at < line.span.start);
                if let Some(at) = bad_bytes.get(next_bad).filter(|at| **at < line.span.end) {
                    let place = Span::new(*at, *at + char::REPLACEMENT_CHARACTER.len_utf8());
                    file.errors
                        .push(Diagnostic::error(place, "the text is not valid UTF-8"));
                    continue;
                }
                file.line(&mut reader, &line, escape);
            }
            Err(error) => file.errors.push(error),
        }
    }
    if file.errors.is_empty() {
        check_order(&file.instructions, source.text(), &mut file.errors);
    }
    let directives = reader.directives().clone();
    if !file.errors.is_empty() {
        return Err(ParseError {
            source,
            diagnostics: file.errors,
        });
    }
    Ok(Dockerfile {
        source,
        directives,
        instructions: file.instructions,
        warnings: file.warnings,
    })
}

/// Rules over the whole file.
fn check_order(instructions: &[Instruction], text: &str, errors: &mut Vec<Diagnostic>) {
    let end = Span::new(text.len(), text.len());
    if text.is_empty() {
        let empty = Diagnostic::error(end, "the Dockerfile cannot be empty");
        errors.push(empty.hint("begin with FROM and an image, or FROM scratch"));
        return;
    }
    let Some(first) = instructions.first() else {
        let nothing = Diagnostic::error(end, "file with no instructions");
        errors.push(nothing.hint("begin with FROM and an image, or FROM scratch"));
        return;
    };
    let is_from = |instruction: &&Instruction| matches!(instruction.kind, InstructionKind::From(_));
    let before = instructions
        .iter()
        .take_while(|instruction| !is_from(instruction));
    if let Some(stray) = before
        .into_iter()
        .find(|one| !matches!(one.kind, InstructionKind::Arg(_)))
    {
        errors.push(
            Diagnostic::error(stray.keyword.span, "no build stage in current context")
                .expected("only ARG may stand before the first FROM"),
        );
        return;
    }
    let stages = instructions.iter().filter(is_from).count();
    if stages == 0 {
        errors.push(
            Diagnostic::error(first.span, "dockerfile contains no stages to build")
                .hint("add a FROM"),
        );
        return;
    }
    for instruction in instructions {
        if errors.len() >= MAX_DIAGNOSTICS {
            return;
        }
        let InstructionKind::Copy(copy) = &instruction.kind else {
            continue;
        };
        let Some(from) = &copy.from else { continue };
        if let Ok(index) = from.value.parse::<i64>()
            && usize::try_from(index).map_or(true, |index| index >= stages)
        {
            errors.push(
                Diagnostic::error(from.span, format!("invalid stage index {index}"))
                    .note(format!("this file has {stages} stages, counted from 0")),
            );
        }
    }
}

pub(super) fn parse_trigger(
    expression: &str,
    name: &str,
) -> Result<(SourceText, Instruction), ParseError> {
    let source = SourceText::new(name, expression);
    let mut reader = LineReader::new(&source);
    let mut file = FileReader::default();
    while file.errors.len() < MAX_DIAGNOSTICS
        && let Some(line) = reader.logical()
    {
        match line {
            Ok(line) => {
                let escape = reader.directives().escape;
                file.line(&mut reader, &line, escape);
            }
            Err(error) => file.errors.push(error),
        }
    }
    let whole = Span::new(0, expression.len());
    let mut instructions = file.instructions.into_iter();
    let (first, second) = (instructions.next(), instructions.next());
    match (first, second) {
        (Some(instruction), None) if file.errors.is_empty() => {
            if matches!(instruction.kind, InstructionKind::From(_)) {
                let error = Diagnostic::error(whole, "FROM isn't allowed as an ONBUILD trigger");
                return Err(ParseError {
                    source,
                    diagnostics: vec![error],
                });
            }
            Ok((source, instruction))
        }
        _ => {
            let mut diagnostics = file.errors;
            if diagnostics.is_empty() {
                diagnostics.push(Diagnostic::error(
                    whole,
                    "onbuild trigger should be a single expression",
                ));
            }
            Err(ParseError {
                source,
                diagnostics,
            })
        }
    }
}
