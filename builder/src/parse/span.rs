//! Where something stands in a Dockerfile: byte ranges, lines and columns.
//!
//! Invariant: every [`Span`] handed out by the parser lies inside the [`SourceText`] it was read
//! from, on character boundaries.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A half-open byte range of a [`SourceText`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl Span {
    /// The range from `start` to `end`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self {
            start,
            end: end.max(start),
        }
    }

    /// The smallest range that holds both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self::new(self.start.min(other.start), self.end.max(other.end))
    }

    /// The same range as the standard library's type.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value and where it was written.
///
/// Two of them are equal when their values are; the place does not count.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands. For a word that a continuation breaks, from its first to its last byte.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, found at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(formatter)
    }
}

/// One argument as written: quotes, escapes and `$variables` still in it.
///
/// [`Expander`](super::Expander) turns it into its final text.
pub type Word = Spanned<String>;

/// A line and a column, both counted from one, as editors show them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.line, self.column)
    }
}

/// The text of one Dockerfile and the name it goes by in messages. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceText {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl SourceText {
    /// Names `text`; lines end at `\n`.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let line_starts = std::iter::once(0)
            .chain(
                text.bytes()
                    .enumerate()
                    .filter(|(_, byte)| *byte == b'\n')
                    .map(|(at, _)| at + 1),
            )
            .collect();
        Self {
            inner: Arc::new(Inner {
                name: name.into(),
                text,
                line_starts,
            }),
        }
    }

    /// The name used in messages, as the user would type it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// The text of a range; empty when the range is not of this source.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.inner.text.get(span.range()).unwrap_or_default()
    }

    /// Line and column of a byte offset.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let line = self
            .inner
            .line_starts
            .partition_point(|start| *start <= offset);
        let start = line
            .checked_sub(1)
            .and_then(|at| self.inner.line_starts.get(at))
            .copied()
            .unwrap_or(0);
        let column = self
            .inner
            .text
            .get(start..offset)
            .map_or(0, |before| before.chars().count())
            + 1;
        Position {
            line: line.max(1),
            column,
        }
    }

    /// First and last line of a range, from 1.
    #[must_use]
    pub fn lines(&self, span: Span) -> (usize, usize) {
        let last = if span.end > span.start {
            span.end - 1
        } else {
            span.end
        };
        (self.line_of(span.start), self.line_of(last))
    }

    /// The range with the rest of its first and last line, line end included.
    #[must_use]
    pub(crate) fn whole_lines(&self, span: Span) -> Span {
        let (first, last) = self.lines(span);
        let start = |line: usize| self.inner.line_starts.get(line).copied();
        Span::new(
            start(first.saturating_sub(1)).unwrap_or(0),
            start(last).unwrap_or(self.inner.text.len()),
        )
    }

    fn line_of(&self, offset: usize) -> usize {
        self.inner
            .line_starts
            .partition_point(|start| *start <= offset)
            .max(1)
    }
}
