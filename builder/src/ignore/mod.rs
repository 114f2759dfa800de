//! `.dockerignore`: which files of a context do not belong to it.
//!
//! The rules are those of moby/patternmatcher, to the letter: the last rule that matches a path or one
//! of its parents decides; a rule that begins with `!` brings back. A file's kind does not matter.
//! Matching is linear in path and pattern.
//!
//! [`IgnoreRules::decide`] answers for one path alone. A walk goes top down with
//! [`IgnoreRules::root`] and [`IgnoreRules::descend`], which remember what the parents matched, and
//! leaves out directories for which [`IgnoreRules::can_prune`] holds.

mod pattern;
#[cfg(test)]
mod tests;

use thiserror::Error;

use pattern::Matcher;

use crate::glob::Glob;

/// A rule that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// A `!` with nothing after it.
    #[error("line {line}: illegal exclusion pattern: \"!\"")]
    LoneException {
        /// Line number, from 1.
        line: usize,
    },
    /// A pattern that does not parse.
    #[error("line {line}: syntax error in pattern {pattern:?}")]
    Pattern {
        /// Line number, from 1.
        line: usize,
        /// The pattern as written.
        pattern: String,
    },
}

/// One line of the file.
#[derive(Clone, Debug)]
pub struct IgnoreRule {
    /// Line number, from 1.
    pub line: usize,
    /// The line as written, without outer blanks.
    pub text: String,
    /// Whether it brings back what an earlier rule took out.
    pub exception: bool,
    matcher: Matcher,
}

/// What is to happen to a path, and which rule says so (none: no rule matches).
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'a> {
    /// Whether the path is left out.
    pub ignored: bool,
    /// The last rule that matches.
    pub rule: Option<&'a IgnoreRule>,
}

/// What the rules matched so far on the way down to a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentMatches {
    matched: Vec<bool>,
}

/// The rules of one file, in order.
#[derive(Clone, Debug, Default)]
pub struct IgnoreRules {
    rules: Vec<IgnoreRule>,
}

impl IgnoreRules {
    /// Parses the bytes of a `.dockerignore`.
    ///
    /// # Errors
    /// A lone `!`, or a pattern that does not parse.
    pub fn parse(bytes: &[u8]) -> Result<Self, IgnoreError> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut rules = Vec::new();
        for (at, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let written = line.trim();
            let (exception, pattern) = match written.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, written),
            };
            let cleaned = if pattern.is_empty() {
                String::new()
            } else {
                clean(pattern)
            };
            let relative = match cleaned.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => rest,
                _ => &cleaned,
            };
            let mark = if exception { "!" } else { "" };
            rules.extend(rule(at + 1, written, &format!("{mark}{relative}"))?);
        }
        Ok(Self { rules })
    }

    /// Rules from single patterns, as `COPY --exclude` gives them: `!` works, comments do not exist.
    ///
    /// # Errors
    /// As [`parse`](Self::parse); the line is the number of the pattern.
    pub fn from_patterns<'p>(
        patterns: impl IntoIterator<Item = &'p str>,
    ) -> Result<Self, IgnoreError> {
        let mut rules = Vec::new();
        for (at, pattern) in patterns.into_iter().enumerate() {
            rules.extend(rule(at + 1, pattern, pattern)?);
        }
        Ok(Self { rules })
    }

    /// The rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[IgnoreRule] {
        &self.rules
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a rule brings something back.
    #[must_use]
    pub(crate) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.exception)
    }

    /// Whether a path, relative to the context and with `/` between its parts, is left out.
    #[must_use]
    pub fn is_ignored(&self, path: impl AsRef<[u8]>) -> bool {
        self.decide(path).ignored
    }

    /// As [`is_ignored`](Self::is_ignored), with the rule that decides.
    ///
    /// The answer is that of a walk from the root. It differs from asking each rule about the path and
    /// its parents in one corner: in `a/b`, `!a` the exception changes nothing about `a`, so it is not
    /// remembered as a match there and does not bring `a/b` back. BuildKit walks, so the walk is right.
    #[must_use]
    pub fn decide(&self, path: impl AsRef<[u8]>) -> Verdict<'_> {
        let path = String::from_utf8_lossy(path.as_ref());
        let mut matches = self.root();
        let mut verdict = Verdict {
            ignored: false,
            rule: None,
        };
        for prefix in prefixes(&path) {
            (verdict, matches) = self.descend(prefix, &matches);
        }
        verdict
    }

    /// What holds at the root of the context, where a walk begins.
    #[must_use]
    pub fn root(&self) -> ParentMatches {
        ParentMatches {
            matched: vec![false; self.rules.len()],
        }
    }

    /// The verdict on an entry of a directory, and what to pass on if the entry is itself one.
    #[must_use]
    pub fn descend(
        &self,
        path: impl AsRef<[u8]>,
        parent: &ParentMatches,
    ) -> (Verdict<'_>, ParentMatches) {
        let path = String::from_utf8_lossy(path.as_ref());
        let mut deciding = None;
        let mut matched = Vec::with_capacity(self.rules.len());
        let above = parent
            .matched
            .iter()
            .copied()
            .chain(std::iter::repeat(false));
        for (rule, above) in self.rules.iter().zip(above) {
            let ignored = deciding.is_some_and(|rule: &IgnoreRule| !rule.exception);
            let matches = above || (rule.exception == ignored && rule.matcher.matches(&path));
            matched.push(matches);
            if matches {
                deciding = Some(rule);
            }
        }
        (verdict(deciding), ParentMatches { matched })
    }

    /// Whether nothing below the directory can be wanted: it is ignored and no later rule could bring
    /// something back. `matches` is what [`descend`](Self::descend) returned for it.
    #[must_use]
    pub fn can_prune(&self, directory: impl AsRef<[u8]>, matches: &ParentMatches) -> bool {
        let last = self
            .rules
            .iter()
            .zip(&matches.matched)
            .rposition(|(_, matched)| *matched);
        let Some(last) = last else { return false };
        let directory = format!("{}/", String::from_utf8_lossy(directory.as_ref()));
        let mut later = self.rules.iter().skip(last);
        later.next().is_some_and(|rule| !rule.exception)
            && later.all(|rule| !rule.exception || !rule.matcher.can_match_below(&directory))
    }
}

fn verdict(rule: Option<&IgnoreRule>) -> Verdict<'_> {
    Verdict {
        ignored: rule.is_some_and(|rule| !rule.exception),
        rule,
    }
}

/// A path's parents from the top, then the path itself.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .map(|(at, _)| path.get(..at).unwrap_or_default())
        .chain(std::iter::once(path))
}

/// Compiles one pattern; `None` for a blank one.
fn rule(line: usize, written: &str, pattern: &str) -> Result<Option<IgnoreRule>, IgnoreError> {
    let pattern = pattern.trim();
    if pattern.is_empty() {
        return Ok(None);
    }
    let cleaned = clean(pattern);
    let (exception, body) = match cleaned.strip_prefix('!') {
        Some("") => return Err(IgnoreError::LoneException { line }),
        Some(body) => (true, body),
        None => (false, cleaned.as_str()),
    };
    let bad = || IgnoreError::Pattern {
        line,
        pattern: body.to_owned(),
    };
    Glob::parse(body).map_err(|_| bad())?;
    let matcher = Matcher::compile(body).ok_or_else(bad)?;
    Ok(Some(IgnoreRule {
        line,
        text: written.to_owned(),
        exception,
        matcher,
    }))
}

/// Go's `filepath.Clean` on Unix.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") | None if !rooted => parts.push(".."),
                _ => {
                    parts.pop();
                }
            },
            other => parts.push(other),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}
