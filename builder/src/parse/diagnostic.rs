//! Messages about a Dockerfile: what is wrong, where, and what would be right.

use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::span::{SourceText, Span};

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
            message: message.into(),
            labels: vec![Label {
                span,
                text: String::new(),
            }],
            notes: Vec::new(),
            hint: None,
        }
    }

    /// Says `text` beside the main place.
    #[must_use]
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds background.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// Adds `did you mean …?` if there is a near word.
    #[must_use]
    pub fn did_you_mean(self, near: Option<String>) -> Self {
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
        let title = level.primary_title(&self.message);
        let title = match self.rule {
            Some(rule) => title.id(rule),
            None => title,
        };
        let mut snippet = Snippet::source(source.text())
            .path(source.name())
            .line_start(1)
            .fold(true);
        for (at, label) in self.labels.iter().enumerate() {
            let kind = if at == 0 {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            let annotation = kind.span(visible(source.text(), label.span));
            snippet = snippet.annotation(if label.text.is_empty() {
                annotation
            } else {
                annotation.label(&label.text)
            });
        }
        let mut group = Group::with_title(title).element(snippet);
        for note in &self.notes {
            group = group.element(Level::NOTE.message(note));
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint));
        }
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Colour => Renderer::styled(),
        };
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

/// A range the renderer can show: inside the text, and on one line unless it must span several.
fn visible(text: &str, span: Span) -> std::ops::Range<usize> {
    let mut end = span.end.min(text.len());
    let mut start = span.start.min(end);
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
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
