//! Messages about a Dockerfile: what is wrong, where, and what would be right.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::span::{SourceText, Span};

/// A message, label or hint is cut after so many bytes: it may quote a word of any length.
const MAX_TEXT_BYTES: usize = 600;

/// What a message fits into; longer lines of the file are cut round the place.
const WIDTH: usize = 80;

/// Room for line number and frame beside an excerpt or before a note.
const GUTTER: usize = 10;

/// Of a place that is longer, in lines, only the first line is shown.
const MAX_SHOWN_LINES: usize = 40;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The build goes on.
    Warning,
    /// The build stops.
    Error,
}

/// Whether rendered text carries terminal colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    #[default]
    Plain,
    /// With escape sequences.
    Colour,
}

/// A place and what is to be said about it (may be nothing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The remark beside it.
    pub text: String,
}

/// One message. Lower case, no full stop; BuildKit's words where BuildKit has the same message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The lint rule that speaks, if one does.
    pub rule: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// Where; the first is the main place.
    pub labels: Vec<Label>,
    /// Background, one sentence each.
    pub notes: Vec<String>,
    /// What to do about it; `did you mean …?` for near words.
    pub hint: Option<String>,
    /// The text cannot even be cut into words: an error wherever it stands, in a trigger too.
    pub(super) grammar: bool,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, message)
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, message)
    }

    fn new(severity: Severity, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity,
            rule: None,
            message: bounded(message),
            labels: vec![Label {
                span,
                text: String::new(),
            }],
            notes: Vec::new(),
            hint: None,
            grammar: false,
        }
    }

    /// Says `text` beside the main place.
    #[must_use]
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = bounded(text);
        }
        self
    }

    /// Marks it as one of the words themselves.
    #[must_use]
    pub(super) fn grammar(mut self) -> Self {
        self.grammar = true;
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: bounded(text),
        });
        self
    }

    /// Adds background.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(bounded(text));
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(bounded(text));
        self
    }

    /// Adds `did you mean …?` if there is a near word.
    #[must_use]
    pub(crate) fn did_you_mean(self, near: Option<String>) -> Self {
        match near {
            Some(near) => self.hint(format!("did you mean `{near}`?")),
            None => self,
        }
    }

    /// The main place.
    #[must_use]
    pub fn span(&self) -> Span {
        self.labels
            .first()
            .map(|label| label.span)
            .unwrap_or_default()
    }

    /// File, line, column, excerpt, remarks and hint, ready for a terminal; ends with a line feed.
    #[must_use]
    pub fn render(&self, source: &SourceText, style: Style) -> String {
        let level = match self.severity {
            Severity::Warning => Level::WARNING,
            Severity::Error => Level::ERROR,
        };
        let lead = "warning[]: ".len() + self.rule.map_or(0, str::len);
        let message = wrapped(&self.message, WIDTH - lead);
        let title = level.primary_title(message);
        let title = match self.rule {
            Some(rule) => title.id(rule),
            None => title,
        };
        // Only the lines that are shown: the renderer looks at every line that it is given.
        let spans = || self.labels.iter().map(|label| shown(source, label.span));
        let first = spans().map(|span| span.start).min().unwrap_or(0);
        let last = spans().map(|span| span.end).max().unwrap_or(0);
        let lines = source.whole_lines(Span::new(first, last));
        let text = source.slice(lines);
        let mut snippet = Snippet::source(text)
            .path(source.name())
            .line_start(source.lines(lines).0)
            .fold(true);
        let mut notes: Vec<&String> = Vec::new();
        for (at, (label, span)) in self.labels.iter().zip(spans()).enumerate() {
            let kind = if at == 0 {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            let annotation = kind.span(span.start - lines.start..span.end - lines.start);
            let length = source.slice(span).chars().count();
            snippet = snippet.annotation(if label.text.is_empty() {
                annotation
            } else if length + label.text.chars().count() + GUTTER < WIDTH {
                annotation.label(&label.text)
            } else {
                // Beside the place it would stand off the screen.
                notes.push(&label.text);
                annotation
            });
        }
        let mut group = Group::with_title(title).element(snippet);
        notes.extend(&self.notes);
        for note in notes {
            group = group.element(Level::NOTE.message(wrapped(note, WIDTH - GUTTER)));
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(wrapped(hint, WIDTH - GUTTER)));
        }
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Colour => Renderer::styled(),
        };
        let renderer = renderer.term_width(WIDTH);
        // The renderer shows escape characters and the like; not the controls of Latin-1, with
        // which some terminals' sequences begin too.
        let mut text = renderer
            .render(&[group])
            .replace(|c: char| ('\u{80}'..='\u{9f}').contains(&c), "\u{fffd}");
        text.push('\n');
        text
    }

    /// `file:line:column: message (hint)` on one line.
    #[must_use]
    pub fn summary(&self, source: &SourceText) -> String {
        let position = source.position(self.span().start);
        let hint = self
            .hint
            .as_ref()
            .map(|hint| format!(" ({hint})"))
            .unwrap_or_default();
        format!("{}:{position}: {}{hint}", source.name(), self.message)
    }
}

/// What is too long ends in an ellipsis.
pub(super) fn bounded(text: impl Into<String>) -> String {
    let mut text = text.into();
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
        text.push('…');
    }
    text
}

/// Broken at blanks into lines of so many characters. Words that are longer stay whole.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            lines.push('\n');
            column = 0;
        } else if !lines.is_empty() {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

/// A range the renderer can show: inside the text, and not too many lines.
fn shown(source: &SourceText, span: Span) -> Span {
    let text = source.text();
    let mut end = span.end.min(text.len());
    let mut start = span.start.min(end);
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    let span = Span::new(start, end);
    let (first, last) = source.lines(span);
    if last - first < MAX_SHOWN_LINES {
        return span;
    }
    let first_line = source.whole_lines(Span::new(start, start));
    let shortened = source.slice(Span::new(start, first_line.end)).trim_end();
    Span::new(start, start + shortened.len())
}

/// A Dockerfile that cannot be used, with every reason found.
#[derive(Clone, Debug)]
pub struct ParseError {
    /// Name and text of the file.
    pub source: SourceText,
    /// At least one, in file order.
    pub diagnostics: Vec<Diagnostic>,
}

impl ParseError {
    /// All messages as terminal text.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let parts: Vec<String> = self
            .diagnostics
            .iter()
            .map(|diagnostic| diagnostic.render(&self.source, style))
            .collect();
        parts.join("\n")
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.diagnostics.split_first() {
            None => write!(formatter, "{}: not a Dockerfile", self.source.name()),
            Some((first, [])) => formatter.write_str(&first.summary(&self.source)),
            Some((first, rest)) => write!(
                formatter,
                "{} (and {} more)",
                first.summary(&self.source),
                rest.len()
            ),
        }
    }
}

impl std::error::Error for ParseError {}
