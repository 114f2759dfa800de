//! The scanner behind [`Expander`](super::Expander): one pass, recursing only into `${…}`.

use std::collections::BTreeSet;

use super::pattern::Pattern;
use super::{
    EmptyEnvironment, Environment, ExpandError, MAX_EXPANDED_BYTES, MAX_NESTING, MAX_PATTERN_STEPS,
};

/// Deviations from plain word expansion.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// Quotes group, but stay in the text.
    pub(super) raw_quotes: bool,
    /// Escapes work, but the escape characters stay in the text.
    pub(super) raw_escapes: bool,
    /// Quotes are ordinary characters.
    pub(super) quotes_are_text: bool,
    /// A variable that is not set stays as written.
    pub(super) keep_unset: bool,
}

/// Words of `text` with quotes and escapes kept and variables left alone, cut at blanks outside
/// quotes; none if the text does not lex. This is how here-documents are looked for.
pub(in crate::parse) fn raw_words(text: &str, raw_quotes: bool, raw_escapes: bool) -> Vec<String> {
    let options = Options {
        raw_quotes,
        raw_escapes,
        keep_unset: true,
        quotes_are_text: false,
    };
    let mut lexer = Lexer::new(text, '\\', options, |name| EmptyEnvironment.get(name));
    lexer.run().map(|(_, words)| words).unwrap_or_default()
}

/// Collects words while the text is read.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    current: String,
}

impl Words {
    /// A character that ends a word if it is blank.
    fn soft(&mut self, character: char) {
        if !character.is_whitespace() {
            self.current.push(character);
        } else if !self.current.is_empty() {
            self.done.push(std::mem::take(&mut self.current));
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.current.is_empty() {
            self.done.push(self.current);
        }
        self.done
    }
}

pub(super) struct Lexer<'t, F> {
    text: &'t str,
    position: usize,
    escape: char,
    options: Options,
    lookup: F,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
    depth: usize,
    produced: usize,
    steps: usize,
}

impl<'t, 'e, F: Fn(&str) -> Option<&'e str>> Lexer<'t, F> {
    pub(super) fn new(text: &'t str, escape: char, options: Options, lookup: F) -> Self {
        Self {
            text,
            position: 0,
            escape,
            options,
            lookup,
            used: BTreeSet::new(),
            unset: BTreeSet::new(),
            depth: 0,
            produced: 0,
            steps: MAX_PATTERN_STEPS,
        }
    }

    /// Reads everything: the text, and the text cut into words.
    pub(super) fn run(&mut self) -> Result<(String, Vec<String>), ExpandError> {
        let mut words = Words::default();
        let text = self.until(None, self.options.raw_escapes, Some(&mut words))?;
        Ok((text, words.finish()))
    }

    /// Bytes produced, and steps that patterns took.
    pub(super) fn spent(&self) -> (usize, usize) {
        (self.produced, MAX_PATTERN_STEPS - self.steps)
    }

    /// Names that were set and names that were not.
    pub(super) fn into_names(self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.used, self.unset)
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.position..)?.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.position += character.len_utf8();
        Some(character)
    }

    fn grow(&mut self, bytes: usize) -> Result<(), ExpandError> {
        self.produced = self.produced.saturating_add(bytes);
        if self.produced > MAX_EXPANDED_BYTES {
            Err(ExpandError::TooLarge)
        } else {
            Ok(())
        }
    }

    fn value(&mut self, name: &str) -> Option<&'e str> {
        let value = (self.lookup)(name);
        let names = if value.is_some() {
            &mut self.used
        } else {
            &mut self.unset
        };
        if !names.contains(name) {
            names.insert(name.to_owned());
        }
        value
    }

    /// Reads up to `stop` (taken, not returned) or, without one, to the end.
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
        mut words: Option<&mut Words>,
    ) -> Result<String, ExpandError> {
        let outer = std::mem::replace(&mut self.options.raw_escapes, raw_escapes);
        let result = self.until_inner(stop, &mut words);
        self.options.raw_escapes = outer;
        result
    }

    fn until_inner(
        &mut self,
        stop: Option<char>,
        words: &mut Option<&mut Words>,
    ) -> Result<String, ExpandError> {
        let mut result = String::new();
        while let Some(character) = self.peek() {
            if stop == Some(character) {
                self.next();
                return Ok(result);
            }
            match character {
                '$' => {
                    let text = self.dollar()?;
                    if let Some(words) = words {
                        text.chars().for_each(|character| words.soft(character));
                    }
                    result.push_str(&text);
                }
                '\'' | '"' if !self.options.quotes_are_text => {
                    let text = if character == '"' {
                        self.double_quote()?
                    } else {
                        self.single_quote()?
                    };
                    if let Some(words) = words {
                        words.current.push_str(&text);
                    }
                    result.push_str(&text);
                }
                '<' => {
                    let text = self.less_than();
                    if let Some(words) = words {
                        words.current.push_str(text);
                    }
                    result.push_str(text);
                }
                _ => self.plain(&mut result, words)?,
            }
        }
        match stop {
            None => Ok(result),
            Some('/') => Err(ExpandError::MissingSlash),
            Some(_) => Err(ExpandError::MissingBrace),
        }
    }

    /// A character without special meaning, or an escape and what follows it.
    fn plain(
        &mut self,
        result: &mut String,
        words: &mut Option<&mut Words>,
    ) -> Result<(), ExpandError> {
        let Some(mut character) = self.next() else {
            return Ok(());
        };
        self.grow(character.len_utf8())?;
        if character == self.escape {
            if self.options.raw_escapes {
                result.push(character);
                if let Some(words) = words {
                    words.current.push(character);
                }
            }
            // An escape character at the very end stands for nothing.
            let Some(escaped) = self.next() else {
                return Ok(());
            };
            character = escaped;
            if let Some(words) = words {
                words.current.push(character);
            }
        } else if let Some(words) = words {
            words.soft(character);
        }
        result.push(character);
        Ok(())
    }

    /// `<`, or `<<` with the blanks after it, which do not end a word: `<< EOF` is one.
    fn less_than(&mut self) -> &'t str {
        let start = self.position;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while matches!(self.peek(), Some('\t' | '\r' | ' ')) {
                self.next();
            }
        }
        self.text.get(start..self.position).unwrap_or_default()
    }

    fn single_quote(&mut self) -> Result<String, ExpandError> {
        let start = self.position;
        self.next();
        let rest = self.text.get(self.position..).unwrap_or_default();
        let Some(length) = rest.find('\'') else {
            self.position = self.text.len();
            return Err(ExpandError::Quote("single"));
        };
        self.position += length + 1;
        self.grow(length)?;
        let range = if self.options.raw_quotes {
            start..self.position
        } else {
            start + 1..self.position - 1
        };
        Ok(self.text.get(range).unwrap_or_default().to_owned())
    }

    fn double_quote(&mut self) -> Result<String, ExpandError> {
        let mut result = String::new();
        self.next();
        if self.options.raw_quotes {
            result.push('"');
        }
        loop {
            match self.peek() {
                None => return Err(ExpandError::Quote("double")),
                Some('"') => {
                    self.next();
                    if self.options.raw_quotes {
                        result.push('"');
                    }
                    return Ok(result);
                }
                Some('$') => {
                    let text = self.dollar()?;
                    result.push_str(&text);
                }
                Some(mut character) => {
                    self.next();
                    self.grow(character.len_utf8())?;
                    if character == self.escape {
                        if self.options.raw_escapes {
                            result.push(character);
                        }
                        match self.peek() {
                            None => continue,
                            // Only these can be escaped here; before others the character stays.
                            Some(next) if matches!(next, '"' | '$') || next == self.escape => {
                                self.next();
                                character = next;
                            }
                            Some(_) => {}
                        }
                    }
                    result.push(character);
                }
            }
        }
    }

    /// Everything that starts with `$`.
    fn dollar(&mut self) -> Result<String, ExpandError> {
        let start = self.position;
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                self.grow(1)?;
                return Ok("$".to_owned());
            }
            return match self.value(name) {
                None if self.options.keep_unset => Ok(format!("${name}")),
                value => self.owned(value.unwrap_or_default()),
            };
        }
        self.next();
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        if self.depth >= MAX_NESTING {
            return Err(ExpandError::Nesting);
        }
        self.depth += 1;
        let name = self.name();
        let result = self.braced(name, start);
        self.depth -= 1;
        result
    }

    fn owned(&mut self, text: &str) -> Result<String, ExpandError> {
        self.grow(text.len())?;
        Ok(text.to_owned())
    }

    /// After `${name`: the modifier and the rest.
    fn braced(&mut self, name: &str, start: usize) -> Result<String, ExpandError> {
        let modifier = self.next();
        match modifier {
            Some('}') => match self.value(name) {
                None if self.options.keep_unset => Ok(format!("${{{name}}}")),
                value => self.owned(value.unwrap_or_default()),
            },
            Some(':') => {
                let after = self.next();
                self.conditional(name, after, true)
            }
            Some('+' | '-' | '?' | '#' | '%') => self.conditional(name, modifier, false),
            Some('/') => self.replacement(name, start),
            None => Err(ExpandError::MissingBrace),
            other => Err(ExpandError::Modifier(shown(other))),
        }
    }

    fn conditional(
        &mut self,
        name: &str,
        modifier: Option<char>,
        empty_is_unset: bool,
    ) -> Result<String, ExpandError> {
        let trims = matches!(modifier, Some('#' | '%'));
        let written = if empty_is_unset {
            format!(":{}", shown(modifier))
        } else {
            shown(modifier)
        };
        if trims && empty_is_unset {
            return Err(ExpandError::Modifier(written));
        }
        let word = self.part('}', trims)?;
        let value = self.value(name);
        if value.is_none() && self.options.keep_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let present = value.is_some_and(|value| !(empty_is_unset && value.is_empty()));
        match modifier {
            Some('-') if present => self.owned(value.unwrap_or_default()),
            Some('-') => Ok(word),
            Some('+') if present => Ok(word),
            Some('+') => Ok(String::new()),
            Some('?') if present => self.owned(value.unwrap_or_default()),
            Some('?') => {
                let standard = if value.is_none() {
                    "is not allowed to be unset"
                } else {
                    "is not allowed to be empty"
                };
                let message = if word.is_empty() {
                    standard.to_owned()
                } else {
                    word
                };
                Err(ExpandError::Required {
                    name: name.to_owned(),
                    message,
                })
            }
            Some(sign @ ('#' | '%')) => {
                let (longest, pattern) = match word.strip_prefix(sign) {
                    Some(rest) => (true, rest),
                    None => (false, word.as_str()),
                };
                let pattern = Pattern::parse(pattern)?;
                let value = value.unwrap_or_default();
                let kept = if sign == '#' {
                    pattern.trim_start(value, longest, &mut self.steps)?
                } else {
                    pattern.trim_end(value, longest, &mut self.steps)?
                };
                self.owned(kept)
            }
            _ => Err(ExpandError::Modifier(written)),
        }
    }

    /// The text up to `stop`. Whatever fails at the very end fails because `stop` is missing.
    fn part(&mut self, stop: char, raw_escapes: bool) -> Result<String, ExpandError> {
        self.until(Some(stop), raw_escapes, None)
            .map_err(|error| match (self.peek(), stop) {
                (Some(_), _) => error,
                (None, '/') => ExpandError::MissingSlash,
                (None, _) => ExpandError::MissingBrace,
            })
    }

    fn replacement(&mut self, name: &str, start: usize) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.part('/', true)?;
        let replacement = self.part('}', true)?;
        let value = self.value(name);
        if value.is_none() && self.options.keep_unset {
            return Ok(self
                .text
                .get(start..self.position)
                .unwrap_or_default()
                .to_owned());
        }
        let room = MAX_EXPANDED_BYTES.saturating_sub(self.produced);
        let pattern = Pattern::parse(&pattern)?;
        let text = pattern.replace(
            value.unwrap_or_default(),
            &replacement,
            all,
            room,
            &mut self.steps,
        )?;
        self.grow(text.len())?;
        Ok(text)
    }

    /// A name after `$` or `${`: digits, one special character, or letters, digits and `_`. May be
    /// empty.
    fn name(&mut self) -> &'t str {
        let rest = self.text.get(self.position..).unwrap_or_default();
        let length = match rest.chars().next() {
            Some(first) if is_digit(first) => {
                rest.find(|next| !is_digit(next)).unwrap_or(rest.len())
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
            _ => rest
                .find(|next: char| !(next.is_alphabetic() || is_digit(next) || next == '_'))
                .unwrap_or(rest.len()),
        };
        self.position += length;
        rest.get(..length).unwrap_or_default()
    }
}

fn is_digit(character: char) -> bool {
    character.is_ascii_digit() || (!character.is_ascii() && character.is_numeric())
}

/// A character for a message; the end of the text has none.
fn shown(character: Option<char>) -> String {
    character.unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
}
