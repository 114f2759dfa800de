//! Wildcards of `COPY` and `ADD`: Go's `filepath.Match`.
//!
//! `*` is any run of characters but `/`, `?` one character but `/`, `[a-z]` and `[^a-z]` one character
//! (which may be `/`), a backslash takes the next character as it is. Each star is settled at the first
//! place where what follows it fits, so there is no backtracking and the time is at most pattern times
//! name.

use thiserror::Error;

/// A pattern that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("syntax error in pattern {pattern:?}")]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    One(char),
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    fn matches(&self, character: char) -> bool {
        match self {
            Self::One(own) => *own == character,
            Self::Any => character != '/',
            Self::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&character))
                    != *negated
            }
        }
    }
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// Pieces of fixed length; all but the first follow a star.
    first: Vec<Token>,
    rest: Vec<Vec<Token>>,
}

/// Whether `text` has a wildcard in it, as BuildKit decides it: an escaped one does not count.
#[must_use]
pub(crate) fn has_wildcard(text: &str) -> bool {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '*' | '?' | '[' => return true,
            '\\' => {
                characters.next();
            }
            _ => {}
        }
    }
    false
}

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// An open or empty class, or a backslash at the end.
    pub fn parse(pattern: &str) -> Result<Self, BadPattern> {
        let bad = || BadPattern {
            pattern: pattern.to_owned(),
        };
        let mut characters = pattern.chars();
        let mut first = Vec::new();
        let mut rest: Vec<Vec<Token>> = Vec::new();
        while let Some(character) = characters.next() {
            let token = match character {
                '*' => {
                    // A run of stars is one star.
                    if rest.last().is_none_or(|piece| !piece.is_empty()) {
                        rest.push(Vec::new());
                    }
                    continue;
                }
                '?' => Token::Any,
                '[' => class(&mut characters).ok_or_else(bad)?,
                '\\' => Token::One(characters.next().ok_or_else(bad)?),
                other => Token::One(other),
            };
            rest.last_mut().unwrap_or(&mut first).push(token);
        }
        Ok(Self { first, rest })
    }

    /// Whether the whole of `name` matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let characters: Vec<char> = name.chars().collect();
        if !fits(&self.first, &characters, 0) {
            return false;
        }
        let mut position = self.first.len();
        for (at, piece) in self.rest.iter().enumerate() {
            let is_last = at + 1 == self.rest.len();
            let found = place(piece, &characters, position, is_last);
            match found {
                Some(place) => position = place + piece.len(),
                None => return false,
            }
        }
        position == characters.len()
    }
}

fn fits(piece: &[Token], characters: &[char], at: usize) -> bool {
    characters.get(at..at + piece.len()).is_some_and(|part| {
        piece
            .iter()
            .zip(part)
            .all(|(token, character)| token.matches(*character))
    })
}

/// Where a piece behind a star goes: the first place that fits; the last piece must reach the end.
fn place(piece: &[Token], characters: &[char], from: usize, is_last: bool) -> Option<usize> {
    let mut at = from;
    loop {
        if (!is_last || at + piece.len() == characters.len()) && fits(piece, characters, at) {
            return Some(at);
        }
        if characters.get(at).is_none_or(|passed| *passed == '/') {
            return None;
        }
        at += 1;
    }
}

/// A class after its `[`.
fn class(characters: &mut std::str::Chars<'_>) -> Option<Token> {
    let negated = characters.as_str().starts_with('^');
    if negated {
        characters.next();
    }
    let mut ranges = Vec::new();
    loop {
        if characters.as_str().starts_with(']') && !ranges.is_empty() {
            characters.next();
            return Some(Token::Class { negated, ranges });
        }
        let low = member(characters)?;
        let mut high = low;
        if characters.as_str().starts_with('-') {
            characters.next();
            high = member(characters)?;
        }
        ranges.push((low, high));
    }
}

/// One character of a class; something has to follow it.
fn member(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let character = match characters.next()? {
        '-' | ']' => return None,
        '\\' => characters.next()?,
        other => other,
    };
    (!characters.as_str().is_empty()).then_some(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pattern, name, result; `None` for a pattern that must be refused. From the grammar in the
    /// documentation of Go's path/filepath, Match.
    const CASES: &[(&str, &str, Option<bool>)] = &[
        ("abc", "abc", Some(true)),
        ("", "", Some(true)),
        ("", "a", Some(false)),
        ("*", "", Some(true)),
        ("*", "abc", Some(true)),
        ("*", "a/b", Some(false)),
        ("*c", "abc", Some(true)),
        ("a*", "a", Some(true)),
        ("a*", "abc", Some(true)),
        ("a*", "ab/c", Some(false)),
        ("a*/b", "abc/b", Some(true)),
        ("a*/b", "a/c/b", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", Some(true)),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", Some(false)),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Some(false)),
        ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
        ("a*b?c*x", "abxbbxdbxebxczzy", Some(false)),
        ("**", "abc", Some(true)),
        ("**", "a/b", Some(false)),
        ("?", "a", Some(true)),
        ("?", "/", Some(false)),
        ("?", "", Some(false)),
        ("a?b", "a\u{263a}b", Some(true)),
        ("a???b", "a\u{263a}b", Some(false)),
        ("ab[c]", "abc", Some(true)),
        ("ab[b-d]", "abc", Some(true)),
        ("ab[e-g]", "abc", Some(false)),
        ("ab[^c]", "abc", Some(false)),
        ("ab[^e-g]", "abc", Some(true)),
        ("ab[!c]", "ab!", Some(true)),
        ("ab[!c]", "abd", Some(false)),
        ("a[^a]b", "a/b", Some(true)),
        ("[a-ζ]*", "α", Some(true)),
        ("*[a-ζ]", "A", Some(false)),
        ("a\\*b", "a*b", Some(true)),
        ("a\\*b", "axb", Some(false)),
        ("arr[[]0].txt", "arr[0].txt", Some(true)),
        ("[\\]a]", "]", Some(true)),
        ("[\\-]", "-", Some(true)),
        ("[x\\-]", "-", Some(true)),
        ("[x\\-]", "z", Some(false)),
        ("[\\-x]", "a", Some(false)),
        ("[b-a]", "a", Some(false)),
        ("[*]", "*", Some(true)),
        ("fil[e]", "file", Some(true)),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("[x-]", "x", None),
        ("[-x]", "x", None),
        ("[a-b-c]", "a", None),
        ("[", "a", None),
        ("[^", "a", None),
        ("[^bc", "a", None),
        ("a[", "ab", None),
        ("a[", "x", None),
        ("\\", "a", None),
        ("[a-b", "a", None),
        ("[]", "a", None),
        ("*x", "xxx", Some(true)),
        ("*.go", "main.go", Some(true)),
        ("*.go", "dir/main.go", Some(false)),
        ("dir/*.go", "dir/main.go", Some(true)),
    ];

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, expected) in CASES {
            let found = Glob::parse(pattern).ok().map(|glob| glob.matches(name));
            assert_eq!(found, *expected, "{pattern:?} on {name:?}");
        }
    }

    #[test]
    fn escaped_wildcards_do_not_count() {
        for (text, expected) in [
            ("a", false),
            ("a*", true),
            ("a\\*", false),
            ("a\\", false),
            ("[", true),
            ("a?b", true),
        ] {
            assert_eq!(has_wildcard(text), expected, "{text:?}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let glob = Glob::parse(&"a*".repeat(200)).unwrap();
        assert!(!glob.matches(&format!("{}b/", "a".repeat(4000))));
    }
}
