//! Variables: `$name`, `${name}` and its modifiers, quotes and escapes.

use std::collections::{BTreeMap, BTreeSet};

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

/// The names and values of an image config (`NAME=value`; the last one counts).
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

/// Text after expansion, and which variables were asked for on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Variables that were looked up and set.
    pub used: BTreeSet<String>,
    /// Variables that were looked up and not set.
    pub unset: BTreeSet<String>,
}

/// Why a word cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// A `${…}` that never closes, and the like.
    #[error("{0}")]
    Syntax(String),
}

/// Expands words for one Dockerfile, whose escape character it knows.
#[derive(Clone, Copy, Debug)]
pub struct Expander {
    escape: char,
}

impl Expander {
    /// For a file whose escape character is `escape`.
    #[must_use]
    pub fn new(escape: char) -> Self {
        Self { escape }
    }

    /// One word in, one word out: quotes and escapes removed, blanks kept. For everything but `EXPOSE`.
    ///
    /// # Errors
    /// Bad syntax, a `${name:?message}` that strikes, or a result beyond the size limit.
    pub fn word(
        &self,
        word: &str,
        environment: &(impl Environment + ?Sized),
    ) -> Result<Expanded, ExpandError> {
        let _ = (word, environment, self.escape);
        todo!()
    }

    /// As [`word`](Self::word), then split at unquoted blanks: for `EXPOSE`.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn words(
        &self,
        word: &str,
        environment: &(impl Environment + ?Sized),
    ) -> Result<(Vec<String>, Expanded), ExpandError> {
        let _ = (word, environment, self.escape);
        todo!()
    }

    /// The body of a here-document of `COPY` or `ADD`: quotes are text, the escape character is
    /// always the backslash.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn heredoc(
        body: &str,
        environment: &(impl Environment + ?Sized),
    ) -> Result<Expanded, ExpandError> {
        let _ = (body, environment);
        todo!()
    }
}
