//! From physical lines to logical ones: continuations joined, comments and directives taken out.
//!
//! A logical line keeps a map back to the source, so that every word found in it has a true place
//! even when backslashes broke it in two. Comment lines and empty lines between continued lines
//! vanish; here-document bodies are read on demand, because only the instruction knows whether
//! `<<` opens one.

use std::borrow::Cow;
use std::ops::Range;

use super::Diagnostic;
use super::ast::Directives;
use super::directive::DirectiveReader;
use super::span::{SourceText, Span};

/// One instruction's text with its line breaks joined.
#[derive(Debug)]
pub(super) struct LogicalLine<'a> {
    /// The joined text, leading blanks of the first line gone; the source's own where there was
    /// nothing to join.
    pub(super) text: Cow<'a, str>,
    /// Where the pieces of `text` behind the first one come from: (offset in text, offset in
    /// source), ascending.
    segments: Vec<(usize, usize)>,
    /// Source range from the first byte to the end of the last physical line.
    pub(super) span: Span,
    /// Number of the first physical line, from 1.
    pub(super) number: usize,
    /// Comments above.
    pub(super) comments: Vec<String>,
    /// The first empty line among the continued ones.
    pub(super) empty_continuation: Option<Span>,
}

impl LogicalLine<'_> {
    fn source_offset(&self, at: usize) -> usize {
        let behind = self.segments.partition_point(|(logical, _)| *logical <= at);
        behind
            .checked_sub(1)
            .and_then(|index| self.segments.get(index))
            .map_or(self.span.start + at, |(logical, source)| {
                source + at.saturating_sub(*logical)
            })
    }

    /// The place of a range of `text`.
    pub(super) fn place(&self, range: &Range<usize>) -> Span {
        let start = self.source_offset(range.start);
        if range.end <= range.start {
            return Span::new(start, start);
        }
        let last = self
            .text
            .get(range.clone())
            .and_then(|text| text.char_indices().next_back());
        let (last_at, width) = last.map_or((0, 1), |(at, character)| (at, character.len_utf8()));
        Span::new(start, self.source_offset(range.start + last_at) + width)
    }

    /// The text of a range.
    pub(super) fn slice(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// `range` without white space at either end.
    pub(super) fn trim(&self, range: &Range<usize>) -> Range<usize> {
        let text = self.slice(range);
        let start = range.start + (text.len() - text.trim_start().len());
        start..(start + text.trim().len())
    }
}

/// Reads logical lines one after the other.
pub(super) struct LineReader<'a> {
    text: &'a str,
    position: usize,
    number: usize,
    directives: DirectiveReader,
    comments: Vec<String>,
}

impl<'a> LineReader<'a> {
    pub(super) fn new(source: &'a SourceText) -> Self {
        let text = source.text();
        let position = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Self {
            text,
            position,
            number: 0,
            directives: DirectiveReader::default(),
            comments: Vec::new(),
        }
    }

    pub(super) fn directives(&self) -> &Directives {
        self.directives.found()
    }

    /// The next physical line: its range without the line end.
    fn physical(&mut self) -> Option<Range<usize>> {
        let rest = self.text.get(self.position..)?;
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let start = self.position;
        self.position += length;
        self.number += 1;
        let line = rest
            .get(..length)
            .unwrap_or_default()
            .trim_end_matches(['\r', '\n']);
        Some(start..start + line.len())
    }

    fn slice(&self, range: &Range<usize>) -> &'a str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// The next logical line, or `None` at the end.
    ///
    /// # Errors
    /// A bad or repeated directive. Reading may go on after it.
    pub(super) fn logical(&mut self) -> Option<Result<LogicalLine<'a>, Diagnostic>> {
        loop {
            let range = self.physical()?;
            let line = self.slice(&range);
            let body = line.trim_start();
            let start = range.end - body.len();
            let place = Span::new(start, range.end);
            match self.directives.read(body, place) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(diagnostic) => return Some(Err(diagnostic)),
            }
            if let Some(comment) = body.strip_prefix('#') {
                let comment = comment.trim();
                if comment.is_empty() {
                    self.comments.clear();
                } else {
                    self.comments.push(comment.to_owned());
                }
                continue;
            }
            let (kept, continues) = self.without_continuation(body);
            if !continues && kept.is_empty() {
                continue;
            }
            return Some(Ok(self.join(start, range.end, kept.len(), continues)));
        }
    }

    fn join(
        &mut self,
        start: usize,
        first_end: usize,
        kept: usize,
        mut continues: bool,
    ) -> LogicalLine<'a> {
        let mut line = LogicalLine {
            text: Cow::Borrowed(self.slice(&(start..start + kept))),
            segments: Vec::new(),
            span: Span::new(start, first_end),
            number: self.number,
            comments: std::mem::take(&mut self.comments),
            empty_continuation: None,
        };
        while continues {
            let Some(range) = self.physical() else { break };
            let piece = self.slice(&range);
            if piece.trim_start().starts_with('#') {
                continue;
            }
            if piece.trim_start().is_empty() {
                line.empty_continuation
                    .get_or_insert(Span::new(range.start, range.end));
                continue;
            }
            let (kept, goes_on) = self.without_continuation(piece);
            continues = goes_on;
            line.segments.push((line.text.len(), range.start));
            line.text.to_mut().push_str(kept);
            line.span.end = range.end;
        }
        line
    }

    /// The line without a trailing escape character (and blanks after it), and whether it had one.
    ///
    /// An escape character that follows another one does not continue the line, however many
    /// there are; BuildKit reads it so.
    fn without_continuation<'t>(&self, line: &'t str) -> (&'t str, bool) {
        let escape = self.directives.found().escape;
        let Some(before) = line.trim_end_matches([' ', '\t']).strip_suffix(escape) else {
            return (line, false);
        };
        if before.ends_with(escape) {
            return (line, false);
        }
        (before, true)
    }

    /// Reads a here-document's body up to its delimiter: content and place.
    pub(super) fn heredoc_body(
        &mut self,
        delimiter: &str,
        strip_tabs: bool,
    ) -> Option<(String, Span)> {
        let start = self.position;
        loop {
            let line_start = self.position;
            let range = self.physical()?;
            let line = self.slice(&range);
            let candidate = if strip_tabs {
                line.trim_start_matches('\t')
            } else {
                line
            };
            if candidate == delimiter {
                return Some((
                    self.slice(&(start..line_start)).to_owned(),
                    Span::new(start, line_start),
                ));
            }
        }
    }

    /// Everything before an offset.
    pub(super) fn text_before(&self, offset: usize) -> &'a str {
        self.text.get(..offset).unwrap_or_default()
    }

    /// End of what was read so far, without the last line end.
    pub(super) fn end(&self) -> usize {
        self.text
            .get(..self.position)
            .unwrap_or_default()
            .trim_end_matches(['\r', '\n'])
            .len()
    }
}
