//! One ignore pattern, compiled.
//!
//! moby/patternmatcher turns patterns into regular expressions, quirks included: `[*]` is no class of
//! one star, `\d` is a digit, `^` in the middle never matches. To be exact the same text is produced
//! here and read by a parser for the small part of the syntax that can occur. It is run as a set of
//! states, so time is at most pattern length times path length.

/// What one character may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Set {
    fn one(character: char) -> Self {
        Self {
            negated: false,
            ranges: vec![(character, character)],
        }
    }

    fn contains(&self, character: char) -> bool {
        self.ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&character))
            != self.negated
    }
}

/// One step of the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// One character.
    One(Set),
    /// Any number of characters.
    Many(Set),
    /// `(.*/)?`: nothing, or anything up to a slash.
    Directories,
    /// `^` not at the start: only holds where nothing has been read.
    Begin,
}

/// How a pattern is matched; the first three are what patternmatcher takes for the common cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Matcher {
    Exact(String),
    /// Everything that starts so (`dir/**`).
    Prefix(String),
    /// Everything that ends so (`**/name`, `**name`).
    Suffix(String),
    States(Vec<Token>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Suffix,
    Regexp,
}

impl Matcher {
    /// `None` if the pattern does not compile.
    pub(super) fn compile(pattern: &str) -> Option<Self> {
        let mut regexp = String::new();
        let mut kind = Kind::Exact;
        let mut characters = pattern.chars().peekable();
        let mut at_start = true;
        while let Some(character) = characters.next() {
            match character {
                '*' if characters.peek() == Some(&'*') => {
                    characters.next();
                    if characters.peek() == Some(&'/') {
                        characters.next();
                    }
                    if characters.peek().is_some() {
                        regexp.push_str("(.*/)?");
                        kind = Kind::Regexp;
                    } else if kind == Kind::Exact {
                        kind = Kind::Prefix;
                    } else {
                        regexp.push_str(".*");
                        kind = Kind::Regexp;
                    }
                    if at_start {
                        kind = Kind::Suffix;
                    }
                }
                '*' => {
                    regexp.push_str("[^/]*");
                    kind = Kind::Regexp;
                }
                '?' => {
                    regexp.push_str("[^/]");
                    kind = Kind::Regexp;
                }
                '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                    regexp.push('\\');
                    regexp.push(character);
                }
                '\\' => {
                    regexp.push('\\');
                    if let Some(escaped) = characters.next() {
                        regexp.push(escaped);
                        kind = Kind::Regexp;
                    }
                }
                '[' | ']' => {
                    regexp.push(character);
                    kind = Kind::Regexp;
                }
                other => regexp.push(other),
            }
            at_start = false;
        }
        Some(match kind {
            Kind::Exact => Self::Exact(pattern.to_owned()),
            Kind::Prefix => Self::Prefix(pattern.strip_suffix("**").unwrap_or(pattern).to_owned()),
            Kind::Suffix => Self::Suffix(pattern.strip_prefix("**").unwrap_or(pattern).to_owned()),
            Kind::Regexp => Self::States(parse(&regexp)?),
        })
    }

    /// Whether the whole of `path` matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(own) => own == path,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::Suffix(suffix) => {
                path.ends_with(suffix.as_str())
                    || suffix.strip_prefix('/').is_some_and(|name| name == path)
            }
            Self::States(tokens) => {
                // A first character that cannot be right settles most paths.
                if let (Some(Token::One(set)), first) = (tokens.first(), path.chars().next())
                    && first.is_none_or(|first| !set.contains(first))
                {
                    return false;
                }
                States::after(tokens, path).accepts(tokens)
            }
        }
    }

    /// Whether some path that begins with `directory` (which ends in a slash) and goes on could match.
    pub(super) fn can_match_below(&self, directory: &str) -> bool {
        match self {
            Self::Exact(own) => own.starts_with(directory),
            Self::Prefix(prefix) => {
                prefix.starts_with(directory) || directory.starts_with(prefix.as_str())
            }
            Self::Suffix(_) => true,
            Self::States(tokens) => !States::after(tokens, directory).is_dead(),
        }
    }
}

/// Which tokens could come next. Entry `i` stands before token `i`, the last one behind all.
struct States {
    before: Vec<bool>,
    /// Inside the [`Token::Directories`] of that place.
    inside: Vec<bool>,
}

impl States {
    fn after(tokens: &[Token], text: &str) -> Self {
        let mut states = Self {
            before: vec![false; tokens.len() + 1],
            inside: vec![false; tokens.len() + 1],
        };
        if let Some(first) = states.before.first_mut() {
            *first = true;
        }
        states.skip_optional(tokens, true);
        let mut next = Self {
            before: vec![false; tokens.len() + 1],
            inside: vec![false; tokens.len() + 1],
        };
        for character in text.chars() {
            states.step(tokens, character, &mut next);
            std::mem::swap(&mut states, &mut next);
            if states.is_dead() {
                break;
            }
        }
        states
    }

    fn is_dead(&self) -> bool {
        !self.before.iter().chain(&self.inside).any(|alive| *alive)
    }

    fn accepts(&self, tokens: &[Token]) -> bool {
        self.before.get(tokens.len()).copied().unwrap_or(false)
    }

    /// Follows what needs no character.
    fn skip_optional(&mut self, tokens: &[Token], nothing_read: bool) {
        for (at, token) in tokens.iter().enumerate() {
            let passes = match token {
                Token::Many(_) | Token::Directories => true,
                Token::Begin => nothing_read,
                Token::One(_) => false,
            };
            if passes && self.before.get(at).copied().unwrap_or(false) {
                set(&mut self.before, at + 1);
            }
        }
    }

    fn step(&self, tokens: &[Token], character: char, next: &mut Self) {
        next.before.fill(false);
        next.inside.fill(false);
        for (at, token) in tokens.iter().enumerate() {
            let before = self.before.get(at).copied().unwrap_or(false);
            let inside = self.inside.get(at).copied().unwrap_or(false);
            match token {
                Token::One(own) if before && own.contains(character) => {
                    set(&mut next.before, at + 1)
                }
                Token::Many(own) if before && own.contains(character) => set(&mut next.before, at),
                Token::Directories if (before || inside) && character != '\n' => {
                    set(&mut next.inside, at);
                    if character == '/' {
                        set(&mut next.before, at + 1);
                    }
                }
                _ => {}
            }
        }
        next.skip_optional(tokens, false);
    }
}

fn set(states: &mut [bool], at: usize) {
    if let Some(state) = states.get_mut(at) {
        *state = true;
    }
}

/// Reads the regular expressions that [`Matcher::compile`] writes.
fn parse(regexp: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = regexp;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..)?;
        if let Some(next) = rest.strip_prefix("(.*/)?") {
            tokens.push(Token::Directories);
            rest = next;
            continue;
        }
        let set = match character {
            '^' => {
                tokens.push(Token::Begin);
                rest = after;
                continue;
            }
            '.' => {
                rest = after;
                Set {
                    negated: true,
                    ranges: vec![('\n', '\n')],
                }
            }
            '[' => {
                let (set, next) = class(after)?;
                rest = next;
                set
            }
            '\\' => {
                let (set, next) = escape(after)?;
                rest = next;
                set
            }
            // A repetition with nothing to repeat, or one of another repetition.
            '*' | '?' | '(' | ')' => return None,
            other => {
                rest = after;
                Set::one(other)
            }
        };
        match rest.strip_prefix('*') {
            Some(next) => {
                tokens.push(Token::Many(set));
                rest = next;
            }
            None => tokens.push(Token::One(set)),
        }
    }
    Some(tokens)
}

/// An escape after its backslash.
///
/// The escapes that are more than one character (`\x41`, `\pL`, `\Q`) or no character at all (`\b`)
/// are refused: nobody writes them in an ignore file, where Go takes them only by accident.
fn escape(text: &str) -> Option<(Set, &str)> {
    let character = text.chars().next()?;
    let rest = text.get(character.len_utf8()..)?;
    let ranges = |negated: bool, ranges: &[(char, char)]| Set {
        negated,
        ranges: ranges.to_vec(),
    };
    let digit = [('0', '9')];
    let word = [('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
    let blank = [('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
    let set = match character {
        'd' => ranges(false, &digit),
        'D' => ranges(true, &digit),
        'w' => ranges(false, &word),
        'W' => ranges(true, &word),
        's' => ranges(false, &blank),
        'S' => ranges(true, &blank),
        'a' => Set::one('\u{7}'),
        'f' => Set::one('\u{c}'),
        'n' => Set::one('\n'),
        'r' => Set::one('\r'),
        't' => Set::one('\t'),
        'v' => Set::one('\u{b}'),
        other if other.is_ascii() && !other.is_ascii_alphanumeric() => Set::one(other),
        _ => return None,
    };
    Some((set, rest))
}

/// A class after its `[`.
fn class(text: &str) -> Option<(Set, &str)> {
    let negated = text.starts_with('^');
    let mut rest = text.strip_prefix('^').unwrap_or(text);
    let mut ranges: Vec<(char, char)> = Vec::new();
    let mut first = true;
    loop {
        if !first && let Some(rest) = rest.strip_prefix(']') {
            return Some((Set { negated, ranges }, rest));
        }
        if let Some((members, next)) = posix(rest)? {
            ranges.extend(members);
            rest = next;
            first = false;
            continue;
        }
        // `-` stands for itself at either end; elsewhere Go refuses it.
        if rest.starts_with('-') && !first && !rest.starts_with("-]") {
            return None;
        }
        first = false;
        let (low, next) = member(rest)?;
        rest = next;
        let [(low, low_end)] = low.as_slice() else {
            ranges.extend(low);
            continue;
        };
        let (low, mut high) = (*low, *low_end);
        if let Some(after) = rest.strip_prefix('-')
            && !after.starts_with(']')
        {
            let (end, next) = member(after)?;
            let [(end, _)] = end.as_slice() else {
                return None;
            };
            if *end < low {
                return None;
            }
            high = *end;
            rest = next;
        }
        ranges.push((low, high));
    }
}

/// One member of a class: a character, or what an escape stands for.
fn member(text: &str) -> Option<(Vec<(char, char)>, &str)> {
    let character = text.chars().next()?;
    let rest = text.get(character.len_utf8()..)?;
    if character != '\\' {
        return Some((vec![(character, character)], rest));
    }
    let (set, rest) = escape(rest)?;
    if !set.negated {
        return Some((set.ranges, rest));
    }
    Some((complement(&set.ranges), rest))
}

fn complement(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let mut result = Vec::new();
    let mut from = '\0';
    for (low, high) in ranges {
        if from < *low {
            let before = char::from_u32(u32::from(*low) - 1).unwrap_or(from);
            result.push((from, before));
        }
        from = char::from_u32(u32::from(*high) + 1).unwrap_or(char::MAX);
    }
    result.push((from, char::MAX));
    result
}

/// `[:name:]`; `None` for a name that does not exist.
#[expect(
    clippy::type_complexity,
    reason = "a parse result: nothing here, or members and the rest"
)]
fn posix(text: &str) -> Option<Option<(Vec<(char, char)>, &str)>> {
    let Some(inner) = text.strip_prefix("[:") else {
        return Some(None);
    };
    let Some((name, rest)) = inner.split_once(":]") else {
        return Some(None);
    };
    let (negated, name) = match name.strip_prefix('^') {
        Some(name) => (true, name),
        None => (false, name),
    };
    let ranges: &[(char, char)] = match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\u{7f}')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    };
    Some(Some((
        if negated {
            complement(ranges)
        } else {
            ranges.to_vec()
        },
        rest,
    )))
}
