//! How the rest of an instruction line is cut into words. All ranges are offsets into the logical
//! line.

use std::ops::Range;

use super::lines::LogicalLine;

/// What separates the keyword and plain arguments; other Unicode blanks do not.
pub(super) fn is_separator(character: char) -> bool {
    matches!(character, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Cuts at runs of separators. The range must be trimmed.
pub(super) fn split_blanks(line: &LogicalLine<'_>, range: &Range<usize>) -> Vec<Range<usize>> {
    let text = line.slice(range);
    let mut words = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices() {
        if is_separator(character) {
            if let Some(from) = start.take() {
                words.push(range.start + from..range.start + at);
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    if let Some(from) = start {
        words.push(range.start + from..range.end);
    }
    words
}

/// Cuts at the first run of separators only.
pub(super) fn split_first(
    line: &LogicalLine<'_>,
    range: &Range<usize>,
) -> (Range<usize>, Option<Range<usize>>) {
    let text = line.slice(range);
    let Some(at) = text.find(is_separator) else {
        return (range.clone(), None);
    };
    let rest = text.get(at..).unwrap_or_default();
    let skipped = rest.len() - rest.trim_start_matches(is_separator).len();
    (
        range.start..range.start + at,
        Some(range.start + at + skipped..range.end),
    )
}

/// Cuts at blanks outside quotes, quotes and escapes staying in the words: for `ENV`, `LABEL`, `ARG`.
///
/// An escape character at the very end is dropped.
pub(super) fn split_quoted(
    line: &LogicalLine<'_>,
    range: &Range<usize>,
    escape: char,
) -> Vec<Range<usize>> {
    let text = line.slice(range);
    let mut words = Vec::new();
    let mut start: Option<usize> = None;
    let mut quote: Option<char> = None;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            if let Some(from) = start.take() {
                words.push(range.start + from..range.start + at);
            }
            continue;
        }
        let from = *start.get_or_insert(at);
        if character == escape && quote != Some('\'') {
            if characters.next().is_none() {
                start = None;
                if at > from {
                    words.push(range.start + from..range.start + at);
                }
                break;
            }
        } else if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '\'' | '"') {
            quote = Some(character);
        }
    }
    if let Some(from) = start {
        words.push(range.start + from..range.end);
    }
    words
}

/// A flag as lexed: place of the whole and its text without quotes and escapes.
#[derive(Debug)]
pub(super) struct RawFlag {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// Takes the `--flags` off the front; what is left follows. A lone `--` ends them and vanishes.
pub(super) fn split_flags(
    line: &LogicalLine<'_>,
    range: &Range<usize>,
    escape: char,
) -> (Vec<RawFlag>, Range<usize>) {
    let mut flags = Vec::new();
    let mut position = range.start;
    loop {
        let rest = line.slice(&(position..range.end));
        position += rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        if !rest.starts_with("--") {
            return (flags, position..range.end);
        }
        let (text, length, quoted) = flag_word(rest, escape);
        let word = position..position + length;
        position += length;
        if text == "--" {
            return (flags, position..range.end);
        }
        if quoted || !text.is_empty() {
            flags.push(RawFlag { range: word, text });
        }
    }
}

/// Reads one word: its text without quotes and escapes, its length, whether it had quotes.
fn flag_word(rest: &str, escape: char) -> (String, usize, bool) {
    let mut text = String::new();
    let mut quote: Option<char> = None;
    let mut quoted = false;
    let mut characters = rest.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            return (text, at, quoted);
        }
        if quote == Some(character) {
            quote = None;
        } else if quote.is_none() && matches!(character, '\'' | '"') {
            quote = Some(character);
            quoted = true;
        } else if character == escape {
            if let Some((_, escaped)) = characters.next() {
                text.push(escaped);
            }
        } else {
            text.push(character);
        }
    }
    (text, rest.len(), quoted)
}
