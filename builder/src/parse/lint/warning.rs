//! What the rules answer.

use super::super::diagnostic::Diagnostic;
use super::super::span::Span;
use super::rules::Rule;

/// One warning.
#[derive(Clone, Debug)]
pub struct LintWarning {
    /// The rule.
    pub rule: &'static Rule,
    /// What it has to say here.
    pub detail: String,
    /// The instruction, here-documents left out.
    pub span: Span,
    /// The same with them.
    pub whole: Span,
}

impl LintWarning {
    /// The warning in the form of all other messages.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let mut diagnostic = Diagnostic::warning(self.span, self.detail.clone());
        diagnostic.rule = Some(self.rule.name);
        diagnostic
    }
}

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct LintResult {
    /// In file order.
    pub warnings: Vec<LintWarning>,
    /// Why a build of this file would fail, as far as that can be told without doing it.
    pub error: Option<Diagnostic>,
}
