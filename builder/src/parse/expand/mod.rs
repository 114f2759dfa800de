//! Variables: `$name`, `${name}` and its modifiers, quotes and escapes.
//!
//! The cost of an expansion is bounded: nesting, the size of the result and the work that patterns
//! cause each have a limit, so that a few lines of Dockerfile cannot eat the machine.

mod lexer;
mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use lexer::raw_words;
use lexer::{Lexer, Options};

/// Largest result of one expansion, in bytes. An image config, which is where results end up, must
/// be far smaller; Linux takes at most 128 KiB per variable.
pub const MAX_EXPANDED_BYTES: usize = 16 * 1024 * 1024;

/// Deepest nesting of `${a:-${b:-…}}`.
pub const MAX_NESTING: usize = 128;

/// Largest sum of the results of all expansions of a file, in bytes: a value may grow from line to
/// line.
pub const MAX_EXPANDED_BYTES_OF_FILE: usize = 64 * 1024 * 1024;

/// Most character comparisons that the patterns of a file may need, in one expansion or in all.
const MAX_PATTERN_STEPS: usize = 64 * 1024 * 1024;

/// What variables are looked up in.
pub trait Environment {
    /// The value of a variable; `None` if it is not set.
    fn get(&self, name: &str) -> Option<&str>;
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        BTreeMap::get(self, name).map(String::as_str)
    }
}

impl Environment for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        HashMap::get(self, name).map(String::as_str)
    }
}

/// The form of an image config: `NAME=value`, the last one counts.
impl Environment for [String] {
    fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .rev()
            .find_map(|entry| match entry.split_once('=') {
                Some((key, value)) => (key == name).then_some(value),
                None => (entry == name).then_some(""),
            })
    }
}

/// No variable at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyEnvironment;

impl Environment for EmptyEnvironment {
    fn get(&self, _: &str) -> Option<&str> {
        None
    }
}

/// Text after expansion, and which variables were asked for on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Variables that were looked up and set; they belong into cache keys.
    pub used: BTreeSet<String>,
    /// Variables that were looked up and not set, defaults or not.
    pub unset: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A `${` that is never closed.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${name/pattern` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${{…`, `${:…`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// A character after the name that is no modifier.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// A quote that is never closed: `single` or `double`.
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    Quote(&'static str),
    /// `${name:?message}` struck.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The text given, or a standard one.
        message: String,
    },
    /// An escape in a pattern that means nothing.
    #[error("invalid pattern ({pattern}) in substitution: invalid escape '\\{escape}'")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The character after the backslash; empty at the end.
        escape: String,
    },
    /// `${…}` nested deeper than [`MAX_NESTING`].
    #[error("substitutions are nested deeper than {MAX_NESTING} levels")]
    Nesting,
    /// The result is larger than [`MAX_EXPANDED_BYTES`].
    #[error("the expanded text is larger than {MAX_EXPANDED_BYTES} bytes")]
    TooLarge,
    /// All results of the file together are larger than [`MAX_EXPANDED_BYTES_OF_FILE`].
    #[error(
        "the expanded texts of this file are larger than {MAX_EXPANDED_BYTES_OF_FILE} bytes together"
    )]
    TooLargeTogether,
    /// The patterns ask for too much work.
    #[error("a pattern takes too long to match")]
    TooCostly,
}

/// Expands words for one Dockerfile, whose escape character it knows.
///
/// Its copies share what one file may use up: the sum of all results, and the work of all patterns.
#[derive(Clone, Debug)]
pub struct Expander {
    escape: char,
    spent: Arc<Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    bytes: AtomicUsize,
    pattern_steps: AtomicUsize,
}

impl Expander {
    /// For a file whose escape character is `escape`.
    #[must_use]
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            spent: Arc::default(),
        }
    }

    /// The same with another escape character.
    #[must_use]
    pub(crate) fn with_escape(&self, escape: char) -> Self {
        Self {
            escape,
            spent: Arc::clone(&self.spent),
        }
    }

    /// One word in, one word out: quotes and escapes removed, blanks kept. For everything but
    /// `EXPOSE`.
    ///
    /// # Errors
    /// Bad syntax, a `${name:?message}` that strikes, or a limit.
    pub fn word(
        &self,
        word: &str,
        environment: &(impl Environment + ?Sized),
    ) -> Result<Expanded, ExpandError> {
        // Most words have nothing to expand.
        if !word.contains(['$', '\'', '"', self.escape]) {
            return Ok(Expanded {
                text: word.to_owned(),
                ..Expanded::default()
            });
        }
        self.run(word, environment, Options::default())
            .map(|(expanded, _)| expanded)
    }

    /// As [`word`](Self::word), but cut at blanks outside quotes: for `EXPOSE`.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn words(
        &self,
        word: &str,
        environment: &(impl Environment + ?Sized),
    ) -> Result<(Vec<String>, Expanded), ExpandError> {
        let (expanded, words) = self.run(word, environment, Options::default())?;
        Ok((words, expanded))
    }

    /// The body of a here-document of `COPY` or `ADD`: quotes are text, the escape character is
    /// always the backslash.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn heredoc(
        &self,
        body: &str,
        environment: &(impl Environment + ?Sized),
    ) -> Result<Expanded, ExpandError> {
        let options = Options {
            quotes_are_text: true,
            ..Options::default()
        };
        self.with_escape('\\')
            .run(body, environment, options)
            .map(|(expanded, _)| expanded)
    }

    /// Variables replaced where they are set, everything else left as written: for progress texts.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn display(
        &self,
        text: &str,
        environment: &(impl Environment + ?Sized),
    ) -> Result<String, ExpandError> {
        let options = Options {
            raw_quotes: true,
            keep_unset: true,
            ..Options::default()
        };
        self.run(text, environment, options)
            .map(|(expanded, _)| expanded.text)
    }

    /// Counts a text of the file that is taken over as it is towards [`MAX_EXPANDED_BYTES_OF_FILE`].
    pub(crate) fn charge(&self, bytes: usize) -> Result<(), ExpandError> {
        if add(&self.spent.bytes, bytes) > MAX_EXPANDED_BYTES_OF_FILE {
            return Err(ExpandError::TooLargeTogether);
        }
        Ok(())
    }

    fn run(
        &self,
        text: &str,
        environment: &(impl Environment + ?Sized),
        options: Options,
    ) -> Result<(Expanded, Vec<String>), ExpandError> {
        let mut lexer = Lexer::new(text, self.escape, options, |name| environment.get(name));
        let result = lexer.run();
        let (bytes, pattern_steps) = lexer.spent();
        self.charge(bytes)?;
        if add(&self.spent.pattern_steps, pattern_steps) > MAX_PATTERN_STEPS {
            return Err(ExpandError::TooCostly);
        }
        let (text, words) = result?;
        let (used, unset) = lexer.into_names();
        Ok((Expanded { text, used, unset }, words))
    }
}

fn add(sum: &AtomicUsize, more: usize) -> usize {
    sum.fetch_add(more, Ordering::Relaxed).saturating_add(more)
}
