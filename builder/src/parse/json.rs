//! The exec form: a JSON array of strings.

use std::ops::Range;

/// What text in place of an exec form turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum JsonForm {
    /// An array of strings: value and range of each.
    Strings(Vec<(String, Range<usize>)>),
    /// JSON, an array, but the element at this range is no string.
    OtherElement(Range<usize>),
    /// Not a JSON array: the shell form.
    NotJson,
}

/// Reads `text`, which must be the whole array. Ranges are offsets into it.
pub(super) fn read(text: &str) -> JsonForm {
    let blank = text.len() - text.trim_start().len();
    if !text.trim_start().starts_with('[') {
        return JsonForm::NotJson;
    }
    let mut position = blank + 1;
    let mut items = Vec::new();
    position = skip(text, position);
    if byte(text, position) == Some(b']') {
        return finish(text, position + 1, items);
    }
    loop {
        position = skip(text, position);
        if byte(text, position) != Some(b'"') {
            return other(text, position);
        }
        let Some((value, end)) = string(text, position) else {
            return JsonForm::NotJson;
        };
        items.push((value, position..end));
        position = skip(text, end);
        match byte(text, position) {
            Some(b',') => position += 1,
            Some(b']') => return finish(text, position + 1, items),
            _ => return JsonForm::NotJson,
        }
    }
}

fn byte(text: &str, at: usize) -> Option<u8> {
    text.as_bytes().get(at).copied()
}

fn skip(text: &str, mut at: usize) -> usize {
    while matches!(byte(text, at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

fn finish(text: &str, end: usize, items: Vec<(String, Range<usize>)>) -> JsonForm {
    if skip(text, end) == text.len() {
        JsonForm::Strings(items)
    } else {
        JsonForm::NotJson
    }
}

/// Something else than a string: an error if the whole is JSON all the same, else the shell form.
fn other(text: &str, at: usize) -> JsonForm {
    // Into a value, for a number that is too large makes it no JSON.
    if serde_json::from_str::<serde_json::Value>(text.trim()).is_err() {
        return JsonForm::NotJson;
    }
    let rest = text.get(at..).unwrap_or_default();
    let length = rest.find([',', ']']).unwrap_or(rest.len()).max(1);
    JsonForm::OtherElement(at..at + rest.get(..length).unwrap_or(rest).trim_end().len().max(1))
}

/// A JSON string from its opening quote: value and offset after the closing one.
fn string(text: &str, start: usize) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut characters = text.get(start + 1..)?.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, start + 1 + at + 1)),
            '\\' => {
                let (_, kind) = characters.next()?;
                value.push(match kind {
                    '"' | '\\' | '/' => kind,
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'u' => unicode(&mut characters)?,
                    _ => return None,
                });
            }
            control if control < ' ' => return None,
            other => value.push(other),
        }
    }
    None
}

/// The rest of `\uXXXX`; half a surrogate pair becomes the replacement character, as in Go.
fn unicode(characters: &mut std::str::CharIndices<'_>) -> Option<char> {
    let first = hex4(characters)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    let mut ahead = characters.clone();
    if ahead.next().map(|(_, next)| next) == Some('\\')
        && ahead.next().map(|(_, next)| next) == Some('u')
    {
        let second = hex4(&mut ahead)?;
        if (0xdc00..0xe000).contains(&second) {
            *characters = ahead;
            return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
        }
    }
    Some(char::REPLACEMENT_CHARACTER)
}

fn hex4(characters: &mut std::str::CharIndices<'_>) -> Option<u32> {
    let mut value = 0;
    for _ in 0..4 {
        value = value * 16 + characters.next()?.1.to_digit(16)?;
    }
    Some(value)
}
