//! The patterns of `${name#p}`, `${name%p}` and `${name/p/r}`: `*`, `?` and backslash escapes.
//!
//! As in BuildKit, where they become regular expressions, neither wildcard matches a line feed.
//!
//! A pattern is a row of fixed-length pieces with a `*` between each two. Placing every piece but the
//! last as early as possible and the last as early or as late as possible gives the shortest or the
//! longest match without trying alternatives: a piece placed earlier never closes a way that a later
//! place would leave open. So matching needs no backtracking; `steps` bounds what is left.

use super::ExpandError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Any character but a line feed.
    Any,
    One(char),
}

impl Token {
    fn matches(self, character: char) -> bool {
        match self {
            Self::Any => character != '\n',
            Self::One(own) => own == character,
        }
    }
}

#[derive(Debug)]
pub(super) struct Pattern {
    /// Pieces between the stars; at least one, any may be empty.
    pieces: Vec<Vec<Token>>,
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, ExpandError> {
        let mut pieces = vec![Vec::new()];
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let token = match character {
                '*' => {
                    pieces.push(Vec::new());
                    continue;
                }
                '?' => Token::Any,
                '\\' => match characters.next() {
                    // These two had to be escaped to get into the pattern at all.
                    Some(escaped @ ('}' | '/' | '*' | '?' | '\\')) => Token::One(escaped),
                    other => {
                        return Err(ExpandError::Pattern {
                            pattern: text.to_owned(),
                            escape: other.map(String::from).unwrap_or_default(),
                        });
                    }
                },
                other => Token::One(other),
            };
            if let Some(last) = pieces.last_mut() {
                last.push(token);
            }
        }
        Ok(Self { pieces })
    }

    /// `value` without the shortest or longest match at its start.
    pub(super) fn trim_start<'v>(
        &self,
        value: &'v str,
        longest: bool,
        steps: &mut usize,
    ) -> Result<&'v str, ExpandError> {
        let characters: Vec<char> = value.chars().collect();
        let length = self.match_at(&characters, 0, longest, steps)?.ok();
        Ok(value
            .get(byte_length(&characters, length.unwrap_or(0))..)
            .unwrap_or_default())
    }

    /// `value` without the shortest or longest match at its end.
    pub(super) fn trim_end<'v>(
        &self,
        value: &'v str,
        longest: bool,
        steps: &mut usize,
    ) -> Result<&'v str, ExpandError> {
        let characters: Vec<char> = value.chars().rev().collect();
        let pieces = self
            .pieces
            .iter()
            .rev()
            .map(|piece| piece.iter().rev().copied().collect())
            .collect();
        let length = Self { pieces }
            .match_at(&characters, 0, longest, steps)?
            .ok();
        Ok(value
            .get(..value.len() - byte_length(&characters, length.unwrap_or(0)))
            .unwrap_or_default())
    }

    /// `value` with the first match, or every one, replaced; matches are as long as possible.
    pub(super) fn replace(
        &self,
        value: &str,
        replacement: &str,
        all: bool,
        room: usize,
        steps: &mut usize,
    ) -> Result<String, ExpandError> {
        let characters: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut copied = 0;
        let mut from = 0;
        while from <= characters.len() {
            let Some((start, end)) = self.find(&characters, from, steps)? else {
                break;
            };
            result.extend(characters.get(copied..start).unwrap_or_default());
            // An empty match right behind another match does not count.
            if end > copied || start == 0 {
                result.push_str(replacement);
            }
            if result.len() > room {
                return Err(ExpandError::TooLarge);
            }
            copied = end;
            from = end.max(from + 1);
            if !all {
                break;
            }
        }
        result.extend(characters.get(copied..).unwrap_or_default());
        Ok(result)
    }

    /// The leftmost match at or behind `from`.
    fn find(
        &self,
        characters: &[char],
        from: usize,
        steps: &mut usize,
    ) -> Result<Option<(usize, usize)>, ExpandError> {
        let first = self.pieces.first().map(Vec::as_slice).unwrap_or_default();
        let mut from = from;
        while let Some(start) = search(first, characters, from, characters.len(), steps)? {
            match self.match_at(characters, start, true, steps)? {
                Ok(end) => return Ok(Some((start, end))),
                // A start whose first piece ends on the same line fails for the same reason.
                Err(line_end) => from = (line_end + 1).saturating_sub(first.len()).max(start + 1),
            }
        }
        Ok(None)
    }

    /// Matches at `start`: the end of the match, or the end of the line on which it failed.
    fn match_at(
        &self,
        characters: &[char],
        start: usize,
        longest: bool,
        steps: &mut usize,
    ) -> Result<Result<usize, usize>, ExpandError> {
        let Some((first, rest)) = self.pieces.split_first() else {
            return Ok(Ok(start));
        };
        if !fits(first, characters, start, steps)? {
            return Ok(Err(line_end(characters, start, steps)?));
        }
        let mut position = start + first.len();
        if rest.is_empty() {
            return Ok(Ok(position));
        }
        let failed_on = line_end(characters, position, steps)?;
        for (at, piece) in rest.iter().enumerate() {
            let limit = line_end(characters, position, steps)?;
            let is_last = at + 1 == rest.len();
            let found = if is_last && longest {
                search_back(piece, characters, position, limit, steps)?
            } else {
                search(piece, characters, position, limit, steps)?
            };
            match found {
                Some(place) => position = place + piece.len(),
                None => return Ok(Err(failed_on)),
            }
        }
        Ok(Ok(position))
    }
}

/// Index of the next line feed, or the length. Looking for it counts: the matches of a long line
/// may be as many as its characters.
fn line_end(characters: &[char], from: usize, steps: &mut usize) -> Result<usize, ExpandError> {
    let rest = characters.get(from..).unwrap_or_default();
    let length = rest
        .iter()
        .position(|character| *character == '\n')
        .unwrap_or(rest.len());
    *steps = steps.checked_sub(length).ok_or(ExpandError::TooCostly)?;
    Ok(from + length)
}

fn byte_length(characters: &[char], count: usize) -> usize {
    characters
        .iter()
        .take(count)
        .map(|character| character.len_utf8())
        .sum()
}

fn fits(
    piece: &[Token],
    characters: &[char],
    at: usize,
    steps: &mut usize,
) -> Result<bool, ExpandError> {
    let Some(part) = characters.get(at..at + piece.len()) else {
        return Ok(false);
    };
    for (token, character) in piece.iter().zip(part) {
        *steps = steps.checked_sub(1).ok_or(ExpandError::TooCostly)?;
        if !token.matches(*character) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// First place of `piece` from `from` to `limit`, both included.
fn search(
    piece: &[Token],
    characters: &[char],
    from: usize,
    limit: usize,
    steps: &mut usize,
) -> Result<Option<usize>, ExpandError> {
    for at in from..=limit.min(characters.len()) {
        *steps = steps.checked_sub(1).ok_or(ExpandError::TooCostly)?;
        if fits(piece, characters, at, steps)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Last place of `piece` from `from` to `limit`, both included.
fn search_back(
    piece: &[Token],
    characters: &[char],
    from: usize,
    limit: usize,
    steps: &mut usize,
) -> Result<Option<usize>, ExpandError> {
    for at in (from..=limit.min(characters.len())).rev() {
        *steps = steps.checked_sub(1).ok_or(ExpandError::TooCostly)?;
        if fits(piece, characters, at, steps)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}
