//! Which words open a here-document.

use super::expand::raw_words;

/// The word `[n]<<[-]NAME` taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) name: String,
    pub(super) descriptor: u32,
    pub(super) expand: bool,
    pub(super) strip_tabs: bool,
}

/// All here-documents that `line` opens, in order. Text that does not lex opens none.
pub(super) fn openings(line: &str) -> Vec<Opening> {
    raw_words(line, true, true)
        .iter()
        .filter_map(|word| opening(word))
        .collect()
}

/// What `word` opens, if it is a here-document word and nothing else.
pub(super) fn opening(word: &str) -> Option<Opening> {
    let digits = word.len()
        - word
            .trim_start_matches(|digit: char| digit.is_ascii_digit())
            .len();
    let (number, rest) = word.split_at_checked(digits)?;
    let rest = rest.strip_prefix("<<")?;
    let (strip_tabs, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let delimiter = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if delimiter.is_empty() || delimiter.contains('<') {
        return None;
    }
    let mut plain = raw_words(delimiter, false, false).into_iter();
    let name = plain.next()?;
    if plain.next().is_some() {
        return None;
    }
    let quoted = raw_words(delimiter, true, false).into_iter().next()?;
    Some(Opening {
        expand: quotes(&name) == quotes(&quoted),
        name,
        descriptor: number.parse().unwrap_or(0),
        strip_tabs,
    })
}

fn quotes(text: &str) -> usize {
    text.chars()
        .filter(|character| matches!(character, '\'' | '"'))
        .count()
}
