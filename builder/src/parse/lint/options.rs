//! `# check=skip=A,B;experimental=C;error=true`.

use std::collections::BTreeSet;

use super::super::directive::comment_directive;
use super::super::mount::boolean;
use super::super::suggest::near;
use super::rules::Rule;

/// Why a `check` directive cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// No `key=value`, or an unknown key.
    #[error("invalid check option {0:?}")]
    Option(String),
    /// `error=` with something else than a boolean.
    #[error("failed to parse check option {0:?}: not a boolean")]
    Boolean(String),
}

impl OptionsError {
    /// The key that was meant.
    pub(in crate::parse) fn near(&self) -> Option<String> {
        match self {
            Self::Option(written) => near(written.trim(), ["skip", "error", "experimental"]),
            Self::Boolean(_) => None,
        }
    }
}

/// Which rules speak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LintOptions {
    /// No rule but experimental ones that are asked for. Default: false.
    pub skip_all: bool,
    /// Rules left out.
    pub skip: BTreeSet<String>,
    /// All experimental rules too. Default: false.
    pub experimental_all: bool,
    /// Experimental rules asked for.
    pub experimental: BTreeSet<String>,
    /// A warning fails the build. Default: false.
    pub error: bool,
}

impl LintOptions {
    /// Reads the value of a `check` directive. What follows a blank is a remark.
    ///
    /// # Errors
    /// An unknown key or a bad boolean.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let text = text.split(' ').next().unwrap_or_default().trim();
        let mut options = Self::default();
        if text.is_empty() {
            return Ok(options);
        }
        for part in text.splitn(3, ';') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| OptionsError::Option(part.to_owned()))?;
            let value = value.trim();
            let names = || {
                value
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect()
            };
            match key.trim() {
                "skip" if value == "all" => options.skip_all = true,
                "skip" => options.skip = names(),
                "experimental" if value == "all" => options.experimental_all = true,
                "experimental" => options.experimental = names(),
                "error" => {
                    options.error =
                        boolean(value).ok_or_else(|| OptionsError::Boolean(part.to_owned()))?;
                }
                other => return Err(OptionsError::Option(other.to_owned())),
            }
        }
        Ok(options)
    }

    /// The options of the `# check=` comment above an instruction.
    pub(super) fn of_comments(comments: &[String]) -> Self {
        let found = comments
            .iter()
            .find_map(|comment| comment_directive(comment, "check"));
        found
            .and_then(|text| Self::parse(text).ok())
            .unwrap_or_default()
    }

    /// Whether a rule speaks, these options and those above the instruction together.
    pub(super) fn allows_with(&self, local: &Self, rule: &Rule) -> bool {
        if rule.experimental {
            self.allows(rule) || local.allows(rule)
        } else {
            self.allows(rule) && local.allows(rule)
        }
    }

    /// Whether a rule speaks.
    #[must_use]
    pub fn allows(&self, rule: &Rule) -> bool {
        if rule.experimental {
            return self.experimental_all || self.experimental.contains(rule.name);
        }
        !self.skip_all && !self.skip.contains(rule.name)
    }
}
